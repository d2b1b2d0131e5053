//! The resource limits of the process (getrlimit(2)), and what they mean to a node.

use tempos_control::{Finding, units};

use super::{Needs, bad, good, poor};

/// The soft limits that matter to a node; [`UNLIMITED`] where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The highest real-time priority.
    pub rt_priority: u64,
    /// 20 less the lowest nice value.
    pub nice: u64,
    /// Microseconds of CPU that a real-time thread may use without a pause.
    pub rt_time_us: u64,
    /// Bytes that may be locked.
    pub locked_bytes: u64,
    /// Descriptors that may be open.
    pub descriptors: u64,
}

/// No limit.
pub const UNLIMITED: u64 = libc::RLIM_INFINITY;

/// The supervisor notices a lane that does not answer and demotes it within this time.
const SUPERVISED_US: u64 = 1_000_000;
/// Descriptors of the node itself: doors, logs, plugins that are being loaded.
const DESCRIPTORS_SPARE: u64 = 256;
/// Below this a node that grows meets the limit soon.
const DESCRIPTORS_FEW: u64 = 4096;

impl Limits {
    /// Reads them from the kernel.
    pub fn of_this_process() -> Self {
        Limits {
            rt_priority: soft(libc::RLIMIT_RTPRIO),
            nice: soft(libc::RLIMIT_NICE),
            rt_time_us: soft(libc::RLIMIT_RTTIME),
            locked_bytes: soft(libc::RLIMIT_MEMLOCK),
            descriptors: soft(libc::RLIMIT_NOFILE),
        }
    }
}

fn soft(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes the structure that is passed.
    if unsafe { libc::getrlimit(resource, &raw mut limit) } == 0 { limit.rlim_cur } else { 0 }
}

/// Whether the kernel ends a real-time thread before the node's own supervisor can demote it.
pub fn cpu_time(needs: &Needs, limits: &Limits) -> Finding {
    const CHECK: &str = "real-time CPU time";
    if !needs.is_real_time() {
        return good(CHECK, "no level asks for real time");
    }
    match limits.rt_time_us {
        UNLIMITED => {
            good(CHECK, "RLIMIT_RTTIME sets no limit; the node's own supervisor demotes a lane that spins")
        }
        limit if limit >= SUPERVISED_US => good(
            CHECK,
            format!(
                "RLIMIT_RTTIME is {}, behind the node's own supervisor",
                units::show_ns(limit.saturating_mul(1000))
            ),
        ),
        limit => bad(
            CHECK,
            format!(
                "RLIMIT_RTTIME is {}: the kernel ends the whole node when a lane works for so long without a pause, before its supervisor can demote that lane",
                units::show_ns(limit.saturating_mul(1000))
            ),
            "give the service LimitRTTIME=3s",
        ),
    }
}

/// Whether there are descriptors enough.
pub fn descriptors(needs: &Needs, limits: &Limits) -> Finding {
    const CHECK: &str = "descriptors";
    const MEND: &str = "give the service LimitNOFILE=65536";
    let limit = limits.descriptors;
    // An ingress channel has its socket and a place to wait; a connection of a stream one more.
    let wanted = 2 * needs.channels as u64 + DESCRIPTORS_SPARE;
    if limit == UNLIMITED {
        return good(CHECK, "any number may be open");
    }
    if limit < wanted {
        let open = needs.channels;
        return poor(
            CHECK,
            format!(
                "only {limit} may be open, with {open} channels: a channel or a connection more may be refused"
            ),
            MEND,
        );
    }
    if limit < DESCRIPTORS_FEW {
        return poor(
            CHECK,
            format!("only {limit} may be open; each channel and each connection takes one"),
            MEND,
        );
    }
    good(CHECK, format!("{limit} may be open"))
}

#[cfg(test)]
pub mod tests {
    use tempos_control::Verdict;

    use super::super::needs::tests::pinned_to;
    use super::*;

    /// Of a process that may do nothing beyond the ordinary.
    pub const ORDINARY: Limits =
        Limits { rt_priority: 0, nice: 0, rt_time_us: UNLIMITED, locked_bytes: 8 << 20, descriptors: 1024 };

    #[test]
    fn cpu_time_must_outlast_the_supervisor() {
        for (rt_time_us, verdict, words) in [
            (UNLIMITED, Verdict::Good, "no limit"),
            (3_000_000, Verdict::Good, "3.00 s"),
            (200_000, Verdict::Bad, "200 ms: the kernel ends the whole node"),
        ] {
            let found = cpu_time(&pinned_to(&[]), &Limits { rt_time_us, ..ORDINARY });
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{found:?}");
        }
        assert_eq!(cpu_time(&Needs::default(), &Limits { rt_time_us: 1, ..ORDINARY }).verdict, Verdict::Good);
    }

    #[test]
    fn descriptors_are_weighed_against_the_channels() {
        for (descriptors, channels, verdict, words) in [
            (UNLIMITED, 65_536, Verdict::Good, "any number"),
            (65_536, 1000, Verdict::Good, "65536 may be open"),
            (1024, 4, Verdict::Poor, "only 1024"),
            (4096, 4000, Verdict::Poor, "with 4000 channels"),
        ] {
            let needs = Needs { channels, ..Needs::default() };
            let found = super::descriptors(&needs, &Limits { descriptors, ..ORDINARY });
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{found:?}");
        }
    }

    #[test]
    fn this_process_has_limits() {
        assert!(Limits::of_this_process().descriptors > 0);
    }
}
