//! What the controller hands to a lane: tables, errands, workers. Whoever has it is alone with it.

use loom::sync::Arc;
use loom::thread;
use tempos_engine_models::bridging::endpoint::Source;
use tempos_engine_models::lane::cell::LaneCell;
use tempos_engine_models::lane::shared::{Errand, Giver, LaneShared};
use tempos_engine_models::lane::tables::LaneTables;
use tempos_engine_models::processing::invoker::FunctionPort;
use tempos_engine_models::system::atomic::{Weakness, weaken};

fn shared() -> Arc<LaneShared> {
    Arc::new(LaneShared::new("strict".into()).unwrap())
}

/// The lane changes from one table to the next; the controller then takes the first apart.
fn tables_change_hands() {
    loom::model(|| {
        let shared = shared();
        let (first, second) = (Arc::new(LaneTables::default()), Arc::new(LaneTables::default()));
        let lane = {
            let (shared, first) = (Arc::clone(&shared), Arc::clone(&first));
            thread::spawn(move || {
                assert_eq!(first.read(), 0, "not taken apart while it is in use");
                loop {
                    if let Some(tables) = shared.take_next_tables() {
                        shared.acknowledge_tables();
                        // SAFETY: the controller keeps them.
                        assert_eq!(unsafe { &*tables }.read(), 7);
                        return;
                    }
                    shared.place.wait(|| shared.has_next_tables());
                }
            })
        };
        second.write(7);
        let before = shared.taken();
        shared.publish(&second);
        // Time passes; where the lane has not come by, the first tables stay in use.
        if shared.taken() != before {
            first.write(1);
        }
        lane.join().unwrap();
    });
}

#[test]
fn tables_are_taken_apart_when_the_lane_has_left_them() {
    tables_change_hands();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_tables_are_not_whole() {
    weaken(Weakness::Release);
    tables_change_hands();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_acquire_tables_are_not_whole() {
    weaken(Weakness::Acquire);
    tables_change_hands();
}

/// The controller loses patience while the lane comes by.
#[test]
fn tables_are_taken_by_the_lane_or_taken_back() {
    loom::model(|| {
        let shared = shared();
        let tables = Arc::new(LaneTables::default());
        shared.publish(&tables);
        let lane = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.take_next_tables().is_some())
        };
        let taken_back = shared.take_next_tables().is_some();
        assert!(taken_back ^ lane.join().unwrap());
    });
}

/// The lane runs an errand, or the controller takes it back; the answer is read by whoever sent it.
fn errands_are_run_or_recalled() {
    loom::model(|| {
        let shared = shared();
        let source = std::sync::Arc::new(LaneCell::new(Source::default()));
        let lane = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for _ in 0..2 {
                    if shared.has_errand() {
                        shared.do_errand();
                    }
                }
            })
        };
        let mut errand = Errand::default();
        errand.givers.push((Giver::Source(std::sync::Arc::clone(&source)), -1));
        shared.send_errand(&mut errand);
        let ran = errand.is_done() || !shared.recall_errand();
        while ran && !errand.is_done() {
            thread::yield_now();
        }
        // SAFETY: the errand is the controller's again; the model watches.
        let asked = unsafe { source.get() }.0.read();
        assert_eq!((asked, errand.givers[0].1), if ran { (1, 1) } else { (0, -1) });
        lane.join().unwrap();
    });
}

#[test]
fn an_errand_is_run_once_or_not_at_all() {
    errands_are_run_or_recalled();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_the_answer_is_not_there() {
    weaken(Weakness::Release);
    errands_are_run_or_recalled();
}

/// Two workers are offered in a row; the lane takes them one at a time.
fn workers_are_handed_over() {
    loom::model(|| {
        let shared = shared();
        let lane = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut taken = 0;
                for _ in 0..2 {
                    if let Some((number, port)) = shared.take_next_port() {
                        assert_eq!(port.read(), u64::from(*number));
                        port.write(9);
                        taken += 1;
                    }
                }
                taken
            })
        };
        let mut offered = 0;
        for number in 1..=2 {
            let port = FunctionPort::default();
            port.write(u64::from(number));
            match shared.offer_port(number, port) {
                Ok(()) => offered += 1,
                Err(port) => assert_eq!(port.read(), u64::from(number), "it comes back as it was"),
            }
        }
        let taken = lane.join().unwrap();
        let left = u32::from(shared.take_next_port().is_some());
        assert_eq!(taken + left, offered, "each is taken once");
    });
}

#[test]
fn a_worker_is_taken_once_or_comes_back() {
    workers_are_handed_over();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn without_release_a_worker_is_not_whole() {
    weaken(Weakness::Release);
    workers_are_handed_over();
}
