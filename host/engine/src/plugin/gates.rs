//! The gates that a file passes before it may be loaded, in their order: trust, inspect, stage, probe.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::kept::Candidate;
use super::load::LoadFailure;
use super::stage::{Stage, sha256_hex};
use super::{PluginConfig, inspect, probe, trust};

/// A file that came through no further than its own bytes.
pub(crate) struct Examined {
    pub candidate: Candidate,
    pub bytes: Vec<u8>,
}

/// Why a file is not started.
#[derive(Debug)]
pub(crate) struct Rejected {
    /// What it is, where that could be read.
    pub candidate: Option<Box<Candidate>>,
    /// One sentence without the file's name.
    pub sentence: String,
    /// It is only older than what runs.
    pub older: bool,
}

impl Rejected {
    pub fn of(candidate: &Candidate, sentence: impl Into<String>) -> Rejected {
        Rejected { candidate: Some(Box::new(candidate.clone())), sentence: sentence.into(), older: false }
    }

    /// With the long text behind it kept in a file.
    pub fn with_report(candidate: &Candidate, failure: LoadFailure, stage: &Stage) -> Rejected {
        // A few lines say no more than the sentence.
        let long = failure.detail.filter(|text| text.lines().nth(16).is_some());
        let report = long.and_then(|text| stage.report(&candidate.path, &text));
        let sentence = match report {
            Some(report) => format!("{}; the whole report is in {report:?}", failure.sentence),
            None => failure.sentence,
        };
        Rejected::of(candidate, sentence)
    }
}

/// Trust and inspect.
pub(crate) fn examine(path: &Path, trusted_uid: u32) -> Result<Examined, Rejected> {
    let unread = |sentence| Rejected { candidate: None, sentence, older: false };
    let bytes = trust::read(path, trusted_uid).map_err(unread)?;
    let manifest = inspect::inspect(&bytes).map_err(unread)?;
    let candidate = Candidate { path: path.to_owned(), manifest, sha256: sha256_hex(&bytes) };
    Ok(Examined { candidate, bytes })
}

/// Stage and probe: the answer is the private copy, ready to be loaded.
pub(crate) fn trial(examined: &Examined, config: &PluginConfig, stage: &Stage) -> Result<PathBuf, Rejected> {
    let Examined { candidate, bytes } = examined;
    let staged = stage
        .put(&candidate.manifest, &candidate.sha256, bytes)
        .map_err(|sentence| Rejected::of(candidate, sentence))?;
    let Some(command) = &config.probe_command else { return Ok(staged) };
    match probe::probe(command, config.probe_timeout, &staged, &candidate.manifest) {
        Ok(()) => Ok(staged),
        Err(failure) => {
            stage.remove(&staged);
            Err(Rejected::with_report(candidate, failure, stage))
        }
    }
}

/// A file that came through the gates as far as was needed.
pub(crate) enum Prepared {
    /// All of them: the private copy is ready to be loaded.
    Tried(Candidate, PathBuf),
    /// Trust and inspect alone: its content may be mapped already.
    Known(Examined),
}

impl Prepared {
    pub fn candidate(&self) -> &Candidate {
        match self {
            Prepared::Tried(candidate, _) => candidate,
            Prepared::Known(examined) => &examined.candidate,
        }
    }
}

/// A file with what became of it.
pub(crate) type Outcome = (PathBuf, Result<Prepared, Rejected>);

/// Takes the files through the gates, several at a time; the order stays. Content whose hash is among
/// `mapped` is not tried again.
pub(crate) fn prepare(
    files: Vec<PathBuf>,
    mapped: &BTreeSet<String>,
    config: &PluginConfig,
    stage: &Stage,
) -> Vec<Outcome> {
    let one = |path: &Path| -> Result<Prepared, Rejected> {
        let examined = examine(path, config.trusted_uid)?;
        if mapped.contains(&examined.candidate.sha256) {
            return Ok(Prepared::Known(examined));
        }
        let staged = trial(&examined, config, stage)?;
        Ok(Prepared::Tried(examined.candidate, staged))
    };
    // The largest first: the one that takes longest is not what the others wait for.
    let mut by_size: Vec<&PathBuf> = files.iter().collect();
    by_size.sort_by_cached_key(|path| std::cmp::Reverse(path.metadata().map_or(0, |meta| meta.len())));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    let workers = thread::available_parallelism().map_or(2, usize::from).clamp(2, 4).min(files.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some(path) = by_size.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let prepared = one(path);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert((*path).clone(), prepared);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    files.into_iter().filter_map(|path| done.remove(&path).map(|prepared| (path, prepared))).collect()
}

/// Keeps the order of the files, but where several hold the same plugin, the newest version comes first:
/// the others then need not be loaded.
pub(crate) fn newest_first(files: Vec<Outcome>) -> Vec<Outcome> {
    let mut first_at: BTreeMap<String, usize> = BTreeMap::new();
    let mut placed: Vec<(usize, Outcome)> = Vec::with_capacity(files.len());
    for (at, (path, prepared)) in files.into_iter().enumerate() {
        let name = prepared.as_ref().ok().map(|prepared| prepared.candidate().manifest.name.clone());
        let place = name.map_or(at, |name| *first_at.entry(name).or_insert(at));
        placed.push((place, (path, prepared)));
    }
    let version = |outcome: &Outcome| outcome.1.as_ref().ok().map(|p| p.candidate().manifest.version.clone());
    // Stable: of equal versions the first file stays first.
    placed.sort_by(|(a, one), (b, other)| a.cmp(b).then_with(|| version(other).cmp(&version(one))));
    placed.into_iter().map(|(_, outcome)| outcome).collect()
}
