//! The keeper of a function's processes: a thread that starts them, reaps them, starts them anew after a
//! crash, ever more slowly where crash follows crash, and lets those go that have nothing to do.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::SyncSender;

use tempos_abi::counters::FunctionCounters;
use tempos_abi::export::log;
use tempos_abi::host::LogLevel;
use tempos_abi::invoker::{Instances, Scheduling};
use tempos_abi::std_types::RArc;

use super::child::Orders;
use super::follow::Follow;
use super::memory::{Memory, Word};
use super::output::Printed;
use super::process::{Process, poll, readable};
use super::slot::{BROKEN, BUSY, DOWN, Instance, READY, Slot};
use super::wait::{now_ns, wake};
use crate::config::Reload;

/// The keeper looks around this often at least.
const LOOK_NS: u64 = 1_000_000_000;
/// Between the second loss in a row and the next start; doubled with each further one.
const PAUSE_NS: u64 = 5_000_000;
const PAUSE_NS_MAX: u64 = 1_000_000_000;

/// What a function's processes are started with.
#[derive(Debug)]
pub struct Plan {
    /// The workflow.
    pub name: String,
    /// The private copy of the library.
    pub path: CString,
    /// The symbol.
    pub symbol: CString,
    /// Whether the library is opened for each event.
    pub reload: Reload,
    /// The most bytes of an output.
    pub output_bytes_max: u32,
    /// Bytes of memory of a process beyond what it has when it starts; 0: no bound.
    pub memory_bytes: u64,
    /// The level's scheduling.
    pub scheduling: Scheduling,
    /// When processes are replaced and let go.
    pub instances: Instances,
    /// Processes that stay.
    pub warm: u32,
    /// Where they are counted.
    pub counters: RArc<FunctionCounters>,
}

/// What the workers and the keeper share.
pub struct Shared {
    /// One for each concurrent invocation.
    pub slots: Box<[Slot]>,
    /// See [`Plan`].
    pub plan: Plan,
    /// Whether no invocation follows.
    pub stop: AtomicBool,
    /// 1 once the keeper has ended.
    pub ended: Word,
    /// Processes that were lost one after the other, without an event that ended by itself in between.
    pub lost: AtomicU32,
    /// Processes that are to stay, as somebody asked for.
    pub kept: AtomicU32,
    bell: OwnedFd,
}

impl Shared {
    /// Without processes.
    ///
    /// # Errors
    /// As eventfd(2).
    pub fn new(plan: Plan, slots: usize) -> io::Result<Self> {
        // SAFETY: the call takes numbers.
        let bell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if bell < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Shared {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            lost: AtomicU32::new(0),
            kept: AtomicU32::new(plan.warm),
            plan,
            stop: AtomicBool::new(false),
            ended: Word::default(),
            // SAFETY: the descriptor was just made and belongs to nobody else.
            bell: unsafe { OwnedFd::from_raw_fd(bell) },
        })
    }

    /// Has the keeper look around now.
    pub fn ring(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: the bytes are live. A counter that is full rings as well.
        unsafe { libc::write(self.bell.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// An event ended by itself: what was lost before is forgiven.
    pub fn forgive(&self) {
        if self.lost.load(Ordering::Relaxed) != 0 {
            self.lost.store(0, Ordering::Relaxed);
            self.slots.iter().for_each(|slot| slot.start_after_ns.store(0, Ordering::Relaxed));
            self.ring();
        }
    }

    fn hear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: the bytes are live.
        unsafe { libc::read(self.bell.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }

    /// How many processes are there for events.
    pub fn ready(&self) -> u32 {
        self.slots.iter().filter(|slot| [READY, BUSY].contains(&slot.state())).count() as u32
    }
}

/// What the keeper holds of a slot.
#[derive(Default)]
struct Kept {
    instance: Option<Arc<Instance>>,
    printed: Printed,
}

/// The body of the thread. It answers `first` once the first process is ready, or with the reason why not,
/// and then ends.
pub fn keep(shared: &Shared, first: &SyncSender<Result<(), String>>) {
    let mut kept: Vec<Kept> = shared.slots.iter().map(|_| Kept::default()).collect();
    let begun = match (shared.slots.first(), kept.first_mut()) {
        (Some(slot), Some(kept)) => bring_up(shared, slot, kept),
        _ => Err(String::from("it has no slot")),
    };
    let fine = begun.is_ok();
    if first.send(begun).is_ok() && fine {
        while !shared.stop.load(Ordering::Acquire) {
            let now = now_ns();
            for (at, (slot, kept)) in shared.slots.iter().zip(&mut kept).enumerate() {
                tend(shared, at, slot, kept, now);
            }
            shared.plan.counters.warm.set(shared.ready().into());
            rest(shared, &mut kept);
        }
    }
    for (slot, kept) in shared.slots.iter().zip(&mut kept) {
        // What is still in use ends by being killed; its worker then finds it so.
        if let Some(instance) = kept.instance.take() {
            instance.process.kill();
            kept.printed.finish(&instance.process.printed, &shared.plan.name, now_ns());
        }
        let limit_ns = now_ns() + LOOK_NS;
        while slot.state() != DOWN && !slot.take_down() && now_ns() < limit_ns {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
    drop(kept);
    shared.plan.counters.warm.set(0);
    shared.ended.0.store(1, Ordering::Release);
    wake(&shared.ended.0);
}

/// Does what a slot needs now.
fn tend(shared: &Shared, at: usize, slot: &Slot, kept: &mut Kept, now: u64) {
    let staying = at < shared.kept.load(Ordering::Relaxed) as usize;
    match slot.state() {
        BROKEN => take_away(shared, slot, kept, now),
        READY => {
            let Some(instance) = &kept.instance else { return };
            let idle_ns = shared.plan.instances.idle_ns;
            let used_ns = slot.used_ns.load(Ordering::Relaxed);
            if let Some(end) = instance.process.ended() {
                let mut sentence = Vec::new();
                end.tell(&mut sentence);
                let sentence = String::from_utf8_lossy(&sentence).into_owned();
                if slot.take_down() {
                    shared.plan.counters.crashed.add(1);
                    shared.lost.fetch_add(1, Ordering::Relaxed);
                    let name = &shared.plan.name;
                    let sentence = format!("function of workflow \"{name}\": between two events {sentence}");
                    log(LogLevel::WARNING, "dlf", &sentence);
                    take_away(shared, slot, kept, now);
                }
            } else if !staying && idle_ns != 0 && now.saturating_sub(used_ns) > idle_ns && slot.take_down() {
                kept.printed.finish(&instance.process.printed, &shared.plan.name, now);
                kept.instance = None;
            }
        }
        _ => {}
    }
    let wanted = staying || slot.wanted.load(Ordering::Relaxed);
    let due = slot.state() == DOWN && wanted && now >= slot.start_after_ns.load(Ordering::Relaxed);
    if due && let Err(what) = bring_up(shared, slot, kept) {
        let lost = shared.lost.fetch_add(1, Ordering::Relaxed) + 1;
        slot.start_after_ns.store(now_ns() + pause_ns(lost + 1), Ordering::Relaxed);
        let name = &shared.plan.name;
        let sentence = format!("function of workflow \"{name}\" cannot be started anew: {what}");
        log(LogLevel::WARNING, "dlf", &sentence);
    }
}

/// Takes a process away that was given up or has ended, and says when the next one may start.
fn take_away(shared: &Shared, slot: &Slot, kept: &mut Kept, now: u64) {
    if let Some(instance) = kept.instance.take() {
        instance.process.kill();
        kept.printed.finish(&instance.process.printed, &shared.plan.name, now);
    }
    // The slot's own hold on it is the last: here the process is reaped.
    slot.take_down();
    let pause_ns = pause_ns(shared.lost.load(Ordering::Relaxed));
    slot.start_after_ns.store(now + pause_ns, Ordering::Relaxed);
    slot.wanted.store(true, Ordering::Relaxed);
}

/// How long to wait before a start, after so many losses in a row.
fn pause_ns(lost: u32) -> u64 {
    match lost {
        0 | 1 => 0,
        _ => (PAUSE_NS << (lost - 2).min(16)).min(PAUSE_NS_MAX),
    }
}

fn bring_up(shared: &Shared, slot: &Slot, kept: &mut Kept) -> Result<(), String> {
    let plan = &shared.plan;
    let (memory, file) = Memory::new(plan.output_bytes_max)
        .map_err(|error| format!("there is no memory to share with its process: {error}"))?;
    let Scheduling { policy, priority, nice, cpus } = plan.scheduling;
    let orders = Orders {
        file: &plan.path,
        symbol: &plan.symbol,
        reload: plan.reload,
        parent: std::process::id(),
        output_bytes_max: plan.output_bytes_max,
        scheduling: [policy.into(), priority.into(), i64::from(nice) as u64, cpus],
        memory_bytes: plan.memory_bytes,
    };
    let process = Process::start(&orders, &plan.name, file)?;
    plan.counters.started.add(1);
    let instance = Arc::new(Instance {
        process,
        memory,
        follow: Follow::new(plan.scheduling),
        number: AtomicU32::new(0),
        served: AtomicU32::new(0),
    });
    *kept = Kept { instance: Some(Arc::clone(&instance)), printed: Printed::default() };
    slot.used_ns.store(now_ns(), Ordering::Relaxed);
    slot.bring_up(instance);
    Ok(())
}

/// Sleeps until something happens: the bell, the end of a process, a printed line, a start that is due.
fn rest(shared: &Shared, kept: &mut [Kept]) {
    let now = now_ns();
    let idle_ns = if shared.plan.instances.idle_ns == 0 { LOOK_NS } else { shared.plan.instances.idle_ns };
    let mut until_ns = now + idle_ns.clamp(LOOK_NS / 50, LOOK_NS);
    let mut watched = vec![readable(shared.bell.as_raw_fd())];
    for (slot, kept) in shared.slots.iter().zip(&*kept) {
        let nobody = readable(-1);
        let Some(instance) = &kept.instance else {
            if slot.wanted.load(Ordering::Relaxed) {
                until_ns = until_ns.min(slot.start_after_ns.load(Ordering::Relaxed));
            }
            watched.extend([nobody, nobody]);
            continue;
        };
        let listens = kept.printed.listens(now);
        let pipe = if listens { readable(instance.process.printed.as_raw_fd()) } else { nobody };
        if !listens {
            until_ns = until_ns.min(now + LOOK_NS / 20);
        }
        watched.extend([readable(instance.process.descriptor()), pipe]);
    }
    poll(&mut watched, until_ns.saturating_sub(now));
    if watched[0].revents != 0 {
        shared.hear();
    }
    let now = now_ns();
    let mut worker_is_slow = false;
    for (at, kept) in kept.iter_mut().enumerate() {
        let (ended, printed) = (watched[1 + 2 * at].revents != 0, watched[2 + 2 * at].revents != 0);
        let Some(instance) = &kept.instance else { continue };
        if printed {
            kept.printed.fetch(&instance.process.printed, &shared.plan.name, now);
        }
        if ended && shared.slots[at].state() == BUSY {
            // Whoever waits for its answer looks whether it is still there.
            wake(&instance.memory.header().response.0);
            worker_is_slow = true;
        }
    }
    if worker_is_slow {
        // Its end stays readable until the worker has seen it.
        std::thread::sleep(std::time::Duration::from_micros(200));
    }
}
