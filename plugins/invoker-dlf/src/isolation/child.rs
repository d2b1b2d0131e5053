//! The process's own side: it sets its limits, opens the library, and works on one event after another.
//!
//! Standard input is the shared memory, standard output a pipe that takes `ready` or the reason why not; both
//! are taken away before the function's code runs. Nothing here is trusted by the node.

use std::ffi::{CStr, OsStr};
use std::io::Write;
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering};

use tempos_abi::QosLevel;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::InvokeContext;
use tempos_abi::std_types::RStr;

use super::memory::{EVENT_BYTES_MAX, Header, Memory, NO_OUTPUT, SENTENCE_BYTES_MAX};
use super::wait::{wait, wake};
use crate::config::Reload;
use crate::library::Opened;
use crate::method::InProcess;
use crate::stage::Copy;

/// What the process is told as its arguments, in this order.
#[derive(Clone, Copy, Debug)]
pub struct Orders<'a> {
    /// The library.
    pub file: &'a CStr,
    /// The symbol.
    pub symbol: &'a CStr,
    /// `keep` or `always`.
    pub reload: Reload,
    /// The node's process, which it ends with.
    pub parent: u32,
    /// The most bytes of an output.
    pub output_bytes_max: u32,
    /// Scheduling: policy, priority, nice, CPUs.
    pub scheduling: [u64; 4],
    /// Bytes of memory beyond what it has when it starts; 0: no bound.
    pub memory_bytes: u64,
}

impl<'a> Orders<'a> {
    fn read(mut arguments: impl Iterator<Item = &'a CStr>) -> Option<Self> {
        let file = arguments.next()?;
        let symbol = arguments.next()?;
        let mut number = || arguments.next()?.to_str().ok()?.parse::<u64>().ok();
        Some(Orders {
            file,
            symbol,
            reload: if number()? == 1 { Reload::Always } else { Reload::Keep },
            parent: u32::try_from(number()?).ok()?,
            output_bytes_max: u32::try_from(number()?).ok()?,
            scheduling: [number()?, number()?, number()?, number()?],
            memory_bytes: number()?,
        })
    }

    /// The arguments that [`Orders::read`] reads.
    pub fn numbers(&self) -> [u64; 8] {
        let [policy, priority, nice, cpus] = self.scheduling;
        let reload = u64::from(self.reload == Reload::Always);
        let (parent, output) = (self.parent.into(), self.output_bytes_max.into());
        [reload, parent, output, policy, priority, nice, cpus, self.memory_bytes]
    }
}

/// The header that a signal handler writes to.
static HEADER: AtomicPtr<Header> = AtomicPtr::new(std::ptr::null_mut());

/// The life of the process. The answer is its exit code, where it could not begin.
pub fn run<'a>(arguments: impl Iterator<Item = &'a CStr>) -> i32 {
    let Some(orders) = Orders::read(arguments) else { return 64 };
    // SAFETY: prctl(2), getppid(2) and close_range(2) take no pointers here.
    let orphan = unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_NAME, c"tempos-function".as_ptr());
        libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, 0u32);
        libc::getppid() as u32 != orders.parent
    };
    if orphan {
        return 70;
    }
    let (memory_file, ready) = (take(0, c"/dev/null"), take(1, c""));
    let mut ready = std::fs::File::from(ready);
    match Memory::map(memory_file.as_fd(), orders.output_bytes_max) {
        Ok(memory) => {
            drop(memory_file);
            serve(&orders, &memory, ready)
        }
        Err(error) => {
            let _ = write!(ready, "the shared memory cannot be mapped: {error}");
            71
        }
    }
}

/// Takes a standard descriptor away; a file, or standard error, comes in its place.
fn take(number: i32, instead: &CStr) -> OwnedFd {
    // SAFETY: calls on descriptors of this process, which nothing else uses yet.
    unsafe {
        let own = libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3);
        if instead.is_empty() {
            libc::dup2(2, number);
        } else {
            let file = libc::open(instead.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC);
            libc::dup2(file, number);
            libc::close(file);
        }
        OwnedFd::from_raw_fd(own)
    }
}

fn serve(orders: &Orders<'_>, memory: &Memory, mut ready: std::fs::File) -> i32 {
    schedule(orders);
    HEADER.store(std::ptr::from_ref(memory.header()).cast_mut(), Ordering::Release);
    watch_signals();
    let path = Path::new(OsStr::from_bytes(orders.file.to_bytes()));
    limit_memory(orders.memory_bytes);
    let opened = match Opened::open(path, orders.symbol) {
        Ok(opened) => opened,
        Err(what) => {
            let _ = ready.write_all(what.as_bytes());
            return 65;
        }
    };
    let function = match orders.reload {
        Reload::Keep => InProcess::Kept(opened.keep()),
        Reload::Always => {
            InProcess::Reloaded { copy: Copy::borrowed(path), symbol: orders.symbol.to_owned() }
        }
    };
    if ready.write_all(b"ready").is_err() {
        return 74;
    }
    drop(ready);
    let header = memory.header();
    // Not what the memory says now: the first event may have come already.
    let mut done = 0;
    loop {
        let number = header.request.0.load(Ordering::Acquire);
        if number == done {
            wait(&header.request.0, done, u64::MAX);
            continue;
        }
        header.begun.store(number, Ordering::Release);
        answer(&function, memory);
        done = number;
        header.response.0.store(number, Ordering::Release);
        wake(&header.response.0);
    }
}

/// Runs the function on the event in the memory and puts the answer there.
fn answer(function: &InProcess, memory: &Memory) {
    let header = memory.header();
    let lengths = [0, 1, 2].map(|at| header.lengths[at].load(Ordering::Relaxed) as usize);
    let mut at = 0;
    let parts = lengths.map(|bytes| {
        let start = at;
        at += bytes;
        // SAFETY: the node has put so many bytes there, within the area, and waits for the answer.
        unsafe { std::slice::from_raw_parts(memory.event().add(start.min(EVENT_BYTES_MAX)), bytes) }
    });
    let event = EventView {
        id: header.id.load(Ordering::Relaxed),
        topic: RStr::from_str(std::str::from_utf8(parts[0]).unwrap_or_default()),
        level: QosLevel(header.level.load(Ordering::Relaxed) as u8),
        source_time_ns: header.source_time_ns.load(Ordering::Relaxed),
        arrival_ns: header.arrival_ns.load(Ordering::Relaxed),
        deadline_ns: header.deadline_ns.load(Ordering::Relaxed),
        payload: parts[2].into(),
        attribute_block: parts[1].into(),
        reserved: [0; 4],
    };
    let deadline_ns = header.call_deadline_ns.load(Ordering::Relaxed);
    let context = InvokeContext { worker: 0, flags: 0, deadline_ns, reserved: [0; 2] };
    let mut sentence = [0; SENTENCE_BYTES_MAX];
    // SAFETY: the area is ours until the answer is given.
    let buffer = unsafe { std::slice::from_raw_parts_mut(memory.output(), memory.output_bytes_max()) };
    let mut output = Output::new(buffer, &mut sentence);
    // SAFETY: errno is this thread's own.
    unsafe { *libc::__errno_location() = 0 };
    let outcome = function.invoke(&event, &mut output, &context);
    let length = output.emitted().map_or(NO_OUTPUT, |bytes| bytes as u32);
    let said = output.explanation_len();
    memory.write_sentence(&sentence[..said]);
    header.output_bytes.store(length, Ordering::Relaxed);
    header.outcome.store(outcome.0, Ordering::Relaxed);
}

/// Takes on the scheduling of the level. What the system refuses stays as it is: the node says elsewhere what
/// it was not granted.
fn schedule(orders: &Orders<'_>) {
    let [policy, priority, nice, cpus] = orders.scheduling;
    // SAFETY: the structs are live; all calls concern this process alone.
    unsafe {
        if cpus != 0 {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            (0..64).filter(|cpu| cpus >> cpu & 1 == 1).for_each(|cpu| libc::CPU_SET(cpu, &mut set));
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        }
        if policy != 0 {
            let parameters = libc::sched_param { sched_priority: priority as i32 };
            // What the function starts by itself is not to run in real time.
            let policy = policy as i32 | libc::SCHED_RESET_ON_FORK;
            libc::sched_setscheduler(0, policy, &raw const parameters);
        } else if nice != 0 {
            libc::setpriority(libc::PRIO_PROCESS, 0, nice as i64 as i32);
        }
    }
}

/// Lets the process have so much memory beyond what it has now. Core files are for crashes that nobody expects.
fn limit_memory(bytes: u64) {
    // SAFETY: one valid struct each.
    unsafe {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        if bytes == 0 {
            return;
        }
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let pages: u64 = pages.split(' ').next().and_then(|pages| pages.parse().ok()).unwrap_or(0);
        let most = (pages * 4096).saturating_add(bytes);
        let most = libc::rlimit { rlim_cur: most, rlim_max: most };
        libc::prlimit(0, libc::RLIMIT_AS, &raw const most, std::ptr::null_mut());
    }
}

/// The signals of a crash write down what they are before they end the process.
fn watch_signals() {
    const STACK_BYTES: usize = 64 << 10;
    // A stack of its own: the function's may be what has come to its end.
    let stack = Box::leak(vec![0u8; STACK_BYTES].into_boxed_slice());
    // SAFETY: the stack lives for good, the structs are live, the handler does what a handler may do.
    unsafe {
        let stack = libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: STACK_BYTES };
        libc::sigaltstack(&raw const stack, std::ptr::null_mut());
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_crash as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_RESETHAND | libc::SA_NODEFER;
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGABRT, libc::SIGILL, libc::SIGFPE, libc::SIGTRAP]
        {
            libc::sigaction(signal, &raw const action, std::ptr::null_mut());
        }
    }
}

/// After this the signal comes again, and ends the process.
extern "C" fn on_crash(signal: i32) {
    let header = HEADER.load(Ordering::Acquire);
    // SAFETY: errno is this thread's own; the header is mapped for as long as the process lives.
    unsafe {
        let starved = *libc::__errno_location() == libc::ENOMEM;
        if let Some(header) = header.as_ref() {
            header.starved.store(u32::from(starved), Ordering::Relaxed);
            header.signal.store(signal as u32, Ordering::Release);
        }
        libc::raise(signal);
    }
}
