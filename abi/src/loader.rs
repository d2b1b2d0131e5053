//! The host's way into a plugin's `.so`: by its library header, never through abi_stable's own
//! `load_from_file`, which keeps one root module for the whole process.

use std::path::Path;

use abi_stable::StableAbi;
use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
use abi_stable::library::{LibHeader, LibraryError, lib_header_from_path};

use crate::module::PluginModuleRef;

/// The section of a plugin's file that holds its manifest: one line of JSON, readable without running
/// any of its code.
pub const MANIFEST_SECTION: &str = ".tempos.plugin";

/// The symbol of the library header, which abi_stable looks up.
pub const ROOT_SYMBOL: &str = "_1as_0lib_1header_0root_bmodule_bloader";

/// Loads the `.so` at `path`, checks version and layout, and runs its constructor. It stays mapped for
/// the life of the process: `path` must be unique, and its content must never change.
///
/// Within one major version the plugin may have been built before this host's interface grew, or after.
///
/// # Errors
/// One sentence; the full text of a layout difference is the second part.
pub fn load(path: &Path) -> Result<PluginModuleRef, (String, Option<String>)> {
    let header = lib_header_from_path(path).map_err(|error| explain(&error))?;
    let loaded = match header.init_root_module::<PluginModuleRef>() {
        Err(LibraryError::AbiInstability(_)) if is_older(header) => {
            // SAFETY: the layouts fit together, as `is_older` has found.
            unsafe { header.init_root_module_with_unchecked_layout::<PluginModuleRef>() }
        }
        other => other,
    };
    loaded.map_err(|error| explain(&error))
}

/// Whether the plugin's interface is an earlier stage of this host's: the same, but for methods and fields
/// that were appended since.
///
/// abi_stable takes the host for the older of the two, as in its world an interface is fixed when the
/// program is built: a plugin that lacks what was appended is "another layout" to it. Its check is
/// therefore asked once more the other way round. What a plugin lacks is then not called: the accessors of
/// prefix types look at the plugin's own table, and fall back to the default.
fn is_older(header: &'static LibHeader) -> bool {
    let own = <PluginModuleRef as StableAbi>::LAYOUT;
    header.layout().is_some_and(|plugin| check_layout_compatibility(plugin, own).is_ok())
}

/// abi_stable's errors run to a thousand lines; users get one sentence, developers the rest.
fn explain(error: &LibraryError) -> (String, Option<String>) {
    let whole = error.to_string();
    let sentence = match error {
        LibraryError::OpenError { .. } => format!("the dynamic loader refuses it: {}", last_line(&whole)),
        LibraryError::GetSymbolError { .. } => String::from("it exports no TEMPOS root module"),
        LibraryError::InvalidAbiHeader(_) => String::from(
            "it was built with another version of abi_stable; build it against tempos-abi 1.x with abi_stable 0.11",
        ),
        LibraryError::IncompatibleVersionNumber { expected_version, actual_version, .. } => {
            format!("it was built against tempos-abi {actual_version}; this host speaks {expected_version}")
        }
        LibraryError::RootModule { .. } => format!("its constructor failed: {}", last_line(&whole)),
        LibraryError::AbiInstability(_) => String::from(
            "its types have another layout than this host's; build it against the same major version of tempos-abi",
        ),
        _ => first_line(&whole).to_owned(),
    };
    let detail = (whole.lines().count() > 1).then_some(whole);
    (sentence, detail)
}

fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given")
}

fn last_line(text: &str) -> &str {
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given")
}
