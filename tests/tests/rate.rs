//! A thousand changes a minute while events flow: none is lost, nothing grows.
//!
//! `TEMPOS_ROUNDS=10000 cargo test -p tempos-tests --test rate` goes on for ten minutes. How fast the answers are,
//! `cargo bench -p tempos-tests --bench changes` says.

mod client;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use tempos_tests::{NodeSetup, Producer, Sink};

/// A thousand in a minute.
const PACE: Duration = Duration::from_millis(60);
/// What the allocator may take until it has seen everything.
const GROWTH_KIB_MAX: u64 = 8 << 10;

#[test]
fn a_thousand_changes_a_minute_under_load_lose_no_event_and_nothing_grows() {
    let rounds: u64 = std::env::var("TEMPOS_ROUNDS").map_or(250, |text| text.parse().expect("a number"));
    let setup = NodeSetup::new().plugins(["adapter-unix", "adapter-udp", "queue-fifo"]);
    let out = setup.folder().join("press.out");
    let sides = [0, 1, 2].map(|side| setup.folder().join(format!("side.{side}")));
    let sink = Sink::seqpacket(&out);
    let lua = |round: u64| {
        format!(
            "tempos.qos \"strict\" {{ queue = {{ capacity = {} }} }}\n\
             tempos.topic \"press\" {{ qos = \"strict\", rank = {}, ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }},\n\
             egress = {{ tempos.unix {{ path = {out:?}, type = \"seqpacket\", send_buffer = \"2MiB\" }} }} }}\n\
             tempos.topic \"side/{}\" {{ ingress = {{ tempos.unix {{ path = {:?} }} }} }}\n",
            if round % 10 == 9 { 8192 } else { 4096 },
            100 + round % 7,
            round % 3,
            sides[round as usize % 3],
        )
    };
    let node = setup.wiring(&lua(0)).node_file("[wiring]\nwatch = false").start();
    let mut producer = Producer::udp(1, node.udp_address("press/in/1"));
    let client = Client::of(&node);
    let resident = || node.property("/org/tempos/Host1", "Node", "ResidentKiB").as_u64().unwrap_or(0);
    let stop = AtomicBool::new(false);
    let (mut settled, mut slowest) = (0, Duration::ZERO);
    std::thread::scope(|scope| {
        scope.spawn(|| producer.send_at_rate(2000, || stop.load(Ordering::Acquire)));
        let changed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let begun = Instant::now();
            for round in 1..=rounds {
                let asked = Instant::now();
                client.apply(&lua(round), &[]).expect("a good wiring");
                slowest = slowest.max(asked.elapsed());
                if round == rounds / 2 {
                    settled = resident();
                }
                std::thread::sleep((begun + PACE * round as u32).saturating_duration_since(Instant::now()));
            }
        }));
        stop.store(true, Ordering::Release);
        changed.expect("every change is made");
    });
    let ended = resident();
    println!("{rounds} changes, the slowest took {slowest:?}; resident {settled} KiB, then {ended} KiB");
    assert!(ended <= settled + GROWTH_KIB_MAX, "{settled} KiB half way, {ended} KiB at the end");
    let figures = node.wait_for_rest("press", producer.sent());
    assert_eq!(figures.dropped_whole(), 0, "{figures:?}");
    assert_eq!(node.channel_count("press/in/1", "KernelDropped"), 0);
    sink.wait_for(producer.sent()).assert_exact(1, producer.sent());
    assert!(client.generation().expect("a number") > rounds, "each was another wiring");
    let files = std::fs::read_dir(node.folder().join("state/generations")).expect("the folder").count();
    assert!(files <= 34, "{files} files");
}
