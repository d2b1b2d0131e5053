//! A road of several places: how long events took from each place to the next.

/// How long the events of one leg took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spread {
    /// How many.
    pub events: usize,
    /// The mean, rounded down.
    pub mean_ns: u64,
    /// What half of them do not exceed.
    pub p50_ns: u64,
    /// What 90 of 100 do not exceed.
    pub p90_ns: u64,
    /// What 99 of 100 do not exceed.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Spread {
    /// That of some durations.
    pub fn of(durations: &[u64]) -> Self {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        let at = |permille: usize| {
            let rank = (sorted.len() * permille).div_ceil(1000).max(1);
            sorted.get(rank - 1).copied().unwrap_or(0)
        };
        let sum: u128 = sorted.iter().map(|ns| u128::from(*ns)).sum();
        Spread {
            events: sorted.len(),
            mean_ns: u64::try_from(sum / sorted.len().max(1) as u128).unwrap_or(u64::MAX),
            p50_ns: at(500),
            p90_ns: at(900),
            p99_ns: at(990),
            max_ns: sorted.last().copied().unwrap_or(0),
        }
    }
}

/// A place, with the instants at which events passed it, in their order.
#[derive(Clone, Debug)]
pub struct Place {
    /// What lies between the place before and this one.
    pub leg: String,
    /// When each event passed, TAI.
    pub times: Vec<u64>,
}

/// How long each event took to each place from the one before; and, last, all the way. Events are told apart by their
/// order: a queue for them all, and none lost.
///
/// # Errors
/// Events were lost between two places, or one passed the later place before the earlier one.
pub fn durations(places: &[Place]) -> Result<Vec<(String, Vec<u64>)>, String> {
    let mut all = Vec::new();
    for pair in places.windows(2) {
        let (from, to) = (&pair[0], &pair[1]);
        if from.times.len() != to.times.len() {
            return Err(format!(
                "{} events began the leg {:?} and {} ended it",
                from.times.len(),
                to.leg,
                to.times.len()
            ));
        }
        all.push((to.leg.clone(), between(&from.times, &to.times, &to.leg)?));
    }
    if let [first, .., last] = places {
        all.push((String::from("all the way"), between(&first.times, &last.times, "all the way")?));
    }
    Ok(all)
}

fn between(from: &[u64], to: &[u64], leg: &str) -> Result<Vec<u64>, String> {
    let pairs = from.iter().zip(to).enumerate();
    pairs
        .map(|(event, (from, to))| {
            to.checked_sub(*from)
                .ok_or_else(|| format!("event {event} ended the leg {leg:?} before it began it"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(leg: &str, times: &[u64]) -> Place {
        Place { leg: leg.into(), times: times.to_vec() }
    }

    #[test]
    fn a_spread_is_that_of_the_durations() {
        let hundred: Vec<u64> = (1..=100).rev().collect();
        let spread = Spread { events: 100, mean_ns: 50, p50_ns: 50, p90_ns: 90, p99_ns: 99, max_ns: 100 };
        assert_eq!(Spread::of(&hundred), spread);
        assert_eq!(Spread::of(&[]), Spread::default());
        assert_eq!(
            Spread::of(&[7]),
            Spread { events: 1, mean_ns: 7, p50_ns: 7, p90_ns: 7, p99_ns: 7, max_ns: 7 }
        );
    }

    #[test]
    fn legs_add_up_to_all_the_way() {
        let road = [place("", &[10, 20]), place("one", &[13, 24]), place("two", &[20, 30])];
        let all = durations(&road).expect("they are in order");
        let named: Vec<_> = all.iter().map(|(leg, ns)| (leg.as_str(), ns.as_slice())).collect();
        assert_eq!(named, [("one", &[3, 4][..]), ("two", &[7, 6]), ("all the way", &[10, 10])]);
    }

    #[test]
    fn a_lost_event_and_one_out_of_order_are_seen() {
        let lost = durations(&[place("", &[1, 2]), place("one", &[3])]);
        assert_eq!(lost, Err("2 events began the leg \"one\" and 1 ended it".into()));
        let order = durations(&[place("", &[1, 5]), place("one", &[3, 4])]);
        assert_eq!(order, Err("event 1 ended the leg \"one\" before it began it".into()));
    }
}
