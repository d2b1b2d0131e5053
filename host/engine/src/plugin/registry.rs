//! The table of plugins by name: who is current, who drains, which files are not started and why.
//! Used by the controller alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use tempos_abi::host::HostApiRef;
use tempos_control::{Refusal, RefusalKind};

use super::decide::{Decision, decide};
use super::gates::{Prepared, Rejected, examine, newest_first, prepare, trial};
use super::kept::{Aside, Candidate, Condition, Entry, Generation};
use super::load::{self, LoadFailure, Plugin};
use super::stage::Stage;
use super::state::{PluginEvent, PluginState};
use super::watch::is_plugin_file;
use super::{FILES_MAX, GENERATIONS_MAX, LogFn, LogLevel, PluginConfig, PluginKind, host_api, resident};

/// The plugins of a node.
pub struct Registry {
    config: PluginConfig,
    stage: Stage,
    host: HostApiRef,
    log: LogFn,
    entries: BTreeMap<String, Entry>,
    asides: BTreeMap<PathBuf, Aside>,
    /// Resident KiB by private copy.
    resident: BTreeMap<PathBuf, u64>,
    /// How many files this registry loaded.
    loads: usize,
}

impl Registry {
    /// Takes the folder for private copies. Lines of plugins go to `log` from now on.
    ///
    /// # Errors
    /// The folder cannot be used ([`RefusalKind::System`]).
    pub fn new(config: PluginConfig, log: LogFn) -> Result<Registry, Refusal> {
        let stage = Stage::open(&config.stage_folder)
            .map_err(|sentence| Refusal::new(RefusalKind::System, sentence))?;
        Ok(Registry {
            config,
            stage,
            host: host_api::with_log(log.clone()),
            log,
            entries: BTreeMap::new(),
            asides: BTreeMap::new(),
            resident: BTreeMap::new(),
            loads: 0,
        })
    }

    /// Loads all plugin files of the folders, in the order of their names; of several versions of a name
    /// only the newest. Files are tried several at a time. What is refused is among the events and the
    /// states; files that run already make no event.
    pub fn load_folders(&mut self) -> Vec<PluginEvent> {
        let mut events = Vec::new();
        let mapped = self.entries.values().flat_map(Entry::all).map(|of| of.plugin.sha256.clone()).collect();
        let prepared = prepare(self.files(), &mapped, &self.config, &self.stage);
        for (path, prepared) in newest_first(prepared) {
            let outcome = prepared.and_then(|prepared| self.admit(prepared, false));
            match self.settle(&path, outcome) {
                Ok(PluginEvent::Unchanged) => {}
                Ok(event) => events.push(event),
                Err(_) => events.extend(self.failure_of(&path)),
            }
        }
        self.measure();
        events
    }

    /// Loads one file. `explicit`: a user named it, and may go back to an older version with it.
    ///
    /// # Errors
    /// The file is refused ([`RefusalKind::PluginRejected`]): one sentence. What runs is unharmed.
    pub fn load_file(&mut self, path: &Path, explicit: bool) -> Result<PluginEvent, Refusal> {
        let path = key(path);
        let outcome = examine(&path, self.config.trusted_uid)
            .and_then(|examined| self.admit(Prepared::Known(examined), explicit));
        let outcome = self.settle(&path, outcome);
        self.measure();
        outcome
    }

    /// A file was removed. The plugin that came from it drains, or gives way to an older version of it
    /// that lies in a folder.
    pub fn file_gone(&mut self, path: &Path) -> Vec<PluginEvent> {
        let path = key(path);
        let mut events = Vec::new();
        if let Some(name) = self.aside_names().remove(&path) {
            self.asides.remove(&path);
            let sentence = format!("the file {path:?} was removed");
            events.push(PluginEvent::Gone { name, version: String::new(), sentence });
        }
        let of_file = self.entries.iter_mut().find(|(_, entry)| entry.files.contains(&path));
        let Some((name, entry)) = of_file else { return events };
        entry.files.remove(&path);
        if !entry.files.is_empty() || entry.current.is_none() {
            return events;
        }
        let name = name.clone();
        match self.roll_back(&name) {
            Some(event) => events.push(event),
            None => events.extend(self.drain(&name, format!("its file {path:?} was removed"))),
        }
        events
    }

    /// The current plugin of that name.
    pub fn current(&self, name: &str) -> Option<Arc<Plugin>> {
        Some(self.entries.get(name)?.current.as_ref()?.plugin.clone())
    }

    /// All generations that a newer one or a removal has put out of use, and that may still be in use.
    pub fn draining(&self) -> Vec<Arc<Plugin>> {
        self.entries
            .values()
            .flat_map(|entry| entry.draining.iter().map(|of| Arc::clone(&of.plugin)))
            .collect()
    }

    /// The current plugins of a kind, by name.
    pub fn of_kind(&self, kind: PluginKind) -> Vec<Arc<Plugin>> {
        let current = self.entries.values().filter_map(|entry| entry.current.as_ref());
        current.map(|of| of.plugin.clone()).filter(|plugin| plugin.info.kind == kind).collect()
    }

    /// Nothing uses that generation any more. Its code stays mapped.
    pub fn drained(&mut self, plugin: &Arc<Plugin>) -> Vec<PluginEvent> {
        let name = &plugin.info.name;
        let Some(entry) = self.entries.get_mut(name) else { return Vec::new() };
        let Some(at) = entry.draining.iter().position(|of| Arc::ptr_eq(&of.plugin, plugin)) else {
            return Vec::new();
        };
        let generation = entry.draining.swap_remove(at);
        entry.retired.push(generation);
        let version = plugin.info.version.clone();
        let sentence =
            format!("{name} {version} is not used any more; its code stays mapped until the node ends");
        if entry.current.is_none() && entry.draining.is_empty() && entry.condition.state == "draining" {
            entry.condition = Condition::new("gone", sentence.clone());
        }
        (self.log)(LogLevel::INFO, name, &sentence);
        vec![PluginEvent::Gone { name: name.clone(), version, sentence }]
    }

    /// The current plugin of that name failed at run time, by panic or hang: it takes no new work, and the
    /// same file starts only as a fresh copy, when it is written again.
    pub fn failed(&mut self, name: &str, sentence: &str) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        if let Some(current) = entry.current.take() {
            current.plugin.spoil();
            entry.draining.push(current);
        }
        entry.condition = Condition::new("failed", sentence.to_owned());
        (self.log)(LogLevel::ERROR, name, sentence);
    }

    /// Every plugin and every file that is not started, by name.
    pub fn states(&self) -> Vec<PluginState> {
        let plugins = self.entries.iter().filter_map(|(name, entry)| entry.state(name, &self.resident));
        let names = self.aside_names();
        let files = names.iter().filter_map(|(path, name)| Some(self.asides.get(path)?.state(name, path)));
        let mut states: Vec<PluginState> = plugins.chain(files).collect();
        states.sort_by(|a, b| a.name.cmp(&b.name));
        states
    }

    /// The plugin files of all folders, in the order of their names.
    fn files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for folder in &self.config.folders {
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) => {
                    (self.log)(
                        LogLevel::INFO,
                        "",
                        &format!("the plugin folder {folder:?} is not read: {error}"),
                    );
                    continue;
                }
            };
            let mut found: Vec<PathBuf> = entries
                .flatten()
                .filter(|entry| is_plugin_file(&entry.file_name()))
                .map(|entry| key(&entry.path()))
                .collect();
            found.sort();
            if found.len() > FILES_MAX {
                let sentence = format!(
                    "the plugin folder {folder:?} has {} files; the first {FILES_MAX} are looked at",
                    found.len()
                );
                (self.log)(LogLevel::WARNING, "", &sentence);
                found.truncate(FILES_MAX);
            }
            files.append(&mut found);
        }
        files.sort_by(|a, b| a.file_name().cmp(&b.file_name()));
        files
    }

    /// Decides on a file and carries the decision out.
    fn admit(&mut self, prepared: Prepared, explicit: bool) -> Result<PluginEvent, Rejected> {
        let candidate = prepared.candidate().clone();
        let mapped = match self.judge(&candidate, explicit) {
            Ok(Decision::Load) => {
                self.entries.get(&candidate.manifest.name).and_then(|entry| entry.mapped(&candidate.sha256))
            }
            decided => {
                if let Prepared::Tried(_, staged) = &prepared {
                    self.stage.remove(staged);
                }
                decided?;
                if let Some(entry) = self.entries.get_mut(&candidate.manifest.name) {
                    entry.files.insert(candidate.path);
                }
                return Ok(PluginEvent::Unchanged);
            }
        };
        let generation = match (mapped, prepared) {
            (Some(mapped), Prepared::Known(_)) => mapped,
            (Some(mapped), Prepared::Tried(_, staged)) => {
                self.stage.remove(&staged);
                mapped
            }
            (None, Prepared::Tried(_, staged)) => self.start(&candidate, staged)?,
            (None, Prepared::Known(examined)) => {
                self.room_for_one_more(&candidate)?;
                let staged = trial(&examined, &self.config, &self.stage)?;
                self.start(&candidate, staged)?
            }
        };
        Ok(self.take_over(&candidate, generation))
    }

    /// The decision, with a sentence where it is against the file.
    fn judge(&self, candidate: &Candidate, explicit: bool) -> Result<Decision, Rejected> {
        let name = &candidate.manifest.name;
        let running = self.entries.get(name).and_then(|entry| entry.current.as_ref());
        let holds = |entry: &Entry| entry.current.is_some() && entry.files.contains(&candidate.path);
        if let Some((other, _)) = self.entries.iter().find(|(other, entry)| *other != name && holds(entry)) {
            return Err(Rejected::of(
                candidate,
                format!(
                    "it now holds plugin {name}, but {other} was started from this file; remove it first, or give {name} a file of its own"
                ),
            ));
        }
        let decision = decide(candidate.identity(), running.map(Generation::identity), explicit);
        let Some(running) = running else { return Ok(decision) };
        let (version, runs) = (&candidate.manifest.version, &running.plugin);
        let sentence = match decision {
            Decision::Load | Decision::Unchanged => return Ok(decision),
            Decision::Older => format!(
                "{name} {version} is older than {name} {} from {:?}, which runs; LoadPlugin of this file goes back to it",
                runs.info.version, runs.path
            ),
            Decision::Duplicate => format!(
                "{name} {version} runs already, from {:?} with other content; give the changed plugin a higher version",
                runs.path
            ),
            Decision::OtherKind => format!(
                "{name} is the name of a running {}, and this is {} {name}; give it another name",
                runs.info.kind.word(),
                article(candidate.manifest.kind.word())
            ),
        };
        let older = decision == Decision::Older;
        Err(Rejected { older, ..Rejected::of(candidate, sentence) })
    }

    fn room_for_one_more(&self, candidate: &Candidate) -> Result<(), Rejected> {
        if self.loads < GENERATIONS_MAX {
            return Ok(());
        }
        let sentence = format!(
            "this node has loaded {GENERATIONS_MAX} plugin files since its start, and none is ever unmapped; restart it to load more"
        );
        Err(Rejected::of(candidate, sentence))
    }

    /// Loads a private copy that came through the probe.
    fn start(&mut self, candidate: &Candidate, staged: PathBuf) -> Result<Generation, Rejected> {
        if let Err(rejected) = self.room_for_one_more(candidate) {
            self.stage.remove(&staged);
            return Err(rejected);
        }
        self.loads += 1;
        let Candidate { path, manifest, sha256 } = candidate;
        let declared = format!("declared by {path:?}, version {}; loaded as {staged:?}", manifest.version);
        (self.log)(LogLevel::DEBUG, &manifest.name, &declared);
        let loaded = load::load(&staged, self.host, |_| {})
            .and_then(|loaded| {
                load::same(manifest, &loaded.info.name, &loaded.info.version, loaded.info.kind)
                    .map_err(LoadFailure::from)?;
                Ok(loaded)
            })
            .map_err(|failure| Rejected::with_report(candidate, failure, &self.stage))?;
        let entry = self.entries.entry(manifest.name.clone()).or_insert_with(Entry::new);
        entry.loads += 1;
        let plugin = Plugin::new(loaded, path.clone(), staged, sha256.clone(), entry.loads);
        Ok(Generation {
            plugin: Arc::new(plugin),
            version: manifest.version.clone(),
            abi_minor: manifest.abi_minor,
        })
    }

    /// Makes a generation the current one of its name.
    fn take_over(&mut self, candidate: &Candidate, new: Generation) -> PluginEvent {
        let (name, path) = (&candidate.manifest.name, &candidate.path);
        let entry = self.entries.entry(name.clone()).or_insert_with(Entry::new);
        let other_files: Vec<PathBuf> = entry.files.iter().filter(|file| *file != path).cloned().collect();
        let plugin = new.plugin.clone();
        let version = &plugin.info.version;
        let Some(old) = entry.take(new, path.clone()) else {
            entry.condition =
                Condition::new("started", format!("{name} {version} was started from {path:?}"));
            (self.log)(LogLevel::INFO, name, &entry.condition.reason);
            return PluginEvent::Started(plugin);
        };
        let reason = format!("{name} {version} from {path:?} took over from {}", old.plugin.info.version);
        (self.log)(LogLevel::INFO, name, &reason);
        entry.condition = Condition::new("started", reason);
        for file in other_files {
            let reason =
                format!("plugin file {file:?}: {name} {version} took over from {}", old.plugin.info.version);
            let aside = Aside {
                candidate: Some(Box::new(old.candidate(file.clone()))),
                condition: Condition::new("declared", reason),
            };
            self.put_aside(file, aside);
        }
        PluginEvent::Replaced { old: old.plugin, new: plugin }
    }

    /// Keeps what became of a file, and tells the log of a refusal.
    fn settle(
        &mut self,
        path: &Path,
        outcome: Result<PluginEvent, Rejected>,
    ) -> Result<PluginEvent, Refusal> {
        let rejected = match outcome {
            Ok(event) => {
                self.asides.remove(path);
                return Ok(event);
            }
            Err(rejected) => rejected,
        };
        let sentence = format!("plugin file {path:?}: {}", rejected.sentence);
        let (state, level) =
            if rejected.older { ("declared", LogLevel::INFO) } else { ("failed", LogLevel::WARNING) };
        (self.log)(level, "", &sentence);
        let condition = Condition::new(state, sentence.clone());
        self.put_aside(path.to_owned(), Aside { candidate: rejected.candidate, condition });
        Err(Refusal::new(RefusalKind::PluginRejected, sentence))
    }

    fn put_aside(&mut self, path: PathBuf, aside: Aside) {
        if self.asides.len() < FILES_MAX || self.asides.contains_key(&path) {
            self.asides.insert(path, aside);
        }
    }

    /// The event of a refusal just settled; none for a version that only waits.
    fn failure_of(&self, path: &Path) -> Option<PluginEvent> {
        let aside = self.asides.get(path).filter(|aside| !aside.is_older())?;
        let name = self.aside_names().remove(path)?;
        Some(PluginEvent::Failed { name, path: path.to_owned(), sentence: aside.condition.reason.clone() })
    }

    /// What each file that is not started is shown by: its plugin's name where no other has it, else the
    /// file's name, else its path.
    fn aside_names(&self) -> BTreeMap<PathBuf, String> {
        let mut taken: BTreeSet<String> = self.entries.keys().cloned().collect();
        let mut names = BTreeMap::new();
        for (path, aside) in &self.asides {
            let plugin = aside.candidate.as_ref().map(|candidate| candidate.manifest.name.clone());
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let whole = path.display().to_string();
            let free = plugin.into_iter().chain(file).find(|name| !taken.contains(name)).unwrap_or(whole);
            taken.insert(free.clone());
            names.insert(path.clone(), free);
        }
        names
    }

    /// Starts the newest of the older versions of `name` that lie in the folders, where there is one.
    fn roll_back(&mut self, name: &str) -> Option<PluginEvent> {
        let mut older: Vec<Candidate> = self
            .asides
            .values()
            .filter(|aside| aside.is_older())
            .filter_map(|aside| aside.candidate.as_deref().cloned())
            .filter(|candidate| candidate.manifest.name == name)
            .collect();
        older.sort_by(|a, b| b.manifest.version.cmp_precedence(&a.manifest.version));
        older.iter().find_map(|candidate| {
            let event = self.load_file(&candidate.path, true).ok()?;
            (!matches!(event, PluginEvent::Unchanged)).then_some(event)
        })
    }

    fn drain(&mut self, name: &str, why: String) -> Option<PluginEvent> {
        let entry = self.entries.get_mut(name)?;
        let current = entry.current.take()?;
        let plugin = current.plugin.clone();
        entry.draining.push(current);
        let reason = format!("{name} {} drains: {why}", plugin.info.version);
        (self.log)(LogLevel::INFO, name, &reason);
        entry.condition = Condition::new("draining", reason);
        Some(PluginEvent::Draining(plugin))
    }

    fn measure(&mut self) {
        let staged = self.entries.values().flat_map(Entry::all).next().map(|of| of.plugin.staged.clone());
        if let Some(folder) = staged.as_deref().and_then(Path::parent) {
            self.resident = resident::below(folder);
        }
    }
}

/// One spelling for each file: its folder resolved, its own name as it is (it may be gone already).
fn key(path: &Path) -> PathBuf {
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent().and_then(|folder| folder.canonicalize().ok()), path.file_name()) {
        (Some(folder), Some(name)) => folder.join(name),
        _ => path,
    }
}

fn article(noun: &str) -> String {
    if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { format!("an {noun}") } else { format!("a {noun}") }
}
