//! Which events of a producer came: lost, twice, out of order.

/// How far back a late event is still told from a repeated one.
const WINDOW: u64 = 1 << 16;

/// The account of one producer.
#[derive(Debug)]
pub struct Account {
    /// Different events that came.
    pub received: u64,
    /// Events that came twice.
    pub duplicated: u64,
    /// Events that came after a later one.
    pub reordered: u64,
    /// The highest number that came.
    highest: Option<u64>,
    /// Whether each of the last `WINDOW` numbers came, by number modulo `WINDOW`.
    came: Vec<bool>,
}

impl Default for Account {
    fn default() -> Self {
        Account {
            received: 0,
            duplicated: 0,
            reordered: 0,
            highest: None,
            came: vec![false; WINDOW as usize],
        }
    }
}

impl Account {
    /// Books an event. Numbers begin with 0.
    pub fn book(&mut self, sequence: u64) {
        let next = self.highest.map_or(0, |highest| highest + 1);
        if sequence >= next {
            // The places of the numbers passed over belong to numbers a window earlier.
            for passed in sequence.saturating_sub(WINDOW - 1).max(next)..=sequence {
                self.came[(passed % WINDOW) as usize] = false;
            }
            self.highest = Some(sequence);
        } else if next - sequence > WINDOW || self.came[(sequence % WINDOW) as usize] {
            self.duplicated += 1;
            return;
        } else {
            self.reordered += 1;
        }
        self.came[(sequence % WINDOW) as usize] = true;
        self.received += 1;
    }

    /// Events up to the highest number that never came.
    pub fn lost(&self) -> u64 {
        self.highest.map_or(0, |highest| highest + 1).saturating_sub(self.received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn booked(numbers: impl IntoIterator<Item = u64>) -> (u64, u64, u64, u64) {
        let mut account = Account::default();
        numbers.into_iter().for_each(|number| account.book(number));
        (account.received, account.lost(), account.duplicated, account.reordered)
    }

    #[test]
    fn every_event_is_accounted_for() {
        assert_eq!(booked(0..100_000), (100_000, 0, 0, 0));
        assert_eq!(booked([0, 1, 4]), (3, 2, 0, 0));
        assert_eq!(booked([2]), (1, 2, 0, 0), "the first two never came");
        assert_eq!(booked([0, 2, 1, 3]), (4, 0, 0, 1));
        assert_eq!(booked([0, 1, 1, 0]), (2, 0, 2, 0));
        assert_eq!(booked([0, WINDOW * 3, 1]), (2, WINDOW * 3 - 1, 1, 0), "too old to be told from a repeat");
        assert_eq!(booked([0, WINDOW, WINDOW * 2 - 1, WINDOW + 1]), (4, WINDOW * 2 - 4, 0, 1));
    }
}
