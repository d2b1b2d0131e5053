//! What a change of the wiring costs the one who orders it: a thousand a minute, while events flow, each written
//! down before it is answered. `cargo bench -p tempos-tests --bench changes [-- CHANGES]`

#[path = "../tests/client/mod.rs"]
mod client;

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use client::Client;
use tempos_tests::{NodeSetup, Producer, Sink};

const PACE: Duration = Duration::from_millis(60);

fn main() {
    let changes = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1000);
    let mut rows = Vec::new();
    for (what, terms) in [("kept", false), ("until restart", true)] {
        rows.push((what, measure(changes, terms)));
    }
    let mut out = std::io::stdout().lock();
    let said =
        writeln!(out, "{changes} changes at 1000 a minute beside 2000 events/s; from the call to its answer")
            .and_then(|()| {
                writeln!(out, "{:<14} {:>10} {:>10} {:>10} {:>10}", "", "P50", "P99", "P99.9", "MAX")?;
                rows.iter().try_for_each(|(what, times)| {
                    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
                    let shown = [0.5, 0.99, 0.999, 1.0]
                        .map(|share| format!("{:.2} ms", at(share).as_secs_f64() * 1e3));
                    let [a, b, c, d] = shown;
                    writeln!(out, "{what:<14} {a:>10} {b:>10} {c:>10} {d:>10}")
                })
            });
    // Nobody reads it where that fails.
    drop(said);
}

/// The times of all changes, the shortest first.
fn measure(changes: u32, until_restart: bool) -> Vec<Duration> {
    let setup = NodeSetup::new().plugins(["adapter-unix", "adapter-udp", "queue-fifo"]);
    let out = setup.folder().join("press.out");
    let _sink = Sink::seqpacket(&out);
    let lua = |round: u32| {
        format!(
            "tempos.topic \"press\" {{ qos = \"strict\", rank = {}, ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }},\n\
             egress = {{ tempos.unix {{ path = {out:?}, type = \"seqpacket\", send_buffer = \"2MiB\" }} }} }}\n\
             tempos.topic \"side/{}\" {{}}\n",
            100 + round % 7,
            round % 3,
        )
    };
    let node = setup.wiring(&lua(0)).node_file("[wiring]\nwatch = false").start();
    let mut producer = Producer::udp(1, node.udp_address("press/in/1"));
    let client = Client::of(&node);
    let stop = AtomicBool::new(false);
    let mut times = Vec::with_capacity(changes as usize);
    std::thread::scope(|scope| {
        scope.spawn(|| producer.send_at_rate(2000, || stop.load(Ordering::Acquire)));
        let begun = Instant::now();
        for round in 1..=changes {
            let (script, asked) = (lua(round), Instant::now());
            let answer = client.apply(&script, &[("until-restart", until_restart.into())]);
            times.push(asked.elapsed());
            if let Err(refused) = answer {
                let _ = writeln!(std::io::stderr(), "change {round} was refused: {}", refused.1);
                std::process::exit(1);
            }
            std::thread::sleep((begun + PACE * round).saturating_duration_since(Instant::now()));
        }
        stop.store(true, Ordering::Release);
    });
    times.sort();
    times
}
