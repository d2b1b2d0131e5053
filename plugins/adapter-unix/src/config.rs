//! The options of a unix channel: the table for users, and what it becomes.

use std::time::Duration;

use socket2::Type;
use tempos_abi::adapter::{ChannelSpec, Direction};
use tempos_abi::{OptionKind, OptionSpec, Options, PluginError};
use tempos_sockets::{Access, Name, WINDOW_MAX};

/// The option table.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("path", OptionKind::PATH, "", "The socket: to listen at (ingress), to send to (egress).")
        .unit("path, or @name for the abstract namespace"),
    OptionSpec::new(
        "type",
        OptionKind::TEXT,
        "datagram",
        "Single datagrams, or connections that keep frames apart.",
    )
    .words("datagram|seqpacket"),
    OptionSpec::new(
        "mode",
        OptionKind::TEXT,
        "",
        "Ingress: who may send, as the file's mode; none: by the umask.",
    )
    .unit("octal, such as \"0660\""),
    OptionSpec::new("group", OptionKind::TEXT, "", "Ingress: the group that the file belongs to.")
        .unit("name or number"),
    OptionSpec::new(
        "connections",
        OptionKind::INTEGER,
        "64",
        "Ingress, seqpacket: the most senders at once.",
    )
    .unit("1 to 1024"),
    OptionSpec::new(
        "idle_timeout",
        OptionKind::DURATION,
        "10s",
        "Ingress, seqpacket: a sender that was silent for so long from the start gives way when all places are taken.",
    )
    .unit("100ms to 1h"),
    OptionSpec::new(
        "acknowledge",
        OptionKind::FLAG,
        "false",
        "Seqpacket. Egress: an event is delivered when the receiver says so. Ingress: the sender is told of each \
         frame.",
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
    OptionSpec::new("receive_buffer", OptionKind::SIZE, "", "The kernel's buffer for what is waiting.")
        .unit("4KiB to 1GiB"),
    OptionSpec::new(
        "send_buffer",
        OptionKind::SIZE,
        "",
        "The kernel's buffer for what was sent; none: it fits.",
    )
    .unit("4KiB to 1GiB"),
];

const BUFFER_BYTES: std::ops::RangeInclusive<i64> = 4096..=1 << 30;

/// What a channel is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The socket's name; none only where a connected descriptor is handed over.
    pub name: Option<Name>,
    /// Datagram or seqpacket.
    pub kind: Type,
    /// Who may send: mode and group of the file.
    pub access: Access,
    /// The most senders at once.
    pub connections: usize,
    /// Bytes of the kernel's buffer.
    pub receive_buffer: Option<usize>,
    /// Bytes of the kernel's buffer.
    pub send_buffer: Option<usize>,
    /// How long a sender may be silent from the start where all places are taken.
    pub idle_timeout: Duration,
    /// Whether frames are acknowledged, and how.
    pub acknowledge: Option<Acknowledge>,
}

/// How events are acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Acknowledge {
    /// The most events unacknowledged at once.
    pub window: usize,
    /// How long one may take.
    pub timeout: Duration,
}

impl Config {
    /// Reads the options of a channel.
    ///
    /// # Errors
    /// One sentence that names the channel, the option, and what would be right.
    pub fn read(spec: &ChannelSpec) -> Result<Self, PluginError> {
        let reader = Reader { channel: &spec.name, options: &spec.options };
        let ingress = spec.direction == Direction::INGRESS;
        let name = reader.name()?;
        if name.is_none() && spec.inherited_descriptor < 0 {
            let (direction, what) = if ingress { ("ingress", "listen at") } else { ("egress", "send to") };
            return Err(reader.wrong(&format!("an {direction} channel needs path, the socket to {what}")));
        }
        if let Some(key) = ["mode", "group"].iter().find(|key| !ingress && reader.text(key).is_some()) {
            return Err(reader.wrong(&format!("{key} is for ingress channels only; leave it out")));
        }
        Ok(Config {
            name,
            kind: reader.kind()?,
            access: Access::read(&spec.options).map_err(|sentence| reader.wrong(&sentence))?,
            connections: reader.connections()?,
            receive_buffer: reader.buffer("receive_buffer")?,
            send_buffer: reader.buffer("send_buffer")?,
            idle_timeout: reader.duration("idle_timeout", 10_000, 100, "100ms to 1h")?,
            acknowledge: reader.acknowledge()?,
        })
    }
}

struct Reader<'a> {
    channel: &'a str,
    options: &'a Options,
}

impl Reader<'_> {
    fn wrong(&self, sentence: &str) -> PluginError {
        PluginError::bad_option(format!("unix channel \"{}\": {sentence}", self.channel))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.options.text(key).filter(|text| !text.is_empty())
    }

    fn name(&self) -> Result<Option<Name>, PluginError> {
        let read = |path| Name::read("path", path).map_err(|sentence| self.wrong(&sentence));
        self.text("path").map(read).transpose()
    }

    fn kind(&self) -> Result<Type, PluginError> {
        match self.text("type") {
            None | Some("datagram") => Ok(Type::DGRAM),
            Some("seqpacket") => Ok(Type::SEQPACKET),
            Some(other) => {
                Err(self.wrong(&format!("type = {other:?} is neither \"datagram\" nor \"seqpacket\"")))
            }
        }
    }

    fn connections(&self) -> Result<usize, PluginError> {
        match self.options.integer("connections").unwrap_or(64) {
            number @ 1..=1024 => Ok(number as usize),
            number => Err(self.wrong(&format!("connections = {number} is not within 1 to 1024"))),
        }
    }

    fn acknowledge(&self) -> Result<Option<Acknowledge>, PluginError> {
        let window = match self.options.integer("window").unwrap_or(64) {
            number if (1..=WINDOW_MAX as i64).contains(&number) => number as usize,
            number => return Err(self.wrong(&format!("window = {number} is not within 1 to 1024"))),
        };
        let timeout = self.duration("acknowledge_timeout", 1000, 10, "10ms to 1h")?;
        match self.options.flag("acknowledge") {
            false => Ok(None),
            true if self.kind()? == Type::SEQPACKET => Ok(Some(Acknowledge { window, timeout })),
            true => Err(self.wrong("acknowledge needs connections; write type = \"seqpacket\" beside it")),
        }
    }

    /// A duration; its default and least in milliseconds.
    fn duration(&self, key: &str, default: i64, least: i64, words: &str) -> Result<Duration, PluginError> {
        const MS: i64 = 1_000_000;
        let ns = self.options.integer(key).unwrap_or(default * MS);
        match (least * MS..=3_600_000 * MS).contains(&ns) {
            true => Ok(Duration::from_nanos(ns.unsigned_abs())),
            false => Err(self.wrong(&format!("{key} = {ns} ns is not within {words}"))),
        }
    }

    fn buffer(&self, key: &str) -> Result<Option<usize>, PluginError> {
        match self.options.integer(key) {
            None => Ok(None),
            Some(bytes) if BUFFER_BYTES.contains(&bytes) => Ok(Some(bytes as usize)),
            Some(bytes) => Err(self.wrong(&format!("{key} = {bytes} bytes is not within 4KiB to 1GiB"))),
        }
    }
}
