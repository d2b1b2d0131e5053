//! The export macro: everything that makes a `.so` a plugin.

use std::sync::OnceLock;

use crate::error::PluginError;
use crate::guard::Guard;
use crate::host::{ChannelState, HostApiRef, LogLevel};

static HOST: OnceLock<HostApiRef> = OnceLock::new();

/// Keeps the host's side; called by the macro.
#[doc(hidden)]
pub fn start(host: HostApiRef) {
    let _ = HOST.set(host);
}

/// Writes a line to the node's log. Never from a lane thread; before the plugin is started it is lost.
pub fn log(level: LogLevel, plugin: &str, sentence: &str) {
    if let Some(host) = HOST.get() {
        (host.log())(level, plugin.into(), sentence.into());
    }
}

/// Says how an open channel is, by its name: what changed after it was opened. Never from a lane thread; a host before
/// 1.1 does not hear it.
pub fn tell_channel(plugin: &str, channel: &str, state: ChannelState, sentence: &str) {
    if let Some(tell) = HOST.get().and_then(|host| host.channel()) {
        tell(plugin.into(), channel.into(), state, sentence.into());
    }
}

/// Runs a factory behind a guard; called by the macro.
#[doc(hidden)]
pub fn make<T>(plugin: &str, factory: impl FnOnce() -> Result<T, PluginError>) -> Result<T, PluginError> {
    Guard::default().run_cold(plugin, "its factory", factory)
}

/// Makes the `.so` that this crate builds (crate type `cdylib`) a plugin.
///
/// ```text
/// tempos_abi::export_plugin! {
///     name: "udp",
///     summary: "Events as UDP datagrams.",
///     options: OPTIONS,                 // a `&'static [OptionSpec]`
///     adapter: UdpAdapter::new,         // or `queue_policy:`, or `invocation_method:`
/// }
/// ```
///
/// The factory is a `fn() -> Result<T, PluginError>`; `T` implements [`crate::adapter::Adapter`],
/// [`crate::queue::QueuePolicy`] or [`crate::invoker::InvocationMethod`]. The plugin's version is its
/// package's. Where nothing else fits, `version: "1.2.3"` after the summary sets it.
#[macro_export]
macro_rules! export_plugin {
    (name: $name:literal, summary: $summary:literal, options: $options:expr, $kind:ident: $factory:expr $(,)?) => {
        $crate::export_plugin! {
            name: $name, summary: $summary, version: env!("CARGO_PKG_VERSION"), options: $options, $kind: $factory
        }
    };
    (name: $name:literal, summary: $summary:literal, version: $version:expr, options: $options:expr, $kind:ident: $factory:expr $(,)?) => {
        #[doc(hidden)]
        mod tempos_plugin_door {
            #[allow(unused_imports)]
            use super::*;
            use $crate::private::abi_stable;
            use abi_stable::prefix_type::PrefixTypeTrait as _;
            use abi_stable::std_types::{ROption, RResult, RSlice, RStr};

            const NAME: &str = $name;
            const VERSION: &str = $version;

            /// Read from the file by the host before any code of it runs; survives `strip`.
            #[used]
            #[unsafe(link_section = ".tempos.plugin")]
            static MANIFEST: [u8; $crate::export::MANIFEST_BYTES] =
                $crate::export::manifest(NAME, VERSION, $crate::export_plugin!(@kind $kind), $crate::ABI_MINOR);

            extern "C" fn describe() -> $crate::Descriptor {
                $crate::Descriptor {
                    name: RStr::from_str(NAME),
                    version: RStr::from_str(VERSION),
                    kind: $crate::export_plugin!(@kind $kind),
                    abi_minor: $crate::ABI_MINOR,
                    summary: RStr::from_str($summary),
                    options: RSlice::from_slice($options),
                }
            }

            extern "C" fn start(host: $crate::host::HostApiRef) -> RResult<(), $crate::PluginError> {
                $crate::export::start(host);
                RResult::ROk(())
            }

            $crate::export_plugin!(@factory $kind $factory);

            fn root() -> $crate::module::PluginModuleRef {
                $crate::export_plugin!(@module $kind).leak_into_prefix()
            }

            extern "C" fn erased() -> $crate::private::RootModuleResult {
                $crate::private::__call_root_module_loader(root)
            }

            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            // SAFETY: `erased` makes a `PluginModuleRef` and nothing else.
            pub static HEADER: $crate::private::LibHeader = unsafe {
                $crate::private::LibHeader::from_constructor::<$crate::module::PluginModuleRef>(
                    erased,
                    $crate::private::CheckTypeLayout::Yes,
                )
            };
        }
    };
    (@kind adapter) => { $crate::PluginKind::ADAPTER };
    (@kind queue_policy) => { $crate::PluginKind::QUEUE };
    (@kind invocation_method) => { $crate::PluginKind::INVOKER };
    (@factory adapter $factory:expr) => {
        extern "C" fn factory() -> RResult<$crate::adapter::AdapterBox, $crate::PluginError> {
            $crate::export::make(NAME, || Ok($crate::adapter::guarded(NAME, ($factory)()?))).into()
        }
    };
    (@factory queue_policy $factory:expr) => {
        extern "C" fn factory() -> RResult<$crate::queue::QueuePolicyBox, $crate::PluginError> {
            $crate::export::make(NAME, || Ok($crate::queue::guarded(NAME, ($factory)()?))).into()
        }
    };
    (@factory invocation_method $factory:expr) => {
        extern "C" fn factory() -> RResult<$crate::invoker::InvocationMethodBox, $crate::PluginError> {
            $crate::export::make(NAME, || Ok($crate::invoker::guarded(NAME, ($factory)()?))).into()
        }
    };
    (@module adapter) => {
        $crate::module::PluginModule {
            describe, start, adapter: ROption::RSome(factory),
            queue_policy: ROption::RNone, invocation_method: ROption::RNone,
        }
    };
    (@module queue_policy) => {
        $crate::module::PluginModule {
            describe, start, adapter: ROption::RNone,
            queue_policy: ROption::RSome(factory), invocation_method: ROption::RNone,
        }
    };
    (@module invocation_method) => {
        $crate::module::PluginModule {
            describe, start, adapter: ROption::RNone,
            queue_policy: ROption::RNone, invocation_method: ROption::RSome(factory),
        }
    };
}

/// The length of a manifest; filled up with spaces.
pub const MANIFEST_BYTES: usize = 256;

/// Writes the manifest at compile time.
///
/// # Panics
/// At compile time, where name or version hold quotes, backslashes or control characters, or are too long.
pub const fn manifest(
    name: &str,
    version: &str,
    kind: crate::PluginKind,
    abi_minor: u32,
) -> [u8; MANIFEST_BYTES] {
    let mut out = [b' '; MANIFEST_BYTES];
    let kind = match kind.0 {
        1 => "adapter",
        2 => "queue",
        _ => "invoker",
    };
    let mut at = put(&mut out, 0, "{\"name\":\"");
    at = put_plain(&mut out, at, name);
    at = put(&mut out, at, "\",\"version\":\"");
    at = put_plain(&mut out, at, version);
    at = put(&mut out, at, "\",\"kind\":\"");
    at = put(&mut out, at, kind);
    at = put(&mut out, at, "\",\"abi\":\"1.");
    assert!(abi_minor < 100, "the minor version has at most two digits");
    let digits = [b'0' + (abi_minor / 10) as u8, b'0' + (abi_minor % 10) as u8];
    let first = if abi_minor < 10 { 1 } else { 0 };
    let mut i = first;
    while i < 2 {
        out[at] = digits[i];
        at += 1;
        i += 1;
    }
    let _ = put(&mut out, at, "\"}");
    out
}

const fn put(out: &mut [u8; MANIFEST_BYTES], mut at: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        assert!(at < MANIFEST_BYTES, "the plugin's name and version are too long for its manifest");
        out[at] = bytes[i];
        at += 1;
        i += 1;
    }
    at
}

const fn put_plain(out: &mut [u8; MANIFEST_BYTES], at: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        assert!(
            bytes[i] >= b' ' && bytes[i] != b'"' && bytes[i] != b'\\',
            "a plugin's name and version hold no quotes, backslashes or control characters"
        );
        i += 1;
    }
    put(out, at, text)
}
