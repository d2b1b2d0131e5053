//! The bare forwarder on io_uring(7): a multishot receive into a ring of provided buffers, and one call that hands
//! over all that is to be sent and waits for what comes. Successful sends have no completion: on loopback a datagram
//! has left its buffer when its submission is done.

use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// Buffers, a power of two: what may have come and not have been sent.
const BUFFERS: u16 = 256;
const BUFFER_BYTES: usize = 2048;
const GROUP: u16 = 0;
const RECEIVED: u64 = 1;
const SENT: u64 = 2;

/// The buffers' ring begins on a page.
#[repr(C, align(4096))]
struct Entries([types::BufRingEntry; BUFFERS as usize]);

struct Buffers {
    entries: Box<Entries>,
    bytes: Box<[[u8; BUFFER_BYTES]]>,
    tail: u16,
}

impl Buffers {
    fn new() -> Buffers {
        // SAFETY: zeroes are entries without a buffer.
        let entries = Box::new(unsafe { std::mem::zeroed::<Entries>() });
        let mut buffers = Buffers { entries, bytes: vec![[0; BUFFER_BYTES]; BUFFERS.into()].into(), tail: 0 };
        (0..BUFFERS).for_each(|id| buffers.give(id));
        buffers.publish();
        buffers
    }

    /// A buffer is the kernel's again, once that is published.
    fn give(&mut self, id: u16) {
        let at = self.tail % BUFFERS;
        let entry = &mut self.entries.0[usize::from(at)];
        entry.set_addr(self.bytes[usize::from(id)].as_ptr() as u64);
        entry.set_len(BUFFER_BYTES as u32);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the first entry's reserved field is the ring's tail (io_uring_register_buf_ring(3)); the kernel
        // only reads it.
        let tail = unsafe { &*types::BufRingEntry::tail(self.entries.0.as_ptr()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Forwards until the process ends.
pub fn forward(socket: &UdpSocket, to: SocketAddrV4) -> ! {
    // A second socket, so that a send needs no address.
    let out = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    out.connect(to).expect("an address");
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(4 * u32::from(BUFFERS))
        .build(u32::from(BUFFERS))
        .expect("io_uring is there and allowed");
    let mut buffers = Buffers::new();
    // SAFETY: buffers and ring live until the process ends.
    unsafe {
        ring.submitter()
            .register_buf_ring_with_flags(buffers.entries.0.as_ptr() as u64, BUFFERS, GROUP, 0)
            .expect("provided buffers");
    }
    let (from, out) = (types::Fd(socket.as_raw_fd()), types::Fd(out.as_raw_fd()));
    let receive = || opcode::RecvMulti::new(from, GROUP).build().user_data(RECEIVED);
    // SAFETY: it holds no pointer of ours.
    unsafe { ring.submission().push(&receive()).expect("room") };
    let mut taken = Vec::with_capacity(BUFFERS.into());
    loop {
        ring.submit_and_wait(1).expect("it can wait");
        // What was handed over has been sent.
        taken.drain(..).for_each(|id| buffers.give(id));
        buffers.publish();
        let (_, mut submissions, completions) = ring.split();
        let mut ended = false;
        for done in completions {
            if done.user_data() != RECEIVED {
                continue;
            }
            ended |= !cqueue::more(done.flags());
            let Some(id) = cqueue::buffer_select(done.flags()) else { continue };
            taken.push(id);
            let len = u32::try_from(done.result()).unwrap_or(0);
            let send = opcode::Send::new(out, buffers.bytes[usize::from(id)].as_ptr(), len)
                .flags(libc::MSG_DONTWAIT)
                .build()
                .flags(squeue::Flags::SKIP_SUCCESS)
                .user_data(SENT);
            // SAFETY: the buffer stays untouched until the submission is done. There is room for every buffer, and
            // for the receive: only as many come as there are buffers.
            let _ = unsafe { submissions.push(&send) };
        }
        if ended {
            // It found no buffer, or no room to say so. The next turn hands some over.
            // SAFETY: as above.
            let _ = unsafe { submissions.push(&receive()) };
        }
    }
}
