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
        }
    }
}

/// One piece of news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Why.
    pub incident: Incident,
    /// Whether the gates work again, or do not any more.
    pub works: bool,
    /// One sentence.
    pub sentence: String,
}
