//! The worker's side of an invocation: the event goes into the shared memory, the process is woken, its
//! answer is waited for, checked and taken.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use tempos_abi::PluginError;
use tempos_abi::event::{EventView, Output};
use tempos_abi::invoker::{Function, FunctionSpec, InvokeContext, Outcome, Scheduling};

use super::keeper::{Plan, Shared, keep};
use super::memory::{EVENT_BYTES_MAX, NO_OUTPUT, SENTENCE_BYTES_MAX};
use super::process::START_LIMIT_NS;
use super::slot::{Instance, Slot, Taken};
use super::wait::{now_ns, wait, wake};
use crate::call::explain;
use crate::config::Config;
use crate::stage::Copy;

/// Concurrent invocations that have a process of their own each.
const SLOTS_MAX: u32 = 64;
/// While it waits, a worker looks this often whether the process is still there.
const LOOK_NS: u64 = 2_000_000;
/// A process that wakes its worker more often than this within one invocation plays with it.
const WAKES_MAX: u32 = 10_000;
/// An event is given to so many processes where they end before they have begun with it.
const TRIES: u32 = 3;
/// How long letting go may take, whatever the host says: processes are killed, so this is long.
const END_LIMIT_NS: u64 = 1_000_000_000;

/// A function whose library lives in processes of its own.
pub struct Isolated {
    shared: Arc<Shared>,
    /// Removed once no process opens it any more.
    _copy: Copy,
}

impl Isolated {
    /// Starts the first process.
    ///
    /// # Errors
    /// One sentence: what is wrong with the library, or what the system refused.
    pub fn prepare(spec: &FunctionSpec, config: Config, copy: Copy) -> Result<Self, PluginError> {
        let wrong = |what: &str| {
            let (workflow, file) = (&spec.name, &spec.file);
            let sentence = format!("function of workflow \"{workflow}\": {file} cannot be used: {what}");
            PluginError::new(PluginError::BAD_FUNCTION, sentence)
        };
        let path = std::ffi::CString::new(copy.path().as_os_str().as_bytes())
            .map_err(|_| wrong("the path of its copy holds a NUL byte"))?;
        let slots = spec.concurrency.clamp(1, SLOTS_MAX);
        let plan = Plan {
            name: spec.name.to_string(),
            path,
            symbol: config.symbol,
            reload: config.reload,
            output_bytes_max: spec.output_bytes_max,
            memory_bytes: spec.memory_bytes,
            scheduling: beneath(spec.scheduling()),
            instances: spec.instances(),
            warm: spec.warm.min(slots),
            counters: spec.counters.clone(),
        };
        let refused = |error| {
            PluginError::system(format!("function of workflow \"{}\" cannot be started", spec.name), &error)
        };
        let shared = Arc::new(Shared::new(plan, slots as usize).map_err(refused)?);
        let (first, begun) = sync_channel(1);
        let kept = Arc::clone(&shared);
        std::thread::Builder::new()
            .name(String::from("tempos-dlf-keep"))
            .spawn(move || keep(&kept, &first))
            .map_err(refused)?;
        let isolated = Isolated { shared, _copy: copy };
        match begun.recv_timeout(Duration::from_nanos(START_LIMIT_NS * 2)) {
            Ok(Ok(())) => {
                isolated.warm(spec.warm);
                Ok(isolated)
            }
            Ok(Err(what)) => Err(wrong(&what)),
            Err(_) => Err(wrong("its process did not start")),
        }
    }

    /// A process for this invocation: its own, else any that is ready, else the next one to come up.
    fn take(&self, worker: usize, context: &InvokeContext) -> Option<Taken<'_>> {
        let slots = &self.shared.slots;
        let own = &slots[worker % slots.len()];
        let deadline_ns = if context.deadline_ns == 0 { u64::MAX } else { context.deadline_ns };
        let mut until_ns = 0;
        loop {
            if let Some(taken) = own.take().or_else(|| slots.iter().find_map(Slot::take)) {
                return Some(taken);
            }
            let now = now_ns();
            if until_ns == 0 {
                until_ns = deadline_ns.min(now + START_LIMIT_NS);
            }
            let hopeless = own.start_after_ns.load(Ordering::Relaxed) >= until_ns;
            if now >= until_ns || hopeless || self.shared.stop.load(Ordering::Relaxed) {
                return None;
            }
            own.wanted.store(true, Ordering::Relaxed);
            self.shared.ring();
            own.await_ready(until_ns.min(now + LOOK_NS));
        }
    }

    /// Runs one event; `None` where the process had ended before it began with it.
    fn run(
        &self,
        taken: &Taken<'_>,
        event: &EventView<'_>,
        output: &mut Output<'_>,
        context: &InvokeContext,
    ) -> Option<Outcome> {
        let slot = taken.slot();
        let Some(instance) = taken.instance() else {
            taken.give_up();
            return None;
        };
        if !put(instance, event, context) {
            output.explain("the event is larger than the 64 MiB that isolation = \"process\" takes");
            return Some(Outcome::NOT_STARTED);
        }
        slot.cancelled.store(false, Ordering::Relaxed);
        let header = instance.memory.header();
        let before = instance.number.load(Ordering::Relaxed);
        let number = before.wrapping_add(1);
        instance.number.store(number, Ordering::Relaxed);
        let pid = instance.process.pid();
        let own_cpus = instance.follow.call(pid);
        let start_ns = now_ns();
        header.request.0.store(number, Ordering::Release);
        wake(&header.request.0);
        let deadline_ns = if context.deadline_ns == 0 { u64::MAX } else { context.deadline_ns };
        let mut now = start_ns;
        let mut wakes = 0;
        let lost = loop {
            let seen = header.response.0.load(Ordering::Acquire);
            if seen == number {
                break None;
            }
            wakes += 1;
            if seen != before || wakes > WAKES_MAX + ((now - start_ns) / LOOK_NS) as u32 {
                break Some(Lost::Breach);
            }
            if wakes > 1 {
                if let Some(end) = instance.process.ended() {
                    if header.begun.load(Ordering::Acquire) != number {
                        instance.follow.lost(own_cpus);
                        taken.give_up();
                        self.shared.lost.fetch_add(1, Ordering::Relaxed);
                        return None;
                    }
                    break Some(Lost::Ended(end));
                }
                instance.follow.look(pid, wakes == 2);
                if slot.cancelled.load(Ordering::Relaxed) || self.shared.stop.load(Ordering::Relaxed) {
                    break Some(Lost::Cancelled);
                }
            }
            if now >= deadline_ns {
                break Some(Lost::Deadline);
            }
            wait(&header.response.0, before, deadline_ns.min(now + LOOK_NS));
            now = now_ns();
        };
        let Some(lost) = lost else {
            instance.follow.done(pid, now.saturating_sub(start_ns), own_cpus);
            let outcome = get(instance, output);
            let served = instance.served.fetch_add(1, Ordering::Relaxed) + 1;
            let most = self.shared.plan.instances.recycle_after;
            // Somebody who wrote over these would spoil the next event.
            let sound = header.request.0.load(Ordering::Relaxed) == number
                && header.begun.load(Ordering::Relaxed) == number;
            if outcome.is_none() || !sound || (most != 0 && served >= most) {
                taken.give_up();
            } else {
                self.shared.forgive();
            }
            return Some(outcome.unwrap_or_else(|| breach(output)));
        };
        instance.follow.lost(own_cpus);
        let outcome = lost.settle(instance, output);
        taken.give_up();
        self.shared.lost.fetch_add(1, Ordering::Relaxed);
        if outcome != Outcome::KILLED {
            self.shared.plan.counters.crashed.add(1);
        }
        Some(outcome)
    }
}

/// Puts an event into the shared memory; `false` where it is too large.
fn put(instance: &Instance, event: &EventView<'_>, context: &InvokeContext) -> bool {
    let header = instance.memory.header();
    let parts = [event.topic.as_bytes(), event.attribute_block.as_slice(), event.payload.as_slice()];
    if parts.iter().map(|part| part.len()).sum::<usize>() > EVENT_BYTES_MAX {
        return false;
    }
    let mut at = 0;
    for (part, length) in parts.iter().zip(&header.lengths) {
        // SAFETY: the sum of the parts fits into the area; the process does not look at it before it is asked.
        unsafe { instance.memory.event().add(at).copy_from_nonoverlapping(part.as_ptr(), part.len()) };
        length.store(part.len() as u32, Ordering::Relaxed);
        at += part.len();
    }
    header.level.store(u32::from(event.level.0), Ordering::Relaxed);
    header.id.store(event.id, Ordering::Relaxed);
    header.source_time_ns.store(event.source_time_ns, Ordering::Relaxed);
    header.arrival_ns.store(event.arrival_ns, Ordering::Relaxed);
    header.deadline_ns.store(event.deadline_ns, Ordering::Relaxed);
    header.call_deadline_ns.store(context.deadline_ns, Ordering::Relaxed);
    true
}

/// Takes the answer; `None` where it is none that `dlf` gives.
fn get(instance: &Instance, output: &mut Output<'_>) -> Option<Outcome> {
    let header = instance.memory.header();
    let outcome = Outcome(header.outcome.load(Ordering::Relaxed));
    let known = [Outcome::LATE, Outcome::BAD_OUTPUT, Outcome::OUTPUT_TOO_LARGE, Outcome::NOT_STARTED];
    if !(0..=255).contains(&outcome.0) && !known.contains(&outcome) {
        return None;
    }
    let mut sentence = [0; SENTENCE_BYTES_MAX];
    let said = instance.memory.read_sentence(&mut sentence);
    explain(output, &sentence[..said]);
    let length = header.output_bytes.load(Ordering::Relaxed);
    let (bytes, room) = (length as usize, output.capacity());
    if outcome == Outcome::OUTPUT_TOO_LARGE || (length != NO_OUTPUT && bytes > room) {
        let _ = output.commit(room + 1);
        return Some(Outcome::OUTPUT_TOO_LARGE);
    }
    if length != NO_OUTPUT {
        if bytes > instance.memory.output_bytes_max() {
            return None;
        }
        // SAFETY: the area has so many bytes; what the process may still write there changes only the bytes.
        let area = unsafe { std::slice::from_raw_parts(instance.memory.output(), bytes) };
        output.buffer_mut()[..bytes].copy_from_slice(area);
        let _ = output.commit(bytes);
    }
    Some(outcome)
}

fn breach(output: &mut Output<'_>) -> Outcome {
    output.explain("its process has written into memory that is not the function's own");
    Outcome::BAD_OUTPUT
}

/// Why there is no answer.
enum Lost {
    Ended(super::process::End),
    Deadline,
    Cancelled,
    Breach,
}

impl Lost {
    /// Ends the process, where it has not ended, and says how the invocation went. Allocates nothing.
    fn settle(self, instance: &Instance, output: &mut Output<'_>) -> Outcome {
        instance.process.kill();
        match self {
            Lost::Deadline => {
                output.explain("it was stopped at its deadline");
                Outcome::KILLED
            }
            Lost::Cancelled => {
                output.explain("it was asked to end");
                Outcome::KILLED
            }
            Lost::Breach => breach(output),
            Lost::Ended(end) => {
                let header = instance.memory.header();
                let died = header.signal.load(Ordering::Acquire) != 0;
                if died && header.starved.load(Ordering::Relaxed) != 0 {
                    output.explain("it was refused memory and crashed");
                    return Outcome::OVER_MEMORY;
                }
                let mut sentence = [0; SENTENCE_BYTES_MAX];
                let mut rest = &mut sentence[..];
                end.tell(&mut rest);
                let left = rest.len();
                explain(output, &sentence[..SENTENCE_BYTES_MAX - left]);
                Outcome::CRASHED
            }
        }
    }
}

impl Function for Isolated {
    fn invoke(&self, event: &EventView<'_>, output: &mut Output<'_>, context: &InvokeContext) -> Outcome {
        for _ in 0..TRIES {
            let Some(taken) = self.take(context.worker as usize, context) else {
                not_started(self.shared.lost.load(Ordering::Relaxed), output);
                return Outcome::NOT_STARTED;
            };
            let outcome = self.run(&taken, event, output, context);
            taken.slot().used_ns.store(now_ns(), Ordering::Relaxed);
            let given_up = taken.is_given_up();
            drop(taken);
            if given_up {
                self.shared.ring();
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        output.explain("its process ended three times before it began with the event");
        Outcome::NOT_STARTED
    }

    fn cancel(&self, worker: u32) {
        let slots = &self.shared.slots;
        slots[worker as usize % slots.len()].cancelled.store(true, Ordering::Relaxed);
    }

    fn warm(&self, instances: u32) -> u32 {
        let wanted = instances.min(self.shared.slots.len() as u32);
        self.shared.kept.fetch_max(wanted, Ordering::Relaxed);
        self.shared.ring();
        let limit_ns = now_ns() + START_LIMIT_NS;
        while self.shared.ready() < wanted && now_ns() < limit_ns {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.shared.ready()
    }

    fn retire(&self, deadline_ns: u64) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.ring();
        let until_ns = deadline_ns.max(now_ns() + END_LIMIT_NS);
        while self.shared.ended.0.load(Ordering::Acquire) == 0 && now_ns() < until_ns {
            wait(&self.shared.ended.0, 0, until_ns);
        }
    }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        self.retire(0);
    }
}

/// Says why no process could be had.
fn not_started(lost: u32, output: &mut Output<'_>) {
    let mut sentence = [0; SENTENCE_BYTES_MAX];
    let mut rest = &mut sentence[..];
    let _ = match lost {
        0 => write!(rest, "no process of it was ready in time"),
        _ => write!(rest, "no process of it was ready in time: it was lost {lost} times in a row"),
    };
    let left = rest.len();
    explain(output, &sentence[..SENTENCE_BYTES_MAX - left]);
}

/// One step below whoever waits for it: a process that loops must not keep the one off the CPU that is to end it.
fn beneath(own: Scheduling) -> Scheduling {
    match own.priority {
        0 => own,
        // There is no step left within real time.
        1 => Scheduling { policy: 0, priority: 0, ..own },
        priority => Scheduling { priority: priority - 1, ..own },
    }
}
