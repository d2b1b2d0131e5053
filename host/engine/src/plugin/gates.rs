//! The gates that a file passes before it may be loaded, in their order: trust, inspect, stage, probe.

use std::path::{Path, PathBuf};

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
        let report = failure.detail.and_then(|text| stage.report(&candidate.path, &text));
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
