//! The last gate: the load itself. The same steps run in the probe's child and in the node.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tempos_abi::adapter::AdapterBox;
use tempos_abi::host::HostApiRef;
use tempos_abi::invoker::InvocationMethodBox;
use tempos_abi::private::abi_stable::std_types::{ROption, RResult};
use tempos_abi::queue::QueuePolicyBox;
use tempos_abi::{PluginError, PluginKind, loader};

use super::info::PluginInfo;
use super::manifest::Manifest;
use super::one_line;

/// What a plugin makes things with.
pub enum Factory {
    /// Opens channels.
    Adapter(AdapterBox),
    /// Opens queues.
    QueuePolicy(QueuePolicyBox),
    /// Prepares functions.
    InvocationMethod(InvocationMethodBox),
}

/// A loaded and started plugin. Its code stays mapped for the life of the process.
pub struct Plugin {
    /// What it says of itself.
    pub info: PluginInfo,
    /// The file that it came from.
    pub path: PathBuf,
    /// The private copy that is mapped.
    pub staged: PathBuf,
    /// The SHA-256 of the file, in hexadecimal.
    pub sha256: String,
    /// Counts the loads of this name in this process, from 1.
    pub generation: u32,
    pub(crate) factory: Factory,
    /// It failed at run time: its instances are poisoned, and it is not started again.
    spoiled: AtomicBool,
}

impl Plugin {
    pub(crate) fn new(
        loaded: Loaded,
        path: PathBuf,
        staged: PathBuf,
        sha256: String,
        generation: u32,
    ) -> Plugin {
        let Loaded { info, factory } = loaded;
        Plugin { info, path, staged, sha256, generation, factory, spoiled: AtomicBool::new(false) }
    }

    /// The adapter, where it is one.
    pub fn adapter(&self) -> Option<&AdapterBox> {
        match &self.factory {
            Factory::Adapter(adapter) => Some(adapter),
            _ => None,
        }
    }

    /// The queue policy, where it is one.
    pub fn queue_policy(&self) -> Option<&QueuePolicyBox> {
        match &self.factory {
            Factory::QueuePolicy(policy) => Some(policy),
            _ => None,
        }
    }

    /// The invocation method, where it is one.
    pub fn invocation_method(&self) -> Option<&InvocationMethodBox> {
        match &self.factory {
            Factory::InvocationMethod(method) => Some(method),
            _ => None,
        }
    }

    pub(crate) fn spoil(&self) {
        self.spoiled.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_spoiled(&self) -> bool {
        self.spoiled.load(Ordering::Relaxed)
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (generation {})", self.info.name, self.info.version, self.generation)
    }
}

/// A step of the load, for the sentence that says where it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// dlopen(3), the checks of version and layout, the root module.
    Constructor,
    /// The descriptor.
    Describe,
    /// The host's side is handed over.
    Start,
    /// The adapter, queue policy or invocation method is made.
    Factory,
}

impl Step {
    /// All of them, in their order.
    pub const ALL: [Step; 4] = [Step::Constructor, Step::Describe, Step::Start, Step::Factory];

    /// The word for it in sentences: "its constructor".
    pub fn phrase(self) -> &'static str {
        match self {
            Step::Constructor => "its constructor",
            Step::Describe => "its describe()",
            Step::Start => "its start()",
            Step::Factory => "its factory",
        }
    }
}

/// Why a file was not loaded.
#[derive(Debug)]
pub struct LoadFailure {
    /// One sentence.
    pub sentence: String,
    /// What developers want to read, where there is more: up to a thousand lines.
    pub detail: Option<String>,
}

impl From<String> for LoadFailure {
    fn from(sentence: String) -> Self {
        LoadFailure { sentence: one_line(&sentence), detail: None }
    }
}

/// What a load made.
pub struct Loaded {
    pub(crate) info: PluginInfo,
    pub(crate) factory: Factory,
}

/// Loads the private copy at `staged` and starts it. `on_step` hears each step before it is taken.
///
/// # Errors
/// One sentence about the file. What was mapped stays mapped.
pub fn load(staged: &Path, host: HostApiRef, mut on_step: impl FnMut(Step)) -> Result<Loaded, LoadFailure> {
    on_step(Step::Constructor);
    let module = loader::load(staged).map_err(|(sentence, detail)| {
        // dlerror(3) names the file, which here is the private copy.
        let sentence = sentence.replace(&format!("{}: ", staged.display()), "");
        LoadFailure { sentence: one_line(&sentence), detail }
    })?;
    on_step(Step::Describe);
    let info = PluginInfo::read(&(module.describe())())?;
    on_step(Step::Start);
    started((module.start())(host)).map_err(|error| format!("its start() failed: {}", error.message))?;
    on_step(Step::Factory);
    let factory = match info.kind {
        PluginKind::ADAPTER => made(module.adapter())?.map(Factory::Adapter),
        PluginKind::QUEUE => made(module.queue_policy())?.map(Factory::QueuePolicy),
        PluginKind::INVOKER => made(module.invocation_method())?.map(Factory::InvocationMethod),
        _ => None,
    };
    let factory = factory
        .ok_or_else(|| format!("it calls itself {} but has no factory of that kind", info.kind.word()))?;
    Ok(Loaded { info, factory })
}

/// The gates before read the manifest; from here on the descriptor counts: they must agree.
///
/// # Errors
/// One sentence about the file.
pub fn same(manifest: &Manifest, name: &str, version: &str, kind: PluginKind) -> Result<(), String> {
    let declared = (manifest.name.as_str(), manifest.version.to_string(), manifest.kind);
    if declared == (name, version.to_owned(), kind) {
        return Ok(());
    }
    Err(format!(
        "its manifest says {} {} {}, its descriptor says {} {} {}; build it with tempos_abi::export_plugin!",
        declared.2.word(),
        declared.0,
        declared.1,
        kind.word(),
        one_line(name),
        one_line(version)
    ))
}

fn started(answer: RResult<(), PluginError>) -> Result<(), PluginError> {
    answer.into_result()
}

fn made<T>(factory: ROption<extern "C" fn() -> RResult<T, PluginError>>) -> Result<Option<T>, String> {
    match factory {
        ROption::RSome(factory) => factory()
            .into_result()
            .map(Some)
            .map_err(|error| format!("its factory failed: {}", error.message)),
        ROption::RNone => Ok(None),
    }
}
