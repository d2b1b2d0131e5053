//! Limits of a function's processes: what the workflow and the options say.

use tempos_abi::invoker::FunctionSpec;
use tempos_process::limits::{Limits, of_deadline, of_memory};
use tempos_process::runtime::Runtime;

use crate::config::Config;

/// The limits of a function's processes.
pub fn of(spec: &FunctionSpec, config: &Config) -> Limits {
    let mut limits = of_memory(spec.memory_bytes, config.runtime != Runtime::JavaScript);
    if let Some(files) = config.files {
        limits.push((libc::RLIMIT_NOFILE, files));
    }
    if let Some(seconds) = config.cpu_seconds {
        limits.push((libc::RLIMIT_CPU, seconds));
    }
    if spec.scheduling().policy != 0 && spec.deadline_ns > 0 {
        limits.push(of_deadline(spec.deadline_ns));
    }
    limits
}
