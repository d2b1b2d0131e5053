//! The flood, for a node that gets no real-time permission: CAP_SYS_NICE is taken from it before it starts.

use std::io;
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::opens;
use crate::client;
use crate::machine::Layout;
use crate::node::Node;
use crate::options::{Options, Scene};
use crate::process::free_port;
use crate::report::Report;
use crate::summary::{Percentiles, median};
use crate::systems::sockets::{Datagrams, Messages, bound};

const CAP_SYS_NICE: libc::c_ulong = 23;

/// Runs it.
pub fn run(options: &Options, layout: &Layout, report: &mut Report) {
    match play(options, layout) {
        Ok((p99, lost, degraded)) => report.ungranted(p99, lost, &degraded),
        Err(error) => report.failed("tempos-udp", Scene::Bare, &error.to_string()),
    }
}

fn play(options: &Options, layout: &Layout) -> io::Result<(f64, u64, String)> {
    let ports = [free_port()?, free_port()?, free_port()?, free_port()?];
    let mut wiring = crate::systems::tempos_levels(layout);
    for (topic, qos, into, out) in
        [("strict", "strict", ports[0], ports[1]), ("bulk", "best-effort", ports[2], ports[3])]
    {
        wiring += &format!(
            "tempos.topic \"{topic}\" {{ qos = \"{qos}\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:{into}\" }} }},\n\
             egress = {{ tempos.udp {{ to = \"127.0.0.1:{out}\" }} }} }}\n"
        );
    }
    let node = Node::start("ungranted", &wiring, |command| {
        // SAFETY: one system call, which may be made between fork and exec.
        unsafe {
            command.pre_exec(|| {
                if libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0) != 0 {
                    return Err(io::Error::last_os_error());
                }
                Ok(())
            });
        }
    })?;
    let status = node.ctl(&["status"])?;
    let said = status["node"]["Degraded"][0].as_str().unwrap_or("not degraded").to_owned();
    let producer = |port: u16| -> io::Result<Datagrams> {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(("127.0.0.1", port))?;
        Ok(Datagrams::new(socket, false))
    };
    let (mut p99, mut lost) = (Vec::new(), 0);
    for round in 0..options.rounds as u32 {
        let (mut strict, mut bulk) = (producer(ports[0])?, producer(ports[2])?);
        let mut consumer = Messages::new(vec![bound(ports[1])?.into()]);
        let mut bulk_consumer = Messages::new(vec![bound(ports[3])?.into()]);
        if !opens(&mut strict, &mut consumer) || !opens(&mut bulk, &mut bulk_consumer) {
            return Err(io::Error::other("no event came through"));
        }
        let round = 700_000 + round;
        let (sent_all, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        let came = AtomicU64::new(0);
        let events = options.events;
        let mut arrivals = std::thread::scope(|scope| {
            let (sent_all, stop, came) = (&sent_all, &stop, &came);
            let receiver = scope.spawn(move || {
                client::as_receiver(layout);
                client::consume(&mut consumer, round, events, sent_all, came)
            });
            scope.spawn(move || {
                client::as_bulk(layout);
                client::count(&mut bulk_consumer, round, stop, came);
            });
            scope.spawn(move || {
                client::as_bulk(layout);
                client::flood(&mut bulk, round, stop)
            });
            client::as_sender(layout);
            client::pace(&mut strict, round, 0, events, 1000, stop);
            sent_all.store(true, std::sync::atomic::Ordering::Release);
            let arrivals = receiver.join().unwrap_or_default();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            arrivals
        });
        lost += events - arrivals.from_due.len() as u64;
        p99.push(Percentiles::of(&mut arrivals.from_due).p99 as f64);
    }
    Ok((median(&p99), lost, said))
}
