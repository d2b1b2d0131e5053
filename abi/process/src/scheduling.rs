//! Gives the calling thread a level's scheduling; what it starts inherits it.

use std::io;

use tempos_abi::host::LogLevel;
use tempos_abi::invoker::Scheduling;

/// Applies it as far as the system grants it.
///
/// # Errors
/// What was refused, for a sentence.
pub fn apply(wanted: &Scheduling) -> Result<(), String> {
    apply_to(0, wanted)
}

/// The same for a process of one thread (0: the calling thread), or for that thread of it which is its first.
///
/// # Errors
/// What was refused, for a sentence.
pub fn apply_to(pid: i32, wanted: &Scheduling) -> Result<(), String> {
    let refused = |what: String| Err(format!("{what}: {}", io::Error::last_os_error()));
    let parameter = libc::sched_param { sched_priority: wanted.priority.into() };
    // SAFETY: the struct is live. No RESET_ON_FORK: children are to be like it.
    if unsafe { libc::sched_setscheduler(pid, wanted.policy.into(), &raw const parameter) } != 0 {
        return refused(format!("policy {} with priority {}", wanted.policy, wanted.priority));
    }
    // SAFETY: no pointers.
    let nice = || unsafe { libc::setpriority(libc::PRIO_PROCESS, pid as libc::id_t, wanted.nice.into()) };
    if wanted.policy == 0 && nice() != 0 {
        return refused(format!("nice {}", wanted.nice));
    }
    if wanted.cpus != 0 {
        // SAFETY: all zeros is the empty set; the macro sets bits within it.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        for cpu in (0..64).filter(|cpu| wanted.cpus & 1 << cpu != 0) {
            // SAFETY: 64 is below the size of the set.
            unsafe { libc::CPU_SET(cpu, &mut set) };
        }
        // SAFETY: the set is live.
        if unsafe { libc::sched_setaffinity(pid, size_of::<libc::cpu_set_t>(), &raw const set) } != 0 {
            return refused(format!("CPUs {:#b}", wanted.cpus));
        }
    }
    Ok(())
}

/// What the system grants of a level's scheduling: a process that asks for more than that is not started at all.
pub fn granted(wanted: Scheduling, plugin: &str) -> Scheduling {
    if wanted.policy == 0 {
        return wanted;
    }
    // A thread of its own asks for it, and ends.
    let asked = std::thread::Builder::new().spawn(move || apply(&wanted));
    match asked.map(std::thread::JoinHandle::join) {
        Ok(Ok(Ok(()))) => wanted,
        refused => {
            let what = refused.ok().and_then(Result::ok).and_then(Result::err).unwrap_or_default();
            let sentence = format!("processes are scheduled as all others, since the system refuses {what}");
            tempos_abi::export::log(LogLevel::WARNING, plugin, &sentence);
            Scheduling { policy: 0, priority: 0, nice: 0, cpus: wanted.cpus }
        }
    }
}

/// What the calling thread starts gains no privileges (prctl(2)); this thread neither.
pub fn no_new_privileges() {
    // SAFETY: no pointers. It cannot fail on a kernel since 3.5.
    unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
}
