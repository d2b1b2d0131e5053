//! Interrupts that may fire on the CPUs of the lanes: each delays whatever runs there, real time or not.

use tempos_control::Finding;

use super::{Needs, cpu_list, cpus_said, good, poor, read};

/// An interrupt that came so often on the lanes' CPUs, on average since the machine started, is busy.
const BUSY_PER_SECOND: u64 = 10;
/// So many are named.
const NAMED_MAX: usize = 3;

/// A line of /proc/interrupts that a user can move.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interrupt {
    number: u32,
    name: String,
    /// Of each CPU in the heading: its number, and how often it came there.
    counts: Vec<(u32, u64)>,
    /// Where it may fire from now on.
    allowed: Vec<u32>,
}

/// Looks at all of them.
pub fn look(needs: &Needs) -> Finding {
    let mut interrupts = parse(&read("/proc/interrupts").unwrap_or_default());
    for interrupt in &mut interrupts {
        let folder = format!("/proc/irq/{}", interrupt.number);
        // Where it really goes, which the kernel chooses within what was allowed.
        let list = read(&format!("{folder}/effective_affinity_list"))
            .filter(|text| !text.is_empty())
            .or_else(|| read(&format!("{folder}/smp_affinity_list")));
        interrupt.allowed = cpu_list(&list.unwrap_or_default());
    }
    let uptime = read("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split(['.', ' ']).next().and_then(|text| text.parse().ok()).unwrap_or(0);
    judge(&interrupts, seconds, &needs.pinned())
}

/// Those with a number: what the kernel names by letters (timers, calls between CPUs) cannot be moved.
fn parse(text: &str) -> Vec<Interrupt> {
    let mut lines = text.lines();
    let cpus: Vec<u32> = lines
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix("CPU")?.parse().ok())
        .collect();
    lines
        .filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let number = number.trim().parse().ok()?;
            let words: Vec<&str> = rest.split_ascii_whitespace().collect();
            let counts = cpus.iter().zip(&words).filter_map(|(cpu, word)| Some((*cpu, word.parse().ok()?)));
            let counts: Vec<(u32, u64)> = counts.collect();
            // Behind the counts: the controller, its line, and last whose interrupt it is.
            let name = words
                .get(cpus.len()..)
                .and_then(<[&str]>::last)
                .map_or(String::new(), |word| (*word).to_owned());
            Some(Interrupt { number, name, counts, allowed: Vec::new() })
        })
        .collect()
}

/// Judges: `pinned` are the CPUs of the real-time lanes.
fn judge(interrupts: &[Interrupt], seconds: u64, pinned: &[u32]) -> Finding {
    const CHECK: &str = "interrupts";
    if pinned.is_empty() {
        return good(CHECK, "no strict lane is pinned to a CPU, so it can go where none is being served");
    }
    // How often it came anywhere: once it may fire on a lane's CPU, it will do so there.
    let often =
        |interrupt: &Interrupt| interrupt.counts.iter().map(|(_, count)| count).sum::<u64>() / seconds.max(1);
    let mut busy: Vec<(u64, &Interrupt)> = interrupts
        .iter()
        .filter(|interrupt| interrupt.allowed.iter().any(|cpu| pinned.contains(cpu)))
        .map(|interrupt| (often(interrupt), interrupt))
        .filter(|(rate, _)| *rate >= BUSY_PER_SECOND)
        .collect();
    busy.sort_by_key(|(rate, interrupt)| (u64::MAX - rate, interrupt.number));
    let Some((_, first)) = busy.first() else {
        return good(CHECK, format!("none that is busy fires on {}", cpus_said(pinned)));
    };
    let named: Vec<String> = busy
        .iter()
        .take(NAMED_MAX)
        .map(|(rate, interrupt)| format!("{} ({}, {rate} a second)", interrupt.number, interrupt.name))
        .collect();
    let more =
        if busy.len() > NAMED_MAX { format!(" and {} more", busy.len() - NAMED_MAX) } else { String::new() };
    poor(
        CHECK,
        format!(
            "{}{more} fire on {}, where a strict lane is pinned: each delays it",
            named.join(", "),
            cpus_said(pinned)
        ),
        format!(
            "write other CPUs to /proc/irq/{}/smp_affinity_list, and keep irqbalance from {}",
            first.number,
            cpus_said(pinned)
        ),
    )
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::*;

    const TEXT: &str = "           CPU0       CPU2\n \
        24:          1          0  IO-APIC   5-edge      ACPI:Ged\n \
        36:          0     440320 PCI-MSIX-0000:00:02.0   1-edge      virtio1-req.0\n \
        41:      90000          0 PCI-MSIX-0000:00:04.0   1-edge      eth0-rx-0\n \
        42:          9          9 PCI-MSIX-0000:00:04.0   2-edge\n\
        LOC:     107465     126206   Local timer interrupts\n\
        ERR:          0\n";

    fn interrupts(allowed: &[(u32, &str)]) -> Vec<Interrupt> {
        let mut found = parse(TEXT);
        for interrupt in &mut found {
            let list = allowed.iter().find(|(number, _)| *number == interrupt.number);
            interrupt.allowed = list.map(|(_, list)| cpu_list(list)).unwrap_or_default();
        }
        found
    }

    #[test]
    fn only_those_with_a_number_are_read() {
        let found = parse(TEXT);
        assert_eq!(found.iter().map(|i| i.number).collect::<Vec<_>>(), [24, 36, 41, 42]);
        assert_eq!(found[1].counts, [(0, 0), (2, 440_320)]);
        assert_eq!(found[2].name, "eth0-rx-0");
        assert_eq!(
            parse("").len() + parse("nonsense\n1: x y z\n").iter().map(|i| i.counts.len()).sum::<usize>(),
            0
        );
    }

    #[test]
    fn busy_ones_on_the_lanes_cpus_are_named_the_busiest_first() {
        let all = [(24, "0-2"), (36, "0-2"), (41, "0-2"), (42, "0-2")];
        let away = [(24, "0-2"), (36, "0"), (41, "0-1"), (42, "2")];
        for (allowed, pinned, verdict, words) in [
            (&all, "", Verdict::Good, "no strict lane is pinned"),
            (
                &all,
                "2",
                Verdict::Poor,
                "36 (virtio1-req.0, 440 a second), 41 (eth0-rx-0, 90 a second) fire on CPU 2,",
            ),
            (&away, "2", Verdict::Good, "none that is busy fires on CPU 2"),
            (&away, "1-2", Verdict::Poor, "41 (eth0-rx-0, 90 a second) fire on CPUs 1 and 2"),
        ] {
            let found = judge(&interrupts(allowed), 1000, &cpu_list(pinned));
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{words}: {found:?}");
        }
        let found = judge(&interrupts(&all), 1000, &[2]);
        assert!(found.mend.contains("/proc/irq/36/smp_affinity_list"), "{found:?}");
    }
}
