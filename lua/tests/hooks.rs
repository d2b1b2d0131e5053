//! Functions of scripts that are called when something happens.

mod common;

use common::{known, topics};
use tempos_control::{Command, Mistake, Scheduler};
use tempos_lua::{Called, Happening, Hooks, Limits, Source, Wiring, abandoned, evaluate_wiring};

fn wiring(lua: &str) -> Result<Wiring, Vec<String>> {
    let source = Source::Text { chunk_name: "wiring.lua".into(), lua: lua.into() };
    evaluate_wiring(&source, &known(), &Limits::default(), |_, _| {})
        .map_err(|mistakes| mistakes.iter().map(Mistake::to_string).collect())
}

fn hooks(lua: &str) -> Hooks {
    wiring(lua).expect("a good script").hooks.expect("it has hooks")
}

fn overload(name: &str, state: &'static str, count: u64) -> Happening {
    Happening {
        event: "overload",
        kind: "topic",
        name: name.into(),
        state,
        count,
        reason: "queue-full".into(),
    }
}

fn call(hooks: &Hooks, happening: Happening) -> Result<Called, Vec<String>> {
    hooks.call(0, happening).map_err(|mistakes| mistakes.iter().map(Mistake::to_string).collect())
}

#[test]
fn a_hook_changes_some_keys_of_what_is_declared_and_builds_on_what_is_in_force() {
    let hooks = hooks(
        r#"
        tempos.topic "a" { qos = "strict", ttl = "5s", ingress = { tempos.udp { bind = "127.0.0.1:1" } },
          egress = { tempos.group "g" { tempos.udp { to = "127.0.0.1:2" }, pick = "hash" } } }
        tempos.on("overload", { name = "a", hold = "2s" }, function(e)
          print(e.event, e.kind, e.name, e.state, e.count, e.reason)
          tempos.change("topic", e.name, e.state == "ended" and { qos = "strict" } or { qos = "best-effort", weight = 3 })
        end)"#,
    );
    let hook = &hooks.list()[0];
    assert_eq!((hook.event, hook.name.as_deref(), hook.hold_ns), ("overload", Some("a"), 2_000_000_000));
    let called = call(&hooks, overload("a", "begins", 7)).expect("no mistake");
    assert_eq!(called.printed[0].1, r"overload\ttopic\ta\tbegins\t7\tqueue-full");
    assert_eq!(called.printed[0].0.to_string(), "wiring.lua:5");
    let changed = topics(&called.commands)[0].clone();
    assert_eq!((changed.qos.as_str(), changed.weight), ("best-effort", 3));
    assert_eq!(changed.time_to_live_ns, Some(5_000_000_000));
    assert_eq!((changed.ingress.len(), changed.egress[0].members.len()), (1, 1));
    assert_eq!(changed.ingress[0].name, "a/in/1");
    hooks.settle(true);
    // The weight stays, since it is in force.
    let called = call(&hooks, overload("a", "ended", 0)).expect("no mistake");
    let changed = topics(&called.commands)[0];
    assert_eq!((changed.qos.as_str(), changed.weight), ("strict", 3));
    hooks.settle(false);
    let called = call(&hooks, overload("a", "goes on", 1)).expect("no mistake");
    assert_eq!(topics(&called.commands)[0].qos, "best-effort");
}

#[test]
fn levels_and_workflows_change_too_and_new_channels_may_come() {
    let hooks = hooks(
        r#"
        tempos.qos "bulk" { workers = 2 }
        tempos.topic "a" { qos = "bulk" }
        tempos.workflow "w" { from = "a", call = { method = "dlf", file = "/f.so" } }
        tempos.on("grant-changed", function(e)
          tempos.change("qos", "bulk", { nice = 5 })
          tempos.change("workflow", "w", { call = { method = "dlf", file = "/g.so" } })
          tempos.change("topic", "a", { egress = { tempos.udp { to = "127.0.0.1:2" } } })
        end)"#,
    );
    let called = call(&hooks, overload("x", "begins", 1)).expect("no mistake");
    assert_eq!(called.commands.len(), 3);
    for command in &called.commands {
        match command {
            Command::DeclareLevel(level) => {
                assert_eq!((level.workers, &level.scheduler), (2, &Scheduler::Other { nice: 5 }));
            }
            Command::DeclareTopic(topic) => {
                assert_eq!((topic.qos.as_str(), topic.egress.len()), ("bulk", 1));
            }
            Command::DeclareWorkflow(workflow) => assert_eq!(workflow.call.file, "/g.so"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_hook_keeps_what_it_knows_from_call_to_call() {
    let hooks = hooks(
        "local seen = 0\n\
         tempos.on(\"overload\", function(e) seen = seen + e.count; print(seen) end)",
    );
    let said = |count| call(&hooks, overload("a", "begins", count)).expect("no mistake").printed[0].1.clone();
    assert_eq!((said(2), said(40)), ("2".into(), "42".into()));
}

#[test]
fn what_is_wrong_in_a_hook_is_one_sentence_and_the_next_call_is_served() {
    let cases = [
        ("e.nothing.at = 1", "wiring.lua:2: attempt to index a nil value (field 'nothing')"),
        ("while true do end", "stopped: the script ran for 100 ms"),
        ("tempos.topic \"b\" { }", "a function of tempos.on declares nothing; write tempos.change"),
        ("tempos.on(\"overload\", print)", "a function of tempos.on takes no further hooks"),
        ("tempos.change(\"topic\", \"b\", { })", "no script declares the topic \"b\" that is to be changed"),
        (
            "tempos.change(\"topic\", \"a\", { qoss = \"strict\" })",
            "unknown key \"qoss\" (did you mean \"qos\"?)",
        ),
        (
            "tempos.change(\"topic\", \"a\", { }) tempos.change(\"topic\", \"a\", { })",
            "changed in this call already",
        ),
        (
            "tempos.change(\"group\", \"a\", { })",
            "tempos.change changes a \"topic\", a \"workflow\" or a \"qos\"",
        ),
        ("os.exit()", "a wiring script has no \"os\""),
    ];
    for (body, sentence) in cases {
        let hooks = hooks(&format!(
            "tempos.topic \"a\" {{ }}\ntempos.on(\"overload\", function(e) if e.count > 0 then {body} end end)"
        ));
        for _ in 0..2 {
            let mistakes = call(&hooks, overload("a", "begins", 1)).expect_err(body);
            assert_eq!(mistakes.len(), 1, "{mistakes:?}");
            assert!(
                mistakes[0].contains(sentence) && mistakes[0].starts_with("wiring.lua:2"),
                "{mistakes:?}"
            );
            assert_eq!(call(&hooks, overload("a", "begins", 0)), Ok(Called::default()));
        }
    }
}

#[test]
fn what_is_wrong_with_a_hook_refuses_the_wiring() {
    let cases = [
        (
            "tempos.on(\"overlaod\", print)",
            "tempos.on knows no event \"overlaod\" (did you mean \"overload\"?)",
        ),
        ("tempos.on(\"overload\")", "tempos.on takes an event and a function"),
        ("tempos.on(\"overload\", { hold = \"soon\" }, print)", "hold"),
        ("tempos.on(\"overload\", { nam = \"x\" }, print)", "unknown key \"nam\" (did you mean \"name\"?)"),
        ("tempos.change(\"topic\", \"a\", { })", "tempos.change is for the functions of tempos.on"),
        ("for i = 1, 300 do tempos.on(\"overload\", print) end", "a wiring has at most 256 hooks"),
    ];
    for (lua, sentence) in cases {
        let mistakes = wiring(lua).expect_err(lua);
        assert!(mistakes[0].starts_with("wiring.lua:1: ") && mistakes[0].contains(sentence), "{mistakes:?}");
    }
}

#[test]
fn a_wiring_without_hooks_leaves_no_thread() {
    assert!(wiring("tempos.topic \"a\" { }").expect("good").hooks.is_none());
    assert_eq!(abandoned(), 0);
}
