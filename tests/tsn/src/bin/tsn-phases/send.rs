//! Datagrams with a priority (SO_PRIORITY, socket(7)), at times that wander through the cycle.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use tempos_tsn_rig::{Arguments, say, sleep_until, tai_ns};

const BYTES_LEAST: usize = 8;
const BYTES_MOST: usize = 65_000;
/// Before the first: the receivers are listening by then.
const START: Duration = Duration::from_millis(50);

/// Sends them, and says how many the kernel refused.
pub fn run(mut arguments: Arguments) -> Result<(), String> {
    let to: SocketAddr = arguments.needed("to")?;
    let count: u64 = arguments.needed("count")?;
    let period = Duration::from_nanos(arguments.needed("period-ns")?);
    let priority: libc::c_int = arguments.or("priority", 0)?;
    let bytes: usize = arguments.or("bytes", 200)?;
    let fifo: Option<libc::c_int> = arguments.maybe("fifo")?;
    let phase_ns: Option<u64> = arguments.maybe("phase-ns")?;
    let cycle_ns: u64 = arguments.or("cycle-ns", 1_000_000)?;
    arguments.done()?;
    let failed = |what: &str, error: io::Error| format!("{what}: {error}");
    let local = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(local).map_err(|error| failed("cannot open a socket", error))?;
    socket.connect(to).map_err(|error| failed("cannot reach the address", error))?;
    socket.set_nonblocking(true).map_err(|error| failed("cannot set the socket", error))?;
    // SAFETY: the option's value is a live integer of the length given.
    let done = unsafe {
        let value = (&raw const priority).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PRIORITY, value, 4)
    };
    if done != 0 {
        return Err(failed("SO_PRIORITY", io::Error::last_os_error()));
    }
    if let Some(priority) = fifo {
        let parameter = libc::sched_param { sched_priority: priority };
        // SAFETY: the parameter is live for the call.
        if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) } != 0 {
            return Err(failed("SCHED_FIFO", io::Error::last_os_error()));
        }
    }
    let mut frame = vec![0u8; bytes.clamp(BYTES_LEAST, BYTES_MOST)];
    let (mut due, mut refused) = (Instant::now() + START, 0u64);
    if let Some(phase_ns) = phase_ns {
        let now = tai_ns() + START.as_nanos() as u64;
        due += Duration::from_nanos((phase_ns + cycle_ns - now % cycle_ns) % cycle_ns);
    }
    for sequence in 0..count {
        sleep_until(due);
        frame[..8].copy_from_slice(&sequence.to_be_bytes());
        refused += u64::from(socket.send(&frame).is_err());
        due += period;
    }
    say(format_args!("sent {count} with priority {priority}, {refused} refused"));
    Ok(())
}
