//! What is no function is refused when it is prepared, with one sentence.

use super::*;

/// A module with the right exports but for what `less` takes away or adds.
fn module(imports: &str, alloc: &str, handle: &str) -> String {
    format!(
        r#"(module {imports}
        (memory (export "memory") 1)
        (func (export "alloc") {alloc} unreachable)
        (func (export "handle") {handle} unreachable))"#
    )
}

const ALLOC: &str = "(param i32) (result i32)";
const START_TRAPS: &str = "(func $s unreachable) (start $s)";
const HANDLE: &str = "(param i32 i32) (result i32)";

#[test]
fn what_does_not_fit_the_contract_is_refused_with_one_sentence() {
    let folder = Folder::new("refused");
    let whole = wat::parse_str(include_str!("../../guests/probe.wat")).expect("it is WebAssembly");
    let wat = |name: &str, text: &str| folder.wat(name, text);
    let mut garbage = whole.clone();
    garbage[9..].iter_mut().for_each(|byte| *byte ^= 0x5a);
    let cases: &[(PathBuf, &[&str])] = &[
        (folder.place("text", b"this is not code"), &["it is not WebAssembly"]),
        (folder.place("empty", b""), &["it is empty"]),
        (folder.place("wat", b"(module)"), &["as text", "wat2wasm"]),
        (folder.place("cut", &whole[..whole.len() / 2]), &["no valid WebAssembly module"]),
        (folder.place("garbage", &garbage), &["no valid WebAssembly module"]),
        (folder.place("elf", b"\x7fELF\x02\x01"), &["dlf"]),
        (folder.0.clone(), &["not a regular file"]),
        (folder.0.join("missing"), &["No such file"]),
        (wat("nothing", "(module)"), &["exports no memory", "exports nothing"]),
        (
            wat("start", "(module (memory (export \"m\") 1) (func (export \"_start\")))"),
            &["a program", "reactor"],
        ),
        (
            wat("noalloc", "(module (memory (export \"memory\") 1))"),
            &["exports no alloc", "it exports memory", "alloc(i32) -> i32"],
        ),
        (
            wat("alloc", &module("", "(param i64) (result i32)", HANDLE)),
            &["its function alloc", "alloc(i32) -> i32"],
        ),
        (wat("handle", &module("", ALLOC, "(param i32)")), &["its function handle", "-> i32 or -> i64"]),
        (
            wat(
                "global",
                "(module (memory (export \"memory\") 1) (global (export \"alloc\") i32 (i32.const 1)))",
            ),
            &["its export alloc is not a function"],
        ),
        (
            wat("import", &module("(import \"tempos\" \"wirte\" (func))", ALLOC, HANDLE)),
            &["imports tempos.wirte", "tempos has write"],
        ),
        (
            wat("type", &module("(import \"tempos\" \"write\" (func (param i64)))", ALLOC, HANDLE)),
            &["another type"],
        ),
        (
            wat("abort", &module("(import \"env\" \"abort\" (func (param i32 i32 i32 i32)))", ALLOC, HANDLE)),
            &["imports env.abort", "asc --use abort="],
        ),
        (
            wat("env", &module("(import \"env\" \"open\" (func))", ALLOC, HANDLE)),
            &["imports env.open", "nothing else"],
        ),
        (
            wat("old", &module("(import \"wasi_unstable\" \"fd_write\" (func))", ALLOC, HANDLE)),
            &["wasi_unstable.fd_write", "wasi_snapshot_preview1"],
        ),
        (wat("wide", "(module (memory (export \"memory\") i64 1))"), &["64 bits"]),
        (
            wat("traps", &module("(start $s)", ALLOC, HANDLE).replace("(start $s)", START_TRAPS)),
            &["it trapped while it was starting", "unreachable"],
        ),
        (wat("component", "(component)"), &["exports no handle", "tempos:function/function@0.1.0"]),
    ];
    for (path, words) in cases {
        let error = Wanted::default().prepare(path).map(|_| ()).expect_err(words[0]);
        let begin = format!("function of workflow \"detect\": {} cannot be used: ", path.display());
        assert!(error.message.starts_with(&begin), "{error}");
        assert_eq!(error.code, PluginError::BAD_FUNCTION, "{error}");
        assert!(!error.message.contains('\n'), "{error}");
        for word in *words {
            assert!(error.message.contains(word), "{word:?}: {error}");
        }
    }
}

#[test]
fn a_start_that_never_ends_is_given_up() {
    let folder = Folder::new("forever");
    let text = module("(start $s)", ALLOC, HANDLE);
    let text = text.replace("(start $s)", "(func $s (loop $l (br $l))) (start $s)");
    let error = Wanted::default().prepare(&folder.wat("forever", &text)).map(|_| ()).expect_err("never ends");
    assert!(error.message.contains("stopped at its deadline while it was starting"), "{error}");
}

#[test]
fn no_cut_and_no_damage_of_a_module_brings_anything_down() {
    let folder = Folder::new("damage");
    let whole = wat::parse_str(include_str!("../../guests/probe.wat")).expect("it is WebAssembly");
    for length in (0..whole.len()).step_by(37) {
        let _ = Wanted::default().prepare(&folder.place("cut.wasm", &whole[..length]));
    }
    for at in (8..whole.len()).step_by(23) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x41;
        if let Ok(function) = Wanted::default().prepare(&folder.place("damaged.wasm", &damaged)) {
            let _ = invoke(&function, b"echo", now_ns() + 50_000_000);
        }
    }
}

#[test]
fn wrong_options_are_refused() {
    let folder = Folder::new("options");
    let file = folder.probe();
    let list = |entry: &str| OptionValue::Texts(vec![entry.into()].into());
    for (key, value, words) in [
        ("instances", text("often"), "instances = \"often\" is neither"),
        ("cache", text("here"), "cache = \"here\" is not an absolute path"),
        ("env", list("NAME"), "not of the form NAME=value"),
        ("dirs", list("here"), "not of the form /on/the/node"),
        ("dirs", list("/nowhere/at/all"), "dirs names /nowhere/at/all"),
    ] {
        let error = Wanted::default().with(key, value).prepare(&file).map(|_| ()).expect_err(words);
        assert!(
            error.message.starts_with("function of workflow \"detect\": ") && error.message.contains(words),
            "{error}"
        );
    }
}
