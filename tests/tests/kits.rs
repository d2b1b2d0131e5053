//! `temposctl new function`: every kit is written, built and tested with the commands that it prints, and its
//! wiring runs in a node that has its method. What this machine has no tools for is printed as skipped.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempos_tests::built::{self, source_root};
use tempos_tests::{LIVENESS, NodeSetup};

/// Language, method.
const KITS: [(&str, &str); 9] = [
    ("rust", "dlf"),
    ("rust", "wasm"),
    ("rust", "spawn"),
    ("c", "dlf"),
    ("c", "wasm"),
    ("c", "spawn"),
    ("python", "spawn"),
    ("javascript", "spawn"),
    ("assemblyscript", "wasm"),
];

fn new(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(built::program("temposctl"))
        .current_dir(folder)
        .args(["new", "function"])
        .args(arguments)
        .output()
        .expect("temposctl runs")
}

/// Runs one of the printed commands.
fn shell(folder: &Path, command: &str) -> Output {
    let mut shell = Command::new("sh");
    // Not the folder and the flags of the cargo that runs this test.
    shell.env_remove("CARGO_TARGET_DIR").env_remove("RUSTFLAGS").env_remove("MAKEFLAGS");
    shell.current_dir(folder).args(["-c", command]).output().expect("sh runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn every_kit_builds_is_tested_and_runs() {
    let mut served = 0;
    for (language, method) in KITS {
        let kit = format!("{language} by {method}");
        let folder = tempfile::tempdir().expect("a folder");
        let written = new(folder.path(), &["--json", "--lang", language, "--method", method, "be-loud"]);
        assert!(written.status.success(), "{kit}: {}", said(&written));
        let report: Value = serde_json::from_slice(&written.stdout).expect("JSON");
        let own = folder.path().join("be-loud");
        for file in report["files"].as_array().expect("a list") {
            let path = folder.path().join(file.as_str().expect("a text"));
            let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{kit}: {file}: {error}"));
            assert!(!text.contains("{{"), "{kit}: {file} is not filled in");
        }
        let readme = fs::read_to_string(own.join("README.md")).expect("a README");
        assert!(readme.trim_end().lines().skip(2).count() <= 5, "{kit}: the README has more than five lines");
        let missing = report["missing"].as_array().expect("a list");
        if !missing.is_empty() {
            println!("{kit}: skipped: {missing:?}");
            continue;
        }
        let command = |of: &str| report["commands"][of].as_str().expect("a command").to_owned();
        let build = shell(&own, &command("build"));
        if language == "assemblyscript" && !build.status.success() && !own.join("node_modules").exists() {
            println!("{kit}: skipped: npm install fails here: {}", said(&build));
            continue;
        }
        assert!(build.status.success(), "{kit}: {}", said(&build));
        let tested = shell(&own, &command("test"));
        let words = said(&tested);
        if language == "rust" {
            let formatted = shell(&own, "cargo fmt --check && cargo clippy --quiet --offline -- -D warnings");
            assert!(formatted.status.success(), "{kit}: {}", said(&formatted));
        }
        assert!(tested.status.success() && words.to_lowercase().contains("ok"), "{kit}: {words}");
        if !built::plugin_folders().contains(&format!("invoker-{method}")) {
            println!("{kit}: built and tested, not run: this tree has no plugin {method}");
            continue;
        }
        let node = NodeSetup::new().all_plugins().start();
        let applied = node.ctl(["apply".as_ref(), own.join("wiring.lua").as_os_str()]);
        assert!(applied.status.success(), "{kit}: {}", said(&applied));
        let limit = format!("{}s", LIVENESS.as_secs());
        let answer =
            node.ctl(["pub", "be-loud/in", "how loud?", "--reply-to", "be-loud/out", "--timeout", &limit]);
        assert!(answer.status.success(), "{kit}: {}", said(&answer));
        assert_eq!(String::from_utf8_lossy(&answer.stdout).trim(), "HOW LOUD?", "{kit}");
        served += 1;
    }
    assert!(served > 0, "a C compiler is there, or Rust could not have been built");
}

#[test]
fn what_makes_no_sense_or_would_overwrite_is_refused_with_one_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |arguments: &[&str], sentence: &str, code: i32| {
        let output = new(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(words.trim_end(), format!("temposctl: {sentence}"), "{arguments:?}");
    };
    refused(
        &["--lang", "python", "--method", "dlf", "f"],
        "a function in Python cannot run by dlf; possible: --method spawn",
        64,
    );
    refused(
        &["--lang", "assemblyscript", "--method", "spawn", "f"],
        "a function in AssemblyScript cannot run by spawn; possible: --method wasm",
        64,
    );
    assert!(!folder.path().join("f").exists());
    assert!(new(folder.path(), &["--lang", "c", "f"]).status.success());
    let before = fs::read_to_string(folder.path().join("f/f.c")).expect("written");
    refused(&["--lang", "rust", "f"], "f: there is something in it already; name a new folder", 65);
    assert_eq!(fs::read_to_string(folder.path().join("f/f.c")).expect("still there"), before);
    let none = new(folder.path(), &["--lang", "c", "no/such/place/f"]);
    assert_eq!(none.status.code(), Some(66), "{}", said(&none));
}

#[test]
fn the_header_for_wasm_is_that_of_its_plugin() {
    let own = source_root().join("dbus/src/bin/temposctl/kits/c-wasm/tempos_wasm.h");
    let plugin = source_root().join("plugins/invoker-wasm/include/tempos_wasm.h");
    if !plugin.exists() {
        println!("skipped: this tree has no plugin wasm");
        return;
    }
    let text = |path: &Path| fs::read_to_string(path).expect("the header is there");
    assert!(text(&own) == text(&plugin), "copy {} over {}", plugin.display(), own.display());
}
