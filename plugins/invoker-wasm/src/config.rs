//! The options of a function: the table for users, and what it becomes.

use std::path::{Path, PathBuf};

use tempos_abi::invoker::FunctionSpec;
use tempos_abi::{OptionKind, OptionSpec, PluginError};

/// The most memory of an instance where the workflow does not say.
pub const MEMORY_BYTES_DEFAULT: u64 = 256 << 20;
const ENV_MAX: usize = 64;
const DIRS_MAX: usize = 16;

/// The option table.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec::new(
        "instances",
        OptionKind::TEXT,
        "fresh",
        "A fresh instance for each event, or the same ones again and again.",
    )
    .words("fresh|reuse"),
    OptionSpec::new(
        "fuel",
        OptionKind::INTEGER,
        "0",
        "Instructions (roughly) that an event may cost; the function is stopped when they are used up. 0: no bound.",
    )
    .unit("0 to 2^62"),
    OptionSpec::new(
        "snapshot",
        OptionKind::FLAG,
        "false",
        "Start the module once when the workflow is applied, and every instance from the memory that it has then.",
    ),
    OptionSpec::new("env", OptionKind::TEXTS, "", "Variables that the function sees through WASI.")
        .unit("NAME=value, at most 64"),
    OptionSpec::new(
        "dirs",
        OptionKind::TEXTS,
        "",
        "Folders that the function sees through WASI, to read; with :rw at the end to write, too.",
    )
    .unit("/on/the/node:/in/the/function, at most 16"),
    OptionSpec::new(
        "cache",
        OptionKind::PATH,
        "",
        "Folder for compiled functions; wasm-cache in the node's state folder where it is not given.",
    ),
];

/// Where instances come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instances {
    /// A new one for each event.
    Fresh,
    /// The same ones again, until they trap, are stopped, or have served long enough.
    Reuse,
}

/// A folder of the node that the function may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dir {
    /// Where it lies.
    pub host: PathBuf,
    /// What the function calls it.
    pub guest: String,
    /// Whether it may write.
    pub writable: bool,
}

/// What a function is to do.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where instances come from.
    pub instances: Instances,
    /// Fuel for each event; 0: not metered.
    pub fuel: u64,
    /// Start once, and go on from there.
    pub snapshot: bool,
    /// Variables for WASI.
    pub env: Vec<(String, String)>,
    /// Folders for WASI.
    pub dirs: Vec<Dir>,
    /// The folder for compiled functions, where one is known.
    pub cache: Option<PathBuf>,
    /// The most memory of an instance in bytes.
    pub memory_bytes: u64,
}

impl Config {
    /// Reads the options of a function.
    ///
    /// # Errors
    /// One sentence that names the workflow, the option, and what would be right.
    pub fn read(spec: &FunctionSpec) -> Result<Self, PluginError> {
        let read = || -> Result<Self, String> {
            let instances = match spec.options.text("instances") {
                None | Some("fresh") => Instances::Fresh,
                Some("reuse") => Instances::Reuse,
                Some(other) => {
                    return Err(format!("instances = {other:?} is neither \"fresh\" nor \"reuse\""));
                }
            };
            let fuel = spec.options.integer("fuel").unwrap_or(0);
            let fuel = u64::try_from(fuel)
                .ok()
                .filter(|fuel| *fuel <= 1 << 62)
                .ok_or_else(|| format!("fuel = {fuel} is not within 0 to 2^62"))?;
            let cache = spec.options.text("cache").filter(|path| !path.is_empty());
            if let Some(path) = cache.filter(|path| !path.starts_with('/')) {
                return Err(format!(
                    "cache = {path:?} is not an absolute path, such as \"/var/cache/tempos\""
                ));
            }
            let env = spec.options.texts("env");
            let dirs = spec.options.texts("dirs");
            if env.len() > ENV_MAX || dirs.len() > DIRS_MAX {
                return Err(format!(
                    "env takes at most {ENV_MAX} variables, dirs at most {DIRS_MAX} folders"
                ));
            }
            Ok(Config {
                instances,
                fuel,
                snapshot: spec.options.flag("snapshot"),
                env: env.into_iter().map(variable).collect::<Result<_, _>>()?,
                dirs: dirs.into_iter().map(dir).collect::<Result<_, _>>()?,
                cache: cache.map(PathBuf::from),
                memory_bytes: if spec.memory_bytes == 0 { MEMORY_BYTES_DEFAULT } else { spec.memory_bytes },
            })
        };
        read().map_err(|wrong| {
            PluginError::bad_option(format!("function of workflow \"{}\": {wrong}", spec.name))
        })
    }

    /// The folder for compiled functions: as set, or below the node's state folder where it says so.
    pub fn cache_folder(&self) -> Option<PathBuf> {
        let state = || std::env::var_os("TEMPOS_STATE_DIR").map(|state| Path::new(&state).join("wasm-cache"));
        self.cache.clone().or_else(state)
    }
}

fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("env holds {text:?}, which is not of the form NAME=value")),
    }
}

fn dir(text: &str) -> Result<Dir, String> {
    let (paths, writable) = match text.strip_suffix(":rw") {
        Some(paths) => (paths, true),
        None => (text.strip_suffix(":ro").unwrap_or(text), false),
    };
    let (host, guest) = paths.split_once(':').unwrap_or((paths, paths));
    if !host.starts_with('/') || !guest.starts_with('/') {
        return Err(format!(
            "dirs holds {text:?}, which is not of the form /on/the/node:/in/the/function, with :rw to write"
        ));
    }
    let metadata = std::fs::metadata(host).map_err(|error| format!("dirs names {host}: {error}"))?;
    if !metadata.is_dir() {
        return Err(format!("dirs names {host}, which is not a folder"));
    }
    Ok(Dir { host: host.into(), guest: guest.to_owned(), writable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_only_unless_they_say_otherwise() {
        let read = |text| dir(text).map(|dir| (dir.host, dir.guest, dir.writable));
        assert_eq!(read("/tmp"), Ok(("/tmp".into(), "/tmp".into(), false)));
        assert_eq!(read("/tmp:/data"), Ok(("/tmp".into(), "/data".into(), false)));
        assert_eq!(read("/tmp:/data:rw"), Ok(("/tmp".into(), "/data".into(), true)));
        assert_eq!(read("/tmp:rw"), Ok(("/tmp".into(), "/tmp".into(), true)));
        for (text, words) in [
            ("tmp", "not of the form"),
            ("/tmp:data", "not of the form"),
            ("/dev/null", "not a folder"),
            ("/nowhere/at/all", "No such file"),
        ] {
            assert!(dir(text).is_err_and(|wrong| wrong.contains(words)), "{text}");
        }
        assert!(variable("NAME=a=b").is_ok_and(|(name, value)| (&name[..], &value[..]) == ("NAME", "a=b")));
        assert!(variable("=x").is_err() && variable("NAME").is_err());
    }
}
