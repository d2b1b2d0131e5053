//! Frames from the host to a connected socket: one by send(2) or sendmsg(2), several by sendmmsg(2), or, over UDP
//! where they are equally long, by one sendmsg(2) that the kernel cuts into datagrams as late as it can (udp(7),
//! UDP_SEGMENT): on its way through the system such a bundle is one packet.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use tempos_abi::event::TxFrame;

const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// Frames of one call; see the receiver for where its tables lie.
const ROWS_MAX: usize = 64;

/// Bytes of one bundle: what a datagram of IPv4 may carry.
const BUNDLE_BYTES_MAX: usize = 65_507;
/// Errors that say that a bundle cannot be cut on its way, where each of its datagrams may well go: the route's
/// MTU is too small, the device cannot sum, the kernel does not know of it.
const NO_BUNDLES: [i32; 5] = [libc::EINVAL, libc::EMSGSIZE, libc::EIO, libc::EOPNOTSUPP, libc::ENOPROTOOPT];

/// Sends to a connected socket.
#[derive(Clone, Copy, Debug)]
pub struct Sender {
    batch_max: usize,
    /// Whether equally long datagrams go as one bundle.
    bundles: bool,
}

impl Sender {
    /// For calls of up to `batch_max` frames; more than 64 are taken as 64.
    pub fn new(batch_max: usize) -> Self {
        Sender { batch_max: batch_max.clamp(1, ROWS_MAX), bundles: false }
    }

    /// The same for a UDP socket: equally long frames go as one bundle, as long as the system takes bundles.
    pub fn bundling(batch_max: usize) -> Self {
        Sender { bundles: true, ..Sender::new(batch_max) }
    }

    /// Sends frames from the first on, each as one message; the answer is how many were sent.
    ///
    /// # Errors
    /// What kept the first frame from being sent; `WouldBlock` where there is no room for it now.
    pub fn send(&mut self, socket: BorrowedFd<'_>, frames: &[TxFrame<'_>]) -> io::Result<usize> {
        let fd = socket.as_raw_fd();
        let sent = match frames {
            [] => return Ok(0),
            [frame] if frame.head.is_empty() => {
                // SAFETY: the payload is live for the call.
                let sent =
                    unsafe { libc::send(fd, frame.payload.as_ptr().cast(), frame.payload.len(), FLAGS) };
                if sent < 0 { -1 } else { 1 }
            }
            [frame] => {
                let mut pieces = pieces(frame);
                let header = header(&mut pieces);
                // SAFETY: the header points at the frame, which is live for the call.
                let sent = unsafe { libc::sendmsg(fd, &raw const header.msg_hdr, FLAGS) };
                if sent < 0 { -1 } else { 1 }
            }
            _ => {
                let frames = &frames[..frames.len().min(self.batch_max)];
                let bundle = if self.bundles { bundled(frames) } else { 0 };
                if bundle > 1 {
                    match send_bundle(fd, &frames[..bundle]) {
                        Ok(()) => return Ok(bundle),
                        Err(error) if error.raw_os_error().is_some_and(|code| NO_BUNDLES.contains(&code)) => {
                            self.bundles = false;
                        }
                        Err(error) => return Err(error),
                    }
                }
                send_rows(fd, frames)
            }
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// How many frames from the first on make one bundle: equally long, but for a last one that may be shorter.
fn bundled(frames: &[TxFrame<'_>]) -> usize {
    let length = frames.first().map_or(0, TxFrame::len);
    if length == 0 {
        return 0;
    }
    let frames = &frames[..frames.len().min(BUNDLE_BYTES_MAX / length)];
    let equal = frames.iter().take_while(|frame| frame.len() == length).count();
    match frames.get(equal) {
        Some(last) if (1..length).contains(&last.len()) => equal + 1,
        _ => equal,
    }
}

/// One sendmsg(2) for a bundle, with its tables on the stack.
fn send_bundle(fd: i32, frames: &[TxFrame<'_>]) -> io::Result<()> {
    /// A control message with the length of a datagram, aligned as the kernel wants it.
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        length: u16,
        padding: [u8; 6],
    }
    let mut rows = [MaybeUninit::<[libc::iovec; 2]>::uninit(); ROWS_MAX];
    for (frame, row) in frames.iter().zip(&mut rows) {
        row.write(pieces(frame));
    }
    // SAFETY: all zeroes is a value of the struct.
    let mut control: Control = unsafe { std::mem::zeroed() };
    control.header.cmsg_level = libc::IPPROTO_UDP;
    control.header.cmsg_type = libc::UDP_SEGMENT;
    // The same as CMSG_LEN(sizeof(u16)) (cmsg(3)): the data follow the header without a gap.
    control.header.cmsg_len = (size_of::<libc::cmsghdr>() + size_of::<u16>()) as _;
    control.length = frames[0].len() as u16;
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = rows.as_mut_ptr().cast();
    header.msg_iovlen = (frames.len() * 2) as _;
    header.msg_control = (&raw mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the first rows are written; they and the control message outlive the call.
    match unsafe { libc::sendmsg(fd, &raw const header, FLAGS) } {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One sendmmsg(2), with its tables on the stack. A row is written before the kernel sees it.
fn send_rows(fd: i32, frames: &[TxFrame<'_>]) -> i32 {
    let mut headers = [MaybeUninit::<libc::mmsghdr>::uninit(); ROWS_MAX];
    let mut rows = [MaybeUninit::<[libc::iovec; 2]>::uninit(); ROWS_MAX];
    let mut count = 0;
    for (frame, (place, row)) in frames.iter().zip(headers.iter_mut().zip(&mut rows)) {
        place.write(header(row.write(pieces(frame))));
        count += 1;
    }
    // SAFETY: the first `count` headers are written; they point at rows and frames that outlive the call.
    unsafe { libc::sendmmsg(fd, headers.as_mut_ptr().cast(), count, FLAGS as _) }
}

/// A frame's two parts.
fn pieces(frame: &TxFrame<'_>) -> [libc::iovec; 2] {
    let piece = |part: &[u8]| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
    [piece(frame.head.as_slice()), piece(frame.payload.as_slice())]
}

/// A header that points at the parts.
fn header(pieces: &mut [libc::iovec; 2]) -> libc::mmsghdr {
    // SAFETY: all zeroes is a value of the struct.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_iov = pieces.as_mut_ptr();
    header.msg_hdr.msg_iovlen = 2;
    header
}
