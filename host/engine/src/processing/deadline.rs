//! When an invocation must be over: what its workflow allows it, and what its event has left.
//!
//! Pure: no clock, no counter.

/// When an invocation that begins now must be over (CLOCK_MONOTONIC, ns); 0: no bound.
///
/// The earlier of `own_ns` after now, and the event's deadline less what the functions downstream have declared
/// to take. An event that cannot make it downstream has all of its own time here; one that is late already is
/// bounded by the workflow alone: a topic that passes late events has them worked on.
pub const fn of(own_ns: u64, downstream_ns: u64, event_deadline_ns: u64, now_ns: u64) -> u64 {
    let own = if own_ns == 0 { u64::MAX } else { now_ns.saturating_add(own_ns) };
    let less = event_deadline_ns.saturating_sub(downstream_ns);
    let events = if less > now_ns {
        less
    } else if event_deadline_ns > now_ns {
        event_deadline_ns
    } else {
        u64::MAX
    };
    let earlier = if own < events { own } else { events };
    if earlier == u64::MAX { 0 } else { earlier }
}

#[cfg(test)]
mod tests {
    use super::of;

    #[test]
    fn an_invocation_has_the_least_of_its_own_time_and_its_events() {
        const NOW: u64 = 1000;
        for (own, downstream, event, expected) in [
            (0, 0, 0, 0),
            (50, 0, 0, 1050),
            (50, 20, 0, 1050),
            (0, 0, 1100, 1100),
            (0, 30, 1100, 1070),
            (50, 30, 1100, 1050),
            (90, 30, 1100, 1070),
            // What is left is not enough for what follows: all of it is this one's.
            (0, 100, 1100, 1100),
            (500, 400, 1100, 1100),
            (90, 400, 1100, 1090),
            // Late already.
            (0, 30, 1000, 0),
            (50, 30, 900, 1050),
            (u64::MAX, 0, 1100, 1100),
        ] {
            assert_eq!(of(own, downstream, event, NOW), expected, "{own} {downstream} {event}");
        }
    }
}
