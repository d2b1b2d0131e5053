//! Throughput: as many events as go through, with a bounded number under way so that none need be lost.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use crate::batch::{BATCH, Batch};
use crate::machine::{self, Layout, Usage, Watch, now_ns};
use crate::options::Options;
use crate::scene::{Scene, Way};
use crate::summary::median;
use crate::traffic::EVENT_BYTES;

/// Events under way at most: less than a socket's default buffer holds.
const WINDOW: usize = 128;
/// How long a turn takes.
const TURN: Duration = Duration::from_secs(1);
const TURNS: u32 = 4;
/// After so long without an arrival, what is under way counts as lost.
const SILENCE_MS: i32 = 200;

/// What a way came to.
#[derive(Debug)]
pub struct FloodResult {
    /// Its name.
    pub name: &'static str,
    /// The way that it is compared with.
    pub beside: Option<&'static str>,
    /// Events a second, median of the turns.
    pub per_second: f64,
    /// CPU time of the forwarding process for each event, median of the turns.
    pub cpu_ns_per_event: f64,
    /// The same over that of the way beside it.
    pub cpu_ratio: f64,
    /// Events that did not come.
    pub lost: u64,
    /// CPUs that others used meanwhile.
    pub others: f64,
}

struct Turn {
    per_second: f64,
    cpu_ns_per_event: f64,
    lost: u64,
    others: f64,
}

/// Runs all turns.
pub fn run(scene: &Scene, layout: &Layout, options: &Options) -> Vec<FloodResult> {
    let turns = if options.events < 1000 { 1 } else { TURNS };
    let mut all: Vec<Vec<Turn>> = scene.floods.iter().map(|_| Vec::new()).collect();
    for turn in 0..turns as usize {
        for step in 0..scene.floods.len() {
            let at = (step + turn) % scene.floods.len();
            all[at].push(flood(&scene.floods[at], scene, layout));
        }
    }
    let of = |turns: &[Turn], part: fn(&Turn) -> f64| median(&turns.iter().map(part).collect::<Vec<_>>());
    let bare = of(&all[0], |turn| turn.cpu_ns_per_event).max(1.0);
    scene
        .floods
        .iter()
        .zip(&all)
        .map(|(way, turns)| FloodResult {
            name: way.name,
            beside: way.beside,
            per_second: of(turns, |turn| turn.per_second),
            cpu_ns_per_event: of(turns, |turn| turn.cpu_ns_per_event),
            cpu_ratio: of(turns, |turn| turn.cpu_ns_per_event) / bare,
            lost: turns.iter().map(|turn| turn.lost).sum(),
            others: of(turns, |turn| turn.others),
        })
        .collect()
}

/// One turn: an ordinary thread sends batches while fewer than the window are under way, and counts what
/// comes out.
fn flood(way: &Way, scene: &Scene, layout: &Layout) -> Turn {
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let _ = machine::pin(layout.client_cpu);
            let SocketAddr::V4(target) = way.target else { unreachable!("the bench speaks IPv4") };
            let (sink, source) =
                (&scene.flood_sink, std::net::UdpSocket::bind("127.0.0.1:0").expect("a socket"));
            let (mut out, mut back) = (Batch::new(target), Batch::new(target));
            // What an earlier turn left.
            while back.receive(sink.as_raw_fd(), libc::MSG_DONTWAIT) > 0 {}
            let watch = Watch::begin(scene.pids());
            let before = Usage::of(way.pid);
            let begin = now_ns();
            let end = begin + TURN.as_nanos() as u64;
            let (mut under_way, mut came, mut lost) = (0usize, 0u64, 0u64);
            while now_ns() < end {
                if under_way + BATCH <= WINDOW {
                    under_way += out.send_filled(source.as_raw_fd(), BATCH, EVENT_BYTES);
                }
                let mut got = back.receive(sink.as_raw_fd(), libc::MSG_DONTWAIT);
                if got == 0 && under_way + BATCH > WINDOW {
                    if readable(sink.as_raw_fd()) {
                        got = back.receive(sink.as_raw_fd(), libc::MSG_DONTWAIT);
                    } else {
                        lost += under_way as u64;
                        under_way = 0;
                    }
                }
                under_way = under_way.saturating_sub(got);
                came += got as u64;
            }
            let took = now_ns() - begin;
            let cpu_ns = Usage::of(way.pid).since(before).cpu_ns;
            Turn {
                per_second: came as f64 * 1e9 / took as f64,
                cpu_ns_per_event: cpu_ns as f64 / came.max(1) as f64,
                lost,
                others: watch.others(),
            }
        });
        client.join().expect("the client ends")
    })
}

fn readable(socket: i32) -> bool {
    let mut entry = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    unsafe { libc::poll(&raw mut entry, 1, SILENCE_MS) > 0 }
}
