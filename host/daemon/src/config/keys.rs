//! Every key of the node file: one table, from which the reader checks and the manual is tested.

use crate::clock_watch::ROLES;

/// What a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// `true` or `false`.
    Flag,
    /// A whole number within bounds.
    Integer {
        /// The least.
        min: i64,
        /// The most.
        max: i64,
    },
    /// A duration with its unit, within bounds in nanoseconds.
    Duration {
        /// The least.
        min_ns: u64,
        /// The most.
        max_ns: u64,
    },
    /// A size with its unit, within bounds in bytes.
    Size {
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// A text of at most this many bytes.
    Text {
        /// The most bytes.
        max: usize,
    },
    /// A bus, as the flag `--bus` names it.
    Bus,
    /// One of these words.
    Word(&'static [&'static str]),
    /// An address to listen at, with its port.
    Address,
    /// A full path.
    Path,
    /// A list of full paths.
    Paths,
    /// A list of network interfaces' names.
    Interfaces,
}

/// One key of a section.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The section.
    pub section: &'static str,
    /// The key.
    pub name: &'static str,
    /// What it holds.
    pub holds: Holds,
    /// The default as a user would write it; empty where it depends on the machine or on other keys.
    pub default: &'static str,
}

const fn key(section: &'static str, name: &'static str, holds: Holds, default: &'static str) -> Key {
    Key { section, name, holds, default }
}

const MS: u64 = 1_000_000;
const S: u64 = 1000 * MS;

/// The words of `[log] level`, the gravest first.
pub const LOG_LEVELS: &[&str] = &["error", "warning", "info", "debug"];

/// All keys, but those of `[[qos]]`: they are the keys of `tempos.qos`.
pub const KEYS: &[Key] = &[
    key("node", "id", Holds::Text { max: 255 }, ""),
    key("node", "drain_timeout", Holds::Duration { min_ns: 0, max_ns: 600 * S }, "\"10s\""),
    key("paths", "run", Holds::Path, "\"/run/tempos\""),
    key("paths", "state", Holds::Path, "\"/var/lib/tempos\""),
    key("plugins", "folders", Holds::Paths, "[\"/usr/lib/tempos/plugins\", \"/var/lib/tempos/plugins\"]"),
    key("plugins", "probe", Holds::Flag, "true"),
    key("wiring", "paths", Holds::Paths, "[\"/etc/tempos/wiring.d\"]"),
    key("wiring", "libraries", Holds::Paths, "[\"/etc/tempos/lua\"]"),
    key("wiring", "watch", Holds::Flag, "true"),
    key("wiring", "settle", Holds::Duration { min_ns: 10 * MS, max_ns: 60 * S }, "\"200ms\""),
    key("wiring", "time", Holds::Duration { min_ns: MS, max_ns: 10 * S }, "\"100ms\""),
    key("wiring", "memory", Holds::Size { min: 1 << 20, max: 1 << 30 }, "\"64MiB\""),
    key("realtime", "strict", Holds::Flag, "false"),
    key("realtime", "lock_memory", Holds::Flag, "true"),
    key("bus", "address", Holds::Bus, "\"system\""),
    key("bus", "group", Holds::Text { max: 32 }, "\"tempos\""),
    key("bus", "polkit", Holds::Flag, "true"),
    key("rest", "socket", Holds::Flag, "true"),
    key("rest", "listen", Holds::Address, ""),
    key("rest", "tokens", Holds::Path, ""),
    key("rest", "certificate", Holds::Path, ""),
    key("rest", "key", Holds::Path, ""),
    key("rest", "authority", Holds::Path, ""),
    key("clock", "watch", Holds::Flag, "false"),
    key("clock", "ptp4l", Holds::Path, "\"/var/run/ptp4l\""),
    key("clock", "hardware", Holds::Path, ""),
    key("clock", "domain", Holds::Integer { min: 0, max: 127 }, "0"),
    key("clock", "port", Holds::Integer { min: 1, max: 65_534 }, "1"),
    key("clock", "role", Holds::Word(ROLES), "\"any\""),
    key("clock", "offset_max", Holds::Duration { min_ns: 1, max_ns: S }, "\"1us\""),
    key("clock", "hold", Holds::Duration { min_ns: 0, max_ns: 600 * S }, "\"2s\""),
    key("clock", "silence_max", Holds::Duration { min_ns: 200 * MS, max_ns: 60 * S }, "\"1s\""),
    key("interfaces", "latency", Holds::Interfaces, "[]"),
    key("interfaces", "jitter", Holds::Interfaces, "[]"),
    key("interfaces", "cpu", Holds::Interfaces, "[]"),
    key("interfaces", "napi_priority", Holds::Integer { min: 1, max: 98 }, "48"),
    key("interfaces", "on_unmet", Holds::Word(&["degrade", "refuse"]), "\"degrade\""),
    key("log", "level", Holds::Word(LOG_LEVELS), "\"info\""),
    key("log", "format", Holds::Word(&["auto", "plain", "journal"]), "\"auto\""),
    key("log", "lines_per_second", Holds::Integer { min: 1, max: 100_000 }, "100"),
];

/// The sections, in the order of the manual.
pub fn sections() -> Vec<&'static str> {
    let mut names: Vec<&str> = KEYS.iter().map(|key| key.section).collect();
    names.dedup();
    names.push("qos");
    names
}
