//! The scenes.

pub mod latency;
pub mod rate;
pub mod soak;
pub mod topics;
pub mod ungranted;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::client::{Consumer, Producer};
use crate::event::{EVENT_BYTES, Stamp};

/// The round of events that only see whether a way is open.
const TRIAL: u32 = u32::MAX;
/// How long a way may take to open.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends trial events until one comes through; whether one does.
pub fn opens(producer: &mut dyn Producer, consumer: &mut dyn Consumer) -> bool {
    let mut event = [0; EVENT_BYTES];
    Stamp { round: TRIAL, ..Stamp::default() }.write(&mut event);
    let (begin, came) = (Instant::now(), AtomicBool::new(false));
    while begin.elapsed() < PATIENCE && !came.load(Ordering::Relaxed) {
        let _ = producer.send(&event);
        let _ = consumer.receive(30, &mut |_| came.store(true, Ordering::Relaxed));
    }
    // What is still on its way is of the trial.
    while consumer.receive(50, &mut |_| {}).is_ok_and(|count| count > 0) {}
    came.load(Ordering::Relaxed)
}
