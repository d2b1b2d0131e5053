//! The thread for what is not urgent: it carries guests' lines to the node's log, lets go of instances that
//! have nothing to do, and makes new ones ready. An ordinary thread; no lane ever waits for it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::Thread;
use std::time::Duration;

/// How often it looks.
pub const PERIOD: Duration = Duration::from_millis(250);
/// A chore that is being attended to is waited for at most so often and long.
const LET_GO_TRIES: u32 = 200;
const LET_GO_STEP: Duration = Duration::from_micros(500);
const STACK_BYTES: usize = 512 * 1024;

/// Something that wants to be looked after.
pub trait Chore: Send + Sync {
    /// Does what has become due.
    fn attend(&self);
}

static CHORES: Mutex<Vec<Weak<dyn Chore>>> = Mutex::new(Vec::new());
static THREAD: OnceLock<Thread> = OnceLock::new();

/// Looks after a chore for as long as somebody else holds it.
///
/// # Errors
/// What the system says where the thread cannot be started.
pub fn keep(chore: Weak<dyn Chore>) -> std::io::Result<()> {
    let mut chores = CHORES.lock().unwrap_or_else(PoisonError::into_inner);
    chores.retain(|chore| chore.strong_count() > 0);
    chores.push(chore);
    if THREAD.get().is_none() {
        let handle =
            std::thread::Builder::new().name("wasm-keeper".into()).stack_size(STACK_BYTES).spawn(run)?;
        let _ = THREAD.set(handle.thread().clone());
    }
    wake();
    Ok(())
}

/// Looks after it no longer, and lets go of it within a moment.
pub fn forget<C: Chore + 'static>(chore: &Arc<C>) {
    let own = Arc::as_ptr(chore).cast::<()>();
    let mut chores = CHORES.lock().unwrap_or_else(PoisonError::into_inner);
    chores.retain(|kept| kept.as_ptr().cast::<()>() != own);
    drop(chores);
    for _ in 0..LET_GO_TRIES {
        if Arc::strong_count(chore) <= 1 {
            return;
        }
        std::thread::sleep(LET_GO_STEP);
    }
}

/// Has it look at once.
pub fn wake() {
    if let Some(thread) = THREAD.get() {
        thread.unpark();
    }
}

fn run() {
    loop {
        // The lock is not held while chores are done: they may take their time.
        let chores: Vec<Arc<dyn Chore>> = {
            let mut chores = CHORES.lock().unwrap_or_else(PoisonError::into_inner);
            chores.retain(|chore| chore.strong_count() > 0);
            chores.iter().filter_map(Weak::upgrade).collect()
        };
        if chores.is_empty() {
            std::thread::park();
            continue;
        }
        for chore in &chores {
            chore.attend();
        }
        drop(chores);
        std::thread::park_timeout(PERIOD);
    }
}
