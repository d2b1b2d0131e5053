//! Minimum shares: who is owed service before the rounds go on.
//!
//! A clock counts what the lane has served. A topic with a minimum share has, on that clock, a time from
//! which its first event may claim its place and one by which it must have gone: both as if the topic were
//! served at exactly its share, and no faster. Among the topics whose time has come the one that must go
//! first does (Bennett & Zhang, "WF2Q: Worst-case Fair Weighted Fair Queueing", INFOCOM 1996). While the
//! shares of a lane make at most the whole, each is kept to within two events, in every window in which the
//! topic waits. What a topic gets beyond its share does not count against it later, and a topic that has
//! nothing waiting, or is on hold, saves nothing up.

use tempos_abi::queue_ledger::IndexHeap;

/// A share of everything.
const WHOLE: u64 = 1000;

/// Where a topic with a share stands.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    /// Thousandths; 0: it has none.
    permille: u32,
    /// From then on its first event may claim its place.
    start: u64,
    /// What the start lacks to the exact time, in parts of `permille`.
    rest: u64,
    /// By then its first event must have gone.
    finish: u64,
}

impl Claim {
    /// The start after an event of that cost, and its rest.
    fn after(&self, cost: u64) -> (u64, u64) {
        let permille = u64::from(self.permille.max(1));
        let parts = cost * WHOLE + self.rest;
        (self.start + parts / permille, parts % permille)
    }
}

/// The claims of a lane's topics.
#[derive(Debug)]
pub struct Minimums {
    claims: Box<[Claim]>,
    /// What was served, whoever got it.
    clock: u64,
    /// Topics that wait and whose time has not come, by their start.
    early: IndexHeap,
    /// Topics that wait and whose time has come, by their finish.
    due: IndexHeap,
}

impl Minimums {
    /// Without any share.
    pub fn new(topics: u32) -> Self {
        Minimums {
            claims: vec![Claim::default(); topics as usize].into_boxed_slice(),
            clock: 0,
            early: IndexHeap::new(topics),
            due: IndexHeap::new(topics),
        }
    }

    /// Sets a topic's share, in thousandths. It is to be put in its place anew.
    pub fn set(&mut self, topic: u32, permille: u32) {
        if self.claims[topic as usize].permille != permille {
            self.claims[topic as usize] = Claim { permille, start: self.clock, ..Claim::default() };
            self.remove(topic);
        }
    }

    /// A topic waits again, after it had nothing or was on hold: it claims nothing of the time before.
    pub fn begin(&mut self, topic: u32) {
        let claim = &mut self.claims[topic as usize];
        if claim.start < self.clock {
            (claim.start, claim.rest) = (self.clock, 0);
        }
    }

    /// Puts a topic where its first event, of that cost, says.
    pub fn put(&mut self, topic: u32, cost: u64) {
        let claim = &mut self.claims[topic as usize];
        if claim.permille == 0 {
            return;
        }
        claim.finish = claim.after(cost).0;
        let (start, finish) = (claim.start, claim.finish);
        if start <= self.clock {
            self.early.remove(topic);
            self.due.put(topic, finish);
        } else {
            self.due.remove(topic);
            self.early.put(topic, start);
        }
    }

    /// A topic has nothing that may go.
    pub fn remove(&mut self, topic: u32) {
        self.early.remove(topic);
        self.due.remove(topic);
    }

    /// The topic that is to go before the rounds go on.
    pub fn first(&mut self) -> Option<u32> {
        while self.early.first_key().is_some_and(|start| start <= self.clock)
            && let Some(topic) = self.early.first()
        {
            self.early.remove(topic);
            self.due.put(topic, self.claims[topic as usize].finish);
        }
        self.due.first()
    }

    /// An event of that cost goes, by its claim or by its turn. The topic is to be put in its place anew.
    pub fn serve(&mut self, topic: u32, cost: u64) {
        let claim = &mut self.claims[topic as usize];
        if claim.permille > 0 {
            if claim.start > self.clock {
                // More than its share: it is not to pay for that later.
                (claim.start, claim.rest) = (self.clock, 0);
            }
            (claim.start, claim.rest) = claim.after(cost);
        }
        self.clock += cost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Serves `count` events of cost 1 by claims alone; what nobody claims goes to nobody.
    fn served(minimums: &mut Minimums, topics: u32, count: usize) -> Vec<usize> {
        let mut got = vec![0; topics as usize + 1];
        (0..topics).for_each(|topic| minimums.put(topic, 1));
        for _ in 0..count {
            let topic = minimums.first();
            got[topic.unwrap_or(topics) as usize] += 1;
            match topic {
                Some(topic) => {
                    minimums.serve(topic, 1);
                    minimums.put(topic, 1);
                }
                None => minimums.clock += 1,
            }
        }
        got
    }

    #[test]
    fn claims_are_exact_and_leave_the_rest() {
        let mut minimums = Minimums::new(3);
        minimums.set(0, 700);
        minimums.set(1, 55);
        assert_eq!(served(&mut minimums, 3, 10_000), [7000, 550, 0, 2450]);
        minimums.set(1, 300);
        let got = served(&mut minimums, 3, 10_000);
        assert_eq!(got[0] + got[1], 10_000, "both together are the whole");
        assert!(got[0].abs_diff(7000) <= 2, "{got:?}");
    }

    #[test]
    fn nothing_is_saved_up_and_nothing_is_paid_back() {
        let mut minimums = Minimums::new(2);
        minimums.set(0, 500);
        // A thousand events of topic 1 while topic 0 had nothing.
        (0..1000).for_each(|_| minimums.serve(1, 1));
        minimums.begin(0);
        assert_eq!(served(&mut minimums, 1, 100), [50, 50]);
        // A thousand of topic 0 that nobody else wanted.
        (0..1000).for_each(|_| minimums.serve(0, 1));
        assert!(served(&mut minimums, 1, 100)[0] >= 49);
    }
}
