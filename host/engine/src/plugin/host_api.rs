//! The host's side of the border, as plugins get it: a line to the node's log, and how a channel is.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, OnceLock, PoisonError, RwLock};

use tempos_abi::host::{ChannelState, HostApi, HostApiRef, LogLevel};
use tempos_abi::private::abi_stable::prefix_type::PrefixTypeTrait;
use tempos_abi::private::abi_stable::std_types::RStr;

use super::{LogFn, one_line};

/// A function pointer without context crosses the border, so the log is the process', not a registry's.
static LOG: RwLock<Option<LogFn>> = RwLock::new(None);
/// What plugins said of their channels and the controller has not heard yet.
static SAID: Mutex<VecDeque<Said>> = Mutex::new(VecDeque::new());
/// So much of it is kept; the oldest goes first.
const SAID_MAX: usize = 256;
/// Wakes the controller that hears it: the newest one of the process.
static WAKE: Mutex<Option<Wake>> = Mutex::new(None);
type Wake = Box<dyn Fn() + Send>;
static HOST: OnceLock<HostApiRef> = OnceLock::new();

/// What a plugin said of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// The channel.
    pub channel: String,
    /// Whether what was granted holds.
    pub works: bool,
    /// One sentence.
    pub sentence: String,
}

/// From now on `wake` is called when there is something to hear; it must not wait.
pub(crate) fn wake_with(wake: Wake) {
    *WAKE.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
}

/// Takes what was said, the oldest first.
pub(crate) fn take_said() -> VecDeque<Said> {
    std::mem::take(&mut *SAID.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The host's side; lines go to `log` from now on.
pub(crate) fn with_log(log: LogFn) -> HostApiRef {
    *LOG.write().unwrap_or_else(PoisonError::into_inner) = Some(log);
    *HOST.get_or_init(|| HostApi { log: write, channel: note }.leak_into_prefix())
}

/// A host that hears nothing, for the probe.
pub(crate) fn deaf() -> HostApiRef {
    *HOST.get_or_init(|| HostApi { log: write, channel: note }.leak_into_prefix())
}

extern "C" fn write(level: LogLevel, plugin: RStr<'_>, sentence: RStr<'_>) {
    // A panic must not cross back into the plugin.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let log = LOG.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(log) = log {
            log(level, plugin.as_str(), &one_line(sentence.as_str()));
        }
    }));
}

extern "C" fn note(_: RStr<'_>, channel: RStr<'_>, state: ChannelState, sentence: RStr<'_>) {
    // A panic must not cross back into the plugin.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        let said = Said {
            channel: channel.as_str().to_owned(),
            works: state == ChannelState::WORKS,
            sentence: one_line(sentence.as_str()),
        };
        let is_news = !said.sentence.is_empty();
        {
            let mut all = SAID.lock().unwrap_or_else(PoisonError::into_inner);
            if all.len() >= SAID_MAX {
                all.pop_front();
            }
            all.push_back(said);
        }
        if let Some(wake) = WAKE.lock().unwrap_or_else(PoisonError::into_inner).as_ref().filter(|_| is_news) {
            wake();
        }
    }));
}
