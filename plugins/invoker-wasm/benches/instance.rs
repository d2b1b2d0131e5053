//! What an event costs on a fresh instance: ours, through the built `.so`, beside the engine used by hand
//! (store, instantiate, call, drop) with the same configuration.
//!
//! ```sh
//! cargo bench -p tempos-invoker-wasm                       # half a minute
//! cargo bench -p tempos-invoker-wasm -- --events 200000
//! ```
//!
//! Both take turns in short rounds of one run, on one thread, so that whatever else the machine does meets them
//! alike: read the ratios, not the microseconds.

#[path = "instance/by_hand.rs"]
mod by_hand;
#[path = "instance/ours.rs"]
mod ours;

use std::io::Write as _;
use std::time::Instant;

use by_hand::{ByHand, HandComponent, HandModule};
use ours::Ours;

/// A module that imports WASI, as compilers make them: it asks for nothing of it at an event.
const WITH_WASI: &str = r#"(module
  (import "tempos" "write" (func $write (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func (param i32)))
  (memory (export "memory") 17)
  (data (i32.const 65536) "some data of the module")
  (func (export "_initialize"))
  (func (export "alloc") (param i32) (result i32) (i32.const 4096))
  (func (export "handle") (param $at i32) (param $bytes i32) (result i32)
    (call $write (local.get $at) (local.get $bytes))))"#;

const PROBE: &str = include_str!("../guests/probe.wat");
const COMPONENT: &str = include_str!("../guests/component.wat");
const ROUND: usize = 200;
const PAYLOAD: [u8; 64] = [b'e'; 64];

/// Time of each event in nanoseconds.
#[derive(Default)]
struct Times(Vec<u64>);

impl Times {
    fn take(&mut self, mut event: impl FnMut()) {
        for _ in 0..ROUND {
            let begun = Instant::now();
            event();
            self.0.push(begun.elapsed().as_nanos() as u64);
        }
    }

    /// p50, p99, max in microseconds.
    fn figures(&mut self) -> [f64; 3] {
        self.0.sort_unstable();
        let at = |share: f64| self.0[((self.0.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
        [at(0.5), at(0.99), at(1.0)]
    }
}

fn compare(name: &str, wat: &str, by_hand: &dyn ByHand, events: usize) {
    let binary = wat::parse_str(wat).expect("it is WebAssembly");
    let (fresh, reused) = (Ours::new(name, &binary, "fresh"), Ours::new(name, &binary, "reuse"));
    let (mut hand, mut ours, mut kept) = (Times::default(), Times::default(), Times::default());
    // The first ones fault in what is used.
    for _ in 0..20 {
        Times::default().take(|| by_hand.event(&PAYLOAD));
        Times::default().take(|| fresh.event(&PAYLOAD));
    }
    for _ in 0..events.div_ceil(ROUND) {
        hand.take(|| by_hand.event(&PAYLOAD));
        ours.take(|| fresh.event(&PAYLOAD));
        kept.take(|| reused.event(&PAYLOAD));
    }
    let bare = hand.figures();
    let mut out = std::io::stdout().lock();
    let mut line = |what: &str, [p50, p99, max]: [f64; 3]| {
        let ratio = p50 / bare[0];
        let _ = writeln!(out, "{name:<22} {what:<22} {p50:>9.2} {p99:>9.2} {max:>9.1} {ratio:>7.2}");
    };
    line("by hand", bare);
    line("ours, fresh", ours.figures());
    line("ours, reuse", kept.figures());
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = arguments.iter().position(|argument| argument == "--events");
    let events = asked.and_then(|at| arguments.get(at + 1)?.parse().ok()).unwrap_or(40_000);
    let mut out = std::io::stdout();
    let _ = writeln!(
        out,
        "{:<45} {:>9} {:>9} {:>9} {:>7}",
        "µs for an event, 64 bytes in and out", "p50", "p99", "max", "ratio"
    );
    compare("module", PROBE, &HandModule::new(PROBE, false), events);
    compare("module with WASI", WITH_WASI, &HandModule::new(WITH_WASI, true), events);
    compare("component", COMPONENT, &HandComponent::new(COMPONENT), events);
}
