//! What a topic or a workflow is given for what it asked, hop by hop, with one sentence for each hop.

/// How far what is given can be relied on, from the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Other traffic is not told apart from this.
    Shared,
    /// This is served before other traffic where they meet.
    Prioritised,
    /// This meets its bound whatever other traffic does: 99 of 100 events, up to the rates that their sources are held
    /// to. Never a maximum.
    Guaranteed,
}

impl Grade {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Grade::Shared => "shared",
            Grade::Prioritised => "prioritised",
            Grade::Guaranteed => "guaranteed",
        }
    }
}

/// The answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It gets what it asked for.
    Granted,
    /// It gets less, which it allows.
    Degraded,
    /// It would get less, which it does not allow.
    Refused,
}

impl Answer {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Answer::Granted => "granted",
            Answer::Degraded => "degraded",
            Answer::Refused => "refused",
        }
    }
}

/// One hop of the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HopGrant {
    /// Which: `ingress press/in/1`, `queue strict`, `function detect`, `egress press/operators/1`, `whole`.
    pub hop: String,
    /// Its part of what was asked.
    pub asked: String,
    /// What it gives.
    pub granted: String,
    /// Why, one sentence.
    pub why: String,
}

/// What is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The answer.
    pub answer: Answer,
    /// The level that its events travel on.
    pub level: String,
    /// The least grade of its hops.
    pub grade: Grade,
    /// The whole of its hops' bounds (ns), which 1 of 100 events may be above; `None` where there is none.
    pub latency_ns: Option<u64>,
    /// What was asked for.
    pub asked: String,
    /// One sentence.
    pub sentence: String,
    /// The hops in the order of the way, then the whole.
    pub hops: Vec<HopGrant>,
}
