//! The time of a script, and the only thing that can stop it: a hook of the Lua machine.
//!
//! The hook is set by the C interface itself, because once the time is up it must come before every
//! single instruction: only then can neither `pcall` nor a `__close` handler go on for long.

use std::cell::RefCell;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mlua::{Lua, ffi};
use rustix::time::{ClockId, clock_gettime};

/// Instructions between two looks at the clock: some 10 µs.
const INSTRUCTIONS: i32 = 1000;
/// How far up the stack the line of a stopped script is looked for.
const FRAMES_MAX: i32 = 32;

/// What the thread of a script and the one that waits for it both see.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    /// Counts up while the script can be stopped.
    pub beats: AtomicU64,
    /// Set by the waiting thread when it goes away.
    pub abandoned: AtomicBool,
    /// The thread of the script, by its number in the kernel; 0 before it has begun.
    pub thread: AtomicI32,
}

/// The time that is left to the script of this thread.
#[derive(Debug)]
struct Budget {
    pulse: Arc<Pulse>,
    time: Duration,
    run_until: Instant,
    cpu_until: Duration,
    expired: bool,
    stopped_at: Option<(String, u32)>,
}

thread_local! {
    /// One script runs on one thread: the C hook has no other way to its budget.
    static BUDGET: RefCell<Option<Budget>> = const { RefCell::new(None) };
}

/// Gives this thread its budget for a whole run.
pub(crate) fn begin_run(pulse: Arc<Pulse>, time: Duration, total: Duration) {
    let run_until = Instant::now() + total;
    pulse.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    BUDGET.set(Some(Budget {
        pulse,
        time,
        run_until,
        cpu_until: cpu_time() + time,
        expired: false,
        stopped_at: None,
    }));
}

/// A sign of life from work that has a bound of its own.
pub(crate) fn beat() {
    BUDGET.with_borrow(|budget| {
        if let Some(budget) = budget {
            budget.pulse.beats.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// A new allowance: a script begins, or has declared something.
pub(crate) fn renew() {
    BUDGET.with_borrow_mut(|budget| {
        if let Some(budget) = budget {
            budget.pulse.beats.fetch_add(1, Ordering::Relaxed);
            if !budget.expired {
                budget.cpu_until = cpu_time() + budget.time;
            }
        }
    });
}

/// The next script begins: what its predecessor did with its time is over.
pub(crate) fn begin_script() {
    BUDGET.with_borrow_mut(|budget| {
        if let Some(budget) = budget {
            budget.expired = false;
            budget.stopped_at = None;
        }
    });
    renew();
}

/// The chunk and line at which the time was found to be up.
pub(crate) fn stopped_at() -> Option<(String, u32)> {
    BUDGET.with_borrow(|budget| budget.as_ref().and_then(|budget| budget.stopped_at.clone()))
}

/// Whether the time is up; also a sign of life.
pub(crate) fn is_over() -> bool {
    BUDGET.with_borrow_mut(|budget| {
        let Some(budget) = budget else { return false };
        budget.pulse.beats.fetch_add(1, Ordering::Relaxed);
        budget.expired = budget.expired
            || cpu_time() > budget.cpu_until
            || Instant::now() > budget.run_until
            || budget.pulse.abandoned.load(Ordering::Relaxed);
        budget.expired
    })
}

/// Whether a look at the clock has already found that the time is up.
pub(crate) fn was_over() -> bool {
    BUDGET.with_borrow(|budget| budget.as_ref().is_some_and(|budget| budget.expired))
}

/// Whether the run as a whole has used its time.
pub(crate) fn run_is_over() -> bool {
    BUDGET.with_borrow(|budget| budget.as_ref().is_some_and(|budget| Instant::now() > budget.run_until))
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Arms the hook for the main thread of `lua` and for every coroutine that is made from it.
pub(crate) fn arm(lua: &Lua) -> mlua::Result<()> {
    // SAFETY: `lua_sethook` only stores its arguments; it neither raises nor touches the stack.
    unsafe {
        lua.exec_raw::<()>((), |state| {
            ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, INSTRUCTIONS);
        })
    }
}

unsafe extern "C-unwind" fn hook(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    if is_over() {
        // SAFETY: `state` is the running coroutine. A count hook may raise (Lua manual, lua_Hook);
        // nothing in this frame has a destructor that the raise would skip, and a light userdata needs
        // no memory, which may have run out as well.
        unsafe {
            note_place(state);
            ffi::lua_sethook(state, Some(hook), ffi::LUA_MASKCOUNT, 1);
            ffi::lua_pushlightuserdata(state, std::ptr::null_mut());
            ffi::lua_error(state);
        }
    }
}

/// Remembers the nearest line of a script on the stack of `state`, the first time only.
///
/// # Safety
/// `state` must be a live coroutine of this thread.
unsafe fn note_place(state: *mut ffi::lua_State) {
    if stopped_at().is_some() {
        return;
    }
    for level in 0..FRAMES_MAX {
        let mut frame = MaybeUninit::<ffi::lua_Debug>::zeroed();
        // SAFETY: `lua_getstack` and `lua_getinfo` with "Sl" fill plain fields of the frame and leave the
        // stack alone; `source` is a text that ends in NUL and lives as long as the function on the stack.
        let (source, line) = unsafe {
            if ffi::lua_getstack(state, level, frame.as_mut_ptr()) == 0
                || ffi::lua_getinfo(state, c"Sl".as_ptr(), frame.as_mut_ptr()) == 0
            {
                return;
            }
            let frame = frame.assume_init_ref();
            if frame.source.is_null() {
                continue;
            }
            (CStr::from_ptr(frame.source).to_string_lossy().into_owned(), frame.currentline)
        };
        if let (Some(chunk), Ok(line)) = (source.strip_prefix('@'), u32::try_from(line)) {
            BUDGET.with_borrow_mut(|budget| {
                if let Some(budget) = budget {
                    budget.stopped_at = Some((chunk.to_owned(), line));
                }
            });
            return;
        }
    }
}
