//! The node file: `/etc/tempos/node.toml` and the fragments beside it.
//!
//! Fragments (`node.d/*.toml` beside `node.toml`, in name order) set single keys again. The flags of the
//! command line come last. Every key is explained in `examples/node.toml`.

pub mod keys;
mod levels;
mod reader;
mod rest;

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempos_control::{Command, LevelSpec, Mistake, Origin};
use tempos_dbus::Bus;
use tempos_interface::Profile;
use tempos_lua::{Known, Limits, Source};

use crate::clock_watch::{ClockSettings, role};
use crate::interfaces::InterfaceSettings;
use crate::options::Options;
use reader::Setting;
pub use rest::RestSettings;

/// Where the node file is looked for unless a flag says otherwise. It need not exist.
pub const NODE_FILE: &str = "/etc/tempos/node.toml";
/// The most paths in one list.
pub(crate) const PATHS_MAX: usize = 64;
/// The most interfaces in one list.
pub(crate) const INTERFACES_MAX: usize = 64;
/// The largest node file or fragment, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most fragments.
const FRAGMENTS_MAX: usize = 256;

/// Everything that the daemon was told.
#[derive(Clone, Debug)]
pub struct NodeFile {
    /// The node's name.
    pub node_id: String,
    /// How long a drain may take at SIGTERM.
    pub drain_timeout: Duration,
    /// Sockets, locks, private copies of plugins.
    pub run_dir: PathBuf,
    /// What outlives a restart.
    pub state_dir: PathBuf,
    /// Where plugins are looked for.
    pub plugin_folders: Vec<PathBuf>,
    /// Whether a plugin is first tried in a child process.
    pub probe_plugins: bool,
    /// The wiring: files and folders.
    pub wiring: Vec<PathBuf>,
    /// Whether the wiring was named by the user, so that it must be there.
    pub wiring_named: bool,
    /// Folders of modules that every script may `require`.
    pub wiring_libraries: Vec<PathBuf>,
    /// Whether a saved script takes effect by itself.
    pub watch_wiring: bool,
    /// How long the wiring must be quiet before it is read again.
    pub settle: Duration,
    /// The bounds of the scripts.
    pub limits: Limits,
    /// Refuse to start where real-time scheduling or locked memory is not granted.
    pub strict_realtime: bool,
    /// Lock the memory of the lanes.
    pub lock_memory: bool,
    /// The bus on which the node is to be found.
    pub bus: Bus,
    /// The group whose members may give orders.
    pub bus_group: String,
    /// Whether polkit is asked for callers that would otherwise be refused.
    pub polkit: bool,
    /// The door for REST.
    pub rest: RestSettings,
    /// The log.
    pub log: LogSettings,
    /// The machine's clock.
    pub clock: ClockSettings,
    /// Network interfaces that are set.
    pub interfaces: InterfaceSettings,
    /// The levels of `[[qos]]`.
    pub levels: Vec<LevelSpec>,
}

/// `[log]`.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// `error`, `warning`, `info` or `debug`.
    pub level: String,
    /// `auto`, `plain` or `journal`.
    pub format: String,
    /// The most lines a second for each part of the node.
    pub lines_per_second: u32,
}

impl Default for NodeFile {
    fn default() -> Self {
        NodeFile {
            node_id: host_name(),
            drain_timeout: Duration::from_secs(10),
            run_dir: "/run/tempos".into(),
            state_dir: "/var/lib/tempos".into(),
            plugin_folders: vec!["/usr/lib/tempos/plugins".into(), "/var/lib/tempos/plugins".into()],
            probe_plugins: true,
            wiring: vec!["/etc/tempos/wiring.d".into()],
            wiring_named: false,
            wiring_libraries: vec!["/etc/tempos/lua".into()],
            watch_wiring: true,
            settle: Duration::from_millis(200),
            limits: Limits::default(),
            strict_realtime: false,
            lock_memory: true,
            bus: Bus::System,
            bus_group: "tempos".into(),
            polkit: true,
            rest: RestSettings::default(),
            log: LogSettings { level: "info".into(), format: "auto".into(), lines_per_second: 100 },
            clock: ClockSettings::default(),
            interfaces: InterfaceSettings::default(),
            levels: Vec::new(),
        }
    }
}

impl NodeFile {
    /// Reads the node file and its fragments, then lets the flags have the last word.
    ///
    /// # Errors
    /// All mistakes of all files, in order.
    pub fn load(options: &Options) -> Result<NodeFile, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let mut node = NodeFile::default();
        let main = options.config.clone().unwrap_or_else(|| NODE_FILE.into());
        match read_file(&main) {
            Ok(text) => node.take(&main, &text, &mut mistakes),
            Err(error) if error.kind() == ErrorKind::NotFound && options.config.is_none() => {}
            Err(error) => mistakes.push(unreadable(&main, &error)),
        }
        for fragment in fragments(&main, &mut mistakes) {
            match read_file(&fragment) {
                Ok(text) => node.take(&fragment, &text, &mut mistakes),
                Err(error) => mistakes.push(unreadable(&fragment, &error)),
            }
        }
        node.heed(options);
        node.rest.check(&mut mistakes);
        if let Some(name) = node.interfaces.twice() {
            let origin = Origin::new(main.display().to_string(), 0);
            let sentence = format!("[interfaces]: {name:?} stands twice; an interface has one profile");
            mistakes.push(Mistake::new(&origin, sentence));
        }
        if mistakes.is_empty() { Ok(node) } else { Err(mistakes) }
    }

    /// Takes over what the text of one file sets; `file` is its name in mistakes.
    pub fn take(&mut self, file: &Path, text: &str, mistakes: &mut Vec<Mistake>) {
        let read = reader::read(file, text, mistakes);
        for ((section, key), setting) in read.settings {
            if section == "rest"
                && let Some(place) = read.places.get(&(section, key))
            {
                self.rest.set(key, setting, place.clone());
                continue;
            }
            self.set(section, key, setting);
        }
        if let Some(script) = read.levels {
            self.take_levels(file, script, mistakes);
        }
    }

    fn set(&mut self, section: &str, key: &str, setting: Setting) {
        match (section, key, setting) {
            ("node", "id", Setting::Text(id)) => self.node_id = id,
            ("node", "drain_timeout", Setting::Number(ns)) => self.drain_timeout = Duration::from_nanos(ns),
            ("paths", "run", Setting::Paths(paths)) => self.run_dir = paths.into_iter().collect(),
            ("paths", "state", Setting::Paths(paths)) => self.state_dir = paths.into_iter().collect(),
            ("plugins", "folders", Setting::Paths(paths)) => self.plugin_folders = paths,
            ("plugins", "probe", Setting::Flag(flag)) => self.probe_plugins = flag,
            ("wiring", "paths", Setting::Paths(paths)) => {
                self.wiring = paths;
                self.wiring_named = true;
            }
            ("wiring", "libraries", Setting::Paths(paths)) => self.wiring_libraries = paths,
            ("wiring", "watch", Setting::Flag(flag)) => self.watch_wiring = flag,
            ("wiring", "settle", Setting::Number(ns)) => self.settle = Duration::from_nanos(ns),
            ("wiring", "time", Setting::Number(ns)) => self.limits.time = Duration::from_nanos(ns),
            ("wiring", "memory", Setting::Number(bytes)) => {
                self.limits.memory_bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            }
            ("realtime", "strict", Setting::Flag(flag)) => self.strict_realtime = flag,
            ("realtime", "lock_memory", Setting::Flag(flag)) => self.lock_memory = flag,
            ("bus", "address", Setting::Bus(bus)) => self.bus = bus,
            ("bus", "group", Setting::Text(group)) => self.bus_group = group,
            ("bus", "polkit", Setting::Flag(flag)) => self.polkit = flag,
            ("log", "level", Setting::Text(level)) => self.log.level = level,
            ("log", "format", Setting::Text(format)) => self.log.format = format,
            ("log", "lines_per_second", Setting::Number(lines)) => {
                self.log.lines_per_second = u32::try_from(lines).unwrap_or(u32::MAX);
            }
            ("clock", key, setting) => self.set_clock(key, setting),
            ("interfaces", key, setting) => self.set_interfaces(key, setting),
            (section, key, setting) => {
                unreachable!("[{section}] {key} is in the table of keys, {setting:?} has no place")
            }
        }
    }

    fn set_clock(&mut self, key: &str, setting: Setting) {
        let ClockSettings { watch, config } = &mut self.clock;
        match (key, setting) {
            ("watch", Setting::Flag(flag)) => *watch = flag,
            ("ptp4l", Setting::Paths(paths)) => config.socket = paths.into_iter().collect(),
            ("hardware", Setting::Paths(paths)) => config.hardware = paths.into_iter().next(),
            ("domain", Setting::Number(domain)) => config.domain = u8::try_from(domain).unwrap_or(u8::MAX),
            ("port", Setting::Number(port)) => config.port = u16::try_from(port).unwrap_or(u16::MAX),
            ("role", Setting::Text(word)) => config.bounds.role = role(&word),
            ("offset_max", Setting::Number(ns)) => config.bounds.offset_max_ns = ns,
            ("hold", Setting::Number(ns)) => config.bounds.hold_ns = ns,
            ("silence_max", Setting::Number(ns)) => config.bounds.silence_max_ns = ns,
            (key, setting) => unreachable!("[clock] {key} is in the table of keys, {setting:?} has no place"),
        }
    }

    fn set_interfaces(&mut self, key: &str, setting: Setting) {
        match (key, setting) {
            ("napi_priority", Setting::Number(priority)) => {
                self.interfaces.napi_priority = i32::try_from(priority).unwrap_or(i32::MAX);
            }
            ("on_unmet", Setting::Text(word)) => self.interfaces.refuse = word == "refuse",
            (key, Setting::Texts(names)) => {
                self.interfaces.set(Profile::named(key).unwrap_or(Profile::Cpu), names);
            }
            (key, setting) => {
                unreachable!("[interfaces] {key} is in the table of keys, {setting:?} has no place")
            }
        }
    }

    /// A level of a later file replaces the one of its name.
    fn take_levels(&mut self, file: &Path, script: String, mistakes: &mut Vec<Mistake>) {
        let source = Source::Text { chunk_name: file.display().to_string(), lua: script };
        match tempos_lua::evaluate(&source, &Known::default(), &self.limits) {
            Ok(commands) => {
                for command in commands {
                    if let Command::DeclareLevel(level) = command {
                        self.levels.retain(|known| known.name != level.name);
                        self.levels.push(level);
                    }
                }
            }
            Err(wrong) => mistakes.extend(wrong),
        }
    }

    /// The flags.
    fn heed(&mut self, options: &Options) {
        if let Some(run) = &options.run {
            self.run_dir.clone_from(run);
        }
        if let Some(state) = &options.state {
            self.state_dir.clone_from(state);
        }
        if !options.plugins.is_empty() {
            self.plugin_folders.clone_from(&options.plugins);
        }
        if !options.wiring.is_empty() {
            self.wiring.clone_from(&options.wiring);
            self.wiring_named = true;
        }
        if let Some(bus) = &options.bus {
            self.bus.clone_from(bus);
        }
        if let Some(level) = options.log {
            self.log.level = level.word().into();
        }
        self.strict_realtime |= options.strict_realtime;
    }
}

/// `node.d/*.toml` beside `node.toml`, in name order.
fn fragments(main: &Path, mistakes: &mut Vec<Mistake>) -> Vec<PathBuf> {
    let folder = main.with_extension("d");
    let Ok(entries) = fs::read_dir(&folder) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .take(FRAGMENTS_MAX + 1)
        .collect();
    if files.len() > FRAGMENTS_MAX {
        let origin = Origin::new(folder.display().to_string(), 0);
        mistakes.push(Mistake::new(&origin, format!("the folder holds more than {FRAGMENTS_MAX} fragments")));
    }
    files.sort();
    files
}

fn read_file(path: &Path) -> std::io::Result<String> {
    // Asked before opening: to open a named pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "it must be a regular file"));
    }
    let mut text = String::new();
    let len = fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if len as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::new(ErrorKind::InvalidData, format!("over {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

fn unreadable(path: &Path, error: &std::io::Error) -> Mistake {
    let origin = Origin::new(path.display().to_string(), 0);
    Mistake::new(&origin, format!("the node file cannot be read: {error}"))
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match name.trim() {
        "" => "node".into(),
        name => name.into(),
    }
}
