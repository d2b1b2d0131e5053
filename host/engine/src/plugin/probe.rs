//! The trial load in a child process. dlopen(3) runs a file's constructors before anything can be
//! checked: one that crashes, ends the process or never returns costs a child here, not the node.
//!
//! The child writes each step to its standard output before it takes it, then one line with the result;
//! what the plugin itself prints there is passed over. The wait is bounded, and the child ends with its
//! parent.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempos_abi::PluginKind;
use tempos_control::units;

use super::load::{self, LoadFailure, Step};
use super::manifest::Manifest;
use super::{host_api, one_line};

const STEP_MARK: &str = "tempos-probe step ";
const RESULT_MARK: &str = "tempos-probe result ";
/// Room for the longest layout report; what comes after is read and dropped.
const STDOUT_BYTES_MAX: usize = 4 * 1024 * 1024;
const STDERR_BYTES_MAX: usize = 64 * 1024;

/// Loads `staged` in a child and checks that it is what `manifest` says.
///
/// # Errors
/// One sentence about the file.
pub fn probe(
    command: &[OsString],
    timeout: Duration,
    staged: &Path,
    manifest: &Manifest,
) -> Result<(), LoadFailure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(LoadFailure::from(String::from("no command is set for the probe")));
    };
    // Without a pre_exec hook the standard library takes posix_spawn(3): no copy of a large process.
    let child = Command::new(program)
        .args(arguments)
        .arg(staged)
        .env("RUST_BACKTRACE", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| format!("the probe {program:?} cannot be started: {error}"))?;
    let ended =
        Ended::wait(child, timeout).map_err(|error| format!("the probe cannot be watched: {error}"))?;
    ended.judge(timeout, manifest)
}

/// How a child ended.
struct Ended {
    /// None: it was killed because its time was over.
    status: Option<ExitStatus>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ended {
    /// Waits for the child's end while emptying its pipes, at most `timeout`; then whatever it started is
    /// killed, and the child itself where it did not end.
    fn wait(mut child: Child, timeout: Duration) -> io::Result<Ended> {
        let watched = Self::watch(&mut child, timeout);
        // SAFETY: kill(2) takes no pointers. The child is not reaped yet, so its group is still its own.
        unsafe { libc::kill(-(child.id() as libc::pid_t), libc::SIGKILL) };
        let status = child.wait()?;
        let (in_time, stdout, stderr) = watched?;
        Ok(Ended { status: in_time.then_some(status), stdout, stderr })
    }

    /// Whether the child ended in time, and what it wrote.
    fn watch(child: &mut Child, timeout: Duration) -> io::Result<(bool, Vec<u8>, Vec<u8>)> {
        let deadline = Instant::now() + timeout;
        let mut out = Pipe::new(child.stdout.take(), STDOUT_BYTES_MAX)?;
        let mut err = Pipe::new(child.stderr.take(), STDERR_BYTES_MAX)?;
        let pidfd = pidfd(child.id());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // A kernel before 5.3 has no pidfd: then look every 5 ms.
            let nap = if pidfd.is_some() { left } else { left.min(Duration::from_millis(5)) };
            poll(&[out.fd(), err.fd(), pidfd.as_ref().map_or(-1, AsRawFd::as_raw_fd)], nap)?;
            let ended = has_ended(child.id())?;
            // After its end too: what it wrote last. Whoever else holds the pipes is not waited for.
            out.drain()?;
            err.drain()?;
            if ended || left.is_zero() {
                return Ok((ended, out.kept, err.kept));
            }
        }
    }

    fn judge(&self, timeout: Duration, manifest: &Manifest) -> Result<(), LoadFailure> {
        let stdout = String::from_utf8_lossy(&self.stdout);
        let step =
            stdout.lines().filter_map(|line| line.strip_prefix(STEP_MARK)).filter_map(step_of).next_back();
        let phrase = step.map_or("the probe", Step::phrase);
        let Some(status) = self.status else {
            let limit = units::show_ns(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX));
            return Err(LoadFailure::from(format!("{phrase} did not return within {limit}")));
        };
        let stderr = String::from_utf8_lossy(&self.stderr);
        let panicked = panic_message(&stderr).map(|said| format!("{phrase} panicked: {said}"));
        if let Some(signal) = status.signal() {
            let died = || format!("{phrase} died by signal {signal} ({})", signal_word(signal));
            // A panic that may not unwind ends in abort(3): its message says more than the signal.
            return Err(LoadFailure::from(panicked.filter(|_| signal == libc::SIGABRT).unwrap_or_else(died)));
        }
        let result = stdout.lines().rev().find_map(|line| line.strip_prefix(RESULT_MARK));
        let Some(result) = result.and_then(|line| serde_json::from_str::<Value>(line).ok()) else {
            let said = stderr.lines().next().map(|line| format!(": {line}")).unwrap_or_default();
            let code = status.code().unwrap_or(-1);
            return Err(LoadFailure::from(format!("{phrase} ended the process with exit code {code}{said}")));
        };
        let text = |key: &str| result.get(key).and_then(Value::as_str);
        if let Some(refused) = text("refused") {
            let sentence = panicked.unwrap_or_else(|| refused.to_owned());
            return Err(LoadFailure {
                sentence: one_line(&sentence),
                detail: text("detail").map(str::to_owned),
            });
        }
        let kind = result.get("kind").and_then(Value::as_u64).and_then(|kind| u8::try_from(kind).ok());
        load::same(
            manifest,
            text("name").unwrap_or_default(),
            text("version").unwrap_or_default(),
            PluginKind(kind.unwrap_or(0)),
        )
        .map_err(LoadFailure::from)
    }
}

/// The child's side: loads the file at `path`, starts it with a host that does nothing, makes and drops
/// what its factory makes, writes the result and ends the process.
///
/// Exit code: 0 where it would load, 1 where it was refused. The process ends by `_exit`: destructors of
/// foreign code are not run.
pub fn probe_main(path: &Path) -> ! {
    // SAFETY: prctl(2) with PR_SET_PDEATHSIG and setrlimit(2) take integers and one valid structure.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        libc::setrlimit(libc::RLIMIT_CORE, &none); // A crash here is an answer, not a case for the core folder.
    }
    let say = |line: String| {
        let mut stdout = io::stdout().lock();
        let _ = writeln!(stdout, "\n{line}").and_then(|()| stdout.flush());
    };
    let loaded = load::load(path, host_api::deaf(), |step| say(format!("{STEP_MARK}{}", step.phrase())));
    let (result, code) = match loaded {
        Ok(load::Loaded { info, factory }) => {
            drop(factory);
            (json!({ "name": info.name, "version": info.version, "kind": info.kind.0 }), 0)
        }
        Err(failure) => (json!({ "refused": failure.sentence, "detail": failure.detail }), 1),
    };
    say(format!("{RESULT_MARK}{result}"));
    // SAFETY: _exit(2) ends the process at once and has no preconditions.
    unsafe { libc::_exit(code) }
}

fn step_of(phrase: &str) -> Option<Step> {
    Step::ALL.into_iter().find(|step| step.phrase() == phrase)
}

/// The message of the last panic that the standard library's hook printed: it stands on the line after
/// `thread 'main' panicked at FILE:LINE:COLUMN:`.
fn panic_message(stderr: &str) -> Option<String> {
    // "cannot unwind" is the second panic, which only says that the first one met the border.
    let mut lines = stderr.lines();
    let mut said = None;
    while let Some(line) = lines.next() {
        if line.contains(" panicked at ")
            && let Some(message) = lines.next()
            && !message.contains("cannot unwind")
        {
            said = Some(one_line(message));
        }
    }
    said
}

fn signal_word(signal: i32) -> &'static str {
    match signal {
        libc::SIGILL => "illegal instruction",
        libc::SIGTRAP => "trap",
        libc::SIGABRT => "abort",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "arithmetic error",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGXCPU => "CPU time limit",
        libc::SIGSYS => "bad system call",
        _ => "see signal(7)",
    }
}

/// The reading end of a child's output, of which the first `room` bytes are kept.
struct Pipe {
    fd: Option<std::fs::File>,
    kept: Vec<u8>,
    room: usize,
}

impl Pipe {
    fn new(end: Option<impl Into<OwnedFd>>, room: usize) -> io::Result<Pipe> {
        let Some(end) = end else { return Ok(Pipe { fd: None, kept: Vec::new(), room }) };
        let fd: OwnedFd = end.into();
        // SAFETY: fcntl(2) with F_SETFL on a descriptor that we own.
        if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Pipe { fd: Some(fd.into()), kept: Vec::new(), room })
    }

    fn fd(&self) -> RawFd {
        self.fd.as_ref().map_or(-1, AsRawFd::as_raw_fd)
    }

    /// Reads what is there now: at most 64 chunks, so that a child which never stops writing does not
    /// hold up the look at the clock.
    fn drain(&mut self) -> io::Result<()> {
        let mut chunk = [0_u8; 16 * 1024];
        for _ in 0..64 {
            let Some(fd) = &mut self.fd else { return Ok(()) };
            match fd.read(&mut chunk) {
                Ok(0) => self.fd = None,
                Ok(count) => {
                    let take = count.min(self.room - self.kept.len());
                    self.kept.extend_from_slice(&chunk[..take]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Whether the child ended; it stays a zombie, which keeps its process group's number taken.
fn has_ended(pid: u32) -> io::Result<bool> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` has room for the structure.
    if unsafe { libc::waitid(libc::P_PID, pid, info.as_mut_ptr(), flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all zeroes are a valid siginfo_t, and waitid(2) leaves it so where nothing ended.
    Ok(unsafe { info.assume_init().si_pid() } != 0)
}

/// A descriptor that becomes readable when the process ends: pidfd_open(2).
fn pidfd(pid: u32) -> Option<OwnedFd> {
    // SAFETY: pidfd_open(2) takes a process number and flags.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid as libc::pid_t, 0) };
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Waits until one of the descriptors has something, at most `limit`; negative ones are passed over.
fn poll(fds: &[RawFd], limit: Duration) -> io::Result<()> {
    let mut polled: Vec<libc::pollfd> =
        fds.iter().map(|fd| libc::pollfd { fd: *fd, events: libc::POLLIN, revents: 0 }).collect();
    // Rounded up, so that the last nap does not become a spin.
    let limit_ms = i32::try_from(limit.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    // SAFETY: the pointer and the length are those of `polled`.
    if unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, limit_ms) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_a_panic_is_found() {
        let stderr = "something\n\nthread 'main' (12) panicked at src/lib.rs:5:9:\nplanted\nnote: run with `RUST_BACKTRACE=1`\n\
                      \nthread 'main' (12) panicked at core/panicking.rs:1:1:\npanic in a function that cannot unwind\n";
        assert_eq!(panic_message(stderr).as_deref(), Some("planted"));
        assert_eq!(panic_message("all is well"), None);
    }
}
