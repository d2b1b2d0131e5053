//! The wirings.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tempos_tests::built::source_root;
use tempos_tests::function::compile;

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// On the queue worker.
    Inline,
    /// On a function worker.
    Worker,
}

/// A wiring, driven at its rates.
pub struct Case {
    /// What it is.
    pub name: &'static str,
    /// The level of the topic that is measured.
    pub level: &'static str,
    /// How its events come in and go out: `unix` or `udp`.
    pub way: &'static str,
    /// Functions on its way, one after the other.
    pub calls: &'static [Call],
    /// Groups that each event goes to.
    pub groups: usize,
    /// Events a second.
    pub rate: u32,
    /// Topics beside it: their levels and rates.
    pub others: &'static [(&'static str, u32)],
}

const fn case(
    name: &'static str,
    level: &'static str,
    way: &'static str,
    calls: &'static [Call],
    groups: usize,
    rate: u32,
    others: &'static [(&'static str, u32)],
) -> Case {
    Case { name, level, way, calls, groups, rate, others }
}

use Call::{Inline, Worker};

/// All of them.
pub const CASES: &[Case] = &[
    case("unix, strict, 100/s", "strict", "unix", &[], 1, 100, &[]),
    case("unix, strict, 1000/s", "strict", "unix", &[], 1, 1000, &[]),
    case("unix, strict, 5000/s", "strict", "unix", &[], 1, 5000, &[]),
    case("udp, strict, 1000/s", "strict", "udp", &[], 1, 1000, &[]),
    case("udp, strict, 5000/s", "strict", "udp", &[], 1, 5000, &[]),
    case("unix, control, 1000/s", "control", "unix", &[], 1, 1000, &[]),
    case("udp, control, 1000/s", "control", "udp", &[], 1, 1000, &[]),
    case("unix, best-effort, 1000/s", "best-effort", "unix", &[], 1, 1000, &[]),
    case("udp, best-effort, 200/s", "best-effort", "udp", &[], 1, 200, &[]),
    case("unix, strict, 1000/s, 2 groups", "strict", "unix", &[], 2, 1000, &[]),
    case("unix, strict, 1000/s, 3 groups", "strict", "unix", &[], 3, 1000, &[]),
    case("unix, strict, 1000/s, inline function", "strict", "unix", &[Inline], 1, 1000, &[]),
    case("unix, strict, 1000/s, function", "strict", "unix", &[Worker], 1, 1000, &[]),
    case("unix, control, 500/s, function", "control", "unix", &[Worker], 1, 500, &[]),
    case("unix, strict, 200/s, 2 functions", "strict", "unix", &[Worker, Worker], 1, 200, &[]),
    case("unix, strict, 200/s, inline and function", "strict", "unix", &[Inline, Worker], 1, 200, &[]),
    case("unix, best-effort, 200/s, function", "best-effort", "unix", &[Worker], 1, 200, &[]),
    case("unix, control, 1000/s, beside strict 2000/s", "control", "unix", &[], 1, 1000, &[("strict", 2000)]),
    case(
        "unix, strict, 1000/s, beside two others",
        "strict",
        "unix",
        &[],
        1,
        1000,
        &[("strict", 1000), ("best-effort", 2000)],
    ),
    case(
        "unix, control, 500/s, function, beside strict",
        "control",
        "unix",
        &[Worker],
        1,
        500,
        &[("strict", 1000)],
    ),
];

/// The function of the wirings. Where there is no compiler it was built before: `TEMPOS_WORK` names it.
pub fn function_file(folder: &Path) -> PathBuf {
    if let Some(built) = std::env::var_os("TEMPOS_WORK") {
        return built.into();
    }
    let library = folder.join("work.so");
    let include = source_root().join("abi/include");
    let source = source_root().join("tests/benches/wirings/work.c");
    compile(&["-I".as_ref(), include.as_os_str()], &source, &library);
    library
}

/// Where a topic's events go in.
pub fn entrance(folder: &Path, topic: &str) -> PathBuf {
    folder.join(format!("{topic}.in"))
}

/// The most that a way is expected to take (µs), without functions and with: what is read late by so much must not make
/// the next one wait.
const EXPECTED_US: [u32; 2] = [400, 1200];

/// What an endpoint lets in: a quarter more than is sent, so that a sender who is late once has not to wait with the next.
fn let_in(rate: u32) -> u32 {
    rate + rate / 4
}

/// How many events are sent at once, which is what the endpoint lets in at once.
pub fn burst(rate: u32, has_function: bool) -> u32 {
    1 + (let_in(rate) * EXPECTED_US[usize::from(has_function)]).div_ceil(1_000_000)
}

impl Case {
    /// How many of its events are sent at once.
    pub fn burst(&self) -> u32 {
        burst(self.rate, !self.calls.is_empty())
    }

    /// The script.
    pub fn lua(&self, folder: &Path, function: &Path, addresses: &Addresses) -> String {
        let mut lua = String::from(
            "tempos.qos \"control\" { rank = 150, scheduler = \"rr\", priority = 20, share = 0, queue = { policy = \"edf\" } }\n\
             tempos.qos \"best-effort\" { share = 0 }\n",
        );
        let asks = "request = { latency_p99 = \"1s\" }, on_unmet = \"degrade\"";
        let held = |rate: u32, burst: u32| format!("rate = {}, burst = {burst}", let_in(rate));
        let unix = |topic: &str, held: &str| {
            format!("tempos.unix {{ path = {:?}, {held} }}", entrance(folder, topic))
        };
        let own = held(self.rate, self.burst());
        let ingress = match self.way {
            "udp" => format!("tempos.udp {{ bind = \"{}\", {own} }}", addresses.entrance),
            _ => unix("t0", &own),
        };
        let groups = addresses.groups.iter().enumerate();
        let egress: String = groups.fold(String::new(), |mut text, (at, to)| {
            let _ = write!(text, "tempos.group \"g{at}\" {{ {to} }}, ");
            text
        });
        let last = self.calls.len();
        for at in 0..=last {
            let from = if at == 0 { format!("ingress = {{ {ingress} }}, ") } else { String::new() };
            let to = if at == last { format!("egress = {{ {egress} }}, ") } else { String::new() };
            let asks = if self.calls.is_empty() { asks } else { "" };
            let _ = writeln!(lua, "tempos.topic \"t{at}\" {{ qos = \"{}\", {from}{to}{asks} }}", self.level);
        }
        for (at, call) in self.calls.iter().enumerate() {
            let inline = if *call == Inline { ", inline = true" } else { "" };
            let asks = if at == 0 { asks } else { "" };
            let _ = writeln!(
                lua,
                "tempos.workflow \"w{at}\" {{ from = \"t{at}\", to = \"t{}\", call = {{ method = \"dlf\", \
                 file = {function:?}, symbol = \"tempos_work\", deadline = \"200us\"{inline} }}, {asks} }}",
                at + 1
            );
        }
        for (at, ((level, rate), to)) in self.others.iter().zip(&addresses.others).enumerate() {
            let name = format!("o{at}");
            let _ = writeln!(
                lua,
                "tempos.topic \"{name}\" {{ qos = \"{level}\", ingress = {{ {} }}, egress = {{ {to} }}, {asks} }}",
                unix(&name, &held(*rate, burst(*rate, false))),
            );
        }
        lua
    }
}

/// Where events go in and out.
pub struct Addresses {
    /// The UDP entrance.
    pub entrance: SocketAddr,
    /// The ways out of the measured topic, as the script says them.
    pub groups: Vec<String>,
    /// Those of the topics beside it.
    pub others: Vec<String>,
}
