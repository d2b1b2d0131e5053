//! What the system grants to the lanes, and what it costs where it does not.
//!
//! One file for each thing that is looked at. Each reads a few files of the kernel and hands their texts to
//! a pure function that judges them; the tests give those the texts of other machines. Called by the
//! controller, on its ordinary thread.

mod capability;
mod cgroup;
mod clock;
mod cpus;
mod interrupts;
pub(crate) mod kernel;
mod limits;
mod machine;
mod memory;
mod needs;
mod network;
mod real_time;
mod softirqs;
mod throttling;

use std::fs::{self, File};
use std::io::Read as _;

use tempos_control::{Finding, Verdict};

pub use needs::{BufferNeeds, LaneNeeds, Needs};
pub use real_time::real_time_cause;

/// The most bytes that are read of a file.
const TEXT_BYTES_MAX: u64 = 1 << 20;

/// Looks at everything that the lanes depend on.
pub fn findings(needs: &Needs) -> Vec<Finding> {
    let rights = capability::Rights::of_this_process();
    let limits = limits::Limits::of_this_process();
    vec![
        real_time::granted(needs),
        real_time::nice(needs, rights, &limits),
        limits::cpu_time(needs, &limits),
        throttling::look(),
        memory::locked(needs, rights, &limits),
        memory::swap(needs),
        memory::huge_pages(),
        kernel::look(),
        cpus::look(needs),
        cpus::governor(needs),
        cpus::idle(needs),
        interrupts::look(needs),
        softirqs::look(needs),
        machine::look(),
        clock::source(),
        clock::wall(),
        network::socket_priority(needs, rights),
        network::receive_buffers(needs, rights),
        network::send_buffers(needs, rights),
        network::backlog(),
        network::unix_queue(needs),
        limits::descriptors(needs, &limits),
    ]
}

fn good(check: &str, finding: impl Into<String>) -> Finding {
    Finding { check: check.into(), verdict: Verdict::Good, finding: finding.into(), mend: String::new() }
}

fn poor(check: &str, finding: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { check: check.into(), verdict: Verdict::Poor, finding: finding.into(), mend: mend.into() }
}

fn bad(check: &str, finding: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { check: check.into(), verdict: Verdict::Bad, finding: finding.into(), mend: mend.into() }
}

/// The text of a file without the blanks at its ends; `None` where it cannot be read.
fn read(path: &str) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

fn number(path: &str) -> Option<i64> {
    read(path)?.parse().ok()
}

/// The names in a folder; none where it cannot be read.
fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A list of CPUs as the kernel writes it: `0-2,5`. What is no number is passed over.
fn cpu_list(text: &str) -> Vec<u32> {
    const CPUS_MAX: usize = 8192;
    let ranges = text.trim().split(',').filter_map(|part| match part.trim().split_once('-') {
        // A step, `0-7:2/4`, is no part of what the kernel writes here.
        Some((first, last)) => Some(first.parse().ok()?..=last.parse().ok()?),
        None => part.trim().parse().ok().map(|cpu: u32| cpu..=cpu),
    });
    ranges.flatten().take(CPUS_MAX).collect()
}

/// CPUs for a reader: `CPU 1`, `CPUs 1, 2 and 3`.
fn cpus_said(cpus: &[u32]) -> String {
    let words: Vec<String> = cpus.iter().map(u32::to_string).collect();
    match words.as_slice() {
        [] => String::from("no CPU"),
        [only] => format!("CPU {only}"),
        [before @ .., last] => format!("CPUs {} and {last}", before.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus_are_read_and_said() {
        for (text, cpus, said) in [
            ("", vec![], "no CPU"),
            ("3\n", vec![3], "CPU 3"),
            ("0-2,5", vec![0, 1, 2, 5], "CPUs 0, 1, 2 and 5"),
            ("x,1-y,7", vec![7], "CPU 7"),
            ("5-2", vec![], "no CPU"),
        ] {
            assert_eq!(cpu_list(text), cpus, "{text:?}");
            assert_eq!(cpus_said(&cpus), said, "{text:?}");
        }
        assert_eq!(cpu_list("0-4294967295").len(), 8192, "bounded");
    }

    #[test]
    fn every_check_has_a_name_of_its_own_and_says_how_to_mend_what_is_not_good() {
        let found = findings(&Needs::default());
        for (at, finding) in found.iter().enumerate() {
            assert!(found[..at].iter().all(|earlier| earlier.check != finding.check), "{finding:?}");
            assert!(!finding.finding.is_empty() && !finding.finding.contains('\n'), "{finding:?}");
            assert_eq!(finding.mend.is_empty(), finding.verdict == Verdict::Good, "{finding:?}");
        }
        assert!(found.iter().all(|finding| finding.verdict != Verdict::Bad), "nothing was asked: {found:#?}");
    }
}
