//! Network interfaces of `[interfaces]`: set when the node starts, put back when it ends, or when the next one starts
//! after this one was killed.

use std::path::Path;

use tempos_abi::host::LogLevel;
use tempos_engine::Engine;
use tempos_interface::{Profile, Tuning, recover};

use crate::exit::{Ending, OSERR};
use crate::log::Log;

/// The log's name for this room.
const TARGET: &str = "interfaces";

/// `[interfaces]`.
#[derive(Clone, Debug)]
pub struct InterfaceSettings {
    /// Interfaces and what each is set for, in the order of the file.
    pub profiles: Vec<(String, Profile)>,
    /// The priority of NAPI threads.
    pub napi_priority: i32,
    /// Whether a node does not start where an interface lacks something.
    pub refuse: bool,
}

impl Default for InterfaceSettings {
    fn default() -> Self {
        InterfaceSettings { profiles: Vec::new(), napi_priority: 48, refuse: false }
    }
}

impl InterfaceSettings {
    /// Takes over a list; a later list of the same profile replaces it.
    pub fn set(&mut self, profile: Profile, names: Vec<String>) {
        self.profiles.retain(|(_, known)| *known != profile);
        self.profiles.extend(names.into_iter().map(|name| (name, profile)));
    }

    /// A name that stands twice.
    pub fn twice(&self) -> Option<&str> {
        let mut names: Vec<&str> = self.profiles.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
    }
}

/// Interfaces that were set; they are put back when this is dropped.
#[derive(Debug)]
pub struct Interfaces {
    tuned: Vec<Tuning>,
    unmet: Vec<(String, String)>,
    log: Log,
}

impl Interfaces {
    /// Puts back what a killed node has left in the run folder, and sets the interfaces.
    ///
    /// # Errors
    /// What an interface lacks, where the node file wants it refused; all of them are put back then.
    pub fn set(settings: &InterfaceSettings, run: &Path, log: &Log) -> Result<Interfaces, Ending> {
        for sentence in recover(run) {
            log.say(LogLevel::WARNING, TARGET, &sentence);
        }
        let mut all = Interfaces { tuned: Vec::new(), unmet: Vec::new(), log: log.clone() };
        for (name, profile) in &settings.profiles {
            match Tuning::apply(name, *profile, settings.napi_priority, run) {
                Ok(tuning) => {
                    log.say(
                        LogLevel::INFO,
                        TARGET,
                        &format!("interface {name} is set for {}", profile.word()),
                    );
                    let lacks = tuning.unmet().iter();
                    all.unmet.extend(lacks.map(|(thing, why)| (format!("{name} {thing}"), why.clone())));
                    all.tuned.push(tuning);
                }
                Err(sentence) => all.unmet.push((name.clone(), sentence)),
            }
        }
        match all.unmet.first() {
            Some((_, first)) if settings.refuse => {
                let more = match all.unmet.len() {
                    1 => String::new(),
                    count => format!(" (and {} more)", count - 1),
                };
                let why = "[interfaces] on_unmet = \"refuse\"";
                Err(Ending::new(OSERR, format!("{first}{more}; the node does not start: {why}")))
            }
            _ => Ok(all),
        }
    }

    /// Says what they lack, in the log and among the node's degradations.
    pub fn say(&self, engine: &Engine) {
        for (source, sentence) in &self.unmet {
            self.log.say(LogLevel::WARNING, TARGET, sentence);
            engine.degrade(&format!("interface {source}"), Some(sentence.clone()));
        }
    }
}

impl Drop for Interfaces {
    fn drop(&mut self) {
        for tuning in self.tuned.drain(..) {
            for sentence in tuning.restore() {
                self.log.say(LogLevel::WARNING, TARGET, &sentence);
            }
        }
    }
}
