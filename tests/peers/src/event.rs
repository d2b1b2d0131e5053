//! An event of the bench: 256 bytes, whose first ones say which it is and when it was due.

/// The length of every event.
pub const EVENT_BYTES: usize = 256;

/// What an event says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The round that it belongs to: what comes from an earlier one is passed over.
    pub round: u32,
    /// 0 for the strict flow, others for best-effort ones.
    pub flow: u32,
    /// Its number in the flow.
    pub sequence: u64,
    /// When it was due (CLOCK_MONOTONIC, ns).
    pub due_ns: u64,
    /// When the call that sent it began.
    pub sent_ns: u64,
}

impl Stamp {
    /// Writes it into an event.
    pub fn write(&self, event: &mut [u8; EVENT_BYTES]) {
        event[0..4].copy_from_slice(&self.round.to_le_bytes());
        event[4..8].copy_from_slice(&self.flow.to_le_bytes());
        event[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        event[16..24].copy_from_slice(&self.due_ns.to_le_bytes());
        event[24..32].copy_from_slice(&self.sent_ns.to_le_bytes());
    }

    /// Reads it; `None` for what is no event.
    pub fn read(event: &[u8]) -> Option<Stamp> {
        let word = |at: usize| Some(u64::from_le_bytes(*event.get(at..at + 8)?.first_chunk()?));
        let half = |at: usize| Some(u32::from_le_bytes(*event.get(at..at + 4)?.first_chunk()?));
        (event.len() == EVENT_BYTES).then_some(())?;
        Some(Stamp {
            round: half(0)?,
            flow: half(4)?,
            sequence: word(8)?,
            due_ns: word(16)?,
            sent_ns: word(24)?,
        })
    }
}
