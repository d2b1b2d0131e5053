//! `calibration.json` in the state folder: written whole or not at all, and never believed without a look. Its fields
//! are in `dbus/README.md`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use tempos_engine::calibration::{Calibration, Cost};

use super::machine::Machine;

/// Its name.
pub const FILE: &str = "calibration.json";
/// Where a damaged one goes; one that was there before makes room.
const ASIDE: &str = "calibration.json.damaged";
/// The format that is written. A later one is left alone, for the daemon that wrote it.
const FORMAT: u32 = 1;
const FILE_BYTES_MAX: u64 = 1 << 20;
const COSTS_MAX: usize = 4096;
/// No hop takes longer (ns).
const COST_NS_MAX: u64 = 1 << 37;

/// A calibration as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    format: u32,
    taken_at: String,
    node: String,
    /// Which build of the daemon it was; of an older one it is empty.
    #[serde(default)]
    build: String,
    machine: Machine,
    plugins: BTreeMap<String, String>,
    /// The SHA-256 of their files.
    #[serde(default)]
    files: BTreeMap<String, String>,
    costs: Vec<KeptCost>,
    left_out: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct KeptCost {
    what: String,
    real_time: bool,
    loaded: bool,
    p50_ns: u64,
    p99_ns: u64,
    p99_9_ns: u64,
    max_ns: u64,
    /// Zero in a file of a daemon that did not keep it; so the three that follow.
    #[serde(default)]
    p99_2_ns: u64,
    #[serde(default)]
    p99_5_ns: u64,
    #[serde(default)]
    p99_8_ns: u64,
    #[serde(default)]
    p99_95_ns: u64,
    samples: u64,
}

/// What a folder holds.
pub enum Found {
    /// One of this machine.
    Kept(Box<Kept>),
    /// None.
    Nothing,
    /// One that is not used, and why.
    Unusable(String),
}

impl Kept {
    /// A calibration of this machine, taken now.
    pub fn new(calibration: Calibration, taken_at: String) -> Self {
        let costs = calibration.costs.into_iter().map(|cost| {
            let [p50_ns, p99_ns, p99_9_ns, max_ns] = cost.ns;
            let [p99_2_ns, p99_5_ns, p99_8_ns, p99_95_ns] = cost.tail_ns;
            let Cost { what, real_time, loaded, samples, .. } = cost;
            KeptCost {
                what,
                real_time,
                loaded,
                p50_ns,
                p99_ns,
                p99_9_ns,
                max_ns,
                p99_2_ns,
                p99_5_ns,
                p99_8_ns,
                p99_95_ns,
                samples,
            }
        });
        Kept {
            format: FORMAT,
            taken_at,
            node: env!("CARGO_PKG_VERSION").into(),
            build: build(),
            machine: Machine::here(),
            plugins: calibration.plugins,
            files: calibration.files,
            costs: costs.collect(),
            left_out: calibration.left_out,
        }
    }

    /// Reads a folder's. `mends`: one that is damaged is put aside.
    pub fn read(folder: &Path, mends: bool) -> Found {
        let path = folder.join(FILE);
        let shown = path.display();
        let mut bytes = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Found::Nothing,
            Err(error) => return Found::Unusable(format!("{shown} cannot be read and is not used: {error}")),
        }
        // The format alone first: what follows may be another's.
        let format = serde_json::from_slice::<serde_json::Value>(&bytes).ok();
        let format = format.and_then(|whole| whole.get("format")?.as_u64());
        if let Some(format) = format.filter(|format| *format > u64::from(FORMAT)) {
            return Found::Unusable(format!(
                "{shown} has format {format} of a later version and is not used; run temposctl calibrate"
            ));
        }
        let wrong = match Kept::parse(&bytes) {
            Ok(kept) if kept.machine == Machine::here() => return Found::Kept(Box::new(kept)),
            Ok(kept) => {
                return Found::Unusable(format!(
                    "{shown} was taken on {}, and this is {}: it is not used; run temposctl calibrate",
                    kept.machine.words(),
                    Machine::here().words()
                ));
            }
            Err(wrong) => wrong,
        };
        let aside = folder.join(ASIDE);
        let done = match mends.then(|| fs::rename(&path, &aside)) {
            Some(Ok(())) => format!("it is put aside as {}", aside.display()),
            Some(Err(error)) => format!("it cannot be put aside: {error}"),
            None => String::from("it is not used"),
        };
        Found::Unusable(format!("{shown} is damaged ({wrong}); {done}; run temposctl calibrate"))
    }

    /// Reads what is to be one.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    pub fn parse(bytes: &[u8]) -> Result<Kept, String> {
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(format!("it is larger than {FILE_BYTES_MAX} bytes"));
        }
        let kept: Kept = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        if kept.format != FORMAT {
            return Err(format!("there is no format {}", kept.format));
        }
        if kept.costs.is_empty() || kept.costs.len() > COSTS_MAX {
            return Err(format!("it holds {} figures", kept.costs.len()));
        }
        let odd = kept.costs.iter().find(|cost| {
            let rising = [cost.p50_ns, cost.p99_ns, cost.p99_9_ns, cost.max_ns, COST_NS_MAX];
            let tail =
                [cost.p99_ns, cost.p99_5_ns, cost.p99_8_ns, cost.p99_9_ns, cost.p99_95_ns, cost.max_ns];
            let has_tail = [cost.p99_5_ns, cost.p99_8_ns, cost.p99_95_ns] != [0; 3];
            !rising.is_sorted() || has_tail && !tail.is_sorted() || cost.samples == 0 || cost.what.is_empty()
        });
        match odd {
            Some(cost) => Err(format!("the figures of {:?} are none that can be measured", cost.what)),
            None => Ok(kept),
        }
    }

    /// Writes it into a folder: whole, or not at all.
    ///
    /// # Errors
    /// What the system says; what was there before is still there.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".calibration-").tempfile_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(folder.join(FILE)).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }

    /// It as one line.
    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What rests on it says this.
    pub fn basis(&self) -> String {
        format!("the calibration of {} on {}", self.taken_at, self.machine.words())
    }

    /// Whether this very program took it: what is promised rests on nothing less.
    pub fn is_of_this_build(&self) -> bool {
        !self.build.is_empty() && self.build == build()
    }

    /// What was not measured.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// p50, p99, p99.9 and max by `WHAT, real-time|ordinary, quiet|loaded`.
    pub fn rows(&self) -> BTreeMap<String, [u64; 4]> {
        let rows = self.costs.iter().map(|cost| {
            let thread = if cost.real_time { "real-time" } else { "ordinary" };
            let beside = if cost.loaded { "loaded" } else { "quiet" };
            let ns = [cost.p50_ns, cost.p99_ns, cost.p99_9_ns, cost.max_ns];
            (format!("{} {thread} {beside}", cost.what), ns)
        });
        rows.collect()
    }

    /// As the engine has it.
    pub fn calibration(&self) -> Calibration {
        let costs = self.costs.iter().map(|cost| Cost {
            what: cost.what.clone(),
            real_time: cost.real_time,
            loaded: cost.loaded,
            ns: [cost.p50_ns, cost.p99_ns, cost.p99_9_ns, cost.max_ns],
            tail_ns: [cost.p99_2_ns, cost.p99_5_ns, cost.p99_8_ns, cost.p99_95_ns],
            samples: cost.samples,
        });
        Calibration {
            costs: costs.collect(),
            left_out: self.left_out.clone(),
            plugins: self.plugins.clone(),
            files: self.files.clone(),
        }
    }
}

/// Which build this program is: its size and when its file was made tell two of one version apart, and cost no reading.
/// Empty where the system does not say, which is no build at all.
fn build() -> String {
    let file = std::env::current_exe().and_then(fs::metadata);
    let made = file.as_ref().ok().and_then(|file| file.modified().ok()?.duration_since(UNIX_EPOCH).ok());
    match (file, made) {
        (Ok(file), Some(made)) => format!("{}-{}", file.len(), made.as_nanos()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let costs = vec![Cost {
            what: "send/udp".into(),
            real_time: true,
            loaded: false,
            ns: [1_000, 2_000, 3_000, 3_000],
            tail_ns: [2_300, 2_500, 2_600, 3_000],
            samples: 500,
        }];
        let plugins = BTreeMap::from([("udp".into(), "0.1.0".into())]);
        let files = BTreeMap::from([("udp".into(), "ab01".into())]);
        let calibration = Calibration { costs, left_out: vec!["a: b".into()], plugins, files };
        Kept::new(calibration, "2026-01-02T03:04:05.000Z".into())
    }

    fn said(folder: &Path) -> String {
        match Kept::read(folder, true) {
            Found::Kept(kept) => kept.basis(),
            Found::Nothing => String::from("nothing"),
            Found::Unusable(sentence) => sentence,
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(said(folder.path()), "nothing");
        kept().write(folder.path()).unwrap();
        let Found::Kept(read) = Kept::read(folder.path(), true) else { panic!("it is there") };
        assert_eq!(*read, kept());
        assert_eq!(Kept::parse(kept().line().as_bytes()).unwrap(), kept());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing beside it is left");
        assert_eq!(read.rows()["send/udp real-time quiet"], [1_000, 2_000, 3_000, 3_000]);
    }

    #[test]
    fn a_damaged_one_is_put_aside_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        let whole = kept().line();
        for damaged in ["", "{", &whole[..whole.len() / 2], "\0\0\0", "[]", "{\"format\": 1}"]
            .into_iter()
            .map(str::to_owned)
            .chain([whole.replace("3000", "1"), whole.replace("\"format\":1", "\"format\":0")])
        {
            fs::write(&path, &damaged).unwrap();
            let sentence = said(folder.path());
            assert!(sentence.contains("is damaged (") && sentence.contains(ASIDE), "{damaged}: {sentence}");
            assert!(!path.exists());
            assert_eq!(fs::read_to_string(folder.path().join(ASIDE)).unwrap(), damaged);
        }
        // A check only looks.
        fs::write(&path, "{").unwrap();
        assert!(matches!(Kept::read(folder.path(), false), Found::Unusable(_)));
        assert!(path.exists());
    }

    #[test]
    fn one_of_another_machine_kernel_or_time_is_not_used_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let here = Machine::here();
        for (machine, words) in [
            (Machine { kernel: "1.2.3".into(), ..here.clone() }, "Linux 1.2.3"),
            (Machine { cpus: here.cpus + 1, ..here.clone() }, "was taken on"),
            (Machine { cpu: "Mill 9".into(), ..here }, "Mill 9 × "),
        ] {
            Kept { machine, ..kept() }.write(folder.path()).unwrap();
            let sentence = said(folder.path());
            assert!(sentence.contains(words) && sentence.contains("it is not used"), "{sentence}");
            assert!(folder.path().join(FILE).exists());
        }
        fs::write(folder.path().join(FILE), "{\"format\": 7, \"more\": []}").unwrap();
        assert!(said(folder.path()).contains("format 7 of a later version"), "{}", said(folder.path()));
        assert!(folder.path().join(FILE).exists());
    }
}
