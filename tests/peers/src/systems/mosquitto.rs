//! mosquitto (the Debian package), spoken to by MQTT 3.1.1 at QoS 0: so that no client library is measured.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::process::Command;

use super::sockets::{Framing, StreamConsumer, StreamProducer, connect};
use super::{System, granted};
use crate::client::{Consumer, Flow, Producer};
use crate::event::EVENT_BYTES;
use crate::machine::Layout;
use crate::node;
use crate::process::{Process, free_port};

struct Mosquitto {
    port: u16,
    /// For the scene `rate`: neither pinned nor prioritised, as everybody there.
    free: (u16, Process),
    process: Process,
    runs_as: String,
}

/// Starts the brokers.
pub fn start(layout: &Layout) -> io::Result<Box<dyn System>> {
    let broker = |pinned: Option<&Layout>| -> io::Result<(u16, Process)> {
        let port = free_port()?;
        let folder = node::folder("mosquitto")?;
        let config = folder.join(format!("{port}.conf"));
        // Its default of 1000 queued messages would lose what the highest rate brings.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nset_tcp_nodelay true\n\
             max_queued_messages 0\nuser root\n"
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(&config);
        let mut process = Process::start(&mut command, &folder.join(format!("{port}.log")), pinned)?;
        process.wait_until("mosquitto", || TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        Ok((port, process))
    };
    let (port, process) = broker(Some(layout))?;
    Ok(Box::new(Mosquitto { port, free: broker(None)?, process, runs_as: granted(layout) }))
}

impl Mosquitto {
    fn open(&self, flow: Flow, subscriptions: &[Flow]) -> io::Result<TcpStream> {
        let port = if flow == Flow::Rate { self.free.0 } else { self.port };
        let mut stream = connect(port)?;
        stream.set_nodelay(true)?;
        // CONNECT with a clean session and no keep-alive; the broker makes up a client id.
        stream.write_all(&[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0])?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        if answer != [0x20, 2, 0, 0] {
            return Err(io::Error::other(format!("mosquitto answers {answer:?} to CONNECT")));
        }
        for (id, flow) in (1u8..).zip(subscriptions) {
            let topic = flow.topic().as_bytes();
            let mut packet = vec![0x82, (5 + topic.len()) as u8, 0, id, 0, topic.len() as u8];
            packet.extend_from_slice(topic);
            packet.push(0);
            stream.write_all(&packet)?;
            let mut answer = [0; 5];
            stream.read_exact(&mut answer)?;
        }
        Ok(stream)
    }
}

impl System for Mosquitto {
    fn name(&self) -> &'static str {
        "mosquitto"
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
        let stream = self.open(flow, &[])?;
        Ok(Box::new(StreamProducer::new(stream, Mqtt { topic: flow.topic() })?))
    }

    fn consumer(&self, flows: &[Flow]) -> io::Result<Box<dyn Consumer>> {
        let stream = self.open(flows[0], flows)?;
        Ok(Box::new(StreamConsumer::new(Vec::new(), vec![stream], Mqtt { topic: "" })?))
    }

    fn window(&self) -> Option<u64> {
        // It holds nobody back and keeps what it cannot send.
        Some(4096)
    }
}

/// PUBLISH packets at QoS 0.
struct Mqtt {
    topic: &'static str,
}

impl Framing for Mqtt {
    fn put(&self, out: &mut Vec<u8>, event: &[u8; EVENT_BYTES]) {
        let length = 2 + self.topic.len() + EVENT_BYTES;
        out.extend_from_slice(&[0x30, (length % 128) as u8 | 0x80, (length / 128) as u8]);
        out.extend_from_slice(&(self.topic.len() as u16).to_be_bytes());
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(event);
    }

    fn take<'a>(&self, bytes: &'a [u8]) -> Option<(usize, Option<&'a [u8]>)> {
        let (kind, mut length, mut at) = (*bytes.first()?, 0usize, 1);
        loop {
            let byte = *bytes.get(at)?;
            length |= ((byte & 0x7f) as usize) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let packet = bytes.get(at..at + length)?;
        let event =
            (kind >> 4 == 3).then(|| packet.len().checked_sub(EVENT_BYTES).map(|from| &packet[from..]));
        Some((at + length, event.flatten()))
    }
}
