//! The launcher `tempos-exec`: carried inside this library, started from memory, and what it is told.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::OnceLock;

use crate::clock::now_ns;
use crate::each::pipe;
use crate::limits::Limits;
use crate::program::{Program, Stdio};
use crate::tail::Tail;

/// Built by `build.rs` from `launcher/`.
static BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/tempos-exec"));

/// The code that the launcher ends with where it could not become the function.
pub const REFUSED: i32 = 125;
/// How long it may take to show what the system grants.
const CHECK_NS: u64 = 5_000_000_000;

/// How its sentences begin.
pub const SAYS: &str = "tempos-exec: ";

/// The path to start it by: memory of this process, which stays for its life.
///
/// # Errors
/// What the system refuses.
pub fn path() -> io::Result<CString> {
    static FILE: OnceLock<OwnedFd> = OnceLock::new();
    let file = match FILE.get() {
        Some(file) => file,
        None => {
            // SAFETY: the name is a text.
            let file = unsafe {
                libc::memfd_create(c"tempos-exec".as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING)
            };
            if file < 0 {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: just opened, and nobody else's.
            let mut file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(file) });
            file.write_all(BYTES)?;
            let seals = libc::F_SEAL_WRITE | libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL;
            // Whoever gets hold of it, as what runs in a container might, cannot change it.
            // SAFETY: no pointers.
            if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) } != 0 {
                return Err(io::Error::last_os_error());
            }
            FILE.get_or_init(|| file.into())
        }
    };
    // Not `/proc/self`: the child has closed it when it gets there.
    let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    Ok(CString::new(path).unwrap_or_default())
}

/// The program that is started through the launcher: carries out `orders`, then becomes the first of `command`.
///
/// # Errors
/// What the system refuses.
pub fn program(orders: &[String], command: &[String], environment: &[String]) -> io::Result<Program> {
    let before = std::iter::once("tempos-exec".to_owned()).chain(orders.iter().cloned());
    let all: Vec<String> = before.chain([String::from("--")]).chain(command.iter().cloned()).collect();
    // The limits are the launcher's business too.
    Ok(Program::new(path()?, &all, environment, Limits::new()))
}

/// Has the launcher do everything but start the function. `beside`: see [`Program::start`].
///
/// # Errors
/// One sentence whose subject is the function: what the system does not grant.
pub fn check(orders: &[String], beside: Option<RawFd>) -> Result<(), String> {
    let refused = |error: io::Error| format!("the launcher cannot be started: {error}");
    let orders: Vec<String> = ["--check", "1"].map(String::from).into_iter().chain(orders.to_vec()).collect();
    let program = program(&orders, &[String::from("/")], &[]).map_err(refused)?;
    let nothing = std::fs::File::open("/dev/null").map_err(refused)?;
    let (errors, to_errors) = pipe().map_err(refused)?;
    let (input, output) = (nothing.as_raw_fd(), to_errors.as_raw_fd());
    let stdio = Stdio::Plain { input, output, errors: output };
    let process = program.start(None, &stdio, beside).map_err(refused)?;
    let in_time = process.has_ended(now_ns() + CHECK_NS);
    let mut tail = Tail::new();
    tail.drain(errors.as_raw_fd());
    match process.reap() {
        Some(ended) if ended.code == Some(0) => Ok(()),
        _ if !in_time => Err("the launcher does not come back".into()),
        _ => {
            let line = tail.last_line();
            Err(format!(
                "the system {}",
                line.strip_prefix(SAYS).map_or_else(
                    || String::from("ended the launcher"),
                    |what| format!("does not grant what was asked for: the function {what}"),
                )
            ))
        }
    }
}
