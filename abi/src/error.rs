//! What a plugin answers when it refuses: a code for the host, a sentence for the user.

use std::fmt;

use abi_stable::StableAbi;
use abi_stable::std_types::RString;

/// A refusal on the order's road. On the event's road a negative errno is used instead.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
pub struct PluginError {
    /// One of the constants of this type, or an errno of the operating system.
    pub code: i32,
    /// One sentence: what was wrong, and what would be right.
    pub message: RString,
}

impl PluginError {
    /// An option holds a value that cannot be used.
    pub const BAD_OPTION: i32 = -1001;
    /// The operating system refused.
    pub const SYSTEM: i32 = -1002;
    /// The function's file cannot be used.
    pub const BAD_FUNCTION: i32 = -1003;
    /// The plugin does not do this.
    pub const UNSUPPORTED: i32 = -1004;
    /// The plugin panicked; the instance must not be used again.
    pub const PANICKED: i32 = PANICKED;

    /// A refusal with its sentence.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        PluginError { code, message: RString::from(message.into()) }
    }

    /// An option that cannot be used.
    pub fn bad_option(message: impl Into<String>) -> Self {
        Self::new(Self::BAD_OPTION, message)
    }

    /// A refusal of the operating system while doing `what`.
    pub fn system(what: impl fmt::Display, error: &std::io::Error) -> Self {
        Self::new(Self::SYSTEM, format!("{what}: {error}"))
    }
}

impl fmt::Display for PluginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for PluginError {}

/// Nothing is waiting, or nothing more can be taken now (`-EAGAIN`).
pub const AGAIN: i32 = -11;
/// The frame is too large for the channel (`-EMSGSIZE`).
pub const TOO_LARGE: i32 = -90;
/// The plugin panicked in this call, or in an earlier one: the instance must not be used again.
pub const PANICKED: i32 = -1000;
