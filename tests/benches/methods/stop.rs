//! How long after its deadline a function that loops has ended, and everything that it was is gone.

use std::time::{Duration, Instant};

use tempos_abi::invoker::Outcome;

use crate::functions::Functions;
use crate::loaded::Loaded;
use crate::say;
use crate::times::Times;

/// Options of a method.
type Words<'a> = &'a [(&'a str, &'a str)];

const ROUNDS_MAX: usize = 100;
const PAUSE: Duration = Duration::from_millis(500);
const DEADLINE: Duration = Duration::from_millis(20);

/// Measures and prints.
pub fn run(functions: &Functions, rounds: usize) {
    let [dlf, wasm, spawn] = ["invoker-dlf", "invoker-wasm", "invoker-spawn"].map(Loaded::new);
    let [library, each, worker, module] = &functions.loops;
    let none: Words<'_> = &[];
    let ways: Vec<(_, _, _, Words<'_>)> = vec![
        ("dlf, in a process", &dlf, library, &[("isolation", "process")]),
        ("wasm", &wasm, module, none),
        ("spawn", &spawn, each, none),
        ("spawn, warm in C", &spawn, worker, &[("mode", "warm")]),
    ];
    say(&format!("\nµs after the deadline of a loop     {:>9} {:>9} {:>8}", "p50", "p99", "max"));
    for (name, method, file, options) in ways {
        let function = match method.prepare(file, options, 1) {
            Ok(function) => function,
            Err(sentence) => {
                say(&format!("{name:<35} {sentence}"));
                continue;
            }
        };
        let mut times = Times::default();
        for _ in 0..rounds.min(ROUNDS_MAX) {
            let begun = Instant::now();
            let (outcome, said) = function.end(DEADLINE);
            if outcome == Outcome::NOT_STARTED {
                // What is lost again and again is started ever more slowly.
                std::thread::sleep(PAUSE);
                continue;
            }
            assert_eq!(outcome, Outcome::KILLED, "{said}");
            times.push(begun.elapsed().saturating_sub(DEADLINE).as_nanos() as u64);
        }
        function.stop();
        say(&format!("{name:<35} {}", times.figures()));
    }
}
