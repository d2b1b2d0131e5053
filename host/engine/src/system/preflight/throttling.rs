//! What the kernel takes from real-time threads for the sake of all others: throttling (sched(7)), or since
//! Linux 6.12 the fair server.

use tempos_control::Finding;

use super::{good, names, number, poor};

/// The folder of the fair servers, one for each CPU; only root sees it.
const SERVERS: &str = "/sys/kernel/debug/sched/fair_server";

/// Reads what the kernel says.
pub fn look() -> Finding {
    let throttled =
        number("/proc/sys/kernel/sched_rt_runtime_us").zip(number("/proc/sys/kernel/sched_rt_period_us"));
    let servers = names(SERVERS);
    // The CPU whose server takes most.
    let server = servers
        .iter()
        .filter_map(|cpu| {
            number(&format!("{SERVERS}/{cpu}/runtime")).zip(number(&format!("{SERVERS}/{cpu}/period")))
        })
        .max_by_key(|(runtime, period)| runtime.saturating_mul(1000) / (*period).max(1));
    judge(throttled, server)
}

/// Judges: `throttled` is runtime and period of real-time threads in µs, `server` those of the fair server
/// in ns.
fn judge(throttled: Option<(i64, i64)>, server: Option<(i64, i64)>) -> Finding {
    const CHECK: &str = "real-time throttling";
    const MEND: &str = "sysctl kernel.sched_rt_runtime_us=950000";
    let taken = match server {
        Some((0, _)) => String::from("; the fair server is off"),
        Some((runtime, period)) => {
            format!(
                "; the fair server keeps {} of each {} for them",
                milliseconds(runtime),
                milliseconds(period)
            )
        }
        None => String::new(),
    };
    match throttled {
        Some((-1, _)) if server.is_none_or(|(runtime, _)| runtime == 0) => poor(
            CHECK,
            format!("throttling is off: a real-time thread that spins takes its CPU for good{taken}"),
            MEND,
        ),
        Some((-1, _)) => good(CHECK, format!("real-time threads are not throttled{taken}")),
        Some((runtime, period)) if runtime.saturating_mul(10) < period.saturating_mul(8) => poor(
            CHECK,
            format!(
                "real-time threads stand still after {} of each {}: a lane with much work pauses for the rest",
                milliseconds(runtime.saturating_mul(1000)),
                milliseconds(period.saturating_mul(1000))
            ),
            MEND,
        ),
        Some((runtime, period)) => good(
            CHECK,
            format!(
                "real-time threads may use {} of each {}: one that spins, also below a lane, costs the lane the rest{taken}",
                milliseconds(runtime.saturating_mul(1000)),
                milliseconds(period.saturating_mul(1000))
            ),
        ),
        None => poor(
            CHECK,
            "the kernel does not say how it throttles real-time threads: one that spins may take its CPU for good",
            "mount /proc with its part sys",
        ),
    }
}

fn milliseconds(ns: i64) -> String {
    format!("{} ms", ns / 1_000_000)
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::*;

    #[test]
    fn what_is_taken_from_real_time_threads_is_said() {
        let normal = Some((950_000, 1_000_000));
        for (throttled, server, verdict, words) in [
            (normal, None, Verdict::Good, "may use 950 ms of each 1000 ms"),
            (
                normal,
                Some((50_000_000, 1_000_000_000)),
                Verdict::Good,
                "the fair server keeps 50 ms of each 1000 ms",
            ),
            (Some((-1, 1_000_000)), None, Verdict::Poor, "throttling is off"),
            (Some((-1, 1_000_000)), Some((0, 1_000_000_000)), Verdict::Poor, "the fair server is off"),
            (Some((-1, 1_000_000)), Some((50_000_000, 1_000_000_000)), Verdict::Good, "not throttled"),
            (Some((500_000, 1_000_000)), None, Verdict::Poor, "stand still after 500 ms"),
            (Some((0, 1_000_000)), None, Verdict::Poor, "stand still after 0 ms"),
            (None, None, Verdict::Poor, "does not say"),
        ] {
            let found = judge(throttled, server);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{words}: {found:?}");
        }
    }
}
