//! What a lane shares with the controller and the supervisor: atomics, and nothing else.

use std::sync::Arc;

use super::cell::LaneCell;
use super::ownership::Ownership;
use super::tables::LaneTables;
use crate::bridging::endpoint::Source;
use crate::delivery::outlet::Outlet;
use crate::processing::invoker::FunctionPort;
use crate::stats::LaneStats;
use crate::system::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use crate::system::scheduling::ThreadId;
use crate::system::wake::WaitingPlace;

/// A channel whose descriptor is wanted for its successor.
pub enum Giver {
    /// An ingress channel.
    Source(Arc<LaneCell<Source>>),
    /// An egress channel.
    Outlet(Arc<LaneCell<Outlet>>),
}

/// Asks channels for duplicates of their descriptors, which only the lane's owner may do.
#[derive(Default)]
pub struct Errand {
    /// Whom to ask, and the answer: a descriptor that the controller then owns, or -1.
    pub givers: Vec<(Giver, i32)>,
    done: AtomicBool,
}

impl Errand {
    fn run(&mut self) {
        for (giver, answer) in &mut self.givers {
            *answer = match giver {
                // SAFETY: the caller is the lane's owner.
                Giver::Source(cell) => unsafe { cell.get() }.take_over(),
                // SAFETY: as above.
                Giver::Outlet(cell) => unsafe { cell.get() }.take_over(),
            };
        }
        self.done.store(true, Ordering::Release);
    }

    /// Whether the lane has run it: the answers are there, and it is the controller's again.
    pub fn is_done(&self) -> bool {
        self.done.load(Ordering::Acquire)
    }
}

/// The shared side of one lane.
#[derive(Debug)]
pub struct LaneShared {
    /// The level's name.
    pub name: Arc<str>,
    /// Where the queue worker waits.
    pub place: WaitingPlace,
    /// Who owns the lane.
    pub ownership: Ownership,
    /// What is counted.
    pub stats: LaneStats,
    /// Tables that the lane is to use from its next turn on; null: none are waiting.
    next_tables: AtomicPtr<LaneTables>,
    /// A function worker in the place of one that did not come back; null: none is waiting.
    next_port: AtomicPtr<(u32, FunctionPort)>,
    /// Descriptors that the controller wants duplicated; null: none are.
    errand: AtomicPtr<Errand>,
    /// How many tables the lane has taken into use.
    taken: AtomicU64,
    /// The queue worker's thread id.
    thread: AtomicI32,
    /// Asks the queue worker to end.
    stop: AtomicBool,
    /// Injected events are waiting.
    injected: AtomicBool,
    /// Notices that found their ring full.
    pub notices_lost: AtomicU64,
}

impl LaneShared {
    /// The shared side of a lane that is not running yet.
    ///
    /// # Errors
    /// What the system says (EMFILE).
    pub fn new(name: Arc<str>) -> std::io::Result<Self> {
        Ok(LaneShared {
            name,
            place: WaitingPlace::new()?,
            ownership: Ownership::default(),
            stats: LaneStats::default(),
            next_tables: AtomicPtr::default(),
            next_port: AtomicPtr::default(),
            errand: AtomicPtr::default(),
            taken: AtomicU64::new(0),
            thread: AtomicI32::new(0),
            stop: AtomicBool::new(false),
            injected: AtomicBool::new(false),
            notices_lost: AtomicU64::new(0),
        })
    }

    /// Puts tables where the lane finds them. They must stay alive until [`LaneShared::taken`] has grown,
    /// and nothing may be published before.
    pub fn publish(&self, tables: &LaneTables) {
        self.next_tables.store(std::ptr::from_ref(tables).cast_mut(), Ordering::Release);
        self.place.wake();
    }

    /// Whether tables are waiting.
    pub fn has_next_tables(&self) -> bool {
        !self.next_tables.load(Ordering::Relaxed).is_null()
    }

    /// Takes the waiting tables; only the lane's owner.
    pub fn take_next_tables(&self) -> Option<*const LaneTables> {
        if !self.has_next_tables() {
            return None;
        }
        let tables = self.next_tables.swap(std::ptr::null_mut(), Ordering::Acquire);
        (!tables.is_null()).then_some(tables.cast_const())
    }

    /// Puts a new function worker where the lane finds it.
    ///
    /// # Errors
    /// The worker, where the lane has not taken the last one yet.
    pub fn offer_port(&self, number: u32, port: FunctionPort) -> Result<(), FunctionPort> {
        let offer = Box::into_raw(Box::new((number, port)));
        let null = std::ptr::null_mut();
        if self.next_port.compare_exchange(null, offer, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            // SAFETY: made just above, and nobody else has seen it.
            let (_, port) = *unsafe { Box::from_raw(offer) };
            return Err(port);
        }
        self.place.wake();
        Ok(())
    }

    /// Sends the lane on an errand and waits for it, `limit_ms` at the most; `false` where the lane did not
    /// find the time.
    pub fn run_errand(&self, errand: &mut Errand, limit_ms: u32) -> bool {
        self.send_errand(errand);
        for _ in 0..limit_ms * 10 {
            if errand.is_done() {
                return true;
            }
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        if self.recall_errand() {
            return false;
        }
        // The lane is at it this very moment: that is bounded.
        while !errand.is_done() {
            std::thread::sleep(std::time::Duration::from_micros(100));
        }
        true
    }

    /// Sends the lane on an errand. It must stay where it is until it is done, or was recalled.
    pub fn send_errand(&self, errand: &mut Errand) {
        self.errand.store(std::ptr::from_mut(errand), Ordering::Release);
        self.place.wake();
    }

    /// Takes the errand back; `false` where the lane has it already, and will run it.
    pub fn recall_errand(&self) -> bool {
        !self.errand.swap(std::ptr::null_mut(), Ordering::AcqRel).is_null()
    }

    /// Says that an injected event is in its ring.
    pub fn announce_injected(&self) {
        self.injected.store(true, Ordering::Release);
        self.place.wake();
    }

    /// Whether injected events are waiting.
    pub fn has_injected(&self) -> bool {
        self.injected.load(Ordering::Relaxed)
    }

    /// Takes note of it, before the ring is emptied: what is announced from now on is noted anew. One
    /// operation, so that an announcement is either seen with its event or stays.
    pub fn note_injected(&self) {
        self.injected.swap(false, Ordering::Acquire);
    }

    /// Whether there is an errand.
    pub fn has_errand(&self) -> bool {
        !self.errand.load(Ordering::Relaxed).is_null()
    }

    /// Runs it; only the lane's owner.
    pub fn do_errand(&self) {
        let errand = self.errand.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: it lives until `done` is set, and is the controller's again only then.
        if let Some(errand) = unsafe { errand.as_mut() } {
            errand.run();
        }
    }

    /// Whether a function worker is waiting.
    pub fn has_next_port(&self) -> bool {
        !self.next_port.load(Ordering::Relaxed).is_null()
    }

    /// Takes the waiting function worker; only the lane's owner. The box is not to be freed by it.
    pub fn take_next_port(&self) -> Option<&'static mut (u32, FunctionPort)> {
        if !self.has_next_port() {
            return None;
        }
        let offer = self.next_port.swap(std::ptr::null_mut(), Ordering::AcqRel);
        // SAFETY: made by `offer_port` and never freed: one small box for each worker that was lost.
        unsafe { offer.as_mut() }
    }

    /// Says that the tables taken last are in use; only the lane's owner.
    pub fn acknowledge_tables(&self) {
        self.taken.fetch_add(1, Ordering::Release);
    }

    /// How many tables the lane has taken into use.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Acquire)
    }

    /// Says which thread is the queue worker.
    pub fn set_thread(&self, thread: ThreadId) {
        self.thread.store(thread.0, Ordering::Release);
    }

    /// Forgets it: its successor has not begun yet.
    pub fn forget_thread(&self) {
        self.thread.store(0, Ordering::Release);
    }

    /// The queue worker's thread, once it runs.
    pub fn thread(&self) -> Option<ThreadId> {
        let id = self.thread.load(Ordering::Acquire);
        (id > 0).then_some(ThreadId(id))
    }

    /// Asks the queue worker to end at its next turn.
    pub fn ask_to_stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.place.wake();
    }

    /// Takes back the wish that the queue worker end; it may have ended already.
    pub fn cancel_stop(&self) {
        self.stop.store(false, Ordering::Release);
    }

    /// Lets a lane that was stopped run again.
    pub fn resume(&self) {
        self.thread.store(0, Ordering::Release);
        self.stop.store(false, Ordering::Release);
    }

    /// Whether it was asked to.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
