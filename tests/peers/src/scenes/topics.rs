//! One topic among ten, and among ten thousand: its latency, what an idle topic takes of memory, and how long it
//! takes to apply them all.

use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::opens;
use crate::client;
use crate::machine::{Layout, number_after};
use crate::node::Node;
use crate::options::{Options, Scene};
use crate::process::free_port;
use crate::report::{Report, TopicsRow};
use crate::summary::{Percentiles, median};
use crate::systems::sockets::{Datagrams, Messages, bound};

const MANY: usize = 10_000;

struct One {
    node: Node,
    into: u16,
    out: u16,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

/// Runs it.
pub fn run(options: &Options, layout: &Layout, report: &mut Report) {
    match play(options, layout) {
        Ok(row) => report.topics(&row),
        Err(error) => report.failed("tempos-udp", Scene::Topics, &error.to_string()),
    }
}

fn wiring(layout: &Layout, into: u16, out: u16, idle: usize) -> String {
    format!(
        "{}tempos.topic \"measured\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:{into}\" }} }},\n\
         egress = {{ tempos.udp {{ to = \"127.0.0.1:{out}\" }} }} }}\n\
         for i = 1, {idle} do tempos.topic(\"idle/\" .. i) {{ qos = i % 2 == 0 and \"strict\" or \"best-effort\" }} end\n",
        crate::systems::tempos_levels(layout),
    )
}

fn resident_bytes(pid: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    number_after(&status, "VmRSS:") as f64 * 1024.0
}

fn play(options: &Options, layout: &Layout) -> io::Result<TopicsRow> {
    let start = |name: &str| -> io::Result<One> {
        let (into, out) = (free_port()?, free_port()?);
        let node = Node::start(name, &wiring(layout, into, out, 9), |_| {})?;
        Ok(One { node, into, out, p50: Vec::new(), p99: Vec::new() })
    };
    let mut both = [start("few")?, start("many")?];
    let many = &both[1];
    let before = resident_bytes(many.node.pid());
    let begin = Instant::now();
    many.node.apply(&wiring(layout, many.into, many.out, MANY - 1))?;
    let apply_s = begin.elapsed().as_secs_f64();
    std::thread::sleep(std::time::Duration::from_millis(500));
    let bytes_per_topic = (resident_bytes(many.node.pid()) - before) / (MANY - 10) as f64;
    for round in 0..options.rounds * 2 {
        let (one, number) = (&mut both[round % 2], 800_000 + round as u32);
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(("127.0.0.1", one.into))?;
        let mut producer = Datagrams::new(socket, false);
        let mut consumer = Messages::new(vec![bound(one.out)?.into()]);
        if !opens(&mut producer, &mut consumer) {
            return Err(io::Error::other("no event came through"));
        }
        let (sent_all, stop, bulk) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
        let mut arrivals = std::thread::scope(|scope| {
            let receiver = scope.spawn(|| {
                client::as_receiver(layout);
                client::consume(&mut consumer, number, options.events, &sent_all, &bulk)
            });
            scope.spawn(|| {
                client::as_sender(layout);
                client::pace(&mut producer, number, 0, options.events, 1000, &stop);
                sent_all.store(true, Ordering::Release);
            });
            receiver.join().unwrap_or_default()
        });
        let figures = Percentiles::of(&mut arrivals.from_due);
        one.p50.push(figures.p50 as f64);
        one.p99.push(figures.p99 as f64);
    }
    Ok(TopicsRow {
        few_p50: median(&both[0].p50),
        many_p50: median(&both[1].p50),
        few_p99: median(&both[0].p99),
        many_p99: median(&both[1].p99),
        bytes_per_topic,
        apply_s,
    })
}
