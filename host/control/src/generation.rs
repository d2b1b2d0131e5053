//! Generations: each wiring that was in force has a number, a time, somebody who gave it, and a sentence.

use crate::Who;

/// The most generations that a node keeps of those that outlive a restart.
pub const KEPT_MAX: usize = 32;
/// The most of the others that it remembers.
pub const UNKEPT_MAX: usize = 16;
/// The longest probe.
pub const PROBE_NS_MAX: u64 = 3_600_000_000_000;

/// On which terms a change of the wiring is made; the default is: for good, at once, whatever was before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// It does not outlive a restart.
    pub until_restart: bool,
    /// It is rolled back where something of it fails within this time, in nanoseconds; `None`: no probe.
    pub probe_ns: Option<u64>,
    /// It is rolled back as well where nobody confirms it within that time.
    pub confirm: bool,
    /// It is refused where another generation is in force by now.
    pub only_if: Option<u64>,
}

/// How long a generation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Keeping {
    /// It outlives a restart.
    Kept,
    /// It lasts until a restart.
    UntilRestart,
    /// It is being tried, and is rolled back where it fails.
    OnProbe,
    /// It failed its probe and was rolled back.
    RolledBack,
}

impl Keeping {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Keeping::Kept => "kept",
            Keeping::UntilRestart => "until restart",
            Keeping::OnProbe => "on probe",
            Keeping::RolledBack => "rolled back",
        }
    }
}

/// One generation of the wiring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// Its number: it never comes again, also after a restart.
    pub number: u64,
    /// When it came into force, microseconds since the epoch.
    pub at_us: u64,
    /// Who gave it.
    pub who: Who,
    /// What was ordered: `apply /etc/tempos/wiring.d`, `rollback to 7`.
    pub what: String,
    /// What changed with it, one line each, as a person would say it.
    pub report: String,
    /// How long it lasts.
    pub keeping: Keeping,
    /// It is the one in force.
    pub is_in_force: bool,
    /// It can be rolled back to: the node still has its wiring.
    pub can_return: bool,
}
