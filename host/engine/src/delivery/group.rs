//! A subscription group: each event goes to one of its members.

use std::sync::Arc;

use tempos_control::Pick;

use crate::lane::cell::LaneCell;

/// A member, by its id on the lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Member {
    /// An egress channel.
    Outlet(u32),
    /// A workflow.
    Call(u32),
}

/// A group as the lane holds it.
#[derive(Debug)]
pub struct Group {
    /// Its members.
    pub members: Vec<Member>,
    /// How one is chosen.
    pub pick: Pick,
    /// The member chosen last; kept from wiring to wiring.
    pub cursor: Arc<LaneCell<usize>>,
    /// How long a member may take nothing before the others get its events (ns).
    pub stall_ns: u64,
}

/// What the choice needs to know of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Whether it can take an event now.
    pub has_room: bool,
    /// How many it is busy with.
    pub waiting: u32,
}

/// Chooses a member with room, or none; moves the cursor. Pure: the loads are handed in.
pub fn choose(
    pick: Pick,
    cursor: &mut usize,
    key_hash: u64,
    members: usize,
    load: impl Fn(usize) -> Load,
) -> Option<usize> {
    if members == 0 {
        return None;
    }
    let from = match pick {
        Pick::RoundRobin => (*cursor + 1) % members,
        Pick::Sticky => *cursor % members,
        Pick::Hash => (key_hash % members as u64) as usize,
        Pick::LeastLoaded => {
            let start = (*cursor + 1) % members;
            let best = (0..members)
                .map(|step| (start + step) % members)
                .filter(|i| load(*i).has_room)
                .min_by_key(|i| load(*i).waiting)?;
            *cursor = best;
            return Some(best);
        }
    };
    let chosen = (0..members).map(|step| (from + step) % members).find(|i| load(*i).has_room)?;
    *cursor = chosen;
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(has_room: bool, waiting: u32) -> Load {
        Load { has_room, waiting }
    }

    #[test]
    fn round_robin_serves_all_alike_and_skips_the_full() {
        let mut cursor = 0;
        let mut counts = [0; 3];
        for _ in 0..300 {
            counts[choose(Pick::RoundRobin, &mut cursor, 0, 3, |_| load(true, 0)).expect("room")] += 1;
        }
        assert_eq!(counts, [100; 3]);
        assert_ne!(choose(Pick::RoundRobin, &mut cursor, 0, 3, |i| load(i != 1, 0)), Some(1));
        assert_eq!(choose(Pick::RoundRobin, &mut cursor, 0, 3, |_| load(false, 0)), None);
    }

    #[test]
    fn least_loaded_sticky_and_hash() {
        let mut cursor = 0;
        assert_eq!(choose(Pick::LeastLoaded, &mut cursor, 0, 3, |i| load(true, [5, 2, 9][i])), Some(1));
        assert_eq!(choose(Pick::Sticky, &mut cursor, 0, 3, |_| load(true, 0)), Some(1));
        assert_eq!(choose(Pick::Sticky, &mut cursor, 0, 3, |i| load(i != 1, 0)), Some(2));
        assert_eq!(choose(Pick::Hash, &mut cursor, 7, 3, |_| load(true, 0)), Some(1));
        assert_eq!(choose(Pick::Hash, &mut cursor, 7, 3, |_| load(true, 0)), Some(1));
    }
}
