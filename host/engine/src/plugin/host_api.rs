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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn what_is_said_of_channels_wakes_is_one_line_and_bounded() {
        let host = deaf();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        wake_with(Box::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        }));
        let tell = host.channel().expect("this host has it");
        for n in 0..300 {
            let sentence = format!("line {n}\nand another");
            tell("tsn".into(), "wire".into(), ChannelState::DEGRADED, sentence.as_str().into());
        }
        tell("tsn".into(), "wire".into(), ChannelState::WORKS, "".into());
        let said = take_said();
        assert_eq!((said.len(), woken.load(Ordering::Relaxed)), (SAID_MAX, 300));
        let last = Said { channel: "wire".into(), works: true, sentence: String::new() };
        assert_eq!(said.back(), Some(&last));
        let before = &said[SAID_MAX - 2];
        assert!(!before.works && before.sentence.starts_with("line 299"), "{before:?}");
        assert!(!before.sentence.contains('\n'), "{before:?}");
        assert!(take_said().is_empty());
    }
}
