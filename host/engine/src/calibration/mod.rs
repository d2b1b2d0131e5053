//! What hops cost on this machine: the loaded plugins are called by threads that run as a lane's do, beside nothing
//! and beside ordinary load, and what they take is counted.
//!
//! It runs in a process of its own, which the daemon starts: no lane, channel or queue of a running node is touched,
//! and a plugin that crashes here costs a calibration. It loads the same files by the same gates through the same
//! interface as the node does, as the same user with the same permissions. What it opens is private to it: addresses
//! of the loopback interface that the kernel chooses, and sockets without a name in the file system.
//!
//! What this room refuses to know: what the figures are used for (`grants`), where they are kept (the daemon).

mod channels;
mod load;
mod methods;
mod queues;
mod wake;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use histogram::{Bucket, Histogram, Quantile};
use tempos_abi::PluginKind;
use tempos_control::level::{BEST_EFFORT, STRICT};
use tempos_control::{LevelSpec, Refusal, RefusalKind, Scheduler};

use crate::engine::EngineConfig;
use crate::plugin::Registry;
use crate::system::scheduling::{self, ThreadId};
use load::Load;

/// The size of the events that channels and functions are measured with, in bytes.
pub const EVENT_BYTES: usize = 256;
/// The least and the most time that a calibration may take.
pub const TIME_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));
/// Between two samples: long enough that a CPU may fall asleep as it does in a lane that waits.
const PAUSE: Duration = Duration::from_micros(250);
/// The most samples of one figure.
const SAMPLES_MAX: u64 = 100_000;
/// Fewer samples than this say nothing of a p99.
const SAMPLES_MIN: u64 = 50;
/// How much longer wake-ups and channels are measured than policies: each sample of them is a wake-up of its own.
const WAKE_WEIGHT: u32 = 4;

/// What one hop costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// `wake`, `wake-3`, `wake-5`, `receive/udp`, `send/udp`, `queue/fifo`, `method/dlf`.
    pub what: String,
    /// Whether the thread ran in real time.
    pub real_time: bool,
    /// Whether ordinary threads kept every CPU busy meanwhile.
    pub loaded: bool,
    /// p50, p99, p99.9 and max (ns).
    pub ns: [u64; 4],
    /// p99.2, p99.5, p99.8 and p99.95 (ns). Zeroes where they were not kept.
    pub tail_ns: [u64; 4],
    /// Of how many.
    pub samples: u64,
}

/// What a calibration came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Calibration {
    /// The figures.
    pub costs: Vec<Cost>,
    /// What was not measured, one sentence each.
    pub left_out: Vec<String>,
    /// The versions of the plugins that were measured.
    pub plugins: BTreeMap<String, String>,
    /// The SHA-256 of their files.
    pub files: BTreeMap<String, String>,
}

/// Something that is measured: each burst is a sample, and bounded.
trait Bench: Send {
    /// Its thread runs like this from now on.
    fn begin(&mut self, scheduler: &Scheduler) {
        let _ = scheduler;
    }

    /// Takes a sample for each of its figures.
    fn burst(&mut self, samples: &mut Samples);
}

/// Histograms by figure.
#[derive(Default)]
struct Samples(BTreeMap<String, Histogram>);

impl Samples {
    fn add(&mut self, what: &str, ns: u64) {
        if !self.0.contains_key(what) {
            let Ok(histogram) = Histogram::new(7, 36) else { return };
            self.0.insert(what.to_owned(), histogram);
        }
        if let Some(histogram) = self.0.get_mut(what) {
            let _ = histogram.increment(ns.min((1 << 36) - 1));
        }
    }

    /// The same of a wait in which others would have begun to wait too, one in each interval: one long wait is that of
    /// all who come meanwhile (the correction for coordinated omission, as HdrHistogram has it).
    fn add_wait(&mut self, what: &str, ns: u64, interval_ns: u64) {
        let mut left = ns;
        self.add(what, left);
        while left > interval_ns {
            left -= interval_ns;
            self.add(what, left);
        }
    }

    fn costs(&self, real_time: bool, loaded: bool) -> impl Iterator<Item = Cost> {
        self.0.iter().filter_map(move |(what, histogram)| {
            let samples: u64 = histogram.into_iter().map(|bucket| bucket.count()).sum();
            let result =
                histogram.quantiles(&[0.5, 0.99, 0.992, 0.995, 0.998, 0.999, 0.9995, 1.0]).ok()??;
            let at = |q: f64| Quantile::new(q).ok().and_then(|q| result.get(&q)).map_or(0, Bucket::end);
            let ns = [at(0.5), at(0.99), at(0.999), result.max().end()];
            let tail_ns = [at(0.992), at(0.995), at(0.998), at(0.9995)];
            let cost = || Cost { what: what.clone(), real_time, loaded, ns, tail_ns, samples };
            (samples >= SAMPLES_MIN).then(cost)
        })
    }
}

/// Measures what the plugins of that configuration cost, within about `time`. `scratch`: a folder of its own.
/// `progress` hears how many of a hundred parts are done, and what comes next.
///
/// # Errors
/// The plugins cannot be loaded, or nothing could be measured.
pub fn calibrate(
    config: &EngineConfig,
    scratch: &Path,
    time: Duration,
    progress: &mut dyn FnMut(u8, &str),
) -> Result<Calibration, Refusal> {
    let time = time.clamp(TIME_BOUNDS.0, TIME_BOUNDS.1);
    progress(0, "loading the plugins");
    let mut registry = Registry::new(config.plugin_config(), Arc::clone(&config.log))?;
    registry.load_folders();
    let mut found = Calibration::default();
    let mut benches: Vec<(String, u32, Box<dyn Bench>)> = Vec::new();
    match wake::Wake::new() {
        Ok(bench) => benches.push((String::from("waking up"), WAKE_WEIGHT, Box::new(bench))),
        Err(error) => found.left_out.push(format!("wake-ups: {error}")),
    }
    for kind in [PluginKind::ADAPTER, PluginKind::QUEUE, PluginKind::INVOKER] {
        for plugin in registry.of_kind(kind) {
            let name = plugin.info.name.clone();
            let weight = match kind {
                PluginKind::ADAPTER => WAKE_WEIGHT,
                _ => 2,
            };
            let word = kind.word();
            let bench = match kind {
                PluginKind::ADAPTER => channels::open(&plugin),
                PluginKind::QUEUE => queues::open(&plugin),
                _ => methods::open(&plugin, scratch),
            };
            match bench {
                Ok(bench) => {
                    found.plugins.insert(name.clone(), plugin.info.version.clone());
                    found.files.insert(name.clone(), plugin.sha256.clone());
                    benches.push((format!("{word} {name}"), weight, bench));
                }
                Err(sentence) => found.left_out.push(format!("{word} {name}: {sentence}")),
            }
        }
    }
    let parts: u32 = benches.iter().map(|(_, weight, _)| weight).sum::<u32>().max(1) * 4;
    let mut done = 0;
    for loaded in [false, true] {
        let _load = if loaded { Some(Load::start(time)) } else { None };
        for (word, weight, bench) in &mut benches {
            for real_time in [true, false] {
                let scheduler = scheduler(config, real_time);
                let how = scheduling::requested(&scheduler);
                let beside = if loaded { "beside load" } else { "quiet" };
                progress((done * 100 / parts) as u8, &format!("{word} as {how}, {beside}"));
                done += *weight;
                match run(bench.as_mut(), &scheduler, time * *weight / parts) {
                    Ok(samples) => found.costs.extend(samples.costs(real_time, loaded)),
                    Err(error) => {
                        let sentence = format!("{how}: the system refuses it: {error}");
                        if !found.left_out.contains(&sentence) {
                            found.left_out.push(sentence);
                        }
                    }
                }
            }
        }
    }
    progress(100, "done");
    if found.costs.is_empty() {
        let message = format!("nothing could be measured: {}", found.left_out.join("; "));
        return Err(Refusal::new(RefusalKind::System, message));
    }
    Ok(found)
}

/// Ends this process when the thread that started it ends, so that nobody measures for nobody.
pub fn end_with_parent() {
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
}

/// How the threads of a lane run: as `strict` and `best-effort` do here.
fn scheduler(config: &EngineConfig, real_time: bool) -> Scheduler {
    let name = if real_time { STRICT } else { BEST_EFFORT };
    let preset = if real_time { LevelSpec::strict() } else { LevelSpec::best_effort() };
    let said = config.levels.iter().find(|level| level.name == name).unwrap_or(&preset);
    match (&said.scheduler, real_time) {
        (Scheduler::Fifo { .. } | Scheduler::RoundRobin { .. }, true) => said.scheduler.clone(),
        (Scheduler::Other { .. }, false) => said.scheduler.clone(),
        _ => preset.scheduler,
    }
}

/// Runs a bench on a thread of that scheduling.
fn run(bench: &mut dyn Bench, scheduler: &Scheduler, time: Duration) -> std::io::Result<Samples> {
    let work = || {
        scheduling::apply(ThreadId::current(), scheduler)?;
        bench.begin(scheduler);
        let mut samples = Samples::default();
        let end = Instant::now() + time;
        let mut count = 0;
        while count < SAMPLES_MAX && Instant::now() < end {
            bench.burst(&mut samples);
            std::thread::sleep(PAUSE);
            count += 1;
        }
        Ok(samples)
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("calibration".into()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a plugin panicked")))
    })
}

/// Nanoseconds of CPU time of the calling thread.
fn cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    (time.tv_sec as u64).wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec as u64)
}
