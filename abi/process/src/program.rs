//! What is started: a program, its arguments, its environment, and posix_spawn(3).

use std::ffi::{CString, c_char};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;

use tempos_abi::invoker::Scheduling;

use crate::environment::Variables;
use crate::limits::{self, Limits};
use crate::process::Process;

/// Which descriptors a process gets; all others of the node are closed in it.
#[derive(Debug)]
pub enum Stdio {
    /// Standard input, output and error.
    Plain {
        /// 0.
        input: RawFd,
        /// 1.
        output: RawFd,
        /// 2.
        errors: RawFd,
    },
    /// Frames on 3 and 4, so that whatever the function prints cannot break them; 1 and 2 are both errors.
    Aside {
        /// 3.
        requests: RawFd,
        /// 4.
        answers: RawFd,
        /// 1 and 2.
        errors: RawFd,
    },
    /// Standard input, output and error of what the launcher becomes when it is told so on 3 (`--wait 3`).
    Waiting {
        /// 0.
        input: RawFd,
        /// 1.
        output: RawFd,
        /// 2.
        errors: RawFd,
        /// 3.
        word: RawFd,
    },
    /// The guard's own.
    Guard {
        /// 0.
        input: RawFd,
        /// 3.
        table: RawFd,
    },
}

impl Stdio {
    /// The number that a process gets one more descriptor as.
    pub const fn beside(&self) -> RawFd {
        match self {
            Stdio::Plain { .. } => 3,
            Stdio::Waiting { .. } => 4,
            Stdio::Aside { .. } => 5,
            Stdio::Guard { .. } => 4,
        }
    }
}

/// A program that can be started any number of times.
#[derive(Debug)]
pub struct Program {
    path: CString,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    limits: Limits,
    own_scheduling: Option<Scheduling>,
}

impl Program {
    /// A program with its arguments (the first is its name) and environment. `limits` are set from outside, as
    /// soon as it was started. Texts with a zero byte are cut there.
    pub fn new(path: CString, arguments: &[String], environment: &[String], limits: Limits) -> Self {
        let texts = |list: &[String]| list.iter().map(|text| text_of(text)).collect();
        let (arguments, environment) = (texts(arguments), texts(environment));
        Program { path, arguments, environment, limits, own_scheduling: None }
    }

    /// The same for a level of this scheduling. Where that is a real-time one, the process is one step beneath
    /// those who wait for it and end it; otherwise it is as the thread that starts it.
    #[must_use]
    pub fn scheduled(mut self, scheduling: Scheduling) -> Self {
        self.own_scheduling = (scheduling.policy != 0).then_some(scheduling.beneath());
        self
    }

    /// Starts it: its own process group, default signals, none blocked. It also gets `beside`, under the number
    /// after the last of `stdio` (see [`Stdio::beside`]).
    ///
    /// # Errors
    /// What the system refuses (EAGAIN, ENOENT, …).
    pub fn start(
        &self,
        variables: Option<&Variables>,
        stdio: &Stdio,
        beside: Option<RawFd>,
    ) -> io::Result<Process> {
        let arguments = pointers(self.arguments.iter().map(|text| text.as_ptr()));
        let own = self.environment.iter().map(|text| text.as_ptr());
        let environment = pointers(own.chain(variables.into_iter().flat_map(Variables::texts)));
        let actions = Actions::new(stdio, beside)?;
        let attributes = Attributes::new(self.own_scheduling)?;
        let mut pid = 0;
        // SAFETY: path and lists are texts and end with a null; actions and attributes were initialised.
        let refused = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                self.path.as_ptr(),
                actions.0.as_ptr(),
                attributes.0.as_ptr(),
                arguments.as_ptr().cast(),
                environment.as_ptr().cast(),
            )
        };
        if refused != 0 {
            return Err(io::Error::from_raw_os_error(refused));
        }
        limits::set(pid, &self.limits);
        Process::adopt(pid, !matches!(stdio, Stdio::Guard { .. }))
    }
}

/// A text for the system, up to its first zero byte.
pub fn text_of(text: &str) -> CString {
    let whole = text.split('\0').next().unwrap_or("");
    CString::new(whole).unwrap_or_default()
}

fn pointers(texts: impl Iterator<Item = *const c_char>) -> Vec<*const c_char> {
    texts.chain(std::iter::once(std::ptr::null())).collect()
}

struct Actions(MaybeUninit<libc::posix_spawn_file_actions_t>);

impl Actions {
    fn new(stdio: &Stdio, beside: Option<RawFd>) -> io::Result<Self> {
        let mut actions = Actions(MaybeUninit::uninit());
        // SAFETY: the memory is this struct's own.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.0.as_mut_ptr()) })?;
        match *stdio {
            Stdio::Plain { input, output, errors } => {
                actions.place(&[(input, 0), (output, 1), (errors, 2)])?;
            }
            Stdio::Waiting { input, output, errors, word } => {
                actions.place(&[(input, 0), (output, 1), (errors, 2), (word, 3)])?;
            }
            Stdio::Aside { requests, answers, errors } => {
                actions.nothing(0)?;
                actions.place(&[(errors, 1), (errors, 2), (requests, 3), (answers, 4)])?;
            }
            Stdio::Guard { input, table } => {
                actions.place(&[(input, 0), (table, 3)])?;
                actions.nothing(1)?;
                actions.nothing(2)?;
            }
        }
        let mut next = stdio.beside();
        if let Some(descriptor) = beside {
            actions.place(&[(descriptor, next)])?;
            next += 1;
        }
        actions.close_from(next)?;
        Ok(actions)
    }

    fn place(&mut self, pairs: &[(RawFd, RawFd)]) -> io::Result<()> {
        pairs.iter().try_for_each(|(from, to)| {
            // SAFETY: initialised by `new`.
            check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), *from, *to) })
        })
    }

    fn nothing(&mut self, at: RawFd) -> io::Result<()> {
        let path = c"/dev/null".as_ptr();
        // SAFETY: initialised by `new`; the path is a text.
        check(unsafe {
            libc::posix_spawn_file_actions_addopen(self.0.as_mut_ptr(), at, path, libc::O_RDWR, 0)
        })
    }

    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        // SAFETY: initialised by `new`.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(self.0.as_mut_ptr(), first) })
    }
}

impl Drop for Actions {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

struct Attributes(MaybeUninit<libc::posix_spawnattr_t>);

impl Attributes {
    fn new(own: Option<Scheduling>) -> io::Result<Self> {
        let mut attributes = Attributes(MaybeUninit::uninit());
        let this = attributes.0.as_mut_ptr();
        let mut flags =
            libc::POSIX_SPAWN_SETPGROUP | libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        // SAFETY: the memory is this struct's own; both sets are initialised before they are read.
        unsafe {
            check(libc::posix_spawnattr_init(this))?;
            let (mut all, mut none) = (MaybeUninit::uninit(), MaybeUninit::uninit());
            libc::sigfillset(all.as_mut_ptr());
            libc::sigemptyset(none.as_mut_ptr());
            check(libc::posix_spawnattr_setsigdefault(this, all.as_ptr()))?;
            check(libc::posix_spawnattr_setsigmask(this, none.as_ptr()))?;
            check(libc::posix_spawnattr_setpgroup(this, 0))?;
            if let Some(Scheduling { policy, priority, .. }) = own {
                let parameter = libc::sched_param { sched_priority: priority.into() };
                check(libc::posix_spawnattr_setschedpolicy(this, policy.into()))?;
                check(libc::posix_spawnattr_setschedparam(this, &raw const parameter))?;
                flags |= libc::POSIX_SPAWN_SETSCHEDULER;
            }
            check(libc::posix_spawnattr_setflags(this, flags as _))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised by `new`.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}
