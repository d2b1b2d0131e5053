//! The waiting place: nobody sleeps while there is work.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use tempos_engine_models::lane::shared::LaneShared;
use tempos_engine_models::system::atomic::{Weakness, keep_flags_in_order, weaken};
use tempos_engine_models::system::wake::WaitingPlace;

/// Producers put down work and wake the lane, which does all of it. A wake-up that is lost goes over the model's bound.
fn all_work_is_done(producers: usize) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = (producers > 1).then_some(2);
    model.check(move || {
        let place = Arc::new(WaitingPlace::new().unwrap());
        let work = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..producers)
            .map(|_| {
                let (place, work) = (Arc::clone(&place), Arc::clone(&work));
                thread::spawn(move || {
                    work.fetch_add(1, Ordering::Relaxed);
                    place.wake();
                })
            })
            .collect();
        let mut done = 0;
        while done < producers {
            let now = work.load(Ordering::Relaxed);
            if now == done {
                place.wait(|| work.load(Ordering::Relaxed) != done);
            }
            done = now;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn no_wake_up_is_lost() {
    all_work_is_done(1);
}

#[test]
fn no_wake_up_of_several_is_lost() {
    keep_flags_in_order();
    all_work_is_done(2);
}

#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn without_the_fences_a_wake_up_is_lost() {
    weaken(Weakness::Fences);
    all_work_is_done(1);
}

/// An event has been put into a ring, of which only the end is modelled, and announced; another one follows
/// while the lane takes it.
fn every_injected_event_is_taken() {
    keep_flags_in_order();
    loom::model(|| {
        let shared = Arc::new(LaneShared::new("strict".into()).unwrap());
        let ring = Arc::new(AtomicUsize::new(1));
        shared.announce_injected();
        let lane = {
            let (shared, ring) = (Arc::clone(&shared), Arc::clone(&ring));
            thread::spawn(move || {
                let mut taken = 0;
                while taken < 2 {
                    if shared.has_injected() {
                        shared.note_injected();
                        taken = ring.load(Ordering::Acquire);
                    } else {
                        shared.place.wait(|| shared.has_injected());
                    }
                }
            })
        };
        ring.store(2, Ordering::Release);
        shared.announce_injected();
        lane.join().unwrap();
    });
}

#[test]
fn no_injected_event_is_left_in_its_ring() {
    every_injected_event_is_taken();
}

#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn without_acquire_an_injected_event_is_left() {
    weaken(Weakness::Acquire);
    every_injected_event_is_taken();
}

/// As it was once: a load, and a store behind it.
#[test]
#[should_panic(expected = "exceeded maximum number of branches")]
fn in_two_steps_an_injected_event_is_left() {
    weaken(Weakness::Exchanges);
    every_injected_event_is_taken();
}

/// A lane that is asked to end ends, though it is about to sleep.
#[test]
fn a_wish_to_stop_is_heard() {
    loom::model(|| {
        let shared = Arc::new(LaneShared::new("strict".into()).unwrap());
        let lane = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                while !shared.is_stopping() {
                    shared.place.wait(|| shared.is_stopping());
                }
            })
        };
        shared.ask_to_stop();
        lane.join().unwrap();
    });
}
