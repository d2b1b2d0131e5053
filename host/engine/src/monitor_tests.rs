//! The judgement of grants, on a clock of its own.

use tempos_control::Kind;

use super::*;
use crate::grants::HopOf;
use crate::grants::watch::WatchedHop;

const LOOK: Duration = Duration::from_millis(250);

fn watched() -> Watched {
    let hop = |name: &str, of, limit_ns| WatchedHop { name: name.into(), of, limit_ns };
    Watched {
        kind: Kind::Workflow,
        name: "w".into(),
        hops: vec![
            hop("queue a", HopOf::Queue("a".into()), 100_000),
            hop("function w", HopOf::Function("w".into()), 2_000_000),
        ],
        whole_ns: 2_100_000,
    }
}

/// So many events, of which so many took ten times as long as they may.
fn took(events: u64, over: u64, limit_ns: u64) -> Reading {
    let p99_ns = if over > 0 { limit_ns * 10 } else { limit_ns / 2 };
    Reading { events, over, p99_ns, stuck_ns: 0 }
}

struct Scene {
    judge: Judge,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        Scene { judge: Judge::new(2), now: Instant::now() }
    }

    /// A look in which so many of so many events took too long in the function.
    fn look(&mut self, events: u64, over: u64) -> Option<Change> {
        self.now += LOOK;
        let readings = [took(events, 0, 100_000), took(events, over, 2_000_000)];
        self.judge.look(&watched(), &readings, Some(took(events, over, 2_100_000)), self.now)
    }

    /// Looks without a slow event until something changes; how long that took.
    fn until_kept(&mut self, events: u64) -> Duration {
        let begun = self.now;
        for _ in 0..1000 {
            match self.look(events, 0) {
                Some(Change::Kept(_)) => return self.now - begun,
                None => {}
                Some(other) => panic!("{other:?}"),
            }
        }
        panic!("it is never kept again")
    }
}

#[test]
fn a_slow_hop_is_named_at_the_first_look_that_shows_it_and_told_once() {
    for events in [10, 250, 25_000] {
        let mut scene = Scene::new();
        for _ in 0..20 {
            assert_eq!(scene.look(events, 0), None);
        }
        let Some(Change::Violated(sentence)) = scene.look(events, events) else {
            panic!("{events}: nothing")
        };
        assert!(sentence.starts_with("function w takes too long: "), "{sentence}");
        assert!(sentence.contains("more than the 2.00 ms that it has, p99 20.0 ms"), "{sentence}");
        for _ in 0..20 {
            assert_eq!(scene.look(events, events), None, "it is known");
        }
        assert!(scene.until_kept(events) >= HOLD.0);
        assert!(!scene.judge.is_violated());
    }
}

#[test]
fn one_of_a_hundred_or_two_at_all_are_no_violation() {
    let mut scene = Scene::new();
    for at in 0..400 {
        assert_eq!(scene.look(100, 1), None);
        assert_eq!(Scene::look(&mut scene, 100, 1), None, "{at}");
    }
    let mut scene = Scene::new();
    assert_eq!(scene.look(1, 1), None);
    assert_eq!(scene.look(1, 1), None);
    assert!(matches!(scene.look(1, 1), Some(Change::Violated(_))));
}

#[test]
fn a_hop_that_takes_longer_while_the_whole_does_not_is_no_violation() {
    let mut scene = Scene::new();
    for _ in 0..40 {
        scene.now += LOOK;
        let readings = [took(100, 100, 100_000), took(100, 0, 2_000_000)];
        let whole = took(100, 0, 2_100_000);
        assert_eq!(scene.judge.look(&watched(), &readings, Some(whole), scene.now), None);
    }
    // Where the whole cannot be told from others, the hops together decide.
    scene.now += LOOK;
    let readings = [took(100, 100, 100_000), took(100, 0, 2_000_000)];
    assert_eq!(Judge::new(2).look(&watched(), &readings, None, scene.now), None);
    let readings = [Reading { p99_ns: 2_000_000, ..readings[0] }, readings[1]];
    let said = Judge::new(2).look(&watched(), &readings, None, scene.now);
    assert!(matches!(said, Some(Change::Violated(sentence)) if sentence.starts_with("queue a")));
}

#[test]
fn of_several_slow_hops_the_one_that_costs_most_is_named() {
    let mut scene = Scene::new();
    scene.now += LOOK;
    // Ten times and twice as long as they may: 0.9 ms and 2 ms too much.
    let readings = [took(100, 100, 100_000), Reading { p99_ns: 4_000_000, ..took(100, 100, 2_000_000) }];
    let whole = Reading { events: 100, over: 100, p99_ns: 5_000_000, stuck_ns: 0 };
    let said = scene.judge.look(&watched(), &readings, Some(whole), scene.now);
    assert!(matches!(said, Some(Change::Violated(sentence)) if sentence.starts_with("function w")));
    // A hop that is over its share, but cannot be why the whole is late, is not blamed.
    let mut scene = Scene::new();
    scene.now += LOOK;
    let readings = [took(100, 100, 100_000), took(97, 0, 2_000_000)];
    let whole = Reading { events: 100, over: 3, p99_ns: 200_000_000, stuck_ns: 0 };
    assert_eq!(scene.judge.look(&watched(), &readings, Some(whole), scene.now), None);
}

#[test]
fn a_hop_that_is_done_with_nothing_is_slow() {
    let mut scene = Scene::new();
    scene.now += LOOK;
    let stuck = Reading { stuck_ns: 400_000_000, ..Reading::default() };
    let said = scene.judge.look(&watched(), &[Reading::default(), stuck], None, scene.now);
    let Some(Change::Violated(sentence)) = said else { panic!("nothing") };
    assert_eq!(
        sentence,
        "function w has been done with no event for 400 ms, and holds some; the whole way has 2.10 ms"
    );
}

#[test]
fn holds_grow_where_it_comes_and_goes_and_are_short_again_after_a_minute() {
    let mut scene = Scene::new();
    let mut holds = Vec::new();
    for _ in 0..7 {
        assert!(matches!(scene.look(100, 100), Some(Change::Violated(_))));
        holds.push(scene.until_kept(100).as_secs());
    }
    assert_eq!(holds, [3, 6, 12, 24, 48, 60, 60]);
    scene.now += Duration::from_secs(61);
    assert!(matches!(scene.look(100, 100), Some(Change::Violated(_))));
    assert_eq!(scene.until_kept(100).as_secs(), 3);
    // What was measured is that of the window.
    assert_eq!(scene.look(100, 0), None);
    assert_eq!(scene.judge.measured().collect::<Vec<_>>(), [Some(50_000), Some(1_000_000)]);
    // Silence is no violation either.
    assert!(matches!(scene.look(100, 100), Some(Change::Violated(_))));
    scene.until_kept(0);
}

#[test]
fn another_grant_does_not_end_a_violation_before_its_hold() {
    let mut scene = Scene::new();
    assert!(matches!(scene.look(100, 100), Some(Change::Violated(_))));
    scene.judge = scene.judge.clone().under(2, scene.now);
    assert!(scene.judge.is_violated());
    assert_eq!(scene.until_kept(100), HOLD.0);
}
