//! The options of a TCP channel: the table for users, and what it becomes.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use tempos_abi::adapter::{ChannelSpec, Direction};
use tempos_abi::{OptionKind, OptionSpec, Options, PluginError};
use tempos_sockets::WINDOW_MAX;
use tempos_sockets::marking::{self, Marking};

use crate::frames::SEGMENT_BYTES_MAX;
use crate::tls::Tls;

/// The option table.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "bind",
        OptionKind::TEXT,
        "",
        "Ingress: the address to listen on; port 0 picks a free one.",
    )
    .unit("ADDRESS:PORT"),
    OptionSpec::new("to", OptionKind::TEXT, "", "Egress: the address to send to.").unit("ADDRESS:PORT"),
    OptionSpec::new("connections", OptionKind::INTEGER, "256", "Ingress: the most senders at once.")
        .unit("1 to 4096"),
    OptionSpec::new(
        "frame_timeout",
        OptionKind::DURATION,
        "10s",
        "Ingress: how long a frame may take to arrive; a sender who takes longer is closed.",
    )
    .unit("10ms to 1h"),
    OptionSpec::new(
        "idle_timeout",
        OptionKind::DURATION,
        "10s",
        "Ingress: a sender that was silent for so long from the start gives way when all places are taken.",
    )
    .unit("100ms to 1h"),
    OptionSpec::new(
        "receive_buffer",
        OptionKind::SIZE,
        "",
        "Ingress: the kernel's buffer of each connection; none: the system's.",
    )
    .unit("4KiB to 1GiB"),
    OptionSpec::new("send_buffer", OptionKind::SIZE, "", "Egress: the kernel's buffer; none: the system's.")
        .unit("4KiB to 1GiB"),
    OptionSpec::new(
        "unsent",
        OptionKind::SIZE,
        "16KiB",
        "Egress: the most bytes in the kernel that have not left; more waits in the lane, by its order.",
    )
    .unit("1KiB to 1GiB"),
    OptionSpec::new(
        "segment",
        OptionKind::SIZE,
        "16KiB",
        "Egress: a larger frame leaves in segments of that size, and smaller ones may overtake it; 0: none do.",
    )
    .unit("0, or 1KiB to 1MiB"),
    OptionSpec::new(
        "acknowledge",
        OptionKind::FLAG,
        "false",
        "Egress: an event is delivered when the receiver says so. Ingress: the sender is told of each frame.",
    ),
    OptionSpec::new(
        "window",
        OptionKind::INTEGER,
        "64",
        "Egress, with acknowledge: the most events unacknowledged at once.",
    )
    .unit("1 to 1024"),
    OptionSpec::new(
        "acknowledge_timeout",
        OptionKind::DURATION,
        "1s",
        "Egress, with acknowledge: how long one may take; the connection is then closed and the event lost.",
    )
    .unit("10ms to 1h"),
    OptionSpec::new("tls", OptionKind::FLAG, "false", "The connection is encrypted, and who is there checked."),
    OptionSpec::new(
        "certificate",
        OptionKind::PATH,
        "",
        "With tls: our own certificate, and those up to the authority. Ingress needs one.",
    )
    .unit("PEM file"),
    OptionSpec::new("key", OptionKind::PATH, "", "With tls: the private key of the certificate.").unit("PEM file"),
    OptionSpec::new(
        "authority",
        OptionKind::PATH,
        "",
        "With tls: whose certificates the peer may have. Egress needs it; with it, ingress wants senders to have one.",
    )
    .unit("PEM file"),
    OptionSpec::new(
        "server_name",
        OptionKind::TEXT,
        "",
        "Egress, with tls: the name in the receiver's certificate; none: the address of to.",
    ),
    OptionSpec::new(
        "peer_timeout",
        OptionKind::DURATION,
        "10s",
        "Egress: how long sent bytes may go unacknowledged before the receiver counts as gone.",
    )
    .unit("100ms to 1h"),
    OptionSpec::new(
        "keepalive",
        OptionKind::DURATION,
        "30s",
        "After how long a quiet peer is asked whether it is still there.",
    )
    .unit("1s to 2h"),
    marking::SOCKET_PRIORITY,
    marking::DSCP,
    marking::WIFI,
    marking::DEVICE,
    marking::MARK,
    marking::PACING,
    marking::BUSY_POLL,
];

const BUFFER_BYTES: RangeInclusive<i64> = 4096..=1 << 30;
const SEGMENT_BYTES: RangeInclusive<i64> = 1024..=SEGMENT_BYTES_MAX as i64;
const UNSENT_BYTES: RangeInclusive<i64> = 1024..=1 << 30;
const MS: i64 = 1_000_000;

/// What an ingress channel is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Where it listens.
    pub bind: SocketAddr,
    /// The most senders at once.
    pub connections: usize,
    /// How long a frame may take to arrive.
    pub frame_timeout: Duration,
    /// Bytes of the kernel's buffer of each connection.
    pub receive_buffer: Option<usize>,
    /// After how long a quiet peer is asked.
    pub keepalive: Duration,
    /// How long a sender may be silent from the start where all places are taken.
    pub idle_timeout: Duration,
    /// Whether the sender is told of each frame.
    pub acknowledge: bool,
    /// What TLS is spoken with.
    pub tls: Option<Tls>,
    /// The marks of frames and their way.
    pub marking: Marking,
}

/// How events are acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledge {
    /// The most events unacknowledged at once.
    pub window: usize,
    /// How long one may take.
    pub timeout: Duration,
}

/// What an egress channel is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Where it sends.
    pub to: SocketAddr,
    /// Bytes of the kernel's buffer.
    pub send_buffer: Option<usize>,
    /// The most bytes in the kernel that have not left (tcp(7), TCP_NOTSENT_LOWAT).
    pub unsent: i32,
    /// How long sent bytes may go unacknowledged (tcp(7), TCP_USER_TIMEOUT).
    pub peer_timeout: Duration,
    /// After how long a quiet peer is asked.
    pub keepalive: Duration,
    /// The bytes of a segment; none: every frame leaves whole.
    pub segment: Option<usize>,
    /// Whether the receiver acknowledges each event, and how.
    pub acknowledge: Option<Acknowledge>,
    /// What TLS is spoken with.
    pub tls: Option<Tls>,
    /// The marks of frames and their way.
    pub marking: Marking,
}

/// A channel's options, by its direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// Into the node.
    Ingress(Ingress),
    /// Out of the node.
    Egress(Egress),
}

impl Config {
    /// Reads the options of a channel.
    ///
    /// # Errors
    /// One sentence that names the channel, the option, and what would be right.
    pub fn read(spec: &ChannelSpec) -> Result<Self, PluginError> {
        let reader = Reader { channel: &spec.name, options: &spec.options };
        match spec.direction {
            Direction::INGRESS => reader.ingress().map(Config::Ingress),
            _ => reader.egress().map(Config::Egress),
        }
    }
}

struct Reader<'a> {
    channel: &'a str,
    options: &'a Options,
}

impl Reader<'_> {
    fn ingress(&self) -> Result<Ingress, PluginError> {
        self.refuse_those_of("egress", &["to", "send_buffer", "server_name"])?;
        let bind = self
            .address("bind")?
            .ok_or_else(|| self.wrong("an ingress channel needs bind = \"ADDRESS:PORT\""))?;
        Ok(Ingress {
            bind,
            connections: self.number("connections", 256, &(1..=4096), "1 to 4096")? as usize,
            frame_timeout: self.duration("frame_timeout", 10_000, &(10..=3_600_000), "10ms to 1h")?,
            receive_buffer: self.buffer("receive_buffer")?,
            keepalive: self.keepalive()?,
            idle_timeout: self.duration("idle_timeout", 10_000, &(100..=3_600_000), "100ms to 1h")?,
            acknowledge: self.options.flag("acknowledge"),
            tls: self.tls()?,
            marking: self.marking(Direction::INGRESS)?,
        })
    }

    fn egress(&self) -> Result<Egress, PluginError> {
        self.refuse_those_of("ingress", &["bind", "receive_buffer"])?;
        let to =
            self.address("to")?.ok_or_else(|| self.wrong("an egress channel needs to = \"ADDRESS:PORT\""))?;
        if to.port() == 0 {
            return Err(self.wrong(&format!("nothing listens at port 0 (to = \"{to}\"); write 1 to 65535")));
        }
        Ok(Egress {
            to,
            send_buffer: self.buffer("send_buffer")?,
            unsent: self.number("unsent", 16 << 10, &UNSENT_BYTES, "1KiB to 1GiB")? as i32,
            peer_timeout: self.duration("peer_timeout", 10_000, &(100..=3_600_000), "100ms to 1h")?,
            keepalive: self.keepalive()?,
            segment: self.segment()?,
            acknowledge: self.acknowledge()?,
            tls: self.tls()?,
            marking: self.marking(Direction::EGRESS)?,
        })
    }

    fn marking(&self, direction: Direction) -> Result<Marking, PluginError> {
        Marking::read(self.options, direction).map_err(|sentence| self.wrong(&sentence))
    }

    fn tls(&self) -> Result<Option<Tls>, PluginError> {
        const KEYS: [&str; 4] = ["certificate", "key", "authority", "server_name"];
        let text = |key: &str| self.options.text(key).filter(|text| !text.is_empty());
        if !self.options.flag("tls") {
            return match KEYS.iter().find(|key| text(key).is_some()) {
                Some(key) => Err(self.wrong(&format!("{key} means nothing without tls = true"))),
                None => Ok(None),
            };
        }
        let path = |key| text(key).map(PathBuf::from);
        Ok(Some(Tls {
            certificate: path("certificate"),
            key: path("key"),
            authority: path("authority"),
            server_name: text("server_name").map(str::to_owned),
        }))
    }

    fn segment(&self) -> Result<Option<usize>, PluginError> {
        match self.options.integer("segment").unwrap_or(16 << 10) {
            0 => Ok(None),
            bytes if SEGMENT_BYTES.contains(&bytes) => Ok(Some(bytes as usize)),
            bytes => {
                Err(self.wrong(&format!("segment = {bytes} bytes is not within 1KiB to 1MiB, and not 0")))
            }
        }
    }

    fn acknowledge(&self) -> Result<Option<Acknowledge>, PluginError> {
        let window = self.number("window", 64, &(1..=WINDOW_MAX as i64), "1 to 1024")? as usize;
        let timeout = self.duration("acknowledge_timeout", 1000, &(10..=3_600_000), "10ms to 1h")?;
        Ok(self.options.flag("acknowledge").then_some(Acknowledge { window, timeout }))
    }

    fn keepalive(&self) -> Result<Duration, PluginError> {
        self.duration("keepalive", 30_000, &(1000..=7_200_000), "1s to 2h")
    }

    fn wrong(&self, sentence: &str) -> PluginError {
        PluginError::bad_option(format!("tcp channel \"{}\": {sentence}", self.channel))
    }

    /// Options that only the other direction has. Those with a default are passed over: they are always there.
    fn refuse_those_of(&self, direction: &str, keys: &[&str]) -> Result<(), PluginError> {
        match keys.iter().find(|key| self.options.get(key).is_some()) {
            Some(key) => Err(self.wrong(&format!("{key} is for {direction} channels only; leave it out"))),
            None => Ok(()),
        }
    }

    fn address(&self, key: &str) -> Result<Option<SocketAddr>, PluginError> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                self.wrong(&format!(
                    "{key} = {text:?} is not an address and a port; write for example \"127.0.0.1:5501\" \
                     or \"[::1]:5501\""
                ))
            })
        };
        self.options.text(key).filter(|text| !text.is_empty()).map(parse).transpose()
    }

    fn number(
        &self,
        key: &str,
        default: i64,
        range: &RangeInclusive<i64>,
        words: &str,
    ) -> Result<i64, PluginError> {
        match self.options.integer(key).unwrap_or(default) {
            number if range.contains(&number) => Ok(number),
            number => Err(self.wrong(&format!("{key} = {number} is not within {words}"))),
        }
    }

    /// A duration; its default and range in milliseconds.
    fn duration(
        &self,
        key: &str,
        default: i64,
        range: &RangeInclusive<i64>,
        words: &str,
    ) -> Result<Duration, PluginError> {
        let ns = self.options.integer(key).unwrap_or(default * MS);
        if (range.start() * MS..=range.end() * MS).contains(&ns) {
            return Ok(Duration::from_nanos(ns.unsigned_abs()));
        }
        Err(self.wrong(&format!("{key} = {ns} ns is not within {words}")))
    }

    fn buffer(&self, key: &str) -> Result<Option<usize>, PluginError> {
        match self.options.integer(key) {
            None => Ok(None),
            Some(bytes) if BUFFER_BYTES.contains(&bytes) => Ok(Some(bytes as usize)),
            Some(bytes) => Err(self.wrong(&format!("{key} = {bytes} bytes is not within 4KiB to 1GiB"))),
        }
    }
}
