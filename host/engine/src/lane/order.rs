//! What the controller and a lane send each other while the lane runs. All rings are bounded and have one
//! writer and one reader.

use tempos_abi::invoker::Outcome;

/// An event that comes from a call instead of a channel.
#[derive(Debug)]
pub struct Injected {
    /// Its id.
    pub id: u64,
    /// Its topic's index on this lane.
    pub topic: u32,
    /// Nanoseconds since the epoch.
    pub source_time_ns: u64,
    /// Its payload.
    pub payload: Vec<u8>,
    /// Its block of attributes.
    pub attributes: Vec<u8>,
}

/// The longest sentence of a function that is carried to the controller.
pub const EXPLANATION_BYTES: usize = 160;

/// What a lane has to tell. Plain data: nothing is allocated for it.
#[derive(Clone, Copy, Debug)]
pub enum LaneNotice {
    /// An event was done with after its deadline.
    Late {
        /// Its topic's index.
        topic: u32,
        /// Its id.
        event_id: u64,
        /// By how much.
        late_ns: u64,
    },
    /// A function did not end well.
    FunctionFailed {
        /// The call's id.
        call: u32,
        /// It was the call's canary.
        canary: bool,
        /// Its output goes by a branch that is not there: the sentence is the branch.
        no_branch: bool,
        /// The event.
        event_id: u64,
        /// How it ended.
        outcome: Outcome,
        /// The function's sentence.
        explanation: [u8; EXPLANATION_BYTES],
        /// Its length.
        explanation_len: u8,
    },
    /// A source's channel panicked.
    SourceFailed {
        /// Its id.
        source: u32,
    },
    /// An outlet's channel panicked.
    OutletFailed {
        /// Its id.
        outlet: u32,
    },
    /// A member refuses events or takes none: the others of its group get them.
    MemberOut {
        /// The outlet's id.
        outlet: u32,
        /// It took nothing for its group's stall; otherwise it refused.
        stalled: bool,
    },
    /// A member takes events again.
    MemberBack {
        /// The outlet's id.
        outlet: u32,
    },
    /// The queue policy panicked: nothing is dispatched until it is replaced.
    PolicyFailed,
}

/// Room of the ring of notices.
pub const NOTICES: usize = 1024;
/// Room of the ring of injected events.
pub const INJECTED: usize = 256;
