//! What the registry keeps: the generations of a name, and the files that are not started.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use semver::Version;

use super::decide::Identity;
use super::load::Plugin;
use super::manifest::{ABI_MAJOR, Manifest};
use super::state::PluginState;

/// A readable plugin file.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub path: PathBuf,
    pub manifest: Manifest,
    pub sha256: String,
}

impl Candidate {
    pub fn identity(&self) -> Identity<'_> {
        let Manifest { name, version, kind, .. } = &self.manifest;
        Identity { name, version, kind: *kind, sha256: &self.sha256 }
    }
}

/// A state with its sentence.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    pub state: &'static str,
    pub reason: String,
    pub since_us: u64,
}

impl Condition {
    pub fn new(state: &'static str, reason: String) -> Condition {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Condition { state, reason, since_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX) }
    }
}

/// One started generation, with the manifest that it came by.
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    pub plugin: Arc<Plugin>,
    pub version: Version,
    pub abi_minor: u32,
}

impl Generation {
    pub fn identity(&self) -> Identity<'_> {
        let Plugin { info, sha256, .. } = &*self.plugin;
        Identity { name: &info.name, version: &self.version, kind: info.kind, sha256 }
    }

    /// The same as a file at `path`.
    pub fn candidate(&self, path: PathBuf) -> Candidate {
        let Plugin { info, sha256, .. } = &*self.plugin;
        let manifest = Manifest {
            name: info.name.clone(),
            version: self.version.clone(),
            kind: info.kind,
            abi_minor: self.abi_minor,
        };
        Candidate { path, manifest, sha256: sha256.clone() }
    }
}

/// All generations of one name.
#[derive(Debug)]
pub(crate) struct Entry {
    pub current: Option<Generation>,
    /// The files that hold the current one's content.
    pub files: BTreeSet<PathBuf>,
    /// Still used by channels, queues or functions.
    pub draining: Vec<Generation>,
    /// Used by nobody; still mapped.
    pub retired: Vec<Generation>,
    pub condition: Condition,
    /// How many were loaded so far.
    pub loads: u32,
}

impl Entry {
    pub fn new() -> Entry {
        Entry {
            current: None,
            files: BTreeSet::new(),
            draining: Vec::new(),
            retired: Vec::new(),
            condition: Condition::new("declared", String::new()),
            loads: 0,
        }
    }

    pub fn all(&self) -> impl Iterator<Item = &Generation> {
        self.current.iter().chain(&self.draining).chain(&self.retired)
    }

    /// The mapped generation with that content, where it is sound.
    pub fn mapped(&self, sha256: &str) -> Option<Generation> {
        self.all().find(|of| of.plugin.sha256 == sha256 && !of.plugin.is_spoiled()).cloned()
    }

    /// Makes `new`, which came from `path`, the current one; the answer is the one that drains instead.
    pub fn take(&mut self, new: Generation, path: PathBuf) -> Option<Generation> {
        let apart = |of: &Generation| !Arc::ptr_eq(&of.plugin, &new.plugin);
        self.draining.retain(apart);
        self.retired.retain(apart);
        self.files = BTreeSet::from([path]);
        let old = self.current.replace(new);
        self.draining.extend(old.clone());
        old
    }

    pub fn state(&self, name: &str, resident: &BTreeMap<PathBuf, u64>) -> Option<PluginState> {
        // The one that was loaded last where none is current.
        let shown = self
            .current
            .as_ref()
            .or_else(|| self.all().max_by_key(|of| of.plugin.generation))?
            .plugin
            .as_ref();
        let kib = |of: &Generation| {
            let file = || of.plugin.staged.metadata().map_or(0, |meta| meta.len() / 1024);
            resident.get(&of.plugin.staged).copied().unwrap_or_else(file)
        };
        Some(PluginState {
            name: name.to_owned(),
            version: shown.info.version.clone(),
            kind: shown.info.kind.word(),
            abi: shown.info.abi.clone(),
            path: self.files.first().unwrap_or(&shown.path).clone(),
            sha256: shown.sha256.clone(),
            summary: shown.info.summary.clone(),
            options: shown.info.options.iter().map(ToString::to_string).collect(),
            state: self.condition.state,
            reason: self.condition.reason.clone(),
            since_us: self.condition.since_us,
            generations: u32::try_from(self.all().count()).unwrap_or(u32::MAX),
            resident_kib: self.all().map(kib).sum(),
        })
    }
}

/// A file that is not started: refused, or older than what runs.
#[derive(Debug)]
pub(crate) struct Aside {
    /// What it is, where that could be read.
    pub candidate: Option<Box<Candidate>>,
    pub condition: Condition,
}

impl Aside {
    /// Waits for the newer version to go.
    pub fn is_older(&self) -> bool {
        self.condition.state == "declared"
    }

    pub fn state(&self, name: &str, path: &Path) -> PluginState {
        let manifest = self.candidate.as_ref().map(|candidate| &candidate.manifest);
        PluginState {
            name: name.to_owned(),
            version: manifest.map(|m| m.version.to_string()).unwrap_or_default(),
            kind: manifest.map(|m| m.kind.word()).unwrap_or_default(),
            abi: manifest.map(|m| format!("{ABI_MAJOR}.{}", m.abi_minor)).unwrap_or_default(),
            path: path.to_owned(),
            sha256: self.candidate.as_ref().map(|candidate| candidate.sha256.clone()).unwrap_or_default(),
            summary: String::new(),
            options: Vec::new(),
            state: self.condition.state,
            reason: self.condition.reason.clone(),
            since_us: self.condition.since_us,
            generations: 0,
            resident_kib: 0,
        }
    }
}
