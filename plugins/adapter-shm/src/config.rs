//! The options of a shm channel: the table for users, and what it becomes.

use std::path::{Path, PathBuf};

use tempos_abi::adapter::{ChannelSpec, Direction};
use tempos_abi::{OptionKind, OptionSpec, Options, PluginError};
use tempos_shm::memory::{CAPACITY_MAX, CAPACITY_MIN};
use tempos_shm::protocol::record_bytes;
use tempos_sockets::{Access, Name};

/// The option table.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "path",
        OptionKind::PATH,
        "",
        "Where to listen for producers (ingress) or one consumer (egress).",
    )
    .unit("path, or @name for the abstract namespace"),
    OptionSpec::new(
        "connect",
        OptionKind::PATH,
        "",
        "In place of path: the channel of another node to connect to.",
    )
    .unit("path, or @name for the abstract namespace"),
    OptionSpec::new(
        "mode",
        OptionKind::TEXT,
        "",
        "With path: who may connect, as the file's mode; none: by the umask.",
    )
    .unit("octal, such as \"0660\""),
    OptionSpec::new("group", OptionKind::TEXT, "", "With path: the group that the file belongs to.")
        .unit("name or number"),
    OptionSpec::new(
        "connections",
        OptionKind::INTEGER,
        "8",
        "Ingress, with path: the most producers at once.",
    )
    .unit("1 to 64"),
    OptionSpec::new(
        "capacity",
        OptionKind::SIZE,
        "",
        "With path: the ring of each connection; none: 256KiB, or four of the largest events.",
    )
    .unit("4KiB to 1GiB, rounded up to a power of two"),
];

const CAPACITY_DEFAULT: u64 = 256 << 10;
const CONNECTIONS_DEFAULT: i64 = 8;

/// Which end of a connection a channel is.
#[derive(Clone, Debug)]
pub enum End {
    /// It listens at a name.
    Listens(Name),
    /// It connects to a name.
    Connects(PathBuf),
}

/// What a channel is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which end it is.
    pub end: End,
    /// Who may connect: mode and group of the file.
    pub access: Access,
    /// The most connections at once.
    pub connections: usize,
    /// The ring of each connection in bytes, a power of two.
    pub capacity: u64,
}

impl Config {
    /// Reads the options of a channel.
    ///
    /// # Errors
    /// One sentence that names the channel, the option, and what would be right.
    pub fn read(spec: &ChannelSpec) -> Result<Self, PluginError> {
        let reader = Reader { channel: &spec.name, options: &spec.options };
        let ingress = spec.direction == Direction::INGRESS;
        let end = match (reader.name("path")?, reader.name("connect")?) {
            (Some(name), None) => End::Listens(name),
            (None, Some(name)) => End::Connects(Path::new(&name.to_string()).to_owned()),
            (Some(_), Some(_)) => {
                return Err(reader.wrong("path and connect exclude each other: it listens, or it connects"));
            }
            (None, None) => {
                return Err(
                    reader.wrong("it needs path, the socket to listen at, or connect, the one to connect to")
                );
            }
        };
        let listens = matches!(end, End::Listens(_));
        if let Some(key) = ["mode", "group"].iter().find(|key| !listens && reader.text(key).is_some()) {
            return Err(reader.wrong(&format!("{key} goes with path only; leave it out")));
        }
        if !listens && reader.options.integer("capacity").is_some() {
            return Err(
                reader.wrong("capacity goes with path only: who listens makes the ring; leave it out")
            );
        }
        let connections = reader.connections()?;
        Ok(Config {
            connections: if ingress && listens { connections } else { 1 },
            end,
            access: Access::read(&spec.options).map_err(|sentence| reader.wrong(&sentence))?,
            capacity: reader.capacity(u64::from(spec.event_bytes_max))?,
        })
    }
}

struct Reader<'a> {
    channel: &'a str,
    options: &'a Options,
}

impl Reader<'_> {
    fn wrong(&self, sentence: &str) -> PluginError {
        PluginError::bad_option(format!("shm channel \"{}\": {sentence}", self.channel))
    }

    fn text(&self, key: &str) -> Option<&str> {
        self.options.text(key).filter(|text| !text.is_empty())
    }

    fn name(&self, key: &str) -> Result<Option<Name>, PluginError> {
        let read = |path| Name::read(key, path).map_err(|sentence| self.wrong(&sentence));
        self.text(key).map(read).transpose()
    }

    fn connections(&self) -> Result<usize, PluginError> {
        match self.options.integer("connections").unwrap_or(CONNECTIONS_DEFAULT) {
            number @ 1..=64 => Ok(number as usize),
            number => Err(self.wrong(&format!("connections = {number} is not within 1 to 64"))),
        }
    }

    fn capacity(&self, event_bytes: u64) -> Result<u64, PluginError> {
        let record = record_bytes(event_bytes);
        let Some(asked) = self.options.integer("capacity") else {
            let capacity = CAPACITY_DEFAULT.max((4 * record).next_power_of_two());
            return match capacity {
                CAPACITY_MIN..=CAPACITY_MAX => Ok(capacity),
                _ => {
                    Err(self
                        .wrong(&format!("events of {event_bytes} bytes are too large for a ring of 1GiB")))
                }
            };
        };
        match u64::try_from(asked).unwrap_or(0) {
            bytes @ CAPACITY_MIN..=CAPACITY_MAX if bytes.next_power_of_two() >= 2 * record => {
                Ok(bytes.next_power_of_two())
            }
            CAPACITY_MIN..=CAPACITY_MAX => Err(self.wrong(&format!(
                "capacity = {asked} bytes does not hold two of the largest events ({event_bytes} bytes, event_max)"
            ))),
            _ => Err(self.wrong(&format!("capacity = {asked} bytes is not within 4KiB to 1GiB"))),
        }
    }
}
