//! The soak: a node at 80 % of its highest rate over TCP, with a strict flow and more best-effort events than it
//! can take beside it, while its wiring and its levels change and a member of a group dies and comes back. Then
//! the account, to the event: accepted = delivered + dropped with its reason + still queued.

use std::io;
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::opens;
use crate::client::{Consumer, Producer};
use crate::event::{EVENT_BYTES, Stamp};
use crate::machine::now_ns;
use crate::node::Node;
use crate::options::{Options, Scene};
use crate::process::free_port;
use crate::report::Report;
use crate::systems::sockets::{
    Datagrams, LengthPrefixed, Messages, StreamConsumer, StreamProducer, bound, connect,
};

const BATCH: usize = 64;

struct Ports {
    tcp: (u16, u16),
    strict: (u16, u16),
    bulk: (u16, u16),
    work: u16,
}

/// Runs it; whether the account holds.
pub fn run(options: &Options, report: &mut Report) -> bool {
    match play(options) {
        Ok(lines) => {
            let holds = lines.iter().all(|(_, holds)| *holds);
            report.soak(options.soak_s, &lines);
            holds
        }
        Err(error) => {
            report.failed("tempos", Scene::Soak, &error.to_string());
            false
        }
    }
}

/// One of the wirings that take turns.
fn wiring(ports: &Ports, folder: &str, turn: usize) -> String {
    let batch = [64, 16, 32, 48][turn % 4];
    let priority = [45, 44, 46][turn % 3];
    let members: Vec<String> =
        (0..3).map(|n| format!("tempos.unix {{ path = \"{folder}/member{n}\" }}")).collect();
    let extra = if turn.is_multiple_of(2) { "tempos.topic \"extra\" { qos = \"rate\" }\n" } else { "" };
    format!(
        "tempos.qos \"strict\" {{ priority = {priority} }}\n\
         tempos.qos \"rate\" {{ rank = 100, batch = {batch}, queue = {{ capacity = 8192, bytes = \"8MiB\", full = \"block\" }} }}\n\
         tempos.topic \"rate\" {{ qos = \"rate\", ingress = {{ tempos.tcp {{ bind = \"127.0.0.1:{}\" }} }},\n\
         egress = {{ tempos.tcp {{ to = \"127.0.0.1:{}\", unsent = \"1MiB\" }} }} }}\n\
         tempos.topic \"strict\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:{}\" }} }},\n\
         egress = {{ tempos.udp {{ to = \"127.0.0.1:{}\" }} }} }}\n\
         tempos.topic \"bulk\" {{ ingress = {{ tempos.udp {{ bind = \"127.0.0.1:{}\" }} }},\n\
         egress = {{ tempos.udp {{ to = \"127.0.0.1:{}\" }} }} }}\n\
         tempos.topic \"work\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:{}\" }} }},\n\
         egress = {{ tempos.group \"workers\" {{ {}, stall = \"200ms\" }} }} }}\n{extra}",
        ports.tcp.0,
        ports.tcp.1,
        ports.strict.0,
        ports.strict.1,
        ports.bulk.0,
        ports.bulk.1,
        ports.work,
        members.join(", "),
    )
}

/// What is counted on the bench's side.
#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    came: AtomicU64,
}

fn play(options: &Options) -> io::Result<Vec<(String, bool)>> {
    let ports = Ports {
        tcp: (free_port()?, free_port()?),
        strict: (free_port()?, free_port()?),
        bulk: (free_port()?, free_port()?),
        work: free_port()?,
    };
    let folder = crate::node::folder("soak")?.display().to_string();
    let node = Node::start("soak", &wiring(&ports, &folder, 0), |_| {})?;
    let listener = std::net::TcpListener::bind(("127.0.0.1", ports.tcp.1))?;
    let mut consumer = StreamConsumer::new(vec![listener], Vec::new(), LengthPrefixed)?;
    let mut producer = StreamProducer::new(connect(ports.tcp.0)?, LengthPrefixed)?;
    if !opens(&mut producer, &mut consumer) {
        return Err(io::Error::other("no event came through"));
    }
    // Those of the trial that came before the connection stood were dropped, as they should be.
    let trial = topic(&node, "rate")?;
    let stop = AtomicBool::new(false);
    let [rate, strict, bulk, work]: [Counts; 4] = Default::default();
    let changes = AtomicU64::new(0);
    std::thread::scope(|scope| -> io::Result<()> {
        let (stop, rate, strict, bulk, work) = (&stop, &rate, &strict, &bulk, &work);
        scope.spawn(move || receive(&mut consumer, stop, &rate.came));
        for (port, counts) in [(ports.strict.1, strict), (ports.bulk.1, bulk)] {
            let mut consumer = Messages::new(vec![bound(port)?.into()]);
            scope.spawn(move || receive(&mut consumer, stop, &counts.came));
        }
        for number in 0..3 {
            let path = format!("{folder}/member{number}");
            scope.spawn(move || member(&path, number == 1, stop, &work.came));
        }
        // As fast as it goes for two seconds, then at 80 % of that.
        let highest = send(&mut producer, f64::INFINITY, Duration::from_secs(2), stop, &rate.sent);
        for (port, per_second, counts) in
            [(ports.strict.0, 1000.0, strict), (ports.bulk.0, 400_000.0, bulk), (ports.work, 2000.0, work)]
        {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(("127.0.0.1", port))?;
            let mut producer = Datagrams::new(socket, false);
            let length = Duration::from_secs(options.soak_s);
            scope.spawn(move || send(&mut producer, per_second, length, stop, &counts.sent));
        }
        let length = Duration::from_secs(options.soak_s);
        let load = scope.spawn(move || send(&mut producer, highest * 0.8, length, stop, &rate.sent));
        let mut turn = 0;
        while !load.is_finished() {
            turn += 1;
            node.apply(&wiring(&ports, &folder, turn))?;
            changes.store(turn as u64, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(300));
        }
        // Everything that is still on its way arrives.
        std::thread::sleep(Duration::from_secs(3));
        stop.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    let mut lines = vec![(format!("{} wirings applied", changes.load(Ordering::Relaxed)), true)];
    for (name, counts, before, exact) in [
        ("rate", &rate, trial, true),
        ("strict", &strict, Figures::default(), true),
        ("bulk", &bulk, Figures::default(), true),
        ("work", &work, Figures::default(), false),
    ] {
        let figures = topic(&node, name)?.since(&before);
        let (sent, came) = (counts.sent.load(Ordering::Relaxed), counts.came.load(Ordering::Relaxed));
        let accepted = figures.events_in;
        let own = figures.events_in == figures.events_out + figures.dropped + figures.queued;
        let into = sent == accepted + figures.kernel_dropped;
        // A member that dies takes along what its socket held.
        let out = if exact { came == figures.events_out } else { came <= figures.events_out };
        lines.push((
            format!(
                "{name:<7} sent {sent}, accepted {accepted} (the kernel dropped {}), delivered {}, dropped {}, queued {}, received {came}",
                figures.kernel_dropped,
                figures.events_out,
                figures.dropped,
                figures.queued
            ),
            own && into && out,
        ));
    }
    Ok(lines)
}

#[derive(Default)]
struct Figures {
    events_in: u64,
    events_out: u64,
    dropped: u64,
    queued: u64,
    kernel_dropped: u64,
}

impl Figures {
    /// What was counted since then.
    fn since(self, before: &Figures) -> Figures {
        Figures {
            events_in: self.events_in - before.events_in,
            events_out: self.events_out - before.events_out,
            dropped: self.dropped - before.dropped,
            queued: self.queued,
            kernel_dropped: self.kernel_dropped - before.kernel_dropped,
        }
    }
}

fn topic(node: &Node, name: &str) -> io::Result<Figures> {
    let find = |verb: &str, what: &str| -> io::Result<Value> {
        let all = node.ctl(&[verb])?;
        let found = all.as_array().and_then(|all| all.iter().find(|one| one["name"] == what).cloned());
        found.ok_or_else(|| io::Error::other(format!("{what} is not listed")))
    };
    let found = find("topics", name)?;
    let channel = find("channels", &format!("{name}/in/1"))?;
    let count = |key: &str| found[key].as_u64().unwrap_or(0);
    let drops = found["EventsDropped"].as_object().into_iter().flatten();
    Ok(Figures {
        events_in: count("EventsIn"),
        events_out: count("EventsOut"),
        dropped: drops.filter(|(why, _)| !why.starts_with("copy-")).filter_map(|(_, n)| n.as_u64()).sum(),
        queued: count("Queued"),
        kernel_dropped: channel["KernelDropped"].as_u64().unwrap_or(0),
    })
}

fn receive(consumer: &mut dyn Consumer, stop: &AtomicBool, came: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let mut some = 0;
        let _ = consumer.receive(20, &mut |event| some += u64::from(is_counted(event)));
        came.fetch_add(some, Ordering::Relaxed);
    }
}

const ROUND: u32 = 42;

fn is_counted(event: &[u8]) -> bool {
    Stamp::read(event).is_some_and(|stamp| stamp.round == ROUND)
}

/// A member of the group; one that `dies` closes its socket every second, and is away for half of one.
fn member(path: &str, dies: bool, stop: &AtomicBool, came: &AtomicU64) {
    while !stop.load(Ordering::Relaxed) {
        let _ = std::fs::remove_file(path);
        let Ok(socket) = UnixDatagram::bind(path) else { return };
        let mut consumer = Messages::new(vec![socket.into()]);
        let begin = Instant::now();
        while !(stop.load(Ordering::Relaxed) || dies && begin.elapsed() > Duration::from_secs(1)) {
            let mut some = 0;
            let _ = consumer.receive(20, &mut |event| some += u64::from(is_counted(event)));
            came.fetch_add(some, Ordering::Relaxed);
        }
        drop(consumer);
        std::thread::sleep(Duration::from_millis(if dies { 500 } else { 0 }));
    }
}

/// Sends batches at a rate for a time; how many events a second went.
fn send(
    producer: &mut dyn Producer,
    per_second: f64,
    length: Duration,
    stop: &AtomicBool,
    counted: &AtomicU64,
) -> f64 {
    let (begin, mut sent) = (now_ns(), 0u64);
    let batch = if per_second < 100_000.0 { 1 } else { BATCH };
    let mut events = vec![[0x5a; EVENT_BYTES]; batch];
    while now_ns() - begin < length.as_nanos() as u64 && !stop.load(Ordering::Relaxed) {
        let due = ((now_ns() - begin) as f64 / 1e9 * per_second) as u64;
        if sent + batch as u64 > due {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        }
        for (at, event) in (0u64..).zip(&mut events) {
            Stamp { round: ROUND, flow: 2, sequence: sent + at, ..Stamp::default() }.write(event);
        }
        match producer.send_many(&events) {
            Ok(count) => {
                sent += count as u64;
                counted.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    sent as f64 * 1e9 / (now_ns() - begin) as f64
}
