//! A change of gates goes before all ordinary work: while the kernel has them open nothing else is as urgent.

/// This thread goes before ordinary ones until this is dropped, where the system grants that (CAP_SYS_NICE).
#[derive(Debug)]
pub struct Urgent {
    granted: bool,
}

impl Urgent {
    /// Of a change of gates: the lowest real-time priority, above all ordinary threads, beneath every lane that has one.
    pub const CHANGE: libc::c_int = 1;

    /// Begins; a thread with a real-time priority of its own keeps that.
    pub fn begin(priority: libc::c_int) -> Self {
        // SAFETY: 0 is the calling thread; nothing is handed over.
        let is_ordinary =
            unsafe { libc::sched_getscheduler(0) } & !libc::SCHED_RESET_ON_FORK == libc::SCHED_OTHER;
        let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
        Urgent { granted: is_ordinary && set(0, policy, priority) }
    }

    /// Lends a thread of this process the priority of a change: real-time threads wait for what it has to do.
    pub fn lend(thread: libc::pid_t) {
        if thread > 0 {
            set(thread, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, Urgent::CHANGE);
        }
    }

    /// This thread, which is an ordinary one, gives back what was lent to it.
    pub fn give_back() {
        set(0, libc::SCHED_OTHER, 0);
    }
}

impl Drop for Urgent {
    fn drop(&mut self) {
        if self.granted {
            Urgent::give_back();
        }
    }
}

fn set(thread: libc::pid_t, policy: libc::c_int, priority: libc::c_int) -> bool {
    let parameter = libc::sched_param { sched_priority: priority };
    // SAFETY: the parameter is live for the call; 0 is the calling thread.
    unsafe { libc::sched_setscheduler(thread, policy, &raw const parameter) == 0 }
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
        let urgent = Urgent::begin(Urgent::CHANGE);
        // Where the system does not grant it nothing changes.
        let expected = if urgent.granted { libc::SCHED_FIFO } else { libc::SCHED_OTHER };
        assert_eq!(policy(), expected);
        assert!(!Urgent::begin(Urgent::CHANGE).granted || !urgent.granted, "what is urgent already stays so");
        drop(urgent);
        assert_eq!(policy(), libc::SCHED_OTHER);
    }

    #[test]
    fn what_is_lent_is_given_back() {
        let probe = Urgent::begin(Urgent::CHANGE);
        let expected = if probe.granted { libc::SCHED_FIFO } else { libc::SCHED_OTHER };
        drop(probe);
        // SAFETY: gettid(2) cannot fail.
        Urgent::lend(unsafe { libc::gettid() });
        assert_eq!(policy(), expected);
        Urgent::give_back();
        assert_eq!(policy(), libc::SCHED_OTHER);
    }
}
