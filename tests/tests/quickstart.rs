//! The first thing that a new user runs, as the user runs it: only the programs are those of the tests.

use std::process::Command;

use tempos_tests::built;

#[test]
fn the_quickstart_sends_real_events_through_and_accounts_for_each() {
    let programs = built::program("temposd").parent().expect("a folder").to_path_buf();
    let output = Command::new("sh")
        .arg(built::source_root().join("examples/quickstart/run.sh"))
        .env("PROGRAMS", &programs)
        .env("CARGO_TARGET_DIR", env!("CARGO_TARGET_TMPDIR"))
        .env("SECONDS_OF_EVENTS", "2")
        .env("NO_COLOR", "1")
        .output()
        .expect("sh runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for level in ["strict", "best-effort"] {
        let row = said
            .lines()
            .rfind(|line| line.starts_with(level) && line.split_whitespace().count() > 8)
            .unwrap_or_else(|| panic!("no account of {level}:\n{said}"));
        let figures: Vec<u64> =
            row.split_whitespace().skip(1).take(5).map(|word| word.parse().expect("a figure")).collect();
        let [sent, received, lost, counted, _reordered] = figures[..] else { panic!("{row}") };
        assert!(sent >= 2000 && received > 0, "{row}");
        assert_eq!(sent, received + lost, "{row}");
        assert_eq!(lost, counted, "every loss is counted: {row}");
        if level == "strict" {
            assert_eq!(lost, 0, "a flood costs a strict flow nothing: {row}");
        }
    }
}
