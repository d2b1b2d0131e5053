//! The analysis: known examples, and what must hold for any set of tasks.

use super::*;
use crate::simulation::random::Random;

const fn place(priority: u8) -> Place {
    Place { priority, cpus: CpuSet::ALL }
}

const fn task(priority: u8, cost_ns: u64, interval_ns: u64) -> Task {
    Task { place: place(priority), cost_ns, interval_ns, count: 1, burst: 1 }
}

#[test]
fn the_textbooks_example_comes_out_as_in_the_textbook() {
    // Burns and Wellings, "Real-Time Systems and Programming Languages": periods 7, 12, 20, costs 3, 3, 5.
    let tasks = [task(3, 3, 7), task(2, 3, 12), task(1, 5, 20)];
    let response = |priority| response_ns(place(priority), 0, 0, &tasks, WHOLE_PPM);
    assert_eq!([3, 2, 1].map(response), [Ok(3), Ok(6), Ok(20)]);
    // Two at once of the first are one more of it, and what comes meanwhile.
    let burst = [Task { burst: 2, ..tasks[0] }, tasks[1]];
    assert_eq!(response_ns(place(2), 0, 0, &burst, WHOLE_PPM), Ok(12));
    // Blocking by one event below adds itself, and what comes meanwhile.
    assert_eq!(response_ns(place(2), 0, 2, &tasks, WHOLE_PPM), Ok(11));
}

#[test]
fn lanes_on_other_cpus_do_not_meet() {
    let on = |cpu: u32, priority| Place { priority, cpus: CpuSet::of(&[cpu]) };
    let tasks = [
        Task { place: on(0, 45), cost_ns: 600, interval_ns: 1000, count: 1, burst: 1 },
        Task { place: on(1, 20), cost_ns: 600, interval_ns: 1000, count: 1, burst: 1 },
    ];
    assert_eq!(response_ns(on(1, 20), 0, 0, &tasks, WHOLE_PPM), Ok(600));
    let both = Place { priority: 20, cpus: CpuSet::of(&[0, 1]) };
    let overload = response_ns(both, 0, 0, &tasks, WHOLE_PPM).expect_err("1.2 of a CPU");
    assert_eq!((overload.used_ppm, overload.limit_ppm), (1_200_000, WHOLE_PPM));
    assert!(!CpuSet::of(&[200]).meets(CpuSet::of(&[72])) && CpuSet::of(&[300]).meets(CpuSet::of(&[0])));
}

#[test]
fn a_reservation_gives_its_runtime_late_but_surely() {
    let reserved = Reservation { runtime_ns: 2_000, deadline_ns: 10_000, period_ns: 10_000 };
    // 16 µs without it, then five times as slow.
    let tasks = [task(ORDINARY, 100, 1_000_000)];
    assert_eq!(reserved_response_ns(reserved, 0, &tasks), Ok(16_500));
    assert!(reserved_response_ns(reserved, 0, &[task(ORDINARY, 201, 1000)]).is_err());
    assert_eq!(reservations_fit(&[reserved; 9], 2, 950_000), Ok(()));
    let overload = reservations_fit(&[reserved; 10], 2, 950_000).expect_err("2.0 of 1.9");
    assert_eq!((overload.used_ppm, overload.limit_ppm), (2_000_000, 1_900_000));
}

/// A set of up to eight tasks that may or may not fit.
fn any(random: &mut Random) -> Vec<Task> {
    (0..random.between(1, 8))
        .map(|_| Task {
            place: Place {
                priority: *random.pick(&[ORDINARY, 1, 20, 45, 98, RESERVED]),
                cpus: *random.pick(&[CpuSet::ALL, CpuSet::of(&[0]), CpuSet::of(&[1]), CpuSet::of(&[0, 2])]),
            },
            cost_ns: random.between(0, 400) as u64,
            interval_ns: random.between(1, 4000) as u64,
            count: random.between(1, 3) as u64,
            burst: random.between(1, 3) as u64,
        })
        .collect()
}

#[test]
fn what_holds_of_every_set_of_tasks() {
    let (mut admitted, mut refused) = (0, 0);
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let tasks = any(&mut random);
        let own = *random.pick(&tasks);
        let (extra, blocking) = (random.below(300) as u64, random.below(100) as u64);
        let limit = *random.pick(&[REAL_TIME_PPM, WHOLE_PPM, 2 * WHOLE_PPM]);
        let answer = response_ns(own.place, extra, blocking, &tasks, limit);
        // Counted by hand, in floating point and so with some slack.
        let load: f64 = tasks
            .iter()
            .filter(|t| t.place.priority >= own.place.priority && t.place.cpus.meets(own.place.cpus))
            .map(|t| t.cost_ns as f64 * t.count as f64 / t.interval_ns as f64)
            .sum();
        let Ok(response) = answer else {
            refused += 1;
            continue;
        };
        admitted += 1;
        assert!(load <= 1.0 + 1e-9, "seed {seed}: {load} of a CPU was admitted");
        assert!(response >= own.cost_ns + extra + blocking, "seed {seed}: less than its own cost");
        // It is a fixed point, and so no event of the busy period is left out.
        let again: u64 = tasks
            .iter()
            .filter(|t| own.place.yields_to(t.place))
            .map(|t| t.cost_ns * t.count * (response.div_ceil(t.interval_ns).max(1) + t.burst - 1))
            .sum();
        assert_eq!(again + extra + blocking, response, "seed {seed}");
        // More load, of whatever sort, never makes a response shorter.
        let mut more = tasks.clone();
        more.extend(any(&mut random).into_iter().take(2));
        if let Ok(longer) = response_ns(own.place, extra, blocking, &more, limit) {
            assert!(longer >= response, "seed {seed}: {longer} with more load, {response} without");
        }
        let mut dearer = tasks.clone();
        let at = random.below(dearer.len());
        dearer[at].cost_ns += 7;
        if let Ok(longer) = response_ns(own.place, extra, blocking, &dearer, limit) {
            assert!(longer >= response, "seed {seed}: {longer} with dearer events, {response} without");
        }
        assert!(
            response_ns(own.place, extra, blocking + 5, &tasks, limit).map_or(true, |r| r >= response + 5)
        );
    }
    assert!(admitted > 2000 && refused > 2000, "{admitted} admitted, {refused} refused");
}

#[test]
fn what_holds_of_every_reservation() {
    let mut admitted = 0;
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let period_ns = random.between(10, 10_000) as u64;
        let deadline_ns = random.between(1, period_ns as usize) as u64;
        let runtime_ns = random.between(1, deadline_ns as usize) as u64;
        let reserved = Reservation { runtime_ns, deadline_ns, period_ns };
        let tasks = any(&mut random);
        let Ok(response) = reserved_response_ns(reserved, 0, &tasks) else { continue };
        admitted += 1;
        let costs: u64 = tasks.iter().map(|t| t.cost_ns * t.count).sum();
        assert!(response >= costs, "seed {seed}");
        let mut more = tasks.clone();
        more.extend(any(&mut random));
        if let Ok(longer) = reserved_response_ns(reserved, 0, &more) {
            assert!(longer >= response, "seed {seed}");
        }
    }
    assert!(admitted > 500, "{admitted} admitted");
}

#[test]
fn what_never_settles_is_refused_within_the_bounds() {
    // Exactly one CPU: with anything beside it, it never comes to an end.
    let tasks = [task(1, 1000, 1000)];
    assert!(response_ns(place(1), 1, 0, &tasks, WHOLE_PPM).is_err());
    assert!(response_ns(place(1), 0, 0, &[task(1, u64::MAX, 1)], WHOLE_PPM).is_err());
    assert_eq!(response_ns(place(1), 0, 0, &[], WHOLE_PPM), Ok(0));
}
