//! The example wirings are wirings: each passes the check of a node with every plugin of the house.

use std::fs;

use tempos_tests::built::source_root;
use tempos_tests::function::{ECHO, function};
use tempos_tests::{NodeSetup, built};

#[test]
fn every_example_wiring_is_one() {
    let setup = NodeSetup::new().all_plugins();
    fs::write(setup.folder().join("node.toml"), "").expect("written");
    // Where a file names a function of the examples, that is built here.
    let folder = setup.folder().join("examples/functions/summary-rust/target/release");
    fs::create_dir_all(&folder).expect("a folder");
    let built_function = function(&folder, "libsummary", ECHO);
    assert!(built_function.ends_with("libsummary.so"));
    let wirings = setup.folder().join("examples/wirings");
    fs::create_dir_all(&wirings).expect("a folder");
    let (mut count, mut listed) =
        (0, fs::read_to_string(source_root().join("examples/wirings/README.md")).expect("it is there"));
    for entry in fs::read_dir(source_root().join("examples/wirings")).expect("listed").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.ends_with(".lua") {
            continue;
        }
        count += 1;
        assert!(listed.contains(&format!("`{name}`")), "the README does not name {name}");
        listed = listed.replacen(&name, "", 1);
        let file = wirings.join(&name);
        fs::copy(entry.path(), &file).expect("copied");
        let output = std::process::Command::new(built::program("temposd"))
            .args(["--check", "--bus", "none", "--config"])
            .arg(setup.folder().join("node.toml"))
            .arg("--wiring")
            .arg(&file)
            .arg("--plugins")
            .arg(setup.folder().join("plugins"))
            .arg("--state")
            .arg(setup.folder().join("state"))
            .arg("--run")
            .arg(setup.folder().join("run"))
            .output()
            .expect("temposd runs");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("hold no mistake"), "{name}: {said}");
    }
    assert!(count >= 5, "only {count} examples were found");
}
