//! The kernel: how soon it lets a lane go first, and what it was built with.

use std::fs::File;
use std::io::Read as _;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use tempos_control::Finding;

use super::memory::chosen;
use super::{TEXT_BYTES_MAX, good, poor, read};

const MEND: &str = "boot with preempt=full, or a PREEMPT_RT kernel";

/// What the kernel was built with, where it says so.
pub fn config() -> Option<String> {
    let packed = File::open("/proc/config.gz").ok().and_then(|file| {
        let mut text = String::new();
        GzDecoder::new(file.take(TEXT_BYTES_MAX)).take(TEXT_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    });
    packed.or_else(|| read(&format!("/boot/config-{}", read("/proc/sys/kernel/osrelease")?)))
}

/// Whether a kernel built and booted like this keeps real-time budgets for groups.
pub fn groups_real_time(config: &str, cmdline: &str) -> bool {
    let has = |line: &str| config.lines().any(|other| other == line);
    let off = has("CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y");
    has("CONFIG_RT_GROUP_SCHED=y") && parameter(cmdline, "rt_group_sched").map_or(!off, |word| word != "0")
}

/// How the kernel lets a thread of higher priority go first.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Model {
    /// PREEMPT_RT.
    RealTime,
    /// `none`, `voluntary`, `lazy`, `full`.
    Named(String),
    /// One of the four, and the kernel does not say which.
    Dynamic,
    /// It cannot be found out.
    Unknown,
}

/// Looks at the kernel.
pub fn look() -> Finding {
    judge(&current())
}

/// What lets other programs' system calls keep a CPU from a lane, and how to mend it; `None` where a lane goes first
/// in the kernel too. It is looked at once: a kernel is not booted anew beneath a node.
pub fn holds_up() -> Option<&'static str> {
    static HOLDS_UP: LazyLock<Option<String>> = LazyLock::new(|| hindrance(&current()));
    HOLDS_UP.as_deref()
}

fn current() -> Model {
    let realtime = read("/sys/kernel/realtime");
    let debug = read("/sys/kernel/debug/sched/preempt");
    let (version, cmdline) =
        (read("/proc/version").unwrap_or_default(), read("/proc/cmdline").unwrap_or_default());
    model(realtime.as_deref(), debug.as_deref(), &version, &cmdline, config().as_deref())
}

fn hindrance(model: &Model) -> Option<String> {
    let kernel = match model {
        Model::RealTime => return None,
        Model::Named(word) if word == "full" => return None,
        Model::Named(word) => format!("the kernel runs preempt={word}"),
        Model::Dynamic | Model::Unknown => String::from("the kernel does not say that it can be preempted"),
    };
    Some(format!(
        "{kernel}, where other programs' system calls hold a CPU for up to some milliseconds: {MEND}"
    ))
}

/// The surest word first: what is in force, what was booted with, what was built in.
fn model(
    realtime: Option<&str>,
    debug: Option<&str>,
    version: &str,
    cmdline: &str,
    config: Option<&str>,
) -> Model {
    let flags: Vec<&str> = version.split_ascii_whitespace().collect();
    if realtime == Some("1") || flags.contains(&"PREEMPT_RT") {
        return Model::RealTime;
    }
    if let Some(word) = debug.and_then(chosen) {
        return Model::Named(word.to_owned());
    }
    let dynamic = flags.contains(&"PREEMPT_DYNAMIC");
    if let Some(word) = parameter(cmdline, "preempt").filter(|_| dynamic) {
        return Model::Named(word.to_owned());
    }
    let built = |key: &str| config.is_some_and(|text| text.lines().any(|line| line == key));
    for (key, word) in [
        ("CONFIG_PREEMPT_NONE=y", "none"),
        ("CONFIG_PREEMPT_VOLUNTARY=y", "voluntary"),
        ("CONFIG_PREEMPT_LAZY=y", "lazy"),
        ("CONFIG_PREEMPT=y", "full"),
    ] {
        if built(key) {
            return Model::Named(word.to_owned());
        }
    }
    match (dynamic, flags.contains(&"PREEMPT")) {
        (true, _) => Model::Dynamic,
        (false, true) => Model::Named("full".into()),
        (false, false) => Model::Unknown,
    }
}

fn judge(model: &Model) -> Finding {
    const CHECK: &str = "kernel preemption";
    match model {
        Model::RealTime => good(CHECK, "PREEMPT_RT"),
        Model::Named(word) if word == "full" => good(
            CHECK,
            "preempt=full: interrupts and locks of the kernel still delay a lane; a PREEMPT_RT kernel bounds that as well",
        ),
        Model::Named(word) => poor(
            CHECK,
            format!("preempt={word}: system calls of other threads delay a lane, by up to some milliseconds"),
            MEND,
        ),
        Model::Dynamic => poor(
            CHECK,
            "not a PREEMPT_RT kernel, and it does not say whether preempt=full is in force: other threads' system calls may delay a lane by up to some milliseconds",
            MEND,
        ),
        Model::Unknown => poor(
            CHECK,
            "not a PREEMPT_RT kernel: other threads' system calls may delay a lane by up to some milliseconds",
            "a PREEMPT_RT kernel, or preempt=full where the kernel has PREEMPT_DYNAMIC",
        ),
    }
}

/// The last value of a parameter that the kernel was booted with.
pub fn parameter<'a>(cmdline: &'a str, name: &str) -> Option<&'a str> {
    let words = cmdline.split_ascii_whitespace().take_while(|word| *word != "--");
    words
        .filter_map(|word| word.split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value)
        .last()
}

#[cfg(test)]
mod tests {
    use tempos_control::Verdict;

    use super::*;

    const DYNAMIC: &str = "Linux version 6.12.1 (x@y) (gcc 14) #1 SMP PREEMPT_DYNAMIC Thu Jan 1";
    const RT: &str = "Linux version 6.12.1-rt (x@y) (gcc 14) #1 SMP PREEMPT_RT Thu Jan 1";
    const FULL: &str = "Linux version 5.4.0 (x@y) (gcc 9) #1 SMP PREEMPT Thu Jan 1";
    const PLAIN: &str = "Linux version 5.4.0 (x@y) (gcc 9) #1 SMP Thu Jan 1";
    const CONFIG: &str = "# CONFIG_PREEMPT is not set\nCONFIG_PREEMPT_NONE=y\nCONFIG_PREEMPT_DYNAMIC=y\n";

    #[test]
    fn what_is_in_force_counts_more_than_what_was_built() {
        let named = |word: &str| Model::Named(word.into());
        for (realtime, debug, version, cmdline, config, expected) in [
            (Some("1"), None, DYNAMIC, "", None, Model::RealTime),
            (None, None, RT, "", None, Model::RealTime),
            (
                Some("0"),
                Some("none voluntary (full) lazy"),
                DYNAMIC,
                "preempt=none",
                Some(CONFIG),
                named("full"),
            ),
            (None, None, DYNAMIC, "quiet preempt=voluntary preempt=full", Some(CONFIG), named("full")),
            (None, None, DYNAMIC, "quiet -- preempt=full", Some(CONFIG), named("none")),
            (None, None, DYNAMIC, "", None, Model::Dynamic),
            (None, None, FULL, "", None, named("full")),
            (None, None, PLAIN, "preempt=full", None, Model::Unknown),
            (None, None, "", "", Some("CONFIG_PREEMPT_VOLUNTARY=y"), named("voluntary")),
        ] {
            assert_eq!(model(realtime, debug, version, cmdline, config), expected, "{version} {cmdline}");
        }
    }

    #[test]
    fn only_full_preemption_is_good() {
        for (model, verdict) in [
            (Model::RealTime, Verdict::Good),
            (Model::Named("full".into()), Verdict::Good),
            (Model::Named("lazy".into()), Verdict::Poor),
            (Model::Named("none".into()), Verdict::Poor),
            (Model::Dynamic, Verdict::Poor),
            (Model::Unknown, Verdict::Poor),
        ] {
            assert_eq!(judge(&model).verdict, verdict, "{model:?}");
            assert_eq!(hindrance(&model).is_none(), verdict == Verdict::Good, "{model:?}");
        }
    }

    #[test]
    fn budgets_for_groups_are_built_in_and_can_be_turned_off() {
        const ON: &str = "CONFIG_CGROUP_SCHED=y\nCONFIG_RT_GROUP_SCHED=y\n";
        const OFF: &str = "CONFIG_RT_GROUP_SCHED=y\nCONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y\n";
        for (config, cmdline, grouped) in [
            (ON, "quiet", true),
            (ON, "quiet rt_group_sched=0", false),
            (OFF, "quiet", false),
            (OFF, "rt_group_sched=1", true),
            ("# CONFIG_RT_GROUP_SCHED is not set\n", "rt_group_sched=1", false),
            ("", "", false),
        ] {
            assert_eq!(groups_real_time(config, cmdline), grouped, "{config} {cmdline}");
        }
    }
}
