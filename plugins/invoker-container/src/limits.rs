//! Limits of a function's processes: what the workflow and the options say, and what the container's first process has
//! where that is less than the node's own.

use std::fs;

use tempos_abi::invoker::FunctionSpec;
use tempos_process::limits::{of_deadline, of_memory};
use tempos_process::runtime::Runtime;

use crate::config::Config;

/// Of the limits in /proc/PID/limits, in the order of their numbers, those after this one are about scheduling, which
/// is the level's business.
const LAST: u32 = libc::RLIMIT_MSGQUEUE;

/// As the launcher is told them: `RESOURCE=SOFT:HARD`.
pub fn of(spec: &FunctionSpec, config: &Config, pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
    let mut all: Vec<(u32, u64, u64)> =
        parse(&text).into_iter().filter_map(|(resource, soft, hard)| lower(resource, soft, hard)).collect();
    let mut own = of_memory(spec.memory_bytes, config.runtime != Runtime::JavaScript);
    own.extend(config.files.map(|files| (libc::RLIMIT_NOFILE, files)));
    own.extend(config.cpu_seconds.map(|seconds| (libc::RLIMIT_CPU, seconds)));
    if spec.scheduling().policy != 0 && spec.deadline_ns > 0 {
        own.push(of_deadline(spec.deadline_ns));
    }
    for (resource, value) in own {
        match all.iter_mut().find(|(of, ..)| *of == resource) {
            Some((_, soft, hard)) => (*soft, *hard) = (value.min(*hard), value.min(*hard)),
            None => all.push((resource, value, value)),
        }
    }
    all.into_iter().map(|(resource, soft, hard)| format!("{resource}={soft}:{hard}")).collect()
}

/// The lines of /proc/PID/limits (proc(5)): a name of 25 columns, then soft and hard limit of 20 each.
fn parse(text: &str) -> Vec<(u32, u64, u64)> {
    let number = |text: Option<&str>| match text.map(str::trim) {
        Some("unlimited") => Some(libc::RLIM_INFINITY),
        text => text?.parse().ok(),
    };
    let lines = text.lines().skip(1).zip(0..=LAST);
    lines
        .filter_map(|(line, resource)| {
            Some((resource, number(line.get(26..47))?, number(line.get(47..68).or(line.get(47..)))?))
        })
        .collect()
}

/// What of a limit is to be set here: only downwards.
fn lower(resource: u32, soft: u64, hard: u64) -> Option<(u32, u64, u64)> {
    let mut own = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the struct is live.
    unsafe { libc::getrlimit(resource as _, &raw mut own) };
    let (new_soft, new_hard) = (soft.min(own.rlim_max), hard.min(own.rlim_max));
    ((new_soft, new_hard) != (own.rlim_cur, own.rlim_max)).then_some((resource, new_soft, new_hard))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read_by_its_columns() {
        let own = fs::read_to_string("/proc/self/limits").expect("this process");
        let all = parse(&own);
        assert_eq!(all.len(), LAST as usize + 1);
        for (resource, soft, hard) in all {
            assert_eq!(lower(resource, soft, hard), None, "{resource}: it is this process's own");
        }
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            12                   seconds   \n";
        assert_eq!(parse(text), [(0, libc::RLIM_INFINITY, 12)]);
        assert_eq!(lower(0, 5, 12), Some((0, 5, 12)));
        assert!(parse("nonsense\nmore nonsense\n").is_empty());
    }
}
