//! Plugins and hosts of different ages: within 1.x what was built earlier keeps loading.

mod built;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempos_conformance::{Settings, run};

#[test]
fn a_plugin_built_from_the_first_copy_of_the_traits_loads_today() {
    let file = built::package("tests/fixtures/plugin-old", "tempos_fixture_old");
    let report = run(&file, &Settings::default());
    assert!(report.is_ok(), "{report}");
    assert!(report.plugin.starts_with("old 0.1.0"), "{report}");
}

#[test]
fn todays_plugins_load_in_a_host_that_has_grown_and_not_in_one_that_has_changed() {
    let folder = std::env::temp_dir().join(format!("tempos-evolution-{}", std::process::id()));
    grow(&folder);
    let fixture = built::workspace().join("tests/fixtures/abi-newer/host");
    copy(&fixture, &folder.join("host"));
    let plugins = [
        built::plugin("tempos-queue-fifo"),
        built::plugin("tempos-adapter-udp"),
        built::package("tests/fixtures/plugin-old", "tempos_fixture_old"),
    ];
    let run_host = || {
        let profile = built::build_outside(&folder.join("host"), &["--offline"]);
        let host = Command::new(profile.join("tempos-fixture-newer-host")).args(&plugins).output();
        let output = host.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (text(&output.stdout), text(&output.stderr))
    };

    let (said, complaints) = run_host();
    let expected = ["fifo abi=1.1", "udp abi=1.1", "old abi=1.0"]
        .map(|who| format!("{who} later-field=no later-method=7\n"));
    assert_eq!(said, expected.concat(), "{complaints}");

    // What is no growth, but another layout, is refused whichever way round it is looked at.
    edit(&folder.join("abi/src/level.rs"), "pub socket_priority: i32,", "pub socket_priority: i64,");
    let (said, complaints) = run_host();
    assert_eq!(said, "");
    assert!(complaints.contains("its types have another layout than this host's"), "{complaints}");
    let _ = fs::remove_dir_all(&folder);
}

/// Copies `abi/` to `FOLDER/abi` and lets it grow as the rules allow: methods and fields at the ends.
fn grow(folder: &Path) {
    let abi = folder.join("abi");
    copy(&built::workspace().join("abi/src"), &abi.join("src"));
    let manifest =
        fs::read_to_string(built::workspace().join("tests/fixtures/abi-1.0/Cargo.toml")).expect("read");
    fs::write(abi.join("Cargo.toml"), change(&manifest, "version = \"1.0.0\"", "version = \"1.2.0\""))
        .expect("written");
    let later_method =
        "\n    /// What a later version asks.\n    fn later_method(&self) -> u64 {\n        7\n    }\n}";
    edit(&abi.join("src/lib.rs"), "pub const ABI_MINOR: u32 = 1;", "pub const ABI_MINOR: u32 = 2;");
    for (file, last) in [
        ("adapter.rs", "    /// See [`Channel::flush`].\n    fn flush(&mut self) -> i32 {\n        0\n    }"),
        (
            "queue.rs",
            "    #[sabi(last_prefix_field)]\n    fn set_topic(&mut self, topic: u32, share: &TopicShare);",
        ),
        ("invoker.rs", "    #[sabi(last_prefix_field)]\n    fn retire(&self, deadline_ns: u64);"),
    ] {
        edit(&abi.join("src").join(file), &format!("{last}\n}}"), &format!("{last}{later_method}"));
    }
    let last =
        "    pub invocation_method: ROption<extern \"C\" fn() -> RResult<InvocationMethodBox, PluginError>>,";
    let later_field = "    /// What a later version asks.\n    #[sabi(missing_field(option))]\n    pub later_field: extern \"C\" fn() -> u32,";
    edit(&abi.join("src/module.rs"), last, &format!("{last}\n{later_field}"));
    // The macro makes the module; the host does not use it, but it is part of the copy.
    let export = abi.join("src/export.rs");
    let text = fs::read_to_string(&export).expect("read");
    let text =
        text.replace("invocation_method: ROption::RNone,", "invocation_method: ROption::RNone, later_field,");
    fs::write(&export, text).expect("written");
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    fs::write(file, change(&text, from, to)).expect("written");
}

/// Replaces what must be there once: were it gone, the test would prove nothing.
fn change(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} is not there once: bring this test up to date");
    text.replace(from, to)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("listed").flatten() {
        let (source, target): (PathBuf, PathBuf) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            if entry.file_name() != "target" {
                copy(&source, &target);
            }
        } else {
            fs::copy(source, target).expect("copied");
        }
    }
}
