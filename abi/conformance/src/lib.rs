//! The suites that every TEMPOS plugin must pass, run on the loaded `.so`: one for each kind.
//!
//! An author runs them with `tempos-conformance FILE.so` (or `temposctl plugins test FILE.so`); a test
//! calls [`run`]. The suites know `tempos-abi` alone: what they prove holds for any host. Loading a plugin
//! runs its code in this process, so one that crashes ends the run; that is an answer, too.

mod options;
mod random;
mod report;
mod resources;
mod suite;

use std::path::{Path, PathBuf};

use tempos_abi::{PluginKind, loader};

pub use report::{Check, Report, Verdict};

/// What a run needs to know besides the file.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `key=value` for every channel, queue or function that is opened.
    pub options: Vec<String>,
    /// `key=value` for the ingress channel of an adapter's round trip. `{folder}` stands for a folder of
    /// the run's own, `{number}` for a number that no other case has.
    pub ingress: Vec<String>,
    /// The same for its egress channel; `{address}` stands for the ingress channel's address.
    pub egress: Vec<String>,
    /// A function for an invocation method.
    pub function: Option<PathBuf>,
    /// Counts the allocations of the calling thread, where the process can.
    pub allocations: Option<fn() -> u64>,
}

impl Settings {
    /// Takes one `key=value`: `ingress.KEY`, `egress.KEY` and `function` go where they belong, all others
    /// are options for everything that is opened.
    pub fn set(&mut self, text: String) {
        if let Some(rest) = text.strip_prefix("ingress.") {
            self.ingress.push(rest.to_owned());
        } else if let Some(rest) = text.strip_prefix("egress.") {
            self.egress.push(rest.to_owned());
        } else if let Some(rest) = text.strip_prefix("function=") {
            self.function = Some(PathBuf::from(rest));
        } else {
            self.options.push(text);
        }
    }
}

/// Loads the plugin and runs the suite of its kind.
pub fn run(file: &Path, settings: &Settings) -> Report {
    let mut report = Report::new(file);
    let module = match loader::load(file) {
        Ok(module) => module,
        Err((sentence, _)) => {
            report.failed("it loads", sentence);
            return report;
        }
    };
    report.passed("it loads");
    let descriptor = suite::descriptor::check(&mut report, &module);
    suite::descriptor::start(&mut report, &module);
    match descriptor.kind {
        PluginKind::ADAPTER => suite::adapter::check(&mut report, &module, &descriptor, settings),
        PluginKind::QUEUE => suite::queue::check(&mut report, &module, &descriptor, settings),
        PluginKind::INVOKER => suite::invoker::check(&mut report, &module, &descriptor, settings),
        _ => {}
    }
    report
}
