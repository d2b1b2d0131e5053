//! The options of a function: the table for users, and what it becomes.

use std::ffi::CString;

use tempos_abi::invoker::FunctionSpec;
use tempos_abi::{OptionKind, OptionSpec, PluginError};

/// The option table.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new("symbol", OptionKind::TEXT, "tempos_handle", "The symbol that is called."),
    OptionSpec::new(
        "reload",
        OptionKind::TEXT,
        "keep",
        "Keep the library open, or open and close it for each event.",
    )
    .words("keep|always"),
    OptionSpec::new(
        "isolation",
        OptionKind::TEXT,
        "none",
        "Run the library in the node, or in a process of its own, which may crash and can be stopped.",
    )
    .words("none|process"),
];

/// When the library is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Once, when the function is prepared.
    Keep,
    /// For each event: dlopen, dlsym, call, dlclose. Every event finds the library's variables fresh.
    Always,
}

/// Where the library runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In the node.
    None,
    /// In a process of its own, one for each concurrent invocation.
    Process,
}

/// What a function is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// The symbol that is called.
    pub symbol: CString,
    /// When the library is opened.
    pub reload: Reload,
    /// Where the library runs.
    pub isolation: Isolation,
}

impl Config {
    /// Reads the options of a function.
    ///
    /// # Errors
    /// One sentence that names the workflow, the option, and what would be right.
    pub fn read(spec: &FunctionSpec) -> Result<Self, PluginError> {
        let wrong = |sentence: String| {
            Err(PluginError::bad_option(format!("function of workflow \"{}\": {sentence}", spec.name)))
        };
        let symbol = spec.options.text("symbol").unwrap_or("tempos_handle");
        let reload = match spec.options.text("reload") {
            None | Some("keep") => Reload::Keep,
            Some("always") => Reload::Always,
            Some(other) => return wrong(format!("reload = {other:?} is neither \"keep\" nor \"always\"")),
        };
        let isolation = match spec.options.text("isolation") {
            None | Some("none") => Isolation::None,
            Some("process") => Isolation::Process,
            Some(other) => {
                return wrong(format!("isolation = {other:?} is neither \"none\" nor \"process\""));
            }
        };
        match CString::new(symbol) {
            Ok(name) if !symbol.is_empty() => Ok(Config { symbol: name, reload, isolation }),
            _ => wrong(format!("symbol = {symbol:?} is not the name of a symbol, such as \"tempos_handle\"")),
        }
    }
}
