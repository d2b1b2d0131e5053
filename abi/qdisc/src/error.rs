//! A refusal: what was asked, the errno, the kernel's own words, and how it is mended where that is known.

use std::fmt;
use std::io;

/// Why something could not be done. Its text is one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was asked for, such as `eth0: set taprio`.
    pub what: String,
    /// The errno; 0 where the request was wrong before the kernel saw it, or its answer made no sense.
    pub errno: i32,
    /// What the kernel says (NETLINK_EXT_ACK), or what is wrong where the errno is 0.
    pub words: Option<String>,
}

impl Refusal {
    pub(crate) fn new(what: impl Into<String>, words: impl Into<String>) -> Self {
        Refusal { what: what.into(), errno: 0, words: Some(words.into()) }
    }

    pub(crate) fn system(what: impl Into<String>, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Refusal { what: what.into(), errno, words: None },
            None => Refusal::new(what, error.to_string()),
        }
    }

    /// How it is mended, where that is known.
    pub fn mend(&self) -> Option<&'static str> {
        let says = |part: &str| self.words.as_ref().is_some_and(|words| words.contains(part));
        match self.errno {
            libc::EPERM | libc::EACCES => Some("it needs CAP_NET_ADMIN in the namespace of the interface"),
            // Without modules the kernel knows no better word than that.
            libc::ENOENT if says("qdisc kind is unknown") => {
                Some("boot a kernel that has it (CONFIG_NET_SCH_TAPRIO, _MQPRIO, _ETF), such as Debian's")
            }
            _ if says("Multi-queue device is required") => {
                Some("take an interface with several transmit queues; a veth is made with numtxqueues")
            }
            _ if says("does not have a PTP clock") => {
                Some("full offload needs a card with a clock of its own; software gates need none")
            }
            libc::ENODEV => Some("name an interface of this network namespace"),
            _ => None,
        }
    }
}

/// ENOTSUPP (linux/errno.h) is meant to stay within the kernel, and no library has a text for it.
const ENOTSUPP: i32 = 524;

fn errno_text(errno: i32) -> String {
    match errno {
        ENOTSUPP => String::from("Operation is not supported (error 524)"),
        errno => io::Error::from_raw_os_error(errno).to_string(),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.what)?;
        match (&self.words, self.errno) {
            (Some(words), 0) => f.write_str(words)?,
            (Some(words), errno) => {
                write!(f, "the kernel says {:?}: {}", words.trim_end_matches('.'), errno_text(errno))?;
            }
            (None, errno) => f.write_str(&errno_text(errno))?,
        }
        match self.mend() {
            Some(mend) => write!(f, "; {mend}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refusal {}
