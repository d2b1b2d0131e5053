//! Several hops, each window opening after the worst arrival of the one before.

use crate::duration::show_duration;
use crate::schedule::{Mistake, Schedule, Where, open, wire_ns};

/// One link that events cross.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    /// Its name, such as `trigger-queue`.
    pub name: String,
    /// The class whose events are followed.
    pub class: u8,
    /// The speed of the link.
    pub link_mbit: u32,
    /// The most frames of the class in one window.
    pub frames: u32,
    /// How long a bit travels, switches included.
    pub propagation_ns: u64,
    /// How long the node at the end takes until the event can leave again, at most.
    pub processing_ns: u64,
    /// How far the clocks of both ends may be apart.
    pub clock_error_ns: u64,
}

/// A hop with its schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedHop {
    /// Its name.
    pub name: String,
    /// The class whose events are followed.
    pub class: u8,
    /// Its schedule, which starts so that its window opens in time.
    pub schedule: Schedule,
    /// When the class's window opens, after that of the first hop.
    pub opens_ns: u64,
    /// When the last event of the window can leave the node at its end, after the opening of the first hop's window.
    pub worst_ns: u64,
}

/// Skews one schedule over hops.
///
/// # Errors
/// The first mistake: a hop whose frames do not fit its window, or whose class has none.
pub fn plan(first: &Schedule, hops: &[Hop]) -> Result<Vec<PlannedHop>, Mistake> {
    let mut opens_ns = 0u64;
    let mut planned = Vec::new();
    for (at, hop) in hops.iter().enumerate() {
        let here = Where::Hop(at);
        let mut schedule = Schedule { link_mbit: hop.link_mbit, ..first.clone() };
        schedule.base_ns = first.base_ns.saturating_add(opens_ns);
        schedule.check().map_err(|mistake| Mistake::new(here, format!("hop {:?}: {mistake}", hop.name)))?;
        let Some(window) = schedule.windows.iter().find(|window| open(window, hop.class)) else {
            let sentence = format!("hop {:?}: class {} has no window", hop.name, hop.class);
            return Err(Mistake::new(here, sentence));
        };
        let wire = wire_ns(window.frame_bytes_max, hop.link_mbit);
        let sending = wire.saturating_mul(u64::from(hop.frames.max(1)));
        if sending.saturating_add(schedule.guard_ns) > window.length_ns {
            let sentence = format!(
                "hop {:?}: {} frames of {} bytes take {} and the guard band {}, but the window lasts {}; send \
                 fewer frames, or make the window longer",
                hop.name,
                hop.frames,
                window.frame_bytes_max,
                show_duration(sending),
                show_duration(schedule.guard_ns),
                show_duration(window.length_ns)
            );
            return Err(Mistake::new(here, sentence));
        }
        let worst_ns = [sending, hop.propagation_ns, hop.processing_ns, hop.clock_error_ns]
            .into_iter()
            .fold(opens_ns, u64::saturating_add);
        planned.push(PlannedHop { name: hop.name.clone(), class: hop.class, schedule, opens_ns, worst_ns });
        opens_ns = worst_ns;
    }
    Ok(planned)
}
