//! Ids that were seen: tells an event that came twice, or after a newer one, for each producer of a source.
//!
//! A window over the newest ids of each producer, as IPsec has it against replay (RFC 4303, section
//! 3.4.3). Ids are compared as serial numbers (RFC 1982): after the largest comes 0, and that is newer. Pure.

/// Ids behind the newest that are told apart; an older one counts as seen.
pub const WINDOW: u64 = 1024;
/// Producers remembered for each source; the one that was silent longest is forgotten for a new one.
pub const PRODUCERS_MAX: usize = 64;

const WORDS: usize = WINDOW as usize / 64;

/// What an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Newer than all before.
    Newer,
    /// Not seen before, but not the newest.
    Older,
    /// Seen before, or too old to tell.
    Before,
}

#[derive(Clone, Copy, Debug)]
struct Producer {
    /// 0: nobody.
    name: u64,
    newest: u64,
    /// When it was heard last, in calls.
    heard: u64,
    /// Bit `id % WINDOW`.
    seen: [u64; WORDS],
}

const NOBODY: Producer = Producer { name: 0, newest: 0, heard: 0, seen: [0; WORDS] };

/// The producers of one source. Made with all the memory that it will ever need.
#[derive(Debug)]
pub struct Sequences {
    producers: Box<[Producer]>,
    calls: u64,
}

impl Default for Sequences {
    fn default() -> Self {
        Sequences { producers: vec![NOBODY; PRODUCERS_MAX].into(), calls: 0 }
    }
}

impl Sequences {
    /// Notes an id of a producer (0: the only one that there is) and says what it is.
    pub fn note(&mut self, producer: u64, id: u64) -> Seen {
        self.calls += 1;
        // A producer without a name is one like any other.
        let name = producer.wrapping_add(1).max(1);
        let known = self.producers.iter().position(|p| p.name == name);
        let at = known.unwrap_or_else(|| {
            (0..self.producers.len()).min_by_key(|at| self.producers[*at].heard).unwrap_or(0)
        });
        let entry = &mut self.producers[at];
        entry.heard = self.calls;
        if known.is_none() {
            *entry = Producer { name, newest: id, heard: self.calls, seen: [0; WORDS] };
            entry.mark(id);
            return Seen::Newer;
        }
        let ahead = id.wrapping_sub(entry.newest);
        if ahead != 0 && ahead < 1 << 63 {
            // What lies between was not seen.
            if ahead >= WINDOW {
                entry.seen = [0; WORDS];
            } else {
                for step in 1..=ahead {
                    entry.clear(entry.newest.wrapping_add(step));
                }
            }
            entry.newest = id;
            entry.mark(id);
            return Seen::Newer;
        }
        if entry.newest.wrapping_sub(id) >= WINDOW || entry.is_marked(id) {
            return Seen::Before;
        }
        entry.mark(id);
        Seen::Older
    }
}

impl Producer {
    fn bit(id: u64) -> (usize, u64) {
        ((id % WINDOW) as usize / 64, 1 << (id % 64))
    }

    fn mark(&mut self, id: u64) {
        let (word, bit) = Producer::bit(id);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, id: u64) {
        let (word, bit) = Producer::bit(id);
        self.seen[word] &= !bit;
    }

    fn is_marked(&self, id: u64) -> bool {
        let (word, bit) = Producer::bit(id);
        self.seen[word] & bit != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_id_is_new_once() {
        let mut sequences = Sequences::default();
        for id in [5, 6, 9] {
            assert_eq!(sequences.note(1, id), Seen::Newer);
        }
        assert_eq!(sequences.note(1, 7), Seen::Older);
        for id in [5, 6, 7, 9] {
            assert_eq!(sequences.note(1, id), Seen::Before, "{id}");
        }
        // Another producer counts for itself.
        assert_eq!(sequences.note(2, 5), Seen::Newer);
        assert_eq!(sequences.note(1, 9 + WINDOW), Seen::Newer);
        assert_eq!(sequences.note(1, 9), Seen::Before, "too old to tell");
        assert_eq!(sequences.note(1, 10), Seen::Older);
    }

    #[test]
    fn after_the_largest_id_comes_zero() {
        let mut sequences = Sequences::default();
        assert_eq!(sequences.note(0, u64::MAX - 1), Seen::Newer);
        assert_eq!(sequences.note(0, 1), Seen::Newer);
        assert_eq!(sequences.note(0, u64::MAX), Seen::Older);
        assert_eq!(sequences.note(0, u64::MAX - 1), Seen::Before);
        assert_eq!(sequences.note(0, 0), Seen::Older);
    }

    #[test]
    fn the_window_agrees_with_a_set_of_all_ids() {
        let mut sequences = Sequences::default();
        let (mut all, mut newest, mut draw) = (HashSet::new(), 1000u64, 7u64);
        sequences.note(3, newest);
        all.insert(newest);
        for _ in 0..200_000 {
            draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let id = newest + 3 - (draw >> 33) % 900.min(newest);
            let expected = match (all.insert(id), id > newest) {
                (_, true) => Seen::Newer,
                (true, false) => Seen::Older,
                (false, false) => Seen::Before,
            };
            newest = newest.max(id);
            assert_eq!(sequences.note(3, id), expected);
        }
    }

    #[test]
    fn the_longest_silent_producer_is_forgotten() {
        let mut sequences = Sequences::default();
        for producer in 0..PRODUCERS_MAX as u64 {
            assert_eq!(sequences.note(producer, 1), Seen::Newer);
        }
        assert_eq!(sequences.note(0, 1), Seen::Before);
        assert_eq!(sequences.note(999, 1), Seen::Newer);
        assert_eq!(sequences.note(1, 1), Seen::Newer, "the one after the first was silent longest");
        assert_eq!(sequences.note(0, 1), Seen::Before);
    }
}
