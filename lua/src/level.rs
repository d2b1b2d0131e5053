//! `tempos.qos`: the keys of a level and which of them go together.

use tempos_control::{FullQueue, LevelSpec, Origin, Scheduler, names};

use crate::fields::Fields;

/// Highest CPU number that a mask may name.
const CPU_MAX: i64 = 1023;
/// The kernel refuses a smaller runtime (sched(7), "Deadline scheduling").
const RUNTIME_NS_MIN: u64 = 1024;

/// Builds a level on what its name alone declares.
pub(crate) fn build(
    name: &str,
    subject: &str,
    fields: &mut Fields,
    origin: &Origin,
    wrong: &mut Vec<String>,
) -> LevelSpec {
    let mut level = LevelSpec::named(name, origin);
    let mut note = |sentence: String| wrong.push(format!("{subject}: {sentence}"));
    if let Some(rank) = fields.small("rank") {
        level.rank = rank;
    }
    level.forced = fields.flag("force").unwrap_or(level.forced);
    scheduler(&mut level, fields, &mut note);
    if let Some(cpus) = fields.integers("cpus") {
        for cpu in cpus {
            match u32::try_from(cpu) {
                Ok(number) if cpu <= CPU_MAX && !level.cpus.contains(&number) => level.cpus.push(number),
                Ok(_) if cpu <= CPU_MAX => note(format!("cpus names CPU {cpu} twice")),
                _ => note(format!("cpus holds {cpu}, a CPU is a number from 0 to {CPU_MAX}")),
            }
        }
    }
    level.workers = fields.small("workers").unwrap_or(level.workers);
    level.batch = fields.small("batch").unwrap_or(level.batch);
    level.linger_ns = fields.quantity("linger").unwrap_or(level.linger_ns);
    level.share_percent = fields.small("share").unwrap_or(level.share_percent);
    if let Some(mut given) = fields.nested("rate") {
        level.rate.min = given.small("min").or(level.rate.min);
        level.rate.max = given.small("max").or(level.rate.max);
        if let (Some(min), Some(max)) = (level.rate.min, level.rate.max)
            && min > max
        {
            note(format!("rate: min is {min}, it must be at most its max of {max}"));
        }
    }
    if let Some(bytes) = fields.quantity("event_max") {
        match u32::try_from(bytes) {
            Ok(bytes) => level.event_bytes_max = bytes,
            Err(_) => note("event_max must be less than 4GiB".into()),
        }
    }
    if let Some(given) = fields.nested("queue") {
        queue(&mut level, *given, &mut note);
    }
    if u64::from(level.event_bytes_max) > level.queue.capacity_bytes {
        note(format!(
            "event_max is {} bytes, it must fit into the {} bytes of its queue",
            level.event_bytes_max, level.queue.capacity_bytes
        ));
    }
    if let Some(mut given) = fields.nested("network") {
        level.network.socket_priority = given.small("socket_priority").or(level.network.socket_priority);
        level.network.dscp = given.small("dscp").or(level.network.dscp);
        level.network.pcp = given.small("pcp").or(level.network.pcp);
    }
    level
}

fn queue(level: &mut LevelSpec, mut given: Fields, note: &mut impl FnMut(String)) {
    let queue = &mut level.queue;
    if let Some(policy) = given.text("policy") {
        if let Err(sentence) = names::check("policy", &policy) {
            note(format!("queue: {sentence}"));
        }
        queue.policy = policy;
    }
    queue.capacity_events = given.small("capacity").unwrap_or(queue.capacity_events);
    queue.capacity_bytes = given.quantity("bytes").unwrap_or(queue.capacity_bytes);
    queue.full = match given.text("full").as_deref() {
        Some("block") => FullQueue::Block,
        Some("drop-oldest") => FullQueue::DropOldest,
        Some("drop-new") => FullQueue::DropNew,
        _ => queue.full,
    };
    queue.time_to_live_ns = given.quantity("ttl").or(queue.time_to_live_ns);
    queue.options = given.options;
}

fn scheduler(level: &mut LevelSpec, fields: &mut Fields, note: &mut impl FnMut(String)) {
    let before = match level.scheduler {
        Scheduler::Other { .. } => "other",
        Scheduler::RoundRobin { .. } => "rr",
        Scheduler::Fifo { .. } => "fifo",
        Scheduler::Deadline { .. } => "deadline",
    };
    let chosen = fields.text("scheduler");
    let chosen = chosen.as_deref().unwrap_or(before);
    let real_time = matches!(chosen, "rr" | "fifo");
    for (key, goes, with) in [
        ("priority", real_time, "\"rr\" or \"fifo\""),
        ("function_priority", real_time, "\"rr\" or \"fifo\""),
        ("nice", chosen == "other", "\"other\""),
        ("runtime", chosen == "deadline", "\"deadline\""),
        ("deadline", chosen == "deadline", "\"deadline\""),
        ("period", chosen == "deadline", "\"deadline\""),
    ] {
        if !goes && fields.has(key) {
            note(format!("{key} goes with scheduler {with} only, here it is {chosen:?}"));
        }
    }
    let given = fields.small::<u8>("priority");
    let functions = fields.small::<u8>("function_priority");
    match chosen {
        "rr" | "fifo" => {
            let preset = match level.scheduler {
                Scheduler::RoundRobin { priority } | Scheduler::Fifo { priority } => Some(priority),
                _ => None,
            };
            if given.is_none() && preset.is_none() && !fields.refused("priority") {
                note(format!("scheduler {chosen:?} needs a priority of 1 to 98"));
            }
            let priority = given.or(preset).unwrap_or(1);
            // The preset's function priority belongs to the preset's own: with another, one below it.
            level.function_priority =
                functions.or(if given.is_none() { level.function_priority } else { None });
            level.scheduler = match chosen {
                "rr" => Scheduler::RoundRobin { priority },
                _ => Scheduler::Fifo { priority },
            };
            if !level.forced && (priority > 98 || functions.is_some_and(|functions| functions > 98)) {
                note(
                    "priority 99 belongs to the kernel's watchdogs; use 1 to 98, or set force = true".into(),
                );
            }
            if functions.is_some_and(|functions| functions > priority) {
                note(format!(
                    "function_priority is {}, it must be at most the queue worker's {priority}",
                    functions.unwrap_or_default()
                ));
            }
        }
        "deadline" => {
            level.function_priority = None;
            let three = ["runtime", "deadline", "period"].map(|key| fields.quantity(key));
            if let [Some(runtime_ns), Some(deadline_ns), Some(period_ns)] = three {
                level.scheduler = Scheduler::Deadline { runtime_ns, deadline_ns, period_ns };
                if runtime_ns > deadline_ns || deadline_ns > period_ns {
                    note("scheduler \"deadline\" needs runtime <= deadline <= period".into());
                }
                if runtime_ns < RUNTIME_NS_MIN {
                    note(format!("runtime is {runtime_ns} ns, the kernel takes {RUNTIME_NS_MIN} ns or more"));
                }
            } else if !["runtime", "deadline", "period"].iter().any(|key| fields.refused(key)) {
                note("scheduler \"deadline\" needs runtime, deadline and period".into());
            }
        }
        _ => {
            level.function_priority = None;
            let preset = match level.scheduler {
                Scheduler::Other { nice } => nice,
                _ => 0,
            };
            level.scheduler = Scheduler::Other { nice: fields.small("nice").unwrap_or(preset) };
        }
    }
}
