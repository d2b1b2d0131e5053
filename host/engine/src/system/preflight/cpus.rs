//! The CPUs: how many, who else runs on those of the lanes, and how soon they wake.

use std::fs::File;
use std::io::Read as _;

use tempos_control::Finding;

use super::{Needs, cpu_list, cpus_said, good, names, number, poor, read};

const FOLDER: &str = "/sys/devices/system/cpu";
/// A CPU that takes longer than this to wake is worth a word.
const WAKE_US_MAX: i64 = 20;

/// How many there are, and whether those of the lanes are their own.
pub fn look(needs: &Needs) -> Finding {
    let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let list = |name: &str| cpu_list(&read(&format!("{FOLDER}/{name}")).unwrap_or_default());
    judge(count, &list("online"), &list("isolated"), &list("nohz_full"), &needs.pinned())
}

/// Judges: `pinned` are the CPUs of the real-time lanes.
fn judge(count: usize, online: &[u32], isolated: &[u32], tickless: &[u32], pinned: &[u32]) -> Finding {
    const CHECK: &str = "CPUs";
    let without =
        |list: &[u32]| -> Vec<u32> { pinned.iter().copied().filter(|cpu| !list.contains(cpu)).collect() };
    let missing = without(online);
    if !missing.is_empty() && !online.is_empty() {
        return poor(
            CHECK,
            format!(
                "a strict lane is pinned to {}, which {} not online: it has to do with the others",
                cpus_said(&missing),
                is_or_are(&missing)
            ),
            "name CPUs that are there in the level's cpus",
        );
    }
    if count == 1 {
        return poor(
            CHECK,
            "one CPU: a strict lane delays everything else while it works, and waits for the kernel's work on it",
            "a machine with two CPUs or more",
        );
    }
    let shared = without(isolated);
    if !pinned.is_empty() && !shared.is_empty() {
        return poor(
            CHECK,
            format!(
                "a strict lane is pinned to {}, which {} not isolated: the kernel's own work and other threads share it",
                cpus_said(&shared),
                is_or_are(&shared)
            ),
            format!(
                "boot with isolcpus=managed_irq,domain,{0} nohz_full={0} rcu_nocbs={0}",
                kernel_list(pinned)
            ),
        );
    }
    let mut said = format!("{count} usable");
    if isolated.is_empty() {
        said.push_str(", none isolated");
    } else {
        said.push_str(&format!(", isolated: {}", kernel_list(isolated)));
    }
    if !pinned.is_empty() && !without(tickless).is_empty() {
        said.push_str("; the scheduler's tick still comes to the lanes' CPUs (nohz_full)");
    }
    good(CHECK, said)
}

fn is_or_are(cpus: &[u32]) -> &'static str {
    if cpus.len() == 1 { "is" } else { "are" }
}

fn kernel_list(cpus: &[u32]) -> String {
    cpus.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The CPUs that matter: those of the lanes, or all.
fn of_the_lanes(needs: &Needs) -> Vec<u32> {
    let pinned = needs.pinned();
    if pinned.is_empty() { cpu_list(&read(&format!("{FOLDER}/online")).unwrap_or_default()) } else { pinned }
}

/// Whether the frequency is scaled down while a CPU idles.
pub fn governor(needs: &Needs) -> Finding {
    let governors = of_the_lanes(needs)
        .into_iter()
        .filter_map(|cpu| Some((cpu, read(&format!("{FOLDER}/cpu{cpu}/cpufreq/scaling_governor"))?)));
    judge_governors(&governors.collect::<Vec<_>>())
}

fn judge_governors(governors: &[(u32, String)]) -> Finding {
    const CHECK: &str = "frequency governor";
    let slow: Vec<u32> =
        governors.iter().filter(|(_, word)| word != "performance").map(|(cpu, _)| *cpu).collect();
    match governors.iter().find(|(_, word)| word != "performance") {
        None if governors.is_empty() => good(CHECK, "the kernel does not scale this machine's frequency"),
        None => good(CHECK, "performance"),
        Some((_, word)) => poor(
            CHECK,
            format!(
                "{word} on {}: a CPU that was idle works on the next event at a low frequency at first",
                cpus_said(&slow)
            ),
            "cpupower frequency-set -g performance",
        ),
    }
}

/// An idle state of a CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
struct IdleState {
    name: String,
    /// Microseconds until the CPU works again.
    exit_us: i64,
    disabled: bool,
}

/// How long an idle CPU takes to wake.
pub fn idle(needs: &Needs) -> Finding {
    let states: Vec<IdleState> = of_the_lanes(needs)
        .into_iter()
        .flat_map(|cpu| {
            let folder = format!("{FOLDER}/cpu{cpu}/cpuidle");
            names(&folder).into_iter().filter_map(move |state| {
                Some(IdleState {
                    name: read(&format!("{folder}/{state}/name"))?,
                    exit_us: number(&format!("{folder}/{state}/latency"))?,
                    disabled: number(&format!("{folder}/{state}/disable")) == Some(1),
                })
            })
        })
        .collect();
    judge_idle(&states, latency_limit_us())
}

/// What /dev/cpu_dma_latency holds at the moment, in µs: the strictest wish of all who have it open.
fn latency_limit_us() -> Option<i64> {
    let mut bytes = [0; 4];
    File::open("/dev/cpu_dma_latency").ok()?.read_exact(&mut bytes).ok()?;
    Some(i64::from(i32::from_ne_bytes(bytes)))
}

fn judge_idle(states: &[IdleState], limit_us: Option<i64>) -> Finding {
    const CHECK: &str = "idle states";
    let allowed = |state: &&IdleState| !state.disabled && limit_us.is_none_or(|limit| state.exit_us <= limit);
    match states.iter().filter(allowed).max_by_key(|state| state.exit_us) {
        None if states.is_empty() => good(CHECK, "the kernel does not say that it lets CPUs sleep deeply"),
        None => good(CHECK, "none is allowed"),
        Some(deepest) if deepest.exit_us > WAKE_US_MAX => poor(
            CHECK,
            format!(
                "{}: a CPU that sleeps so deeply takes {} µs to wake for an event",
                deepest.name, deepest.exit_us
            ),
            "cpupower idle-set -D 20, or hold /dev/cpu_dma_latency at 20 µs (the tuned profile latency-performance does)",
        ),
        Some(deepest) => good(CHECK, format!("a CPU wakes within {} µs ({})", deepest.exit_us, deepest.name)),
    }
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::*;

    #[test]
    fn lanes_that_are_pinned_want_cpus_of_their_own() {
        for (count, online, isolated, tickless, pinned, verdict, words) in [
            (1, "0", "", "", "", Verdict::Poor, "one CPU"),
            (4, "0-3", "", "", "", Verdict::Good, "4 usable, none isolated"),
            (4, "0-3", "", "", "2-3", Verdict::Poor, "pinned to CPUs 2 and 3, which are not isolated"),
            (4, "0-3", "2-3", "", "2-3", Verdict::Good, "isolated: 2,3; the scheduler's tick"),
            (4, "0-3", "2-3", "2-3", "2-3", Verdict::Good, "4 usable, isolated: 2,3"),
            (4, "0-3", "3", "", "2-3", Verdict::Poor, "pinned to CPU 2, which is not isolated"),
            (2, "0-1", "", "", "7", Verdict::Poor, "pinned to CPU 7, which is not online"),
            (2, "", "", "", "", Verdict::Good, "2 usable"),
        ] {
            let lists = [online, isolated, tickless, pinned].map(cpu_list);
            let found = judge(count, &lists[0], &lists[1], &lists[2], &lists[3]);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{words}: {found:?}");
        }
    }

    #[test]
    fn one_slow_governor_is_enough() {
        let all = |words: &[&str]| {
            words.iter().enumerate().map(|(cpu, word)| (cpu as u32, (*word).to_owned())).collect::<Vec<_>>()
        };
        for (words, verdict, said) in [
            (&[][..], Verdict::Good, "does not scale"),
            (&["performance", "performance"], Verdict::Good, "performance"),
            (&["performance", "schedutil"], Verdict::Poor, "schedutil on CPU 1"),
            (&["powersave", "powersave"], Verdict::Poor, "powersave on CPUs 0 and 1"),
        ] {
            let found = judge_governors(&all(words));
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(said), "{found:?}");
        }
    }

    #[test]
    fn the_deepest_state_that_is_allowed_counts() {
        let state = |name: &str, exit_us, disabled| IdleState { name: name.into(), exit_us, disabled };
        let states = [state("POLL", 0, false), state("C1", 2, false), state("C6", 133, false)];
        let mut shallow = states.clone();
        shallow[2].disabled = true;
        for (states, limit_us, verdict, words) in [
            (&[][..], None, Verdict::Good, "does not say"),
            (&states, None, Verdict::Poor, "C6: a CPU that sleeps so deeply takes 133 µs"),
            (&states, Some(2_000_000_000), Verdict::Poor, "133 µs"),
            (&states, Some(20), Verdict::Good, "within 2 µs (C1)"),
            (&states, Some(-1), Verdict::Good, "none is allowed"),
            (&shallow, None, Verdict::Good, "within 2 µs (C1)"),
        ] {
            let found = judge_idle(states, limit_us);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{words}: {found:?}");
        }
    }
}
