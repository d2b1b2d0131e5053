//! Who owns a lane (or a function worker), and the heartbeat that shows it alive.
//!
//! Plugin code may hang. Before each call into a plugin the owner says so, and after it asks for the
//! ownership back with one compare-and-swap; the supervisor may meanwhile have taken it away with
//! another. Exactly one of the two wins: either the owner goes on as if nothing had happened, or it has
//! lost everything and must leave without touching anything, while a new thread goes on in its place.
//!
//! The word: epoch (16 bits) · what it is doing (8) · number of the call (40).

use crate::system::atomic::{AtomicU32, AtomicU64, Ordering};

/// The owner lost its lane while it was in a plugin: it leaves at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disowned;

/// What an owner is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    /// Its own work, which is bounded, or waiting.
    Own = 0,
    /// In a channel's `recv_batch`; the subject is the source.
    Receive = 1,
    /// In a channel's `send_batch`; the subject is the outlet.
    Send = 2,
    /// In the queue policy.
    Policy = 3,
    /// In a function; the subject is the workflow's topic index or the job.
    Function = 4,
}

impl Doing {
    fn of(code: u8) -> Doing {
        match code {
            1 => Doing::Receive,
            2 => Doing::Send,
            3 => Doing::Policy,
            4 => Doing::Function,
            _ => Doing::Own,
        }
    }
}

/// What the supervisor sees of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    word: u64,
    /// What it is doing.
    pub doing: Doing,
    /// With what.
    pub subject: u32,
}

/// The word that owner and supervisor share.
#[derive(Debug, Default)]
pub struct Ownership {
    word: AtomicU64,
    subject: AtomicU32,
}

/// The owner's side.
#[derive(Debug)]
pub struct Owner {
    epoch: u64,
    call: u64,
}

const CALL_BITS: u32 = 40;
const CALL_MASK: u64 = (1 << CALL_BITS) - 1;

fn word(epoch: u64, doing: Doing, call: u64) -> u64 {
    epoch << 48 | u64::from(doing as u8) << CALL_BITS | call & CALL_MASK
}

impl Ownership {
    /// The present epoch's owner. Only for the thread that was started as such.
    pub fn owner(&self) -> Owner {
        Owner { epoch: self.word.load(Ordering::Acquire) >> 48, call: 0 }
    }

    /// Says that a call into a plugin begins.
    #[inline]
    pub fn enter(&self, owner: &mut Owner, doing: Doing, subject: u32) {
        owner.call += 1;
        self.subject.store(subject, Ordering::Relaxed);
        self.word.store(word(owner.epoch, doing, owner.call), Ordering::Release);
    }

    /// Asks for the ownership back.
    ///
    /// # Errors
    /// It was taken away meanwhile.
    #[inline]
    pub fn leave(&self, owner: &mut Owner, doing: Doing) -> Result<(), Disowned> {
        let held = word(owner.epoch, doing, owner.call);
        owner.call += 1;
        let own = word(owner.epoch, Doing::Own, owner.call);
        match self.word.compare_exchange(held, own, Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(_) => Err(Disowned),
        }
    }

    /// What the owner is doing now.
    pub fn beat(&self) -> Beat {
        let word = self.word.load(Ordering::Acquire);
        Beat {
            word,
            doing: Doing::of((word >> CALL_BITS) as u8),
            subject: self.subject.load(Ordering::Relaxed),
        }
    }

    /// Takes the ownership away from an owner that is still in the very call of `beat`; `false` where it
    /// came back in time.
    pub fn disown(&self, beat: Beat) -> bool {
        let next = word(((beat.word >> 48) + 1) & 0xffff, Doing::Own, 0);
        beat.doing != Doing::Own
            && self.word.compare_exchange(beat.word, next, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

impl Beat {
    /// Whether two beats are of one and the same call into a plugin.
    pub fn same_call(&self, other: &Beat) -> bool {
        self.word == other.word && self.doing != Doing::Own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_the_owner_comes_back_or_the_supervisor_takes_over() {
        let shared = Ownership::default();
        let mut owner = shared.owner();
        shared.enter(&mut owner, Doing::Receive, 7);
        let beat = shared.beat();
        assert_eq!((beat.doing, beat.subject), (Doing::Receive, 7));
        assert_eq!(shared.leave(&mut owner, Doing::Receive), Ok(()));
        assert!(!shared.disown(beat), "it came back in time");
        shared.enter(&mut owner, Doing::Send, 3);
        let beat = shared.beat();
        assert!(shared.disown(beat));
        let mut successor = shared.owner();
        assert_eq!(shared.leave(&mut owner, Doing::Send), Err(Disowned));
        shared.enter(&mut successor, Doing::Policy, 0);
        assert_eq!(shared.leave(&mut successor, Doing::Policy), Ok(()));
    }

    #[test]
    fn an_owner_at_its_own_work_is_never_disowned() {
        let shared = Ownership::default();
        assert!(!shared.disown(shared.beat()));
    }
}
