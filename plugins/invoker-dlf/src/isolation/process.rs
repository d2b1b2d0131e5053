//! A function's process as the node sees it: started, watched, killed, reaped.

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::child::Orders;
use super::wait::now_ns;

/// How long a process may take to be ready: the library's constructors run in this time.
pub const START_LIMIT_NS: u64 = 2_000_000_000;
const REFUSAL_BYTES_MAX: u64 = 1024;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with an exit code.
    Exited(i32),
    /// By a signal.
    Signal(i32),
}

impl End {
    /// Says it, as the end of a sentence, without allocating.
    pub fn tell(self, into: &mut impl Write) {
        let _ = match self {
            End::Exited(code) => write!(into, "it ended its process with exit code {code}"),
            End::Signal(signal) => {
                let word = match signal {
                    libc::SIGSEGV => "segmentation fault",
                    libc::SIGABRT => "abort",
                    libc::SIGBUS => "bus error",
                    libc::SIGILL => "illegal instruction",
                    libc::SIGFPE => "arithmetic error",
                    libc::SIGKILL => "killed from outside, for lack of memory perhaps",
                    _ => "see signal(7)",
                };
                write!(into, "its process was ended by signal {signal} ({word})")
            }
        };
    }
}

/// A process that is alive or waits to be reaped; dropping it kills and reaps.
#[derive(Debug)]
pub struct Process {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    /// What the function prints.
    pub printed: File,
}

impl Process {
    /// Starts one that is to share `memory`, and waits until it is ready. Only the function's keeper does
    /// this: the process ends with the thread that started it (PR_SET_PDEATHSIG).
    ///
    /// # Errors
    /// What is wrong, for the end of a sentence.
    pub fn start(orders: &Orders<'_>, name: &str, memory: OwnedFd) -> Result<Self, String> {
        let system = |what: &str, error: io::Error| format!("its process cannot be {what}: {error}");
        let (loader, own) = (file_of(loader_address()), file_of(Some(Process::start as *const () as usize)));
        let (Some(loader), Some(own)) = (loader, own) else {
            return Err(String::from("its process cannot be started: the plugin does not find its own file"));
        };
        let (mut ready, ready_end) = io::pipe().map_err(|error| system("started", error))?;
        let (printed, printed_end) = io::pipe().map_err(|error| system("started", error))?;
        for end in [printed.as_raw_fd(), printed_end.as_raw_fd()] {
            // SAFETY: a flag of a descriptor that is ours. Nobody waits for a function's prints: those that
            // are not fetched in time are lost.
            unsafe { libc::fcntl(end, libc::F_SETFL, libc::O_NONBLOCK) };
        }
        let mut command = Command::new(loader);
        command.arg("--argv0").arg(format!("tempos-function:{name}")).arg(own);
        command.arg(text(orders.file)).arg(text(orders.symbol));
        command.args(orders.numbers().map(|number| number.to_string()));
        for inherited in ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC"] {
            command.env_remove(inherited);
        }
        // Without a hook between fork and exec the standard library takes posix_spawn(3).
        let child = command
            .stdin(Stdio::from(memory))
            .stdout(Stdio::from(ready_end))
            .stderr(Stdio::from(printed_end))
            .process_group(0)
            .spawn()
            .map_err(|error| system("started", error))?;
        drop(command);
        let pid = child.id() as libc::pid_t;
        // SAFETY: pidfd_open(2) takes two numbers; the child is ours and not reaped.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) } as RawFd;
        if pidfd < 0 {
            let error = io::Error::last_os_error();
            reap(pid);
            return Err(system("watched", error));
        }
        // SAFETY: the descriptor was just made and belongs to nobody else.
        let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
        let process = Process { pid, pidfd, printed: File::from(OwnedFd::from(printed)) };
        process.await_ready(&mut ready)?;
        Ok(process)
    }

    fn await_ready(&self, ready: &mut io::PipeReader) -> Result<(), String> {
        let limit_ns = now_ns() + START_LIMIT_NS;
        let mut said = Vec::new();
        loop {
            let left_ns = limit_ns.saturating_sub(now_ns());
            if left_ns == 0 {
                return Err(format!("it was not ready within {} s", START_LIMIT_NS / 1_000_000_000));
            }
            poll(&mut [readable(ready.as_raw_fd()), readable(self.pidfd.as_raw_fd())], left_ns);
            let mut first = [readable(ready.as_raw_fd())];
            poll(&mut first, 0);
            let mut bytes = [0; 256];
            // What lies in the pipe is read even where the process has ended since.
            let count = if first[0].revents == 0 { 0 } else { ready.read(&mut bytes).unwrap_or(0) };
            said.extend_from_slice(&bytes[..count]);
            if said.starts_with(b"ready") {
                return Ok(());
            }
            if count == 0 || said.len() as u64 > REFUSAL_BYTES_MAX {
                if !said.is_empty() {
                    return Err(String::from_utf8_lossy(&said).into_owned());
                }
                if let Some(end) = self.ended() {
                    let mut sentence = Vec::from(*b"while it was opened, ");
                    end.tell(&mut sentence);
                    return Err(String::from_utf8_lossy(&sentence).into_owned());
                }
            }
        }
    }

    /// Its number, valid until it is dropped.
    pub fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Readable once it has ended.
    pub fn descriptor(&self) -> RawFd {
        self.pidfd.as_raw_fd()
    }

    /// Kills it and what it has started.
    pub fn kill(&self) {
        let (number, none) = (self.pidfd.as_raw_fd(), std::ptr::null::<libc::siginfo_t>());
        // SAFETY: the process is not reaped before `self` is dropped, so both numbers are still its own.
        unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, number, libc::SIGKILL, none, 0);
            libc::kill(-self.pid, libc::SIGKILL);
        }
    }

    /// How it ended, where it has. It stays to be reaped.
    pub fn ended(&self) -> Option<End> {
        // SAFETY: all zeroes is a valid siginfo_t.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        // SAFETY: the struct is live.
        let done = unsafe { libc::waitid(libc::P_PID, self.pid as libc::id_t, &raw mut info, flags) };
        // SAFETY: waitid(2) has filled it, or left it zero.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        match info.si_code {
            _ if done != 0 || pid == 0 => None,
            libc::CLD_EXITED => Some(End::Exited(status)),
            _ => Some(End::Signal(status)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        reap(self.pid);
    }
}

/// Takes a killed process away.
fn reap(pid: libc::pid_t) {
    // SAFETY: the child is ours and not reaped yet.
    unsafe {
        libc::kill(-pid, libc::SIGKILL);
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, std::ptr::null_mut(), 0);
    }
}

/// One entry for [`poll`].
pub fn readable(fd: RawFd) -> libc::pollfd {
    libc::pollfd { fd, events: libc::POLLIN, revents: 0 }
}

/// Waits until one of the descriptors has something, at most so long.
pub fn poll(fds: &mut [libc::pollfd], limit_ns: u64) {
    let limit_ms = i32::try_from(limit_ns.div_ceil(1_000_000)).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the length are those of the slice.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, limit_ms) };
}

fn text(text: &CStr) -> &OsStr {
    OsStr::from_bytes(text.to_bytes())
}

/// Where the dynamic loader lies.
fn loader_address() -> Option<usize> {
    // SAFETY: getauxval(3) takes a number.
    let address = unsafe { libc::getauxval(libc::AT_BASE) } as usize;
    (address != 0).then_some(address)
}

/// The file that an address was mapped from.
fn file_of(address: Option<usize>) -> Option<OsString> {
    // SAFETY: all zeroes is a value of the struct.
    let mut info: libc::Dl_info = unsafe { std::mem::zeroed() };
    // SAFETY: dladdr(3) takes any address and fills the struct, whose name lives as long as the library.
    unsafe {
        (libc::dladdr(address? as *const _, &raw mut info) != 0 && !info.dli_fname.is_null())
            .then(|| text(CStr::from_ptr(info.dli_fname)).to_owned())
    }
}
