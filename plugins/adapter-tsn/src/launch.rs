//! When the next frame may leave.

use std::sync::atomic::Ordering;

use tempos_tsn::{Schedule, Window, wire_ns};

/// The launch times of one channel.
pub struct Launch {
    /// How long before its launch a frame is sent.
    lead_ns: u64,
    /// When the wire is free of the frame before.
    free_ns: u64,
    /// The schedule, whose windows end earlier by what is said beyond the instant meant.
    schedule: Schedule,
    kept: tempos_gates::Launch,
    steps_seen: u64,
    class: u8,
}

/// Whether the largest frame of a class that leaves at its slot or later has left before a window closes.
pub fn has_slot(schedule: &Schedule, class: u8, slot_ns: u64) -> bool {
    let bytes = schedule.frame_bytes_max(class).unwrap_or(0);
    from_slot(schedule, class, slot_ns).next_opening(class, 0, bytes).is_some()
}

/// The schedule with the class's gate opening so much later.
fn from_slot(schedule: &Schedule, class: u8, slot_ns: u64) -> Schedule {
    let gate = 1u8 << class;
    let all = &schedule.windows;
    let mut windows = Vec::new();
    for (at, window) in all.iter().enumerate() {
        let before = &all[(at + all.len() - 1) % all.len()];
        if slot_ns == 0 || window.gates & gate == 0 || before.gates & gate != 0 {
            windows.push(window.clone());
            continue;
        }
        let closed_ns = slot_ns.min(window.length_ns);
        windows.push(Window { gates: window.gates & !gate, length_ns: closed_ns, ..window.clone() });
        if closed_ns < window.length_ns {
            windows.push(Window { length_ns: window.length_ns - closed_ns, ..window.clone() });
        }
    }
    Schedule { windows, ..schedule.clone() }
}

impl Launch {
    /// None yet.
    pub fn new(
        lead_ns: u64,
        slot_ns: u64,
        class: u8,
        schedule: &Schedule,
        kept: tempos_gates::Launch,
    ) -> Self {
        let guard_ns = schedule.guard_ns.saturating_add(kept.beyond_ns);
        let steps_seen = kept.steps.load(Ordering::Relaxed);
        let schedule = Schedule { guard_ns, ..from_slot(schedule, class, slot_ns) };
        Launch { lead_ns, free_ns: 0, schedule, kept, steps_seen, class }
    }

    /// The instant of the next frame, not before `asked_ns`; `None` where no window is long enough for it.
    pub fn next(&mut self, asked_ns: u64, now_ns: u64, frame_bytes: u32) -> Option<u64> {
        let steps = self.kept.steps.load(Ordering::Relaxed);
        if steps != self.steps_seen {
            // The wire was free at an instant of another time.
            (self.steps_seen, self.free_ns) = (steps, 0);
        }
        let earliest = now_ns.saturating_add(self.lead_ns).max(self.free_ns).max(asked_ns);
        self.schedule.next_opening(self.class, earliest, frame_bytes)
    }

    /// What the kernel is told for an instant.
    pub fn said(&self, at_ns: u64) -> u64 {
        at_ns.saturating_add(self.kept.beyond_ns)
    }

    /// A frame leaves at that instant.
    pub fn sent(&mut self, at_ns: u64, frame_bytes: u32) {
        self.free_ns = at_ns.saturating_add(wire_ns(frame_bytes, self.schedule.link_mbit));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// Class 0 has the first half of each 1000 us, on a link where a frame takes 1 us and some.
    fn launch(slot_ns: u64, beyond_ns: u64) -> (Launch, Arc<AtomicU64>) {
        let window = |gates| tempos_tsn::Window { gates, length_ns: 500_000, frame_bytes_max: 1514 };
        let schedule = Schedule {
            cycle_ns: 1_000_000,
            base_ns: 0,
            guard_ns: 0,
            link_mbit: 1000,
            windows: vec![window(1), window(2)],
            classes: [0; 16],
            used: 1,
            ptp_priority: None,
        };
        let steps = Arc::<AtomicU64>::default();
        let kept = tempos_gates::Launch { beyond_ns, steps: Arc::clone(&steps) };
        (Launch::new(100_000, slot_ns, 0, &schedule, kept), steps)
    }

    #[test]
    fn a_launch_follows_the_lead_the_wire_and_the_wish() {
        let (mut launch, _) = launch(0, 0);
        assert_eq!(launch.next(0, 1_000, 100), Some(101_000));
        launch.sent(101_000, 100);
        assert_eq!(launch.next(0, 1_000, 100), Some(101_000 + wire_ns(100, 1000)));
        assert_eq!(launch.next(300_000, 1_000, 100), Some(300_000));
        assert_eq!(launch.next(600_000, 1_000, 100), Some(1_000_000));
    }

    #[test]
    fn what_is_said_beyond_the_instant_is_still_within_the_window() {
        let (mut launch, _) = launch(0, 200_000);
        assert_eq!(launch.next(290_000, 0, 100), Some(290_000));
        assert_eq!(launch.said(290_000), 490_000);
        assert_eq!(launch.next(300_000, 0, 100), Some(1_000_000));
    }

    #[test]
    fn after_a_step_of_the_clock_the_wire_is_free() {
        let (mut launch, steps) = launch(0, 0);
        launch.sent(20_000_000_000, 100);
        assert_eq!(launch.next(0, 1_000, 100), Some(20_000_000_000 + wire_ns(100, 1000)));
        steps.fetch_add(1, Ordering::Relaxed);
        assert_eq!(launch.next(0, 1_000, 100), Some(101_000));
    }

    #[test]
    fn a_slot_is_as_far_behind_each_opening_and_not_behind_a_frame_that_is_late() {
        let (mut launch, _) = launch(250_000, 0);
        assert_eq!(launch.next(600_000, 0, 100), Some(1_250_000));
        assert_eq!(launch.next(1_000_000, 0, 100), Some(1_250_000));
        assert_eq!(launch.next(1_300_000, 0, 100), Some(1_300_000));
        assert!(has_slot(&launch.schedule, 0, 0));
        assert!(!has_slot(&launch.schedule, 0, 249_000));
    }
}
