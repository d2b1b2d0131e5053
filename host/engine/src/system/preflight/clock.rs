//! The clocks: what a look at one costs, and whether others can compare theirs with it.

use tempos_control::Finding;

use super::{good, poor, read};

const FOLDER: &str = "/sys/devices/system/clocksource/clocksource0";
/// Those that are read without a system call.
const QUICK: [&str; 5] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "xen", "arch_sys_counter"];
/// International atomic time has been so many seconds ahead of UTC since 2017.
const TAI_SECONDS: i64 = 37;

/// The clock that times are read from.
pub fn source() -> Finding {
    let list = |name: &str| read(&format!("{FOLDER}/{name}"));
    judge_source(list("current_clocksource").as_deref(), &list("available_clocksource").unwrap_or_default())
}

fn judge_source(current: Option<&str>, available: &str) -> Finding {
    const CHECK: &str = "clock source";
    match current {
        Some(source) if QUICK.contains(&source) => good(CHECK, source),
        Some(source) => {
            let other = available.split_ascii_whitespace().find(|word| QUICK.contains(word));
            poor(
                CHECK,
                format!(
                    "{source}: each time stamp is a system call and a slow read of the hardware, several for each event"
                ),
                match other {
                    Some(other) => format!("boot with clocksource={other}"),
                    None => String::from(
                        "boot with clocksource=tsc where the hardware allows it (the kernel's log says why it does not trust it)",
                    ),
                },
            )
        }
        None => poor(
            CHECK,
            "the kernel does not say which clock it uses: a time stamp may cost a system call",
            "mount /sys",
        ),
    }
}

/// The clock on the wall: for source times, and for a network that sends by the clock.
pub fn wall() -> Finding {
    // SAFETY: all zeroes is a valid structure, and one that asks for no change.
    let mut clock: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: writes the structure that is passed.
    let state = unsafe { libc::adjtimex(&raw mut clock) };
    let synchronised = (state >= 0).then_some(state != libc::TIME_ERROR);
    judge_wall(synchronised, i64::from(clock.tai))
}

/// Judges: whether the clock is kept by somebody, `None` where the kernel does not say; and by how many
/// seconds the kernel thinks that TAI is ahead.
fn judge_wall(synchronised: Option<bool>, tai_seconds: i64) -> Finding {
    const CHECK: &str = "wall clock";
    match synchronised {
        None => poor(
            CHECK,
            "the kernel does not say whether somebody keeps it: source times of two machines may not be comparable",
            "let the service call adjtimex (SystemCallFilter=@clock is what forbids it)",
        ),
        Some(false) => poor(
            CHECK,
            "nobody keeps it right: source times of two machines cannot be compared",
            "run chrony, or ptp4l with phc2sys",
        ),
        Some(true) if tai_seconds == 0 => poor(
            CHECK,
            format!(
                "it is kept right, but the offset of TAI is not set: a network that sends by the clock (taprio, etf) is {TAI_SECONDS} s off"
            ),
            "set leapsectz right/UTC in chrony.conf, or run phc2sys, which sets it",
        ),
        Some(true) => good(CHECK, format!("it is kept right, TAI is {tai_seconds} s ahead")),
    }
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::*;

    #[test]
    fn clocks_that_need_a_system_call_cost() {
        for (current, available, verdict, mend) in [
            (Some("tsc"), "tsc kvm-clock", Verdict::Good, ""),
            (Some("kvm-clock"), "kvm-clock", Verdict::Good, ""),
            (Some("hpet"), "hpet acpi_pm tsc", Verdict::Poor, "clocksource=tsc"),
            (Some("acpi_pm"), "acpi_pm", Verdict::Poor, "where the hardware allows it"),
            (Some("acpi_pm"), "acpi_pm kvm-clock", Verdict::Poor, "clocksource=kvm-clock"),
            (None, "", Verdict::Poor, "mount"),
        ] {
            let found = judge_source(current, available);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.mend.contains(mend), "{found:?}");
        }
    }

    #[test]
    fn the_wall_clock_wants_a_keeper_and_an_offset() {
        for (synchronised, tai, verdict, words) in [
            (Some(true), 37, Verdict::Good, "37 s ahead"),
            (Some(true), 0, Verdict::Poor, "offset of TAI is not set"),
            (Some(false), 37, Verdict::Poor, "nobody keeps it right"),
            (None, 0, Verdict::Poor, "does not say"),
        ] {
            let found = judge_wall(synchronised, tai);
            assert_eq!(found.verdict, verdict, "{found:?}");
            assert!(found.finding.contains(words), "{found:?}");
        }
    }
}
