//! Opening channels, queues and functions: the controller's calls into plugins, with everything that a
//! user may have got wrong turned into a sentence.

use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use tempos_abi::adapter::{ChannelBox, ChannelSpec as AbiChannelSpec, Direction};
use tempos_abi::counters::{ChannelCounters, FunctionCounters};
use tempos_abi::invoker::{FunctionBox, FunctionSpec, Instances, Scheduling};
use tempos_abi::level::{LaneQos, QosGrant, QosLevel};
use tempos_abi::private::abi_stable::std_types::{RArc, RResult, RString};
use tempos_abi::queue::{QueueBox, QueueSpec, WhenFull};
use tempos_abi::{PluginKind, QosLevel as Level};
use tempos_control::{CallSpec, ChannelSpec, FullQueue, LevelSpec, Origin, Scheduler, names};

use crate::plugin::{Plugin, Registry, options};
use crate::system::scheduling;

/// A channel that was opened.
pub struct Opened {
    /// It.
    pub channel: ChannelBox,
    /// Where it is open.
    pub address: String,
    /// What it obtained for its lane.
    pub grant: String,
    /// What it counts.
    pub counters: RArc<ChannelCounters>,
}

/// The plugin of that name and kind.
///
/// # Errors
/// A sentence without subject: "there is no adapter \"upd\" (did you mean \"udp\"?)".
pub fn plugin(registry: &Registry, name: &str, kind: PluginKind) -> Result<Arc<Plugin>, String> {
    match registry.current(name) {
        Some(plugin) if plugin.info.kind == kind => Ok(plugin),
        Some(plugin) => Err(format!(
            "{name:?} is of the kind {}, where one of the kind {} is needed",
            plugin.info.kind.word(),
            kind.word()
        )),
        None => {
            let known = registry.of_kind(kind);
            let hint = names::hint(name, known.iter().map(|plugin| plugin.info.name.as_str()));
            Err(format!("there is no {} {name:?}{hint}", kind.word()))
        }
    }
}

/// Checks a channel's options; nothing is opened.
///
/// # Errors
/// All mistakes.
pub fn check_channel(plugin: &Plugin, spec: &ChannelSpec) -> Result<tempos_abi::Options, Vec<String>> {
    options::check(&format!("{} channel {:?}", spec.adapter, spec.name), &plugin.info.options, &spec.options)
}

/// What a lane asks of its channels.
pub fn lane_qos(level: &LevelSpec, index: QosLevel) -> LaneQos {
    LaneQos {
        level: index,
        rank: level.rank,
        pcp: level.network.pcp.map_or(-1, |v| v as i8),
        dscp: level.network.dscp.map_or(-1, |v| v as i8),
        socket_priority: level.network.socket_priority.map_or(-1, |v| v as i32),
        reserved: [0; 4],
    }
}

/// Opens a channel for a lane.
///
/// # Errors
/// All mistakes, each with its subject.
pub fn open_channel(
    plugin: &Plugin,
    spec: &ChannelSpec,
    direction: Direction,
    level: &LevelSpec,
    index: Level,
    inherited: i32,
) -> Result<Opened, Vec<String>> {
    let options = match check_channel(plugin, spec) {
        Ok(options) => options,
        Err(mistakes) => {
            close_descriptor(inherited);
            return Err(mistakes);
        }
    };
    let Some(adapter) = plugin.adapter() else {
        close_descriptor(inherited);
        return Err(vec![format!("{:?} is not an adapter", spec.adapter)]);
    };
    let counters = RArc::new(ChannelCounters::default());
    let qos = lane_qos(level, index);
    let header = match spec.format {
        tempos_control::EventFormat::Raw => 0,
        tempos_control::EventFormat::Event => tempos_abi::envelope::ENVELOPE_BYTES_MAX as u32,
    };
    let asked = AbiChannelSpec {
        name: RString::from(spec.name.as_str()),
        direction,
        qos,
        event_bytes_max: level.event_bytes_max + header,
        batch_max: level.batch,
        options,
        inherited_descriptor: inherited,
        counters: counters.clone(),
        reserved: [0; 4],
    };
    let mut channel = match adapter.open(&asked) {
        RResult::ROk(channel) => channel,
        RResult::RErr(error) => return Err(vec![with_subject(spec, &error.message)]),
    };
    let grant = match channel.set_qos(&qos) {
        RResult::ROk(grant) => format!("{}: {}", grade_word(grant.grade), grant.reason),
        RResult::RErr(error) => {
            channel.close(crate::system::clock::monotonic_ns());
            return Err(vec![with_subject(spec, &error.message)]);
        }
    };
    let address = channel.address().into();
    Ok(Opened { channel, address, grant, counters })
}

/// Plugins name the channel in their sentences; where one does not, the host does.
fn with_subject(spec: &ChannelSpec, sentence: &str) -> String {
    if sentence.contains(&format!("{:?}", spec.name)) {
        sentence.to_owned()
    } else {
        format!("{} channel {:?}: {sentence}", spec.adapter, spec.name)
    }
}

fn grade_word(grade: u8) -> &'static str {
    match grade {
        QosGrant::GUARANTEED => "guaranteed",
        QosGrant::PRIORITISED => "prioritised",
        _ => "shared",
    }
}

fn close_descriptor(descriptor: i32) {
    use std::os::fd::FromRawFd as _;
    if descriptor >= 0 {
        // SAFETY: the caller handed the descriptor over.
        drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(descriptor) });
    }
}

/// Opens the queue of a level.
///
/// # Errors
/// All mistakes, each with its subject.
pub fn open_queue(
    plugin: &Plugin,
    level: &LevelSpec,
    handles: u32,
    topics: u32,
) -> Result<QueueBox, Vec<String>> {
    let subject = format!("level {:?}: queue policy {:?}", level.name, level.queue.policy);
    let options = options::check(&subject, &plugin.info.options, &level.queue.options)?;
    let policy = plugin.queue_policy().ok_or_else(|| vec![format!("{subject} is not a queue policy")])?;
    let spec = QueueSpec {
        handles,
        topics,
        capacity_events: level.queue.capacity_events,
        when_full: if level.queue.full == FullQueue::DropOldest { WhenFull::EVICT } else { WhenFull::REFUSE },
        capacity_bytes: level.queue.capacity_bytes,
        options,
        reserved: [0; 4],
    };
    policy.open(&spec).into_result().map_err(|error| vec![format!("{subject}: {}", error.message)])
}

/// A function that was made ready, and with what: cells that call it share it, one after the other.
#[derive(Clone)]
pub struct Prepared {
    /// It.
    pub function: Arc<FunctionBox>,
    /// What the method counts.
    pub counters: RArc<FunctionCounters>,
    /// What it was prepared with.
    pub plugin: Arc<Plugin>,
    /// Size and time of change of its file when it was.
    pub stamp: (u64, u64),
    call: CallSpec,
    told: [u64; 4],
}

impl Prepared {
    /// Whether it is what `prepare` would make now: the method, the file and everything that the method was told.
    pub fn is_still(
        &self,
        plugin: &Arc<Plugin>,
        call: &CallSpec,
        level: &LevelSpec,
        stamp: (u64, u64),
    ) -> bool {
        Arc::ptr_eq(&self.plugin, plugin)
            && self.stamp == stamp
            && self.told == told(call, level)
            && self.call == bare(call)
    }
}

/// A call without what its method is not told.
fn bare(call: &CallSpec) -> CallSpec {
    CallSpec { inline: false, retry: None, canary: None, origin: Origin::builtin(), ..call.clone() }
}

/// What a method is told beside the fields of [`FunctionSpec`]: its level's scheduling, and its instances.
fn told(call: &CallSpec, level: &LevelSpec) -> [u64; 4] {
    let (policy, priority, nice) = match scheduling::for_functions(&level.scheduler, level.function_priority)
    {
        Scheduler::Fifo { priority } => (libc::SCHED_FIFO, priority, 0),
        Scheduler::RoundRobin { priority } => (libc::SCHED_RR, priority, 0),
        Scheduler::Other { nice } => (libc::SCHED_OTHER, 0, nice),
        Scheduler::Deadline { .. } => (libc::SCHED_OTHER, 0, 0),
    };
    let cpus = level.cpus.iter().filter(|cpu| **cpu < 64).fold(0, |mask, cpu| mask | 1 << cpu);
    FunctionSpec::reserved_for(
        Scheduling { policy: policy as u8, priority, nice: nice.clamp(-20, 19) as i8, cpus },
        Instances {
            max: call.warm_max.unwrap_or(0),
            recycle_after: call.recycle_after.unwrap_or(0),
            idle_ns: call.idle_ns.unwrap_or(0),
        },
    )
}

/// Makes a workflow's function ready.
///
/// # Errors
/// All mistakes, each with its subject.
pub fn prepare(
    plugin: &Arc<Plugin>,
    workflow: &str,
    call: &CallSpec,
    level: &LevelSpec,
    index: Level,
) -> Result<Prepared, Vec<String>> {
    let subject = format!("workflow {workflow:?}: {}", call.method);
    let options = options::check(&subject, &plugin.info.options, &call.options)?;
    let method =
        plugin.invocation_method().ok_or_else(|| vec![format!("{subject} is not an invocation method")])?;
    let counters = RArc::new(FunctionCounters::default());
    // Before it is read: a file that changes meanwhile is prepared again the next time.
    let stamp = file_stamp(&call.file);
    let told = told(call, level);
    let spec = FunctionSpec {
        name: RString::from(workflow),
        file: RString::from(call.file.as_str()),
        level: index,
        warm: call.warm,
        concurrency: call.concurrency,
        output_bytes_max: call.output_bytes_max,
        deadline_ns: call.deadline_ns.unwrap_or(0),
        memory_bytes: call.memory_bytes.unwrap_or(0),
        options,
        counters: counters.clone(),
        reserved: told,
    };
    match method.prepare(&spec) {
        RResult::ROk(function) => Ok(Prepared {
            function: Arc::new(function),
            counters,
            plugin: Arc::clone(plugin),
            stamp,
            call: bare(call),
            told,
        }),
        RResult::RErr(error) if error.message.contains(workflow) => Err(vec![error.message.into()]),
        RResult::RErr(error) => Err(vec![format!("workflow {workflow:?}: {}", error.message)]),
    }
}

/// What tells whether a function's file has changed: its size and its time of change in nanoseconds. A
/// missing file is 0, 0.
pub fn file_stamp(file: &str) -> (u64, u64) {
    std::fs::metadata(file).map_or((0, 0), |meta| {
        (
            meta.size(),
            (meta.mtime() as u64).wrapping_mul(1_000_000_000).wrapping_add(meta.mtime_nsec() as u64),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_told_how_its_levels_function_workers_run() {
        let mut call = CallSpec::new("dlf", "/f.so", &Origin::builtin());
        (call.warm_max, call.idle_ns, call.recycle_after) = (Some(8), Some(5_000_000_000), Some(100));
        let strict = LevelSpec { cpus: vec![1, 3, 70], ..LevelSpec::strict() };
        let eager =
            LevelSpec { scheduler: Scheduler::RoundRobin { priority: 20 }, ..LevelSpec::best_effort() };
        let polite = LevelSpec { scheduler: Scheduler::Other { nice: -5 }, ..LevelSpec::best_effort() };
        let reserved = Scheduler::Deadline { runtime_ns: 1, deadline_ns: 2, period_ns: 3 };
        let reserved = LevelSpec { scheduler: reserved, ..LevelSpec::best_effort() };
        for (level, policy, priority, nice, cpus) in [
            (strict, libc::SCHED_FIFO, 40, 0, 0b1010),
            (eager, libc::SCHED_RR, 19, 0, 0),
            (polite, libc::SCHED_OTHER, 0, -5, 0),
            (reserved, libc::SCHED_FIFO, 40, 0, 0),
        ] {
            let spec = FunctionSpec {
                name: RString::new(),
                file: RString::new(),
                level: Level::STRICT,
                warm: 1,
                concurrency: 1,
                output_bytes_max: 1,
                deadline_ns: 0,
                memory_bytes: 0,
                options: tempos_abi::Options::new(),
                counters: RArc::new(FunctionCounters::default()),
                reserved: told(&call, &level),
            };
            let expected = Scheduling { policy: policy as u8, priority, nice, cpus };
            assert_eq!(spec.scheduling(), expected, "{}", level.name);
            let instances = Instances { max: 8, recycle_after: 100, idle_ns: 5_000_000_000 };
            assert_eq!(spec.instances(), instances);
        }
    }
}
