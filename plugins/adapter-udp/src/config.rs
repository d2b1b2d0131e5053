//! The options of a UDP channel: the table for users, and what it becomes.

use std::net::{IpAddr, SocketAddr};

use tempos_abi::adapter::{ChannelSpec, Direction};
use tempos_abi::{OptionKind, OptionSpec, Options, PluginError};
use tempos_sockets::marking::{self, Marking};

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
    OptionSpec::new("from", OptionKind::TEXT, "", "Egress: the local address to send from.")
        .unit("ADDRESS:PORT"),
    OptionSpec::new(
        "receive_buffer",
        OptionKind::SIZE,
        "4MiB",
        "Ingress: the kernel's buffer for what is waiting.",
    )
    .unit("4KiB to 1GiB"),
    OptionSpec::new(
        "send_buffer",
        OptionKind::SIZE,
        "",
        "Egress: the kernel's buffer; none: the system's default.",
    )
    .unit("4KiB to 1GiB"),
    OptionSpec::new("multicast", OptionKind::TEXT, "", "Ingress: the multicast group to join.")
        .unit("ADDRESS"),
    OptionSpec::new("interface", OptionKind::TEXT, "", "The network interface for multicast.").unit("name"),
    OptionSpec::new("ttl", OptionKind::INTEGER, "1", "Egress: how many networks multicast may cross.")
        .unit("0 to 255"),
    OptionSpec::new(
        "reuse_port",
        OptionKind::FLAG,
        "false",
        "Ingress: let other sockets listen on the same port.",
    ),
    OptionSpec::new(
        "bundles",
        OptionKind::FLAG,
        "false",
        "Ingress: take datagrams that the sender or the network card bundled in one call; for high rates.",
    ),
    OptionSpec::new(
        "timestamps",
        OptionKind::FLAG,
        "false",
        "Ingress: the kernel's receive time as source time.",
    ),
    marking::SOCKET_PRIORITY,
    marking::DSCP,
    marking::WIFI,
    marking::DEVICE,
    marking::MARK,
    marking::PACING,
    marking::BUSY_POLL,
];

const BUFFER_BYTES: std::ops::RangeInclusive<i64> = 4096..=1 << 30;
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// What an ingress channel is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Where it listens.
    pub bind: SocketAddr,
    /// Bytes of the kernel's buffer.
    pub receive_buffer: usize,
    /// The group that it joins.
    pub multicast: Option<IpAddr>,
    /// The interface by index; 0: the system chooses.
    pub interface: u32,
    /// Whether others may listen on the same port.
    pub reuse_port: bool,
    /// Whether the kernel's receive time is wanted.
    pub timestamps: bool,
    /// Whether bundles are taken (udp(7), UDP_GRO).
    pub bundles: bool,
    /// The way that frames come.
    pub marking: Marking,
}

/// What an egress channel is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Egress {
    /// Where it sends.
    pub to: SocketAddr,
    /// From where; `None`: the system chooses.
    pub from: Option<SocketAddr>,
    /// Bytes of the kernel's buffer; `None`: the system's default.
    pub send_buffer: Option<usize>,
    /// The interface for multicast by index; 0: the system chooses.
    pub interface: u32,
    /// How many networks multicast may cross.
    pub ttl: u32,
    /// The marks of frames and the way that they go.
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
        self.refuse_those_of("egress", &["to", "from", "send_buffer"])?;
        let bind = self
            .address("bind")?
            .ok_or_else(|| self.wrong("an ingress channel needs bind = \"ADDRESS:PORT\""))?;
        let multicast = self.text("multicast").map(|text| self.group(text, bind)).transpose()?;
        Ok(Ingress {
            bind,
            receive_buffer: self.buffer("receive_buffer")?.unwrap_or(RECEIVE_BUFFER_BYTES),
            multicast,
            interface: self.interface()?,
            reuse_port: self.options.flag("reuse_port"),
            timestamps: self.options.flag("timestamps"),
            bundles: self.options.flag("bundles"),
            marking: self.marking(Direction::INGRESS)?,
        })
    }

    fn egress(&self) -> Result<Egress, PluginError> {
        self.refuse_those_of("ingress", &["bind", "multicast"])?;
        let to =
            self.address("to")?.ok_or_else(|| self.wrong("an egress channel needs to = \"ADDRESS:PORT\""))?;
        if to.port() == 0 {
            return Err(
                self.wrong(&format!("nothing can be sent to port 0 (to = \"{to}\"); write 1 to 65535"))
            );
        }
        let from = self.address("from")?;
        if let Some(from) = from.filter(|from| from.is_ipv4() != to.is_ipv4()) {
            return Err(
                self.wrong(&format!("from = \"{from}\" and to = \"{to}\" must be both IPv4 or both IPv6"))
            );
        }
        let ttl = self.options.integer("ttl").unwrap_or(1);
        let ttl =
            u8::try_from(ttl).map_err(|_| self.wrong(&format!("ttl = {ttl} is not within 0 to 255")))?;
        let send_buffer = self.buffer("send_buffer")?;
        let marking = self.marking(Direction::EGRESS)?;
        Ok(Egress { to, from, send_buffer, interface: self.interface()?, ttl: u32::from(ttl), marking })
    }

    fn marking(&self, direction: Direction) -> Result<Marking, PluginError> {
        Marking::read(self.options, direction).map_err(|sentence| self.wrong(&sentence))
    }

    fn wrong(&self, sentence: &str) -> PluginError {
        PluginError::bad_option(format!("udp channel \"{}\": {sentence}", self.channel))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.options.text(key).filter(|text| !text.is_empty())
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
        self.text(key).map(parse).transpose()
    }

    fn group(&self, text: &str, bind: SocketAddr) -> Result<IpAddr, PluginError> {
        let group: Option<IpAddr> = text.parse().ok();
        group.filter(|group| group.is_multicast() && group.is_ipv4() == bind.is_ipv4()).ok_or_else(|| {
            let right = if bind.is_ipv4() { "224.0.0.0 to 239.255.255.255" } else { "ff00::/8" };
            self.wrong(&format!(
                "multicast = {text:?} is not a group that \"{bind}\" can join; write one of {right}"
            ))
        })
    }

    fn interface(&self) -> Result<u32, PluginError> {
        let Some(name) = self.text("interface") else { return Ok(0) };
        let c_name = std::ffi::CString::new(name).unwrap_or_default();
        // SAFETY: the name is a live C string.
        match unsafe { libc::if_nametoindex(c_name.as_ptr()) } {
            0 => Err(self.wrong(&format!(
                "interface = {name:?} is not a network interface of this machine; `ip link` lists them"
            ))),
            index => Ok(index),
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
