//! The host's side of the border, as plugins get it: a line to the node's log.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{OnceLock, PoisonError, RwLock};

use tempos_abi::host::{HostApi, HostApiRef, LogLevel};
use tempos_abi::private::abi_stable::prefix_type::PrefixTypeTrait;
use tempos_abi::private::abi_stable::std_types::RStr;

use super::{LogFn, one_line};

/// A function pointer without context crosses the border, so the log is the process', not a registry's.
static LOG: RwLock<Option<LogFn>> = RwLock::new(None);
static HOST: OnceLock<HostApiRef> = OnceLock::new();

/// The host's side; lines go to `log` from now on.
pub(crate) fn with_log(log: LogFn) -> HostApiRef {
    *LOG.write().unwrap_or_else(PoisonError::into_inner) = Some(log);
    *HOST.get_or_init(|| HostApi { log: write }.leak_into_prefix())
}

/// A host that hears nothing, for the probe.
pub(crate) fn deaf() -> HostApiRef {
    *HOST.get_or_init(|| HostApi { log: write }.leak_into_prefix())
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
