//! The health of a group's member: when it is taken out, and when it is tried again. Pure: the time is
//! handed in.
//!
//! A member that refuses several events, or takes nothing for its group's `stall`, is out: the others get its
//! events. It is tried again with one event, soon at first, then ever more rarely; one whose descriptor says
//! that it can be written to is back at once.

/// What a refusal counts, while an event that is taken counts one against it: a datagram to nobody is taken, and
/// only the next one is refused.
const STRIKE: u32 = 2;
/// What takes a member out: three refusals in a row.
const STRIKES_MAX: u32 = 3 * STRIKE;
const DELAY_MIN_NS: u64 = 100_000_000;
const DELAY_MAX_NS: u64 = 5_000_000_000;

/// The state of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    In,
    /// Out, and tried again then.
    Out {
        until_ns: u64,
    },
    /// One event is with it, to see whether it takes it.
    Trial,
}

/// The health of one member.
#[derive(Clone, Debug)]
pub struct Health {
    state: State,
    strikes: u32,
    delay_ns: u64,
    /// Since when it takes nothing; 0: it does.
    blocked_ns: u64,
}

impl Default for Health {
    fn default() -> Self {
        Health { state: State::In, strikes: 0, delay_ns: DELAY_MIN_NS, blocked_ns: 0 }
    }
}

impl Health {
    /// Whether it gets events like every other member.
    pub fn is_in(&self) -> bool {
        self.state == State::In
    }

    /// Whether anything is the matter with it.
    pub fn ails(&self) -> bool {
        self.state != State::In || self.strikes != 0 || self.blocked_ns != 0
    }

    /// Whether it may be given an event, where it holds `waiting` now.
    pub fn takes(&self, waiting: usize) -> bool {
        match self.state {
            State::In => true,
            State::Out { .. } => false,
            State::Trial => waiting == 0,
        }
    }

    /// It took an event; whether that brings it back. Until it has taken some more, one refusal takes it out
    /// again.
    pub fn took(&mut self) -> bool {
        self.blocked_ns = 0;
        if self.state != State::In {
            self.state = State::In;
            self.strikes = STRIKES_MAX - STRIKE;
            return true;
        }
        self.strikes = self.strikes.saturating_sub(1);
        if self.strikes == 0 {
            self.delay_ns = DELAY_MIN_NS;
        }
        false
    }

    /// It takes nothing now.
    pub fn blocks(&mut self, now_ns: u64) {
        if self.blocked_ns == 0 {
            self.blocked_ns = now_ns.max(1);
        }
    }

    /// It says that it can take something again; whether that brings it back.
    pub fn unblocks(&mut self) -> bool {
        let back = self.state != State::In;
        *self = Health::default();
        back
    }

    /// It refused an event; whether that takes it out.
    pub fn refused(&mut self, now_ns: u64) -> bool {
        self.strikes += STRIKE;
        match self.state {
            State::In if self.strikes < STRIKES_MAX => false,
            State::Out { .. } => false,
            state => {
                self.leave(now_ns);
                state == State::In
            }
        }
    }

    /// Whether it has taken nothing for `stall_ns`; then it is out, and this says so once.
    pub fn stalls(&mut self, now_ns: u64, stall_ns: u64) -> bool {
        let stalled = self.blocked_ns != 0 && now_ns.saturating_sub(self.blocked_ns) >= stall_ns;
        if stalled && !matches!(self.state, State::Out { .. }) {
            let was_in = self.state == State::In;
            self.leave(now_ns);
            return was_in;
        }
        false
    }

    /// Starts a trial where its time has come.
    pub fn tries(&mut self, now_ns: u64) -> bool {
        match self.state {
            State::Out { until_ns } if now_ns >= until_ns => {
                self.state = State::Trial;
                // What blocked it before may block it still: it gets the time of the stall once more.
                self.blocked_ns = 0;
                true
            }
            _ => false,
        }
    }

    /// When it is to be looked at; 0: at no time of its own.
    pub fn due_ns(&self, stall_ns: u64) -> u64 {
        match self.state {
            State::Out { until_ns } => until_ns,
            _ if self.blocked_ns != 0 => self.blocked_ns + stall_ns,
            _ => 0,
        }
    }

    fn leave(&mut self, now_ns: u64) {
        self.state = State::Out { until_ns: now_ns + self.delay_ns };
        self.delay_ns = (self.delay_ns * 2).min(DELAY_MAX_NS);
        self.strikes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_refusals_in_a_row_take_a_member_out_and_a_trial_brings_it_back() {
        let mut health = Health::default();
        assert!(!health.refused(12) && !health.refused(13) && health.refused(14));
        assert!(!health.takes(0) && !health.tries(15));
        assert!(health.tries(14 + DELAY_MIN_NS));
        assert!(health.takes(0) && !health.takes(1), "one event is the trial");
        assert!(!health.refused(20), "it was out before");
        assert_eq!(health.due_ns(1), 20 + 2 * DELAY_MIN_NS, "and waits twice as long");
        assert!(health.tries(20 + 2 * DELAY_MIN_NS));
        assert!(health.took() && health.is_in());
        assert!(health.refused(30), "it has not shown itself well yet");
    }

    #[test]
    fn a_member_whose_refusals_come_one_event_late_is_found_out() {
        let mut health = Health::default();
        let mut out = false;
        for now in 0..10 {
            health.took();
            out |= health.refused(now);
        }
        assert!(out);
        let mut health = Health::default();
        for now in 0..1000 {
            assert!(!health.refused(now), "one of four is lost");
            (0..3).for_each(|_| assert!(!health.took()));
        }
    }

    #[test]
    fn a_member_that_takes_nothing_is_out_after_the_stall() {
        let mut health = Health::default();
        health.blocks(100);
        health.blocks(500);
        assert_eq!(health.due_ns(1000), 1100);
        assert!(!health.stalls(1099, 1000));
        assert!(health.stalls(1100, 1000) && !health.stalls(1101, 1000), "it is said once");
        assert!(health.unblocks() && health.is_in());
        assert_eq!(health.due_ns(1000), 0);
    }
}
