//! What a channel takes for an event, one way: two channels of an adapter, one of which sends to the other, whose
//! reader sleeps until something comes, as a receiver of a node does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempos_abi::adapter::{ChannelBox, Direction};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::level::QosLevel;
use tempos_abi::private::abi_stable::std_types::{RSlice, RSliceMut};
use tempos_control::{ChannelSpec, EndpointSpec, EventFormat, LevelSpec, Origin, Scheduler, Value};

use super::{Bench, EVENT_BYTES, Samples, cpu_ns};
use crate::opening;
use crate::plugin::Plugin;
use crate::system::scheduling::{self, ThreadId};
use crate::system::wake::wait_readable;

/// How long an event is waited for; what takes longer is lost.
const LIMIT: Duration = Duration::from_millis(200);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// The options of both ends, with `{address}` for where the first one is open, by adapter. What is not here is not
/// measured: nobody knows what to open.
type Ends = (&'static str, &'static str, &'static str, &'static str, &'static str);
const ENDS: &[Ends] = &[
    ("udp", "bind", "127.0.0.1:0", "to", "{address}"),
    ("tcp", "bind", "127.0.0.1:0", "to", "{address}"),
    ("unix", "path", "{name}", "path", "{name}"),
    ("shm", "path", "{name}", "connect", "{name}"),
];

struct Pair {
    send: String,
    egress: ChannelBox,
    reader: Reader,
    payload: Vec<u8>,
}

/// The thread that receives.
struct Reader {
    stop: Arc<AtomicBool>,
    orders: SyncSender<Scheduler>,
    /// The CPU time of one reception (ns).
    took: Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

/// Opens two channels.
///
/// # Errors
/// Why the adapter cannot be measured.
pub fn open(plugin: &Arc<Plugin>) -> Result<Box<dyn Bench>, String> {
    let adapter = plugin.info.name.as_str();
    let Some((_, in_key, in_value, out_key, out_value)) = ENDS.iter().find(|ends| ends.0 == adapter) else {
        return Err(String::from("there is no way known to open both ends of it on this machine"));
    };
    // Not in the file system, and of this process alone.
    let name = format!("@tempos-calibration-{}-{adapter}", std::process::id());
    let level = LevelSpec::strict();
    let end = |direction: Direction, key: &str, value: &str, address: &str| {
        let value = value.replace("{address}", address).replace("{name}", &name);
        let spec = ChannelSpec {
            name: String::from("calibration"),
            adapter: adapter.to_owned(),
            qos: None,
            format: EventFormat::Raw,
            endpoint: EndpointSpec::default(),
            options: vec![(key.to_owned(), Value::Text(value))],
            origin: Origin::builtin(),
        };
        opening::open_channel(plugin, &spec, direction, &level, QosLevel::STRICT, -1)
            .map_err(|all| all.join("; "))
    };
    let ingress = end(Direction::INGRESS, in_key, in_value, "")?;
    let address = ingress.address.split_once("://").map_or(ingress.address.as_str(), |(_, rest)| rest);
    let egress = end(Direction::EGRESS, out_key, out_value, address)?;
    let mut pair = Pair {
        send: format!("send/{adapter}"),
        egress: egress.channel,
        reader: Reader::start(ingress.channel)?,
        payload: vec![0x5a; EVENT_BYTES],
    };
    let begun = Instant::now();
    while pair.once().is_none() {
        if begun.elapsed() > CONNECT {
            return Err(String::from("nothing comes through its channels"));
        }
    }
    Ok(Box::new(pair))
}

impl Pair {
    /// Sends one event; what that took, and its reception.
    fn once(&mut self) -> Option<(u64, u64)> {
        while self.reader.took.try_recv().is_ok() {}
        let frames = [TxFrame::payload(&self.payload, QosLevel::STRICT)];
        let begun = cpu_ns();
        let sent = self.egress.send_batch(RSlice::from_slice(&frames));
        let took = cpu_ns() - begun;
        if sent != 1 {
            // It connects, or its peer has not read yet.
            std::thread::sleep(Duration::from_millis(1));
            return None;
        }
        Some((took, self.reader.took.recv_timeout(LIMIT).ok()?))
    }
}

impl Bench for Pair {
    fn begin(&mut self, scheduler: &Scheduler) {
        // Both ends run alike.
        let _ = self.reader.orders.try_send(scheduler.clone());
    }

    fn burst(&mut self, samples: &mut Samples) {
        if let Some((sent, received)) = self.once() {
            samples.add(&self.send, sent);
            samples.add(&self.send.replacen("send", "receive", 1), received);
        }
    }
}

impl Reader {
    fn start(mut channel: ChannelBox) -> Result<Reader, String> {
        let stop = Arc::new(AtomicBool::new(false));
        let (orders, ordered) = sync_channel::<Scheduler>(4);
        let (tell, took) = sync_channel(64);
        let stopped = Arc::clone(&stop);
        let body = move || {
            let mut buffer = vec![0; EVENT_BYTES * 2];
            let mut attributes = vec![0; 1024];
            let mut receive = |channel: &mut ChannelBox| {
                let mut slots = [RxSlot::new(&mut buffer, &mut attributes)];
                channel.recv_batch(RSliceMut::from_mut_slice(&mut slots))
            };
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(scheduler) = ordered.try_recv() {
                    let _ = scheduling::apply(ThreadId::current(), &scheduler);
                }
                let readable = wait_readable(channel.readiness(), Duration::from_millis(20));
                if !readable {
                    continue;
                }
                let begun = cpu_ns();
                let mut got = receive(&mut channel);
                let first = got;
                // A lane looks again, until nothing is left.
                if got > 0 {
                    got = receive(&mut channel);
                }
                let spent = cpu_ns() - begun;
                if first > 0 {
                    let _ = tell.try_send(spent);
                } else if got < 0 {
                    // Nothing was there, or it is broken: not in a hurry.
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
            channel.close(crate::system::clock::monotonic_ns());
        };
        let thread = std::thread::Builder::new().name("calibration-reader".into()).spawn(body);
        let thread = Some(thread.map_err(|error| format!("the system gives no thread: {error}"))?);
        Ok(Reader { stop, orders, took, thread })
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.reader.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.reader.thread.take() {
            let _ = thread.join();
        }
        self.egress.close(crate::system::clock::monotonic_ns());
    }
}
