//! What a plugin may ask of its host: little, and never on an event's road.

use abi_stable::StableAbi;
use abi_stable::std_types::RStr;

/// How grave a line of the log is: as syslog(3).
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLevel(pub u8);

impl LogLevel {
    /// Something failed.
    pub const ERROR: LogLevel = LogLevel(3);
    /// Something is not as it should be.
    pub const WARNING: LogLevel = LogLevel(4);
    /// Something that an operator wants to know happened.
    pub const INFO: LogLevel = LogLevel(6);
    /// For developers.
    pub const DEBUG: LogLevel = LogLevel(7);
}

/// How an open channel is, of its own accord.
#[repr(transparent)]
#[derive(StableAbi, Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelState(pub u8);

impl ChannelState {
    /// What was granted holds, or holds again.
    pub const WORKS: ChannelState = ChannelState(0);
    /// It works, but what was granted does not hold now.
    pub const DEGRADED: ChannelState = ChannelState(1);
}

/// The host's side of the border.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = HostApiRef)))]
pub struct HostApi {
    /// Writes a line to the node's log: level, plugin, sentence. Never from a lane thread.
    #[sabi(last_prefix_field)]
    pub log: extern "C" fn(LogLevel, RStr<'_>, RStr<'_>),
    /// Says how an open channel is: plugin, channel, state, sentence. The host shows it and tells whoever listens;
    /// it waits for nothing. Never from a lane thread (since 1.1).
    pub channel: extern "C" fn(RStr<'_>, RStr<'_>, ChannelState, RStr<'_>),
}
