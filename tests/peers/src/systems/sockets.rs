//! Clients over plain sockets: datagrams, and frames of a TCP connection.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::client::{Consumer, Producer};
use crate::event::EVENT_BYTES;

const BATCH: usize = 64;
const BUFFER_BYTES: usize = 256 << 10;

/// Waits until one of the descriptors is readable.
pub fn readable(descriptors: &[RawFd], limit_ms: i32) -> bool {
    let mut entries: Vec<libc::pollfd> =
        descriptors.iter().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
    // SAFETY: the pointer and the length are those of a live list.
    unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, limit_ms) > 0 }
}

/// A connected socket that sends each event as one message.
pub struct Datagrams {
    socket: OwnedFd,
    /// Whether the kernel cuts a batch into datagrams (UDP_SEGMENT).
    bundles: bool,
}

impl Datagrams {
    /// Over a connected socket.
    pub fn new(socket: impl Into<OwnedFd>, bundles: bool) -> Self {
        Datagrams { socket: socket.into(), bundles }
    }
}

impl Producer for Datagrams {
    fn send(&mut self, event: &[u8; EVENT_BYTES]) -> io::Result<()> {
        let fd = self.socket.as_raw_fd();
        // SAFETY: the event is live for the call.
        let sent = unsafe { libc::send(fd, event.as_ptr().cast(), EVENT_BYTES, libc::MSG_NOSIGNAL) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn send_many(&mut self, events: &[[u8; EVENT_BYTES]]) -> io::Result<usize> {
        let events = &events[..events.len().min(BATCH)];
        let mut pieces: [libc::iovec; BATCH] = std::array::from_fn(|at| libc::iovec {
            iov_base: events.get(at).map_or(std::ptr::null_mut(), |e| e.as_ptr().cast_mut().cast()),
            iov_len: EVENT_BYTES,
        });
        let fd = self.socket.as_raw_fd();
        if self.bundles {
            // A control message of sixteen bits, as cmsg(3) lays it out.
            let mut control = [0u64; 3];
            // SAFETY: the header is written into live, aligned memory that is large enough.
            unsafe {
                let header = control.as_mut_ptr().cast::<libc::cmsghdr>();
                (*header).cmsg_level = libc::IPPROTO_UDP;
                (*header).cmsg_type = libc::UDP_SEGMENT;
                (*header).cmsg_len = (size_of::<libc::cmsghdr>() + 2) as _;
                header.add(1).cast::<u16>().write(EVENT_BYTES as u16);
            }
            // SAFETY: all zeroes is a value of the struct.
            let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
            message.msg_iov = pieces.as_mut_ptr();
            message.msg_iovlen = events.len() as _;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control) as _;
            // SAFETY: everything that the header points at is live for the call.
            let sent = unsafe { libc::sendmsg(fd, &raw const message, libc::MSG_NOSIGNAL) };
            return if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(events.len()) };
        }
        // SAFETY: all zeroes are values of the struct.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
        for (header, piece) in headers.iter_mut().zip(&mut pieces) {
            header.msg_hdr.msg_iov = piece;
            header.msg_hdr.msg_iovlen = 1;
        }
        // SAFETY: as above.
        let sent =
            unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), events.len() as u32, libc::MSG_NOSIGNAL) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

/// Sockets that each bring one event as a message.
pub struct Messages {
    sockets: Vec<OwnedFd>,
    buffers: Box<[[u8; 2048]]>,
}

impl Messages {
    /// Over bound or connected sockets.
    pub fn new(sockets: Vec<OwnedFd>) -> Self {
        Messages { sockets, buffers: vec![[0; 2048]; BATCH].into() }
    }
}

impl Consumer for Messages {
    fn receive(&mut self, limit_ms: i32, each: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let descriptors: Vec<RawFd> = self.sockets.iter().map(AsRawFd::as_raw_fd).collect();
        if !readable(&descriptors, limit_ms) {
            return Ok(0);
        }
        let mut count = 0;
        for fd in descriptors {
            let mut pieces: [libc::iovec; BATCH] = std::array::from_fn(|at| libc::iovec {
                iov_base: self.buffers[at].as_mut_ptr().cast(),
                iov_len: 2048,
            });
            // SAFETY: all zeroes are values of the struct.
            let mut headers: [libc::mmsghdr; BATCH] = unsafe { std::mem::zeroed() };
            for (header, piece) in headers.iter_mut().zip(&mut pieces) {
                header.msg_hdr.msg_iov = piece;
                header.msg_hdr.msg_iovlen = 1;
            }
            let (rows, flags) = (headers.as_mut_ptr(), libc::MSG_DONTWAIT);
            // SAFETY: the headers point at live buffers of the lengths that they give.
            let got = unsafe { libc::recvmmsg(fd, rows, BATCH as u32, flags, std::ptr::null_mut()) };
            for (header, buffer) in headers.iter().zip(&self.buffers).take(usize::try_from(got).unwrap_or(0))
            {
                each(&buffer[..(header.msg_len as usize).min(2048)]);
                count += 1;
            }
        }
        Ok(count)
    }
}

/// A bound UDP socket with room for bursts.
pub fn bound(port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(("127.0.0.1", port))?;
    let bytes: i32 = 8 << 20;
    // SAFETY: reads the number that is passed.
    unsafe {
        let value = (&raw const bytes).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, value, 4);
    }
    Ok(socket)
}

/// What stands before and behind an event in a stream of bytes.
pub trait Framing: Send {
    /// Appends an event with what surrounds it.
    fn put(&self, out: &mut Vec<u8>, event: &[u8; EVENT_BYTES]);

    /// Takes the next message from the front: how many bytes it has in all, and the event in it. `None` where
    /// more bytes are needed.
    fn take<'a>(&self, bytes: &'a [u8]) -> Option<(usize, Option<&'a [u8]>)>;
}

/// Frames as the adapter `tcp` has them: a length of 32 bits in network byte order.
pub struct LengthPrefixed;

impl Framing for LengthPrefixed {
    fn put(&self, out: &mut Vec<u8>, event: &[u8; EVENT_BYTES]) {
        out.extend_from_slice(&(EVENT_BYTES as u32).to_be_bytes());
        out.extend_from_slice(event);
    }

    fn take<'a>(&self, bytes: &'a [u8]) -> Option<(usize, Option<&'a [u8]>)> {
        let length = u32::from_be_bytes(*bytes.first_chunk()?) as usize;
        Some((4 + length, Some(bytes.get(4..4 + length)?)))
    }
}

/// Sends events into a stream.
pub struct StreamProducer<F> {
    stream: TcpStream,
    framing: F,
    out: Vec<u8>,
}

impl<F: Framing> StreamProducer<F> {
    /// Over a connection.
    pub fn new(stream: TcpStream, framing: F) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(StreamProducer { stream, framing, out: Vec::with_capacity(BUFFER_BYTES) })
    }
}

impl<F: Framing> Producer for StreamProducer<F> {
    fn send(&mut self, event: &[u8; EVENT_BYTES]) -> io::Result<()> {
        self.out.clear();
        self.framing.put(&mut self.out, event);
        self.stream.write_all(&self.out)
    }

    fn send_many(&mut self, events: &[[u8; EVENT_BYTES]]) -> io::Result<usize> {
        self.out.clear();
        for event in events {
            self.framing.put(&mut self.out, event);
        }
        self.stream.write_all(&self.out)?;
        Ok(events.len())
    }
}

/// Receives events from streams.
pub struct StreamConsumer<F> {
    /// Where connections come from, where the system connects to its consumers.
    listeners: Vec<TcpListener>,
    streams: Vec<(TcpStream, Vec<u8>, usize)>,
    framing: F,
}

impl<F: Framing> StreamConsumer<F> {
    /// Over connections, and others that are still to come to the listeners.
    pub fn new(listeners: Vec<TcpListener>, streams: Vec<TcpStream>, framing: F) -> io::Result<Self> {
        for listener in &listeners {
            listener.set_nonblocking(true)?;
        }
        let mut consumer = StreamConsumer { listeners, streams: Vec::new(), framing };
        streams.into_iter().try_for_each(|stream| consumer.add(stream))?;
        Ok(consumer)
    }

    fn add(&mut self, stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        self.streams.push((stream, vec![0; BUFFER_BYTES], 0));
        Ok(())
    }
}

impl<F: Framing> Consumer for StreamConsumer<F> {
    fn receive(&mut self, limit_ms: i32, each: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        let listeners = self.listeners.iter().map(AsRawFd::as_raw_fd);
        let descriptors: Vec<RawFd> =
            self.streams.iter().map(|(stream, ..)| stream.as_raw_fd()).chain(listeners).collect();
        if !readable(&descriptors, limit_ms) {
            return Ok(0);
        }
        for at in 0..self.listeners.len() {
            if let Ok((stream, _)) = self.listeners[at].accept() {
                self.add(stream)?;
            }
        }
        let mut count = 0;
        let mut ended = Vec::new();
        for (number, (stream, buffer, filled)) in self.streams.iter_mut().enumerate() {
            match stream.read(&mut buffer[*filled..]) {
                Ok(0) => ended.push(number),
                Ok(bytes) => *filled += bytes,
                Err(_) => continue,
            }
            let mut at = 0;
            while let Some((length, event)) = self.framing.take(&buffer[at..*filled]) {
                if let Some(event) = event {
                    each(event);
                    count += 1;
                }
                at += length;
            }
            buffer.copy_within(at..*filled, 0);
            *filled -= at;
        }
        for number in ended.into_iter().rev() {
            self.streams.swap_remove(number);
        }
        Ok(count)
    }
}

/// Connects, patiently.
pub fn connect(port: u16) -> io::Result<TcpStream> {
    let patience = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > patience => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
