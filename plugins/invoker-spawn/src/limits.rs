//! Limits of a process (setrlimit(2)): from what the workflow and the options say, to what the kernel is told.

use tempos_abi::invoker::FunctionSpec;

use crate::config::Config;
use crate::runtime::Runtime;

/// Room for code, libraries and stacks beside the data that `memory` bounds.
const BESIDE_DATA_BYTES: u64 = 256 << 20;
/// What a real-time process may run beyond its deadline before the kernel itself ends it: the node does so at the
/// deadline where it finds a CPU for it.
const BEYOND_DEADLINE_US: u64 = 4000;

/// Resources and their values.
pub type Limits = Vec<(u32, u64)>;

/// The limits of a function's processes.
pub fn of(spec: &FunctionSpec, config: &Config) -> Limits {
    let mut limits = Limits::new();
    if spec.memory_bytes > 0 {
        limits.push((libc::RLIMIT_DATA, spec.memory_bytes));
        // An engine of JavaScript reserves far more addresses than it uses.
        if config.runtime != Runtime::JavaScript {
            limits.push((libc::RLIMIT_AS, spec.memory_bytes.saturating_add(BESIDE_DATA_BYTES)));
        }
    }
    if let Some(files) = config.files {
        limits.push((libc::RLIMIT_NOFILE, files));
    }
    if let Some(seconds) = config.cpu_seconds {
        limits.push((libc::RLIMIT_CPU, seconds));
    }
    if spec.scheduling().policy != 0 && spec.deadline_ns > 0 {
        limits.push((libc::RLIMIT_RTTIME, spec.deadline_ns / 1000 + BEYOND_DEADLINE_US));
    }
    limits
}

/// Sets them for a process that has just been started by this one. What is refused is left as it is.
pub fn set(pid: i32, limits: &[(u32, u64)]) {
    for (resource, value) in limits {
        let both = libc::rlimit { rlim_cur: *value, rlim_max: *value };
        // SAFETY: the struct is live; the old value is not asked for.
        unsafe { libc::prlimit(pid, *resource, &raw const both, std::ptr::null_mut()) };
    }
}
