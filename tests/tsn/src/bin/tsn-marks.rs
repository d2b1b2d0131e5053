//! What frames carry when they arrive: DSCP and VLAN priority, and how long the first and the last are apart; and the
//! discipline that spaces them.
//!
//! It knows packet(7) and `tempos-qdisc`; it refuses to know who sent a frame.

use std::ffi::CString;
use std::io;
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tempos_qdisc::{Link, Options, Qdisc, ROOT, Saved, handle, restore};
use tempos_tsn_rig::{Arguments, say};

const HELP: &str = "\
tsn-marks see --interface IFACE --udp PORT --seconds S    prints: frames N dscp D pcp P span-ms M
tsn-marks fq IFACE                                        fq becomes the root discipline";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(sentence) => {
            say(format_args!("tsn-marks: {sentence}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), String> {
    let mut arguments = Arguments::read(std::env::args().skip(1))?;
    match arguments.word("see or fq").as_deref() {
        Ok("see") => {
            let (interface, port): (String, u16) = (arguments.needed("interface")?, arguments.needed("udp")?);
            let seconds: f64 = arguments.needed("seconds")?;
            arguments.done()?;
            let seconds = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
            see(&interface, port, seconds).map_err(|error| format!("cannot see {interface}: {error}"))
        }
        Ok("fq") => {
            let name = arguments.word("the interface")?;
            arguments.done()?;
            let link = Link::find(&name).map_err(|refusal| refusal.to_string())?;
            let fq = Qdisc {
                kind: "fq".into(),
                handle: handle(0x42, 0),
                parent: ROOT,
                options: Options::Other(Vec::new()),
                counters: Default::default(),
            };
            restore(&link, &Saved { disciplines: vec![fq] }).map_err(|refusal| refusal.to_string())
        }
        _ => Err(HELP.to_owned()),
    }
}

fn see(interface: &str, port: u16, seconds: Duration) -> io::Result<()> {
    const ETH_P_ALL: u16 = 3;
    let socket =
        Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(i32::from(ETH_P_ALL.to_be()))))?;
    let name = CString::new(interface)?;
    // SAFETY: all zeroes is a value of the struct; the name is a live C string.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ETH_P_ALL.to_be();
    // SAFETY: the name is a live C string.
    address.sll_ifindex = unsafe { libc::if_nametoindex(name.as_ptr()) }.cast_signed();
    let (fd, on) = (socket.as_raw_fd(), 1i32);
    // SAFETY: address and option are live and of the lengths given.
    let done = unsafe {
        libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
            | libc::setsockopt(fd, libc::SOL_PACKET, libc::PACKET_AUXDATA, (&raw const on).cast(), 4)
    };
    if done != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let end = Instant::now() + seconds;
    let (mut frames, mut first, mut last, mut marks) = (0u64, None, None, None);
    while Instant::now() < end {
        let Some((packet, pcp)) = receive(&socket) else { continue };
        if packet.len() > 24 && packet[0] == 0x45 && packet[9] == 17 && packet[22..24] == port.to_be_bytes() {
            let now = Instant::now();
            (frames, last) = (frames + 1, Some(now));
            first.get_or_insert(now);
            marks.get_or_insert((packet[1] >> 2, pcp));
        }
    }
    let span = first.zip(last).map_or(0, |(first, last): (Instant, Instant)| (last - first).as_millis());
    let (dscp, pcp) = marks.unwrap_or((0, None));
    let pcp = pcp.map_or_else(|| String::from("none"), |pcp| pcp.to_string());
    say(format_args!("frames {frames} dscp {dscp} pcp {pcp} span-ms {span}"));
    Ok(())
}

/// A packet from its IP header on, and the VLAN priority that it came with.
fn receive(socket: &Socket) -> Option<(Vec<u8>, Option<u8>)> {
    let (mut bytes, mut control) = (vec![0u8; 2048], [0u64; 16]);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the header points at live memory of the lengths that it gives.
    let read = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    bytes.truncate(usize::try_from(read).ok()?);
    // SAFETY: the kernel has filled the control block up to its length.
    let priority = unsafe {
        let message = libc::CMSG_FIRSTHDR(&raw const header);
        if message.is_null() || (*message).cmsg_type != libc::PACKET_AUXDATA {
            None
        } else {
            let data = libc::CMSG_DATA(message).cast::<libc::tpacket_auxdata>().read_unaligned();
            (data.tp_status & libc::TP_STATUS_VLAN_VALID != 0).then_some((data.tp_vlan_tci >> 13) as u8)
        }
    };
    Some((bytes, priority))
}
