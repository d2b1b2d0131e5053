//! How the daemon ends: the codes of sysexits.h.

use tempos_control::{Refusal, RefusalKind};

/// Ended as asked.
pub const OK: i32 = 0;
/// Wrong use of the command line.
pub const USAGE: i32 = 64;
/// A fault of the daemon's own.
pub const SOFTWARE: i32 = 70;
/// The operating system refused something.
pub const OSERR: i32 = 71;
/// A folder or file cannot be made.
pub const CANTCREAT: i32 = 73;
/// Another daemon holds the folder, or a bound was reached: later it may work.
pub const TEMPFAIL: i32 = 75;
/// Not permitted.
pub const NOPERM: i32 = 77;
/// A mistake in the node file, a plugin or the wiring.
pub const CONFIG: i32 = 78;

/// Why the daemon ends before it has run: a code and the sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The exit code.
    pub code: i32,
    /// One sentence, or one line for each mistake.
    pub sentence: String,
}

impl Ending {
    /// An ending with its sentence.
    pub fn new(code: i32, sentence: impl Into<String>) -> Self {
        Ending { code, sentence: sentence.into() }
    }
}

impl From<Refusal> for Ending {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal.kind {
            RefusalKind::QosNotGrantable | RefusalKind::NotAuthorized => NOPERM,
            RefusalKind::InvalidWiring | RefusalKind::PluginRejected | RefusalKind::NoSuchObject => CONFIG,
            RefusalKind::Overloaded => TEMPFAIL,
            RefusalKind::System => OSERR,
            _ => SOFTWARE,
        };
        Ending::new(code, refusal.message)
    }
}
