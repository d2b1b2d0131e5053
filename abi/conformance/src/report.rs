//! What a run found: one line for each check.

use std::fmt;
use std::path::Path;

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "sentence", rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not as it should be: what was found.
    Failed(String),
    /// Not looked at: why.
    Skipped(String),
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What must hold.
    pub promise: String,
    /// Whether it does.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// All checks of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub file: String,
    /// The plugin's name, version and kind, once it is loaded.
    pub plugin: String,
    /// In the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    pub(crate) fn new(file: &Path) -> Self {
        Report { file: file.display().to_string(), plugin: String::new(), checks: Vec::new() }
    }

    /// Whether nothing failed.
    pub fn is_ok(&self) -> bool {
        !self.checks.iter().any(|check| matches!(check.verdict, Verdict::Failed(_)))
    }

    pub(crate) fn passed(&mut self, promise: impl Into<String>) {
        self.add(promise, Verdict::Ok);
    }

    pub(crate) fn failed(&mut self, promise: impl Into<String>, sentence: impl Into<String>) {
        self.add(promise, Verdict::Failed(sentence.into()));
    }

    pub(crate) fn skipped(&mut self, promise: impl Into<String>, sentence: impl Into<String>) {
        self.add(promise, Verdict::Skipped(sentence.into()));
    }

    /// Passed, or failed with the sentence.
    pub(crate) fn judge(&mut self, promise: impl Into<String>, found: Result<(), String>) {
        match found {
            Ok(()) => self.passed(promise),
            Err(sentence) => self.failed(promise, sentence),
        }
    }

    fn add(&mut self, promise: impl Into<String>, verdict: Verdict) {
        self.checks.push(Check { promise: promise.into(), verdict });
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({})", self.plugin, self.file)?;
        for Check { promise, verdict } in &self.checks {
            match verdict {
                Verdict::Ok => writeln!(f, "  ok       {promise}")?,
                Verdict::Failed(sentence) => writeln!(f, "  FAILED   {promise}: {sentence}")?,
                Verdict::Skipped(sentence) => writeln!(f, "  skipped  {promise}: {sentence}")?,
            }
        }
        let count = |wanted: fn(&Verdict) -> bool| self.checks.iter().filter(|c| wanted(&c.verdict)).count();
        let failed = count(|verdict| matches!(verdict, Verdict::Failed(_)));
        let skipped = count(|verdict| matches!(verdict, Verdict::Skipped(_)));
        write!(f, "{} ok, {failed} failed, {skipped} skipped", self.checks.len() - failed - skipped)
    }
}
