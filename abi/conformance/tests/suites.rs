//! Every plugin of this house passes the suite of its kind, run by the binary as an author runs it.

mod built;

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the binary with JSON on; whether it ended well, and its report.
fn run(arguments: &[&str]) -> (bool, serde_json::Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tempos-conformance"));
    let output = command.arg("--json").args(arguments).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"));
    (output.status.success(), report)
}

fn passes(package: &str, arguments: &[&str], checks_at_least: usize) {
    let file = built::plugin(package).display().to_string();
    let (well, report) = run(&[&[file.as_str()], arguments].concat());
    assert!(well, "{package}: {report:#}");
    let checks = report["checks"].as_array().expect("a list");
    let ok = checks.iter().filter(|check| check["verdict"] == "ok").count();
    assert_eq!(ok, checks.len(), "{package}: something was skipped: {report:#}");
    assert!(ok >= checks_at_least, "{package}: only {ok} checks were made: {report:#}");
}

#[test]
fn adapter_udp_passes() {
    passes("tempos-adapter-udp", &[], 20);
}

#[test]
fn adapter_tcp_passes() {
    passes("tempos-adapter-tcp", &[], 20);
}

#[test]
fn adapter_unix_passes() {
    passes("tempos-adapter-unix", &[], 30);
}

#[test]
fn adapter_shm_passes() {
    passes("tempos-adapter-shm", &[], 20);
}

#[test]
fn adapter_tsn_passes() {
    passes("tempos-adapter-tsn", &[], 10);
}

#[test]
fn queue_fifo_passes() {
    passes("tempos-queue-fifo", &[], 14);
}

#[test]
fn queue_priority_passes() {
    passes("tempos-queue-priority", &[], 14);
}

#[test]
fn queue_edf_passes_whatever_becomes_of_late_events() {
    passes("tempos-queue-edf", &[], 14);
    passes("tempos-queue-edf", &["--option", "late=pass"], 14);
}

#[test]
fn queue_drr_passes_by_bytes_and_by_events() {
    passes("tempos-queue-drr", &["--option", "quantum=64B"], 14);
    passes("tempos-queue-drr", &["--option", "share_by=events"], 14);
}

#[test]
fn queue_newest_passes_for_one_and_for_several() {
    passes("tempos-queue-newest", &[], 14);
    passes("tempos-queue-newest", &["--option", "keep=3"], 14);
}

#[test]
fn invoker_dlf_passes_with_functions_in_c_and_in_rust() {
    let folder = std::env::temp_dir().join(format!("tempos-suites-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("made");
    let examples = built::workspace().join("examples/functions");
    for function in [in_c(&examples, &folder), in_rust(&examples, &folder)] {
        let file = function.display().to_string();
        passes("tempos-invoker-dlf", &["--function", &file], 16);
        passes("tempos-invoker-dlf", &["--function", &file, "--option", "reload=always"], 16);
        passes("tempos-invoker-dlf", &["--function", &file, "--option", "isolation=process"], 16);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

#[test]
fn invoker_spawn_passes_with_a_program_and_with_a_source() {
    passes("tempos-invoker-spawn", &["--function", "/bin/cat"], 16);
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("there is no python3: the suite runs with a program alone");
        return;
    }
    let file = std::env::temp_dir().join(format!("tempos-suites-{}.py", std::process::id()));
    std::fs::write(&file, "def handle(event):\n    return event.payload\n").expect("written");
    let path = file.display().to_string();
    let python = ["--function", &path, "--option", "runtime=python", "--option", "mode=warm"];
    passes("tempos-invoker-spawn", &python, 16);
    let _ = std::fs::remove_file(&file);
}

#[test]
fn invoker_wasm_passes_with_a_module_and_a_component() {
    let folder = std::env::temp_dir().join(format!("tempos-suites-wasm-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("made");
    for name in ["probe", "component"] {
        let guest = built::workspace().join("plugins/invoker-wasm/guests").join(name).with_extension("wat");
        let file = folder.join(name).with_extension("wasm");
        std::fs::write(&file, wat::parse_file(guest).expect("it is WebAssembly")).expect("written");
        let (file, cache) = (file.display().to_string(), format!("cache={}", folder.join("cache").display()));
        let all: [&str; 4] = ["instances=fresh", "instances=reuse", "fuel=100000000", &cache];
        // A component takes long to compile, and each run compiles it anew.
        for option in if name == "probe" { &all[..] } else { &all[2..] } {
            passes("tempos-invoker-wasm", &["--function", &file, "--option", option], 16);
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
}

fn in_c(examples: &Path, folder: &Path) -> PathBuf {
    let include = built::workspace().join("abi/include");
    let built = Command::new("cc")
        .current_dir(folder)
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", "threshold.so", "-I"])
        .args([include, examples.join("threshold-c/threshold.c")])
        .status();
    assert!(built.expect("cc runs: Rust itself needs it").success());
    folder.join("threshold.so")
}

fn in_rust(examples: &Path, folder: &Path) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .current_dir(examples.join("summary-rust"))
        .env("CARGO_TARGET_DIR", folder)
        .args(["build", "--quiet", "--release", "--offline"])
        .status();
    assert!(built.expect("cargo runs").success());
    folder.join("release/libsummary.so")
}

#[test]
fn what_is_no_plugin_fails_with_one_sentence() {
    let (well, report) = run(&["Cargo.toml"]);
    assert!(!well);
    let [check] = &report["checks"].as_array().expect("a list")[..] else { panic!("{report:#}") };
    assert_eq!(check["verdict"], "failed");
    let sentence = check["sentence"].as_str().expect("a sentence");
    assert!(sentence.starts_with("the dynamic loader refuses it") && !sentence.contains('\n'), "{sentence}");
}

#[test]
fn the_template_for_authors_passes() {
    let file = built::package("examples/plugin-template", "tempos_adapter_mqueue").display().to_string();
    let [ingress, egress] = ["ingress", "egress"].map(|end| format!("{end}.name=/tempos-suite-{{number}}"));
    let (well, report) = run(&[&file, "--option", &ingress, "--option", &egress]);
    assert!(well, "{report:#}");
    assert!(!report.to_string().contains("skipped"), "{report:#}");
}
