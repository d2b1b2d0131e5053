//! A change of gates goes before all ordinary work: while the kernel has them open nothing else is as urgent.

/// The lowest real-time priority: above all ordinary threads, beneath every lane that has one.
const PRIORITY: libc::c_int = 1;

/// This thread goes before ordinary ones until this is dropped, where the system grants that (CAP_SYS_NICE).
#[derive(Debug)]
pub struct Urgent {
    granted: bool,
}

impl Urgent {
    /// Begins; a thread with a real-time priority of its own keeps that.
    pub fn begin() -> Self {
        // SAFETY: 0 is the calling thread; nothing is handed over.
        let is_ordinary =
            unsafe { libc::sched_getscheduler(0) } & !libc::SCHED_RESET_ON_FORK == libc::SCHED_OTHER;
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        Urgent { granted: is_ordinary && set(policy, PRIORITY) }
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if self.granted {
            set(libc::SCHED_OTHER, 0);
        }
    }
}

fn set(policy: libc::c_int, priority: libc::c_int) -> bool {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter is live for the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const parameter) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> libc::c_int {
        // SAFETY: 0 is the calling thread; nothing is handed over.
        unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
    }

    #[test]
    fn a_thread_is_urgent_only_meanwhile() {
        let urgent = Urgent::begin();
        // Where the system does not grant it nothing changes.
        let expected = if urgent.granted { libc::SCHED_FIFO } else { libc::SCHED_OTHER };
        assert_eq!(policy(), expected);
        assert!(!Urgent::begin().granted || !urgent.granted, "what is urgent already stays so");
        drop(urgent);
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
