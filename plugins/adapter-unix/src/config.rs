//! The options of a unix channel: the table for users, and what it becomes.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use socket2::{SockAddr, Type};
use tempos_abi::adapter::{ChannelSpec, Direction};
use tempos_abi::{OptionKind, OptionSpec, Options, PluginError};

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

/// A path and its NUL must fit into an address (unix(7)).
const PATH_BYTES_MAX: usize = 107;
const BUFFER_BYTES: std::ops::RangeInclusive<i64> = 4096..=1 << 30;

/// The name of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A file.
    File(PathBuf),
    /// A name of the abstract namespace, without its `@`.
    Abstract(String),
}

impl Name {
    /// The address for system calls.
    pub fn address(&self) -> std::io::Result<SockAddr> {
        match self {
            Name::File(path) => SockAddr::unix(path),
            Name::Abstract(name) => SockAddr::unix(OsStr::from_bytes(&[b"\0", name.as_bytes()].concat())),
        }
    }

    /// Whether an address is this one.
    pub fn is(&self, address: &SockAddr) -> bool {
        match self {
            Name::File(path) => address.as_pathname() == Some(path),
            Name::Abstract(name) => address.as_abstract_namespace() == Some(name.as_bytes()),
        }
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Name::File(path) => path.display().fmt(f),
            Name::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

/// What a channel is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The socket's name; none only where a connected descriptor is handed over.
    pub name: Option<Name>,
    /// Datagram or seqpacket.
    pub kind: Type,
    /// The mode of the file.
    pub mode: Option<u32>,
    /// The group of the file.
    pub group: Option<u32>,
    /// The most senders at once.
    pub connections: usize,
    /// Bytes of the kernel's buffer.
    pub receive_buffer: Option<usize>,
    /// Bytes of the kernel's buffer.
    pub send_buffer: Option<usize>,
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
            mode: reader.mode()?,
            group: reader.group()?,
            connections: reader.connections()?,
            receive_buffer: reader.buffer("receive_buffer")?,
            send_buffer: reader.buffer("send_buffer")?,
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
        let Some(path) = self.text("path") else { return Ok(None) };
        if path.len() > PATH_BYTES_MAX {
            return Err(self.wrong(&format!(
                "path = {path:?} has {} bytes; a unix socket's path has at most {PATH_BYTES_MAX}",
                path.len()
            )));
        }
        match path.strip_prefix('@') {
            _ if path.contains('\0') => Err(self.wrong("path holds a NUL byte; write it without")),
            Some("") => Err(self.wrong("path = \"@\" has no name; write \"@NAME\"")),
            Some(name) => Ok(Some(Name::Abstract(name.to_owned()))),
            None => Ok(Some(Name::File(PathBuf::from(path)))),
        }
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

    fn mode(&self) -> Result<Option<u32>, PluginError> {
        let parse = |text: &str| {
            u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777).ok_or_else(|| {
                self.wrong(&format!("mode = {text:?} is not an octal mode of 0 to 0777, such as \"0660\""))
            })
        };
        self.text("mode").map(parse).transpose()
    }

    fn group(&self) -> Result<Option<u32>, PluginError> {
        let Some(text) = self.text("group") else { return Ok(None) };
        if let Ok(number) = text.parse() {
            return Ok(Some(number));
        }
        group_of_that_name(text)
            .map(Some)
            .ok_or_else(|| self.wrong(&format!("group = {text:?} is not a group of this machine")))
    }

    fn connections(&self) -> Result<usize, PluginError> {
        match self.options.integer("connections").unwrap_or(64) {
            number @ 1..=1024 => Ok(number as usize),
            number => Err(self.wrong(&format!("connections = {number} is not within 1 to 1024"))),
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

fn group_of_that_name(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut buffer = vec![0; 16 * 1024];
    // SAFETY: all zeroes is a value of the struct.
    let mut entry: libc::group = unsafe { std::mem::zeroed() };
    let mut found = std::ptr::null_mut();
    // SAFETY: every pointer is to live memory, the buffer's of the length given.
    unsafe {
        libc::getgrnam_r(name.as_ptr(), &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut found)
    };
    (!found.is_null()).then_some(entry.gr_gid)
}
