//! A script inside one long operation of the library is left to itself, and not more than four of them.
//!
//! One test in a binary of its own: the count of abandoned threads belongs to the process.

mod common;

use std::time::{Duration, Instant};

use common::{known, run, run_with};
use tempos_lua::{ABANDONED_MAX, Happening, Limits, Source, abandoned, evaluate, evaluate_wiring};

/// Sorting in C, with a comparison in C: no hook is called in between.
const LONG_SORT: &str = "local t = {} for n = 1, 1500000 do t[n] = (n * 7919) % 1500007 end table.sort(t)";

#[test]
fn a_stuck_script_is_left_to_itself_and_comes_to_its_end() {
    let patient =
        Limits { time: Duration::from_secs(60), silence: Duration::from_millis(60), ..Limits::default() };
    let stuck =
        "wiring.lua: the script is stuck in one operation that cannot be interrupted; left after 60.0 ms";
    assert_eq!(run_with(LONG_SORT, &patient), Err(vec![stuck.into()]));
    assert_eq!(abandoned(), 1);
    assert!(run("tempos.topic 'after' {}").is_ok(), "others still run");

    while abandoned() < ABANDONED_MAX {
        assert_eq!(run_with(LONG_SORT, &patient), Err(vec![stuck.into()]));
    }
    let source = Source::Text { chunk_name: "next.lua".into(), lua: String::new() };
    let refused = evaluate(&source, &known(), &patient).expect_err("it must be refused");
    assert_eq!(
        refused[0].to_string(),
        "next.lua: no script is run, because 4 earlier ones are stuck and still use the CPU; restart the node"
    );

    let begun = Instant::now();
    while abandoned() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "the abandoned threads must come to their end");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(run("tempos.topic 'after' {}").is_ok());

    // A hook is a script like any other, and takes the hooks of its wiring along.
    let lua = format!("tempos.on(\"overload\", function() {LONG_SORT} end)");
    let source = Source::Text { chunk_name: "wiring.lua".into(), lua };
    let hooks = evaluate_wiring(&source, &known(), &patient, |_, _| {}).expect("good").hooks.expect("one");
    let left = hooks.call(0, Happening::default()).expect_err("it is stuck")[0].to_string();
    assert!(left.starts_with("wiring.lua:1: this hook is stuck in one operation"), "{left}");
    assert_eq!(abandoned(), 1);
    let gone = hooks.call(0, Happening::default()).expect_err("they are gone")[0].to_string();
    assert_eq!(gone, "wiring.lua:1: the hooks of this wiring have ended");
    let begun = Instant::now();
    while abandoned() > 0 {
        assert!(begun.elapsed() < Duration::from_secs(120), "the abandoned thread must come to its end");
        std::thread::sleep(Duration::from_millis(20));
    }
}
