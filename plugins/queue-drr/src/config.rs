//! The options: the table for users, and what it becomes.

use tempos_abi::{OptionKind, OptionSpec, Options, PluginError};

/// The option table.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("share_by", OptionKind::TEXT, "bytes", "What topics get their shares of.")
        .words("bytes|events"),
    OptionSpec::new(
        "quantum",
        OptionKind::SIZE,
        "2KiB",
        "With share_by = \"bytes\": what a topic of weight 1 may send in a round.",
    )
    .unit("64B to 16MiB"),
];

const QUANTUM_BYTES: std::ops::RangeInclusive<i64> = 64..=16 << 20;
const QUANTUM_BYTES_DEFAULT: i64 = 2 << 10;

/// What topics get their shares of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// Bytes; so many in a round for each unit of weight.
    Bytes(u64),
    /// Events; one in a round for each unit of weight.
    Events,
}

impl Share {
    /// Reads the options of a queue.
    ///
    /// # Errors
    /// One sentence that names the option, and what would be right.
    pub fn read(options: &Options) -> Result<Self, PluginError> {
        let wrong = |sentence| PluginError::bad_option(format!("queue policy drr: {sentence}"));
        let quantum = options.integer("quantum").unwrap_or(QUANTUM_BYTES_DEFAULT);
        if !QUANTUM_BYTES.contains(&quantum) {
            return Err(wrong(format!("quantum = {quantum} bytes is not within 64B to 16MiB")));
        }
        match options.text("share_by") {
            None | Some("bytes") => Ok(Share::Bytes(quantum.unsigned_abs())),
            Some("events") => Ok(Share::Events),
            Some(other) => Err(wrong(format!("share_by = {other:?} is neither \"bytes\" nor \"events\""))),
        }
    }

    /// What an item takes of its topic's share. An event without bytes takes one: it is work, too.
    pub fn cost(self, size: u32) -> u64 {
        match self {
            Share::Bytes(_) => u64::from(size.max(1)),
            Share::Events => 1,
        }
    }

    /// What a topic of that weight gets in a round.
    pub fn portion(self, weight: u32) -> u64 {
        let weight = u64::from(weight.clamp(1, 1000));
        match self {
            Share::Bytes(quantum) => quantum * weight,
            Share::Events => weight,
        }
    }
}
