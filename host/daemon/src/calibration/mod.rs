//! The calibration of this node: which one grants rest on, and how another one is taken while it runs.
//!
//! The measuring is the engine's, in a process of its own that runs this very program with this daemon's options
//! (`child`); the file in the state folder is `file`'s. Here is only which of the two is under way.

mod child;
mod file;
mod machine;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tempos_abi::host::LogLevel;
use tempos_control::{Figure, Figures, Refusal, RefusalKind, units::show_ns};
use tempos_engine::{Costs, Engine};

pub use child::child_main;
use file::{Found, Kept};

use crate::log::Log;

/// The log's name for this.
const TARGET: &str = "calibration";
/// What is asked for by 0.
const TIME: Duration = Duration::from_secs(20);

/// How far it is.
#[derive(Debug, Default)]
struct Progress {
    /// Another one is being taken.
    is_running: bool,
    percent: u64,
    what: String,
    /// Why the last one came to nothing.
    failure: String,
}

/// What is known of calibrations.
#[derive(Debug)]
pub struct Calibrations {
    state_dir: PathBuf,
    run_dir: PathBuf,
    progress: Mutex<Progress>,
    kept: Mutex<(Option<Box<Kept>>, String)>,
}

impl Calibrations {
    /// None yet.
    pub fn new(state_dir: &Path, run_dir: &Path) -> Self {
        Calibrations {
            state_dir: state_dir.to_owned(),
            run_dir: run_dir.to_owned(),
            progress: Mutex::default(),
            kept: Mutex::new((None, String::from("none was taken on this node: run temposctl calibrate"))),
        }
    }

    /// Takes over what a state folder holds. `mends`: what is damaged there may be put aside.
    pub fn read(&self, folder: &Path, mends: bool, engine: &Engine, log: &Log) {
        match Kept::read(folder, mends) {
            Found::Kept(kept) => self.rest_on(kept, engine),
            Found::Nothing => {}
            Found::Unusable(sentence) => {
                log.say(LogLevel::WARNING, TARGET, &sentence);
                lock(&self.kept).1 = sentence;
            }
        }
    }

    fn rest_on(&self, kept: Box<Kept>, engine: &Engine) {
        let basis = kept.basis();
        let costs = Costs::measured(&basis, &kept.calibration());
        engine.set_costs(if kept.is_of_this_build() { costs } else { costs.of_another_build() });
        *lock(&self.kept) = (Some(kept), basis);
    }

    /// Begins another one; the answer comes at once.
    ///
    /// # Errors
    /// One is being taken already, or the time is out of bounds.
    pub fn begin(&self, time_ms: u32) -> Result<Duration, Refusal> {
        let time = if time_ms == 0 { TIME } else { Duration::from_millis(u64::from(time_ms)) };
        let (least, most) = tempos_engine::calibration::TIME_BOUNDS;
        if time < least || time > most {
            let show = |time: Duration| show_ns(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            let message =
                format!("a calibration takes {} to {}, not {}", show(least), show(most), show(time));
            return Err(Refusal::new(RefusalKind::InvalidWiring, message));
        }
        let mut progress = lock(&self.progress);
        if progress.is_running {
            let message = "a calibration is being taken already; the property Calibrating says how far it is";
            return Err(Refusal::new(RefusalKind::Overloaded, message));
        }
        *progress = Progress { is_running: true, what: String::from("starting"), ..Progress::default() };
        Ok(time)
    }

    /// Takes the one that was begun, keeps it and has grants rest on it.
    pub fn take(&self, time: Duration, engine: &Engine, log: &Log) {
        let told = |percent: u64, what: &str| {
            let mut progress = lock(&self.progress);
            (progress.percent, progress.what) = (percent, what.to_owned());
        };
        let answer = child::run(&self.run_dir, time, told).and_then(|kept| {
            kept.write(&self.state_dir)
                .map_err(|error| format!("{} cannot be written: {error}", self.state_dir.display()))?;
            Ok(kept)
        });
        let failure = match answer {
            Ok(kept) => {
                log.say(LogLevel::INFO, TARGET, &format!("grants rest on {} from now on", kept.basis()));
                self.rest_on(Box::new(kept), engine);
                String::new()
            }
            Err(sentence) => {
                log.say(LogLevel::ERROR, TARGET, &format!("no calibration: {sentence}"));
                sentence
            }
        };
        *lock(&self.progress) = Progress { percent: 100, failure, ..Progress::default() };
    }

    /// The one that was begun comes to nothing.
    pub fn abandon(&self, sentence: &str) {
        *lock(&self.progress) = Progress { failure: sentence.to_owned(), ..Progress::default() };
    }

    /// What the node shows of it.
    pub fn show(&self, figures: &mut Figures) {
        let progress = lock(&self.progress);
        let what = if progress.is_running { progress.what.clone() } else { String::new() };
        let kept = lock(&self.kept);
        let costs = kept.0.as_ref().map(|kept| kept.rows()).unwrap_or_default();
        let left_out = kept.0.as_ref().map(|kept| kept.left_out().to_vec()).unwrap_or_default();
        figures.extend([
            ("Calibration", Figure::Text(kept.1.clone())),
            ("Calibrating", Figure::Text(what)),
            ("CalibrationPercent", Figure::Count(progress.percent)),
            ("CalibrationFailure", Figure::Text(progress.failure.clone())),
            ("CalibrationLeftOut", Figure::Texts(left_out)),
            ("CostsNs", Figure::Latency(costs)),
        ]);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
