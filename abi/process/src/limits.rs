//! Limits of a process (setrlimit(2)): from what a workflow says to what the kernel is told.

/// Room for code, libraries and stacks beside the data that `memory` bounds.
const BESIDE_DATA_BYTES: u64 = 256 << 20;
/// What a real-time process may run beyond its deadline before the kernel itself ends it: the node does so at the
/// deadline where it finds a CPU for it.
const BEYOND_DEADLINE_US: u64 = 4000;

/// Resources and their values.
pub type Limits = Vec<(u32, u64)>;

/// Of so much memory. An engine that reserves far more addresses than it uses has its `addresses` unbounded.
pub fn of_memory(bytes: u64, addresses: bool) -> Limits {
    let mut limits = Limits::new();
    if bytes > 0 {
        limits.push((libc::RLIMIT_DATA, bytes));
        if addresses {
            limits.push((libc::RLIMIT_AS, bytes.saturating_add(BESIDE_DATA_BYTES)));
        }
    }
    limits
}

/// What ends a process under a real-time policy that leaves the node no CPU, soon after its deadline.
pub fn of_deadline(deadline_ns: u64) -> (u32, u64) {
    (libc::RLIMIT_RTTIME, deadline_ns / 1000 + BEYOND_DEADLINE_US)
}

/// Sets them for a process that has just been started by this one. What is refused is left as it is.
pub fn set(pid: i32, limits: &[(u32, u64)]) {
    for (resource, value) in limits {
        let both = libc::rlimit { rlim_cur: *value, rlim_max: *value };
        // SAFETY: the struct is live; the old value is not asked for.
        unsafe { libc::prlimit(pid, *resource, &raw const both, std::ptr::null_mut()) };
    }
}
