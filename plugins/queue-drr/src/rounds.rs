//! The rounds of one topic: in which of them its next event may go.
//!
//! The paper visits every topic in every round, also those whose next event needs many rounds. Here the
//! round is computed instead, so that the next topic is the first of a heap, and a large event costs no
//! more time than a small one. Within a round topics go by their index.

/// What a topic has left, and what it has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What it gets in each round; at least 1.
    pub portion: u64,
    /// What it may send without another portion.
    deficit: u64,
    /// The last round of which it had its portion.
    had: u64,
}

impl Turn {
    /// Of a topic that had nothing yet. Rounds count from 1.
    pub fn new(portion: u64) -> Self {
        Turn { portion, deficit: 0, had: 0 }
    }

    /// The round in which an event of that cost may go.
    pub fn round_for(&self, cost: u64) -> u64 {
        self.had + cost.saturating_sub(self.deficit).div_ceil(self.portion)
    }

    /// An event of that cost goes, in its round.
    pub fn spend(&mut self, cost: u64) {
        let round = self.round_for(cost);
        self.deficit = (self.deficit + (round - self.had) * self.portion).saturating_sub(cost);
        self.had = round;
    }

    /// An event of that cost goes before its turn: it is taken from the rounds to come, but from those after
    /// the next one nothing.
    pub fn spend_early(&mut self, cost: u64, round: u64) {
        self.spend(cost);
        if self.had > round + 1 {
            self.had = round + 1;
            self.deficit = 0;
        }
    }

    /// It waits again after a time in which it had nothing to send: it takes part from `round` on, unless
    /// it had its portion of that already.
    pub fn begin(&mut self, round: u64) {
        self.deficit = 0;
        self.go_on(round);
    }

    /// It is released: it takes part from `round` on, with what it had when it was put on hold.
    pub fn go_on(&mut self, round: u64) {
        self.had = self.had.max(round.saturating_sub(1));
    }

    /// It takes what it had up to, but without, `round`: its portion changes, or it is put on hold.
    pub fn settle(&mut self, round: u64) {
        let rounds = round.saturating_sub(1).saturating_sub(self.had);
        self.deficit += rounds * self.portion;
        self.had += rounds;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_event_waits_for_as_many_rounds_as_it_needs() {
        let mut turn = Turn::new(100);
        turn.begin(1);
        assert_eq!(turn.round_for(100), 1);
        assert_eq!(turn.round_for(101), 2);
        assert_eq!(turn.round_for(950), 10);
        turn.spend(950);
        assert_eq!((turn.round_for(50), turn.round_for(51)), (10, 11), "50 are left of round 10");
    }

    #[test]
    fn nothing_is_saved_up_while_nothing_waits() {
        let mut turn = Turn::new(100);
        turn.begin(1);
        turn.spend(10);
        turn.begin(1);
        assert_eq!(turn.round_for(1), 2, "it had its portion of round 1");
        turn.begin(500);
        assert_eq!((turn.round_for(100), turn.round_for(101)), (500, 501));
    }

    #[test]
    fn what_goes_early_is_taken_from_the_next_round_at_most() {
        let mut turn = Turn::new(100);
        turn.begin(5);
        turn.spend_early(30, 5);
        assert_eq!((turn.round_for(70), turn.round_for(71)), (5, 6));
        turn.spend_early(100, 5);
        assert_eq!((turn.round_for(70), turn.round_for(71)), (6, 7), "30 of round 6 are gone");
        turn.spend_early(5000, 5);
        assert_eq!((turn.round_for(0), turn.round_for(1)), (6, 7), "all of round 6, and no more");
    }

    #[test]
    fn what_was_had_before_a_hold_is_not_lost_by_it() {
        let mut turn = Turn::new(100);
        turn.begin(1);
        for round in 1..9 {
            assert_eq!(turn.round_for(1000), 10);
            turn.settle(round);
            turn.go_on(round);
        }
        turn.settle(9);
        turn.go_on(1009);
        assert_eq!(turn.round_for(1000), 1010, "eight rounds before, two after");
    }
}
