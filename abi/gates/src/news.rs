//! What a keeper tells those who joined.

/// Why gates were set again, or could not be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// The link went down, or lost its carrier.
    LinkLost,
    /// The link came back: the kernel had stopped the gates.
    LinkReturned,
    /// Another program put a discipline beneath the gates: the kernel had stopped them.
    ChildGrafted,
    /// Another program deleted or changed the gates.
    RootLost,
    /// The clock was stepped.
    ClockStepped,
    /// Nothing left through a gate.
    Silent,
    /// The kernel refused the gates.
    Refused,
    /// A schedule that had to wait for another one to go is kept now.
    Followed,
    /// The clock is not what it is to be.
    ClockLost,
    /// The clock counts again.
    ClockCounts,
}

impl Incident {
    /// Its word.
    pub const fn word(self) -> &'static str {
        match self {
            Incident::LinkLost => "link-lost",
            Incident::LinkReturned => "link-returned",
            Incident::ChildGrafted => "child-grafted",
            Incident::RootLost => "gates-lost",
            Incident::ClockStepped => "clock-stepped",
            Incident::Silent => "gate-silent",
            Incident::Refused => "gates-refused",
            Incident::Followed => "schedule-followed",
            Incident::ClockLost => "clock-lost",
            Incident::ClockCounts => "clock-counts",
        }
    }
}

/// One piece of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Why.
    pub incident: Incident,
    /// Whether it is counted: gates were set again, or a clock was lost that counted.
    pub counts: bool,
    /// Whether what was granted holds now: the gates work, and the clock counts where one is asked.
    pub works: bool,
    /// One sentence.
    pub sentence: String,
}
