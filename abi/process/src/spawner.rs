//! The thread that starts the processes of a function: scheduled as its level, so that they are, too, and the
//! function workers need not (what they start would be reset to the ordinary scheduling).
//!
//! A worker hands over one start at a time and waits for it, at most until the event's deadline; what comes later
//! than that is ended here.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tempos_abi::host::LogLevel;
use tempos_abi::invoker::Scheduling;

use crate::clock::now_ns;
use crate::environment::Variables;
use crate::process::Process;
use crate::program::Stdio;
use crate::scheduling;
use crate::source::Source;

const STACK_BYTES: usize = 256 * 1024;

/// What a process is started with.
pub struct Start {
    /// The event's variables; they come back with the answer.
    pub variables: Variables,
    /// Its standard input.
    pub input: OwnedFd,
    /// Its standard output.
    pub output: OwnedFd,
    /// Its standard error.
    pub errors: OwnedFd,
}

/// What has become of it.
pub struct Started {
    /// The process, or what the system refused.
    pub process: io::Result<Process>,
    /// The variables that it was started with.
    pub variables: Variables,
}

struct Request {
    worker: usize,
    ticket: u64,
    start: Start,
}

/// Where the answers for one worker arrive.
#[derive(Default)]
struct Mailbox {
    /// The start that is waited for; an answer to an earlier one is of no use any more.
    ticket: u64,
    answer: Option<Started>,
}

#[derive(Default)]
struct Orders {
    waiting: VecDeque<Request>,
    stop: bool,
}

struct Shared {
    source: Box<dyn Source>,
    orders: Mutex<Orders>,
    bell: Condvar,
    mailboxes: Vec<(Mutex<Mailbox>, Condvar)>,
}

/// The thread, and the way to it.
pub struct Spawner {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread is to be: its level's scheduling, and whether its children may gain privileges.
#[derive(Clone, Copy, Debug)]
pub struct Nature {
    /// The method's plugin, for thread names and the log.
    pub plugin: &'static str,
    /// The level's.
    pub scheduling: Scheduling,
    /// Neither it nor what it starts gains privileges.
    pub no_new_privs: bool,
}

impl Nature {
    /// Makes the calling thread so. What the system refuses is logged.
    pub fn assume(&self, function: &str) {
        if let Err(what) = scheduling::apply(&self.scheduling) {
            let sentence =
                format!("function of workflow \"{function}\": its processes go without the level's {what}");
            tempos_abi::export::log(LogLevel::WARNING, self.plugin, &sentence);
        }
        if self.no_new_privs {
            scheduling::no_new_privileges();
        }
    }
}

impl Spawner {
    /// Starts the thread for so many workers.
    ///
    /// # Errors
    /// What the system refuses (EAGAIN).
    pub fn new(name: &str, source: Box<dyn Source>, workers: usize, nature: Nature) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            source,
            orders: Mutex::new(Orders { waiting: VecDeque::with_capacity(workers), stop: false }),
            bell: Condvar::new(),
            mailboxes: (0..workers).map(|_| Default::default()).collect(),
        });
        let (of_thread, function) = (Arc::clone(&shared), name.to_owned());
        let thread = thread_for(nature.plugin, name).spawn(move || {
            nature.assume(&function);
            of_thread.run();
        })?;
        Ok(Spawner { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Starts a process for a worker, and waits for it until the deadline (CLOCK_MONOTONIC, ns; 0: no bound).
    /// `None` where that passed first.
    pub fn start(&self, worker: usize, start: Start, deadline_ns: u64) -> Option<Started> {
        let (mailbox, arrived) = self.shared.mailboxes.get(worker)?;
        let mut mailbox = locked(mailbox);
        mailbox.ticket += 1;
        mailbox.answer = None;
        let request = Request { worker, ticket: mailbox.ticket, start };
        {
            let mut orders = locked(&self.shared.orders);
            // A worker waits for one at a time: there are never more than workers, but for those given up.
            if orders.stop || orders.waiting.len() >= 2 * self.shared.mailboxes.len() {
                return None;
            }
            orders.waiting.push_back(request);
        }
        self.shared.bell.notify_one();
        loop {
            if let Some(answer) = mailbox.answer.take() {
                return Some(answer);
            }
            let left = if deadline_ns == 0 { u64::MAX } else { deadline_ns.saturating_sub(now_ns()) };
            if left == 0 {
                mailbox.ticket += 1;
                return None;
            }
            let time = Duration::from_nanos(left.min(1_000_000_000));
            mailbox = arrived.wait_timeout(mailbox, time).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the thread.
    pub fn stop(&self) {
        locked(&self.shared.orders).stop = true;
        self.shared.bell.notify_all();
        if let Some(thread) = locked(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let request = {
                let mut orders = locked(&self.orders);
                loop {
                    if orders.stop {
                        return;
                    }
                    match orders.waiting.pop_front() {
                        Some(request) => break request,
                        None => orders = self.bell.wait(orders).unwrap_or_else(PoisonError::into_inner),
                    }
                }
            };
            self.carry_out(request);
        }
    }

    fn carry_out(&self, request: Request) {
        let Request { worker, ticket, start } = request;
        let Some((mailbox, arrived)) = self.mailboxes.get(worker) else { return };
        if locked(mailbox).ticket != ticket {
            return;
        }
        let Start { variables, input, output, errors } = start;
        let stdio =
            Stdio::Plain { input: input.as_raw_fd(), output: output.as_raw_fd(), errors: errors.as_raw_fd() };
        let process = self.source.start(Some(&variables), &stdio);
        // The worker sees the end of the output when the process closes it: nobody else may hold it.
        drop((input, output, errors));
        let mut mailbox = locked(mailbox);
        if mailbox.ticket == ticket {
            mailbox.answer = Some(Started { process, variables });
            arrived.notify_one();
        }
    }
}

/// A thread that is named after a plugin and a function.
pub fn thread_for(plugin: &str, name: &str) -> std::thread::Builder {
    let short: String = name.chars().filter(|c| *c != '\0').take(8).collect();
    std::thread::Builder::new().name(format!("{plugin}-{short}")).stack_size(STACK_BYTES)
}

/// What a mutex guards; a panic elsewhere has been reported there.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
