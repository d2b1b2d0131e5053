//! Tells doors what happened: one bounded channel for each listener; whoever does not keep up loses the
//! newest notices, and the count is kept.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};

use tempos_control::Notice;

/// Notices that wait for one listener.
const ROOM: usize = 4096;
/// The most listeners.
const LISTENERS_MAX: usize = 64;

/// The herald.
#[derive(Debug, Default)]
pub struct Herald {
    listeners: Mutex<Vec<SyncSender<Notice>>>,
    /// Notices that found a listener's channel full.
    pub lost: AtomicU64,
}

impl Herald {
    /// A new listener. Beyond 64 the oldest one is let go.
    pub fn listen(&self) -> Receiver<Notice> {
        let (sender, receiver) = sync_channel(ROOM);
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        if listeners.len() >= LISTENERS_MAX {
            listeners.remove(0);
        }
        listeners.push(sender);
        receiver
    }

    /// Tells everybody.
    pub fn tell(&self, notice: Notice) {
        let mut listeners = self.listeners.lock().unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|listener| match listener.try_send(notice.clone()) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        });
    }
}
