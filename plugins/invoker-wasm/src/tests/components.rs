//! Components, and that the types of this plugin are those of its WIT file.

use super::*;

const COMPONENT: &str = include_str!("../../guests/component.wat");

#[test]
fn a_component_sees_its_event_and_its_outcome_is_understood() {
    let folder = Folder::new("component");
    let file = folder.wat("component", COMPONENT);
    for (instances, counts) in [("fresh", "11"), ("reuse", "12")] {
        let function = Wanted::default().with("instances", text(instances)).prepare(&file).expect("prepared");
        let count = || done(&function, b"c").expect("an output");
        assert_eq!(count() + &count(), counts);
        assert_eq!(done(&function, b"echo").as_deref(), Some("echo"));
        assert_eq!(done(&function, b"").as_deref(), Some(""));
        assert_eq!(done(&function, b"n"), None);
        assert_eq!(done(&function, b"a").as_deref(), Some("mm/s"));
        let fails = "the bearing is not known".to_owned();
        assert_eq!(invoke(&function, b"f", 0), (Outcome::failed(7), None, fails));
        let (outcome, _, sentence) = invoke(&function, b"t", 0);
        assert_eq!(outcome, Outcome::CRASHED);
        assert!(sentence.contains("unreachable"), "{sentence}");
        assert_eq!(done(&function, b"c").as_deref(), Some("1"), "a new instance serves after a trap");
        assert_eq!(invoke(&function, &[b'7'; 1000], 0).0, Outcome::OUTPUT_TOO_LARGE);
        let (outcome, _, sentence) = invoke(&function, b"i", now_ns() + 5_000_000);
        assert_eq!((outcome, &sentence[..]), (Outcome::KILLED, "it was stopped at its deadline"));
        let long = vec![b'n'; 300_000];
        assert_eq!(done(&function, &long), None);
    }
}

#[test]
fn a_component_that_does_not_fit_is_refused() {
    let folder = Folder::new("misfit");
    let other = r#"(component
        (core module $m (func (export "f") (result i32) unreachable))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i "f")))
        (export "handle" (func $f)))"#;
    let import = r#"(component (import "acme:sensors/read" (func)))"#;
    for (name, wat, words) in [
        ("type", other, "its handle has another type than in the world tempos:function/function@0.1.0"),
        ("import", import, "exports no handle"),
    ] {
        let error = Wanted::default().prepare(&folder.wat(name, wat)).map(|_| ()).expect_err(words);
        assert!(error.message.contains(words) && !error.message.contains('\n'), "{error}");
    }
    let import = COMPONENT.replace("tempos:function/host@0.1.0", "acme:sensors/read@1.0.0");
    let error = Wanted::default().prepare(&folder.wat("import", &import)).map(|_| ()).expect_err("refused");
    assert!(error.message.contains("acme:sensors/read@1.0.0"), "{error}");
}

/// Bindings made of the WIT file itself.
mod world {
    wasmtime::component::bindgen!({ path: "wit", world: "function" });
}

/// A host as the WIT file has it: if these types and those of `component.rs` were not the same, one of the two
/// would refuse the component.
struct Host;

impl world::tempos::function::types::Host for Host {}

impl world::tempos::function::host::Host for Host {
    fn attribute(&mut self, key: String) -> Option<world::tempos::function::types::Value> {
        (key == "unit").then(|| world::tempos::function::types::Value::Text("mm/s".into()))
    }

    fn attributes(&mut self) -> Vec<(String, world::tempos::function::types::Value)> {
        Vec::new()
    }

    fn log(&mut self, _severity: world::tempos::function::host::Severity, _line: String) {}
}

#[test]
fn the_wit_file_says_the_same_as_the_code() {
    let engine = wasmtime::Engine::default();
    let binary = wat::parse_str(COMPONENT).expect("it is a component");
    let component = wasmtime::component::Component::new(&engine, binary).expect("it is valid");
    let mut linker = wasmtime::component::Linker::new(&engine);
    world::Function::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |host: &mut Host| host)
        .expect("defined");
    let mut store = wasmtime::Store::new(&engine, Host);
    let function = world::Function::instantiate(&mut store, &component, &linker).expect("it fits the world");
    let event = world::Event {
        id: 1,
        topic: "press".into(),
        level: 0,
        source_time_ns: 0,
        arrival_ns: 0,
        deadline_ns: 0,
        payload: b"a".to_vec(),
    };
    let answer = function.call_handle(&mut store, &event).expect("no trap");
    assert_eq!(answer.ok().flatten().as_deref(), Some(&b"mm/s"[..]));
}
