//! What the plugin tests share: the fixtures, built once, and a registry on folders of its own.

#![allow(dead_code)] // Each test binary uses its part.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tempos_abi::queue::{QueueSpec, WhenFull};
use tempos_abi::{Options, PluginError};
use tempos_engine::plugin::{LogFn, Plugin, PluginConfig, PluginEvent, PluginState, Registry};

/// The version that the fixture is built with.
pub const BUILT_VERSION: &str = "10.20.30";
const BEHAVIOUR_MARK: &str = "fixture-behaviour:";

/// The bytes of the built fixtures.
pub struct Fixtures {
    plugin: Vec<u8>,
    pub other_layout: Vec<u8>,
}

/// Builds the fixtures, as a third party would: by their own `cargo build`.
pub fn fixtures() -> &'static Fixtures {
    static BUILT: OnceLock<Fixtures> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").canonicalize().unwrap();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("plugin-fixtures");
        let output = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--quiet", "--target-dir"])
            .arg(&target)
            .current_dir(source)
            .output()
            .unwrap();
        assert!(output.status.success(), "the fixtures: {}", String::from_utf8_lossy(&output.stderr));
        let read = |name: &str| fs::read(target.join("debug").join(name)).unwrap();
        Fixtures { plugin: read("libplugin_fixture.so"), other_layout: read("libplugin_other_layout.so") }
    })
}

/// The fixture plugin of that version (eight characters), well behaved.
pub fn plugin(version: &str) -> Vec<u8> {
    replaced(&fixtures().plugin, BUILT_VERSION, version)
}

/// The fixture plugin with a behaviour: see its source.
pub fn behaving(behaviour: &str) -> Vec<u8> {
    let good = format!("{BEHAVIOUR_MARK}{:.<22}", "good");
    replaced(&fixtures().plugin, &good, &format!("{BEHAVIOUR_MARK}{behaviour:.<22}"))
}

/// Another content of the same plugin: what a rebuild would give.
pub fn rebuilt(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.push(b'\n');
    bytes
}

/// `bytes` with another text of the same length at every place of `from`.
pub fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| *w == from.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "{from:?} is not in the fixture");
    let mut bytes = bytes.to_vec();
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// The trial program: an example of this package.
pub fn probe_program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests.ancestors().nth(2).unwrap().join("examples/probe");
    if !program.exists() {
        // `cargo test --test NAME` alone builds no examples.
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", "probe", "--manifest-path"])
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
            .status()
            .unwrap();
        assert!(built.success() && program.exists(), "{program:?} is not built");
    }
    program
}

/// A folder that is removed with its content.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("t{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        set_mode(&path, 0o755);
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A registry with a drop-in folder.
pub struct Bench {
    pub registry: Registry,
    pub drop_in: PathBuf,
    pub stage: PathBuf,
    pub lines: Arc<Mutex<Vec<String>>>,
    _root: Folder,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with_timeout(Duration::from_secs(60))
    }

    pub fn with_timeout(probe_timeout: Duration) -> Bench {
        let root = Folder::new();
        let (drop_in, stage) = (root.0.join("plugins"), root.0.join("run/plugins"));
        fs::create_dir(&drop_in).unwrap();
        set_mode(&drop_in, 0o755);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let registry = Registry::new(config(&drop_in, &stage, probe_timeout), log_into(&lines)).unwrap();
        Bench { registry, drop_in, stage, lines, _root: root }
    }

    /// Puts a file into the drop-in folder, complete at once.
    pub fn put(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.drop_in.join(name);
        let unfinished = self.drop_in.join(format!(".{name}.part"));
        fs::write(&unfinished, bytes).unwrap();
        set_mode(&unfinished, 0o644);
        fs::rename(unfinished, &path).unwrap();
        path
    }

    /// Puts and loads.
    pub fn load(&mut self, name: &str, bytes: &[u8]) -> PluginEvent {
        let path = self.put(name, bytes);
        self.registry.load_file(&path, false).unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// Puts and is refused: the sentence.
    pub fn refused(&mut self, name: &str, bytes: &[u8]) -> String {
        let path = self.put(name, bytes);
        self.refused_path(&path)
    }

    pub fn refused_path(&mut self, path: &Path) -> String {
        let refusal = self.registry.load_file(path, false).expect_err("it is refused");
        assert_eq!(refusal.kind, tempos_control::RefusalKind::PluginRejected);
        assert_sentence(&refusal.message);
        assert!(refusal.message.starts_with(&format!("plugin file {path:?}: ")), "{}", refusal.message);
        refusal.message
    }

    pub fn state(&self, name: &str) -> PluginState {
        let states = self.registry.states();
        let found = states.iter().find(|state| state.name == name).cloned();
        found.unwrap_or_else(|| panic!("no {name:?} among {states:#?}"))
    }
}

pub fn config(drop_in: &Path, stage: &Path, probe_timeout: Duration) -> PluginConfig {
    PluginConfig {
        folders: vec![drop_in.to_owned()],
        stage_folder: stage.to_owned(),
        probe_command: Some(vec![probe_program().into()]),
        probe_timeout,
        // SAFETY: geteuid(2) has no preconditions.
        trusted_uid: unsafe { libc::geteuid() },
    }
}

pub fn log_into(lines: &Arc<Mutex<Vec<String>>>) -> LogFn {
    let lines = lines.clone();
    Arc::new(move |level, plugin, sentence| {
        lines.lock().unwrap().push(format!("{} {plugin}: {sentence}", level.0));
    })
}

/// One line, not too long for one.
pub fn assert_sentence(text: &str) {
    assert!(!text.is_empty() && text.len() < 900 && !text.contains(['\n', '\r', '\0']), "{text:?}");
}

/// Calls into the plugin's own code: the fixture refuses every queue with its package's name.
pub fn assert_callable(plugin: &Plugin) {
    let spec = QueueSpec {
        handles: 1,
        topics: 1,
        capacity_events: 1,
        when_full: WhenFull::REFUSE,
        capacity_bytes: 1,
        options: Options::new(),
        reserved: [0; 4],
    };
    let refusal = plugin.queue_policy().expect("it is a queue policy").open(&spec).into_result();
    let refusal: PluginError = refusal.err().expect("it refuses every queue");
    assert_eq!(refusal.message.as_str(), "plugin-fixture");
}

pub fn started(event: PluginEvent) -> Arc<Plugin> {
    match event {
        PluginEvent::Started(plugin) => plugin,
        other => panic!("not started: {other:?}"),
    }
}

pub fn taken_over(event: PluginEvent) -> (Arc<Plugin>, Arc<Plugin>) {
    match event {
        PluginEvent::Replaced { old, new } => (old, new),
        other => panic!("not replaced: {other:?}"),
    }
}
