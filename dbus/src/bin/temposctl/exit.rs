//! Exit codes, as sysexits.h has them, and the one sentence on standard error.

use std::fmt::Display;
use std::io;

use zbus::{DBusError as _, fdo};

/// The node runs, but not as it was asked to: `status`.
pub const DEGRADED: u8 = 3;
/// Wrong usage.
pub const USAGE: u8 = 64;
/// What was given to the node is wrong: a wiring with mistakes, a plugin that is refused.
pub const DATA: u8 = 65;
/// A file, topic or workflow that is not there.
pub const NO_INPUT: u8 = 66;
/// There is no node to talk to.
pub const UNAVAILABLE: u8 = 69;
/// A fault of the program.
pub const SOFTWARE: u8 = 70;
/// The operating system refused.
pub const SYSTEM: u8 = 71;
/// Busy, or too slow: try again.
pub const TEMPORARY: u8 = 75;
/// The caller may not do this.
pub const PERMISSION: u8 = 77;
/// What was asked for cannot be granted here.
pub const CONFIGURATION: u8 = 78;

/// Why the tool ends without success.
#[derive(Debug)]
pub struct Failing {
    /// The exit code.
    pub code: u8,
    /// The sentence; empty where nobody is left to read it.
    pub sentence: String,
}

impl Failing {
    /// Ends with that code and sentence.
    pub fn new(code: u8, sentence: impl Display) -> Self {
        Failing { code, sentence: sentence.to_string() }
    }

    /// The operating system refused something.
    pub fn system(sentence: impl Display) -> Self {
        Failing::new(SYSTEM, sentence)
    }

    /// Says it.
    pub fn tell(&self) {
        if !self.sentence.is_empty() {
            use std::io::Write as _;
            let _ = writeln!(io::stderr(), "temposctl: {}", self.sentence);
        }
    }

    /// A refusal of the node, by its D-Bus error name.
    pub fn refused(name: &str, sentence: impl Display) -> Self {
        let own = name.strip_prefix("org.tempos.Host1.Error.");
        let standard = name.strip_prefix("org.freedesktop.DBus.Error.");
        let code = match (own, standard) {
            (Some("InvalidWiring" | "PluginRejected"), _) => DATA,
            (Some("NoSuchObject"), _) => NO_INPUT,
            (Some("QosNotGrantable"), _) => CONFIGURATION,
            (Some("Overloaded" | "OutOfDate"), _) => TEMPORARY,
            (Some("NotAuthorized"), _) => PERMISSION,
            (Some("ShuttingDown"), _) => UNAVAILABLE,
            (Some("System"), _) => SYSTEM,
            (_, Some("AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired")) => PERMISSION,
            (_, Some("InvalidArgs")) => USAGE,
            (_, Some("ServiceUnknown" | "NameHasNoOwner" | "Disconnected" | "NoServer")) => UNAVAILABLE,
            (_, Some("NoReply" | "Timeout" | "TimedOut" | "LimitsExceeded")) => TEMPORARY,
            _ => SOFTWARE,
        };
        Failing::new(code, sentence)
    }
}

impl From<zbus::Error> for Failing {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, sentence, _) => match sentence {
                Some(sentence) => Failing::refused(&name, sentence),
                None => Failing::refused(&name, &name),
            },
            zbus::Error::FDO(error) => match *error {
                fdo::Error::ZBus(error) => Failing::from(error),
                other => {
                    Failing::refused(&other.name(), other.description().unwrap_or("the bus gives no reason"))
                }
            },
            zbus::Error::InputOutput(error) => {
                Failing::new(UNAVAILABLE, format!("the connection broke: {error}"))
            }
            other => Failing::new(SOFTWARE, format!("the node's answer is not understood: {other}")),
        }
    }
}

impl From<io::Error> for Failing {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The reader has seen enough, such as `head`.
            io::ErrorKind::BrokenPipe => Failing::new(0, ""),
            io::ErrorKind::NotFound => Failing::new(NO_INPUT, error),
            io::ErrorKind::PermissionDenied => Failing::new(PERMISSION, error),
            _ => Failing::system(error),
        }
    }
}
