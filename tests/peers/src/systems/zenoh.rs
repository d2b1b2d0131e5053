//! zenoh: a router in a process of its own; the strict flow with the highest priority and sent at once, the other
//! with the lowest.

use std::io;
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use zenoh::Wait;
use zenoh::bytes::ZBytes;
use zenoh::pubsub::{Publisher, Subscriber};
use zenoh::qos::{CongestionControl, Priority};

use super::{System, granted};
use crate::client::{Consumer, Flow, Producer};
use crate::event::EVENT_BYTES;
use crate::machine::{Layout, RECEIVER_PRIORITY};
use crate::node;
use crate::process::{Process, free_port};

struct Zenoh {
    port: u16,
    free: (u16, Process),
    process: Process,
    layout: Layout,
    runs_as: String,
}

fn other(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

/// Starts the routers.
pub fn start(layout: &Layout) -> io::Result<Box<dyn System>> {
    let router = |pinned: Option<&Layout>| -> io::Result<(u16, Process)> {
        let port = free_port()?;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["role:zenoh-router", &port.to_string()]);
        let log = node::folder("zenoh")?.join(format!("{port}.log"));
        let mut process = Process::start(&mut command, &log, pinned)?;
        process.wait_until("the zenoh router", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok((port, process))
    };
    let (port, process) = router(Some(layout))?;
    let runs_as = format!("{}; its clients' threads as the strict receiver", granted(layout));
    Ok(Box::new(Zenoh { port, free: router(None)?, process, layout: layout.clone(), runs_as }))
}

/// The router.
pub fn play(rest: &[String]) -> ExitCode {
    let [port] = rest else { return ExitCode::from(64) };
    let mut config = zenoh::Config::default();
    let settings = [
        ("mode", String::from("\"router\"")),
        ("listen/endpoints", format!("[\"tcp/127.0.0.1:{port}\"]")),
        ("scouting/multicast/enabled", String::from("false")),
    ];
    if settings.iter().any(|(key, value)| config.insert_json5(key, value).is_err()) {
        return ExitCode::FAILURE;
    }
    let Ok(_session) = zenoh::open(config).wait() else { return ExitCode::FAILURE };
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

impl Zenoh {
    /// A session whose threads run as the strict clients do: they inherit it from the thread that opens it.
    fn open(&self, flow: Flow) -> io::Result<zenoh::Session> {
        let port = if flow == Flow::Rate { self.free.0 } else { self.port };
        let layout = self.layout.clone();
        let open = move || -> io::Result<zenoh::Session> {
            if flow != Flow::Rate && layout.real_time {
                let _ = crate::machine::pin(layout.client_cpu);
                let parameter = libc::sched_param { sched_priority: RECEIVER_PRIORITY };
                // SAFETY: reads the structure.
                unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
            }
            let mut config = zenoh::Config::default();
            for (key, value) in [
                ("mode", String::from("\"client\"")),
                ("connect/endpoints", format!("[\"tcp/127.0.0.1:{port}\"]")),
                ("scouting/multicast/enabled", String::from("false")),
            ] {
                config.insert_json5(key, &value).map_err(other)?;
            }
            zenoh::open(config).wait().map_err(other)
        };
        std::thread::spawn(open).join().unwrap_or_else(|_| Err(io::Error::other("zenoh panicked")))
    }
}

impl System for Zenoh {
    fn name(&self) -> &'static str {
        "zenoh"
    }

    fn runs_as(&self) -> String {
        self.runs_as.clone()
    }

    fn pid(&self) -> Option<u32> {
        Some(self.process.pid())
    }

    fn rate_pid(&self) -> Option<u32> {
        Some(self.free.1.pid())
    }

    fn producer(&self, flow: Flow) -> io::Result<Box<dyn Producer>> {
        let session = self.open(flow)?;
        let publisher = session.declare_publisher(flow.topic());
        let publisher = match flow {
            Flow::Strict => publisher
                .priority(Priority::RealTime)
                .express(true)
                .congestion_control(CongestionControl::Block),
            Flow::Bulk => {
                publisher.priority(Priority::Background).congestion_control(CongestionControl::Drop)
            }
            Flow::Rate => publisher.congestion_control(CongestionControl::Block),
        };
        let publisher = publisher.wait().map_err(other)?;
        Ok(Box::new(Put { publisher, _session: session }))
    }

    fn consumer(&self, flows: &[Flow]) -> io::Result<Box<dyn Consumer>> {
        let session = self.open(flows[0])?;
        let (sender, receiver) = sync_channel(1 << 16);
        let mut subscribers = Vec::new();
        for flow in flows {
            let sender = sender.clone();
            let subscriber = session
                .declare_subscriber(flow.topic())
                .callback(move |sample| {
                    let _ = sender.send(sample.payload().clone());
                })
                .wait()
                .map_err(other)?;
            subscribers.push(subscriber);
        }
        Ok(Box::new(Got { receiver, _subscribers: subscribers, _session: session }))
    }
}

struct Put {
    publisher: Publisher<'static>,
    _session: zenoh::Session,
}

impl Producer for Put {
    fn send(&mut self, event: &[u8; EVENT_BYTES]) -> io::Result<()> {
        self.publisher.put(&event[..]).wait().map_err(other)
    }
}

struct Got {
    receiver: Receiver<ZBytes>,
    _subscribers: Vec<Subscriber<()>>,
    _session: zenoh::Session,
}

impl Consumer for Got {
    fn receive(&mut self, limit_ms: i32, each: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let limit = Duration::from_millis(limit_ms.unsigned_abs().into());
        let Ok(first) = self.receiver.recv_timeout(limit) else { return Ok(0) };
        each(&first.to_bytes());
        let mut count = 1;
        for payload in self.receiver.try_iter().take(255) {
            each(&payload.to_bytes());
            count += 1;
        }
        Ok(count)
    }
}
