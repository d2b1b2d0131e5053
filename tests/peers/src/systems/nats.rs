//! nats-server (the Debian package), spoken to by its text protocol: so that no client library is measured.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;

use super::sockets::{Framing, StreamConsumer, StreamProducer, connect};
use super::{System, granted};
use crate::client::{Consumer, Flow, Producer};
use crate::event::EVENT_BYTES;
use crate::machine::Layout;
use crate::node;
use crate::process::{Process, free_port};

struct Nats {
    port: u16,
    /// For the scene `rate`: neither pinned nor prioritised, as everybody there.
    free: (u16, Process),
    process: Process,
    runs_as: String,
}

/// Starts the servers.
pub fn start(layout: &Layout) -> io::Result<Box<dyn System>> {
    let server = |pinned: Option<&Layout>| -> io::Result<(u16, Process)> {
        let port = free_port()?;
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        let log = node::folder("nats")?.join(format!("{port}.log"));
        let mut process = Process::start(&mut command, &log, pinned)?;
        process.wait_until("nats-server", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok((port, process))
    };
    let (port, process) = server(Some(layout))?;
    Ok(Box::new(Nats { port, free: server(None)?, process, runs_as: granted(layout) }))
}

impl Nats {
    fn open(&self, flow: Flow, more: &str) -> io::Result<TcpStream> {
        let port = if flow == Flow::Rate { self.free.0 } else { self.port };
        let mut stream = connect(port)?;
        stream.set_nodelay(true)?;
        let mut lines = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        lines.read_line(&mut line)?;
        stream.write_all(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n")?;
        stream.write_all(more.as_bytes())?;
        stream.write_all(b"PING\r\n")?;
        while !line.starts_with("PONG") {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Err(io::Error::other("nats-server closed the connection"));
            }
        }
        Ok(stream)
    }
}

impl System for Nats {
    fn name(&self) -> &'static str {
        "nats"
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
        let stream = self.open(flow, "")?;
        Ok(Box::new(StreamProducer::new(stream, Text { topic: flow.topic() })?))
    }

    fn consumer(&self, flows: &[Flow]) -> io::Result<Box<dyn Consumer>> {
        let subscriptions: String = flows
            .iter()
            .enumerate()
            .map(|(at, flow)| format!("SUB {} {}\r\n", flow.topic(), at + 1))
            .collect();
        let stream = self.open(flows[0], &subscriptions)?;
        Ok(Box::new(StreamConsumer::new(Vec::new(), vec![stream], Text { topic: "" })?))
    }
}

/// The text protocol.
struct Text {
    topic: &'static str,
}

impl Framing for Text {
    fn put(&self, out: &mut Vec<u8>, event: &[u8; EVENT_BYTES]) {
        out.extend_from_slice(b"PUB ");
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(b" 256\r\n");
        out.extend_from_slice(event);
        out.extend_from_slice(b"\r\n");
    }

    fn take<'a>(&self, bytes: &'a [u8]) -> Option<(usize, Option<&'a [u8]>)> {
        // Lines are short: a whole event never has to be searched through.
        let end = bytes.iter().take(128).position(|byte| *byte == b'\n')? + 1;
        if !bytes.starts_with(b"MSG ") {
            return Some((end, None));
        }
        let event = bytes.get(end..end + EVENT_BYTES + 2)?;
        Some((end + EVENT_BYTES + 2, Some(&event[..EVENT_BYTES])))
    }
}
