//! Owner and supervisor: exactly one of them goes on, and what it finds is whole.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;
use tempos_engine_models::lane::ownership::{Doing, Ownership};
use tempos_engine_models::system::atomic::{Weakness, weaken};
use tempos_engine_models::watched::Watched;

#[derive(Default)]
struct Lane {
    ownership: Ownership,
    /// The lane's state: its owner's alone.
    state: Watched,
}

/// An owner makes two calls into a plugin; the supervisor takes the lane away in whichever it finds it in,
/// and a successor goes on with the state.
fn either_comes_back_or_is_replaced() {
    let taken_away = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&taken_away);
    loom::model(move || {
        let lane = Arc::new(Lane::default());
        let went_on = Arc::new(AtomicUsize::new(0));
        let owner = {
            let (lane, went_on) = (Arc::clone(&lane), Arc::clone(&went_on));
            // Asked for here: loom minds the last access to an atomic alone, and a look just before the first
            // call would hide from it that the supervisor may look after it.
            let mut owner = lane.ownership.owner();
            thread::spawn(move || {
                for call in 1..=2 {
                    lane.state.write(call);
                    lane.ownership.enter(&mut owner, Doing::Send, call as u32);
                    // In the plugin.
                    if lane.ownership.leave(&mut owner, Doing::Send).is_err() {
                        return;
                    }
                    assert_eq!(lane.state.read(), call, "nobody else was at the state");
                }
                went_on.fetch_add(1, Ordering::Relaxed);
            })
        };
        let beat = lane.ownership.beat();
        let taken = lane.ownership.disown(beat);
        if taken {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            // The successor, started by the controller.
            let seen = lane.state.read();
            assert!(seen == 1 || seen == 2);
            lane.state.write(100);
            let mut successor = lane.ownership.owner();
            lane.ownership.enter(&mut successor, Doing::Policy, 0);
            assert!(lane.ownership.leave(&mut successor, Doing::Policy).is_ok());
            went_on.fetch_add(1, Ordering::Relaxed);
        }
        owner.join().unwrap();
        assert_eq!(went_on.load(Ordering::Relaxed), 1, "one goes on, and one only");
        assert_eq!(lane.state.read(), if taken { 100 } else { 2 });
    });
    assert!(taken_away.load(std::sync::atomic::Ordering::Relaxed) > 0, "the model takes the lane away");
}

#[test]
fn either_the_owner_goes_on_or_its_successor() {
    either_comes_back_or_is_replaced();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_the_successor_finds_a_state_that_is_not_whole() {
    weaken(Weakness::Release);
    either_comes_back_or_is_replaced();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_acquire_the_successor_finds_a_state_that_is_not_whole() {
    weaken(Weakness::Acquire);
    either_comes_back_or_is_replaced();
}

/// Two looks at the same call: only one takes the lane away.
#[test]
fn a_lane_is_taken_away_once() {
    loom::model(|| {
        let lane = Arc::new(Lane::default());
        let mut owner = lane.ownership.owner();
        lane.ownership.enter(&mut owner, Doing::Receive, 3);
        let beat = lane.ownership.beat();
        let other = {
            let lane = Arc::clone(&lane);
            thread::spawn(move || lane.ownership.disown(beat))
        };
        let own = lane.ownership.disown(beat);
        assert!(own ^ other.join().unwrap());
        assert!(lane.ownership.leave(&mut owner, Doing::Receive).is_err());
    });
}
