//! Loads that a node must carry: counted, never timed.

mod road;

use tempos_tests::thread::threads;
use tempos_tests::{Producer, Sink, eventually};

use road::{setup, unix};

#[test]
fn four_equal_members_of_a_group_share_evenly_and_each_event_has_one_of_them() {
    const EVENTS: u64 = 100_000;
    let setup = setup();
    let sinks = ["a", "b", "c", "d"].map(|name| Sink::datagram(&setup.folder().join(name)));
    let members = ["a", "b", "c", "d"].map(|name| unix(&setup, name, "")).join(", ");
    let lua = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }},\n\
         egress = {{ tempos.group \"four\" {{ {members} }} }} }}\n",
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::udp(1, node.udp_address("press/in/1"));
    let received = || sinks.iter().map(Sink::received).sum::<u64>();
    producer.send_windowed(EVENTS, 32, received);
    eventually("all events at the members", || (received() == EVENTS).then_some(()));
    let tracks = sinks.each_ref().map(|sink| {
        let ledger = sink.ledger();
        ledger.assert_in_order();
        ledger.track(1)
    });
    for (at, track) in tracks.iter().enumerate() {
        let percent = track.received as f64 * 100.0 / EVENTS as f64;
        assert!((24.0..=26.0).contains(&percent), "member {at} got {percent} %");
    }
    for sequence in 0..EVENTS {
        let members = tracks.iter().filter(|track| track.has(sequence)).count();
        assert_eq!(members, 1, "event {sequence} went to {members} members");
    }
}

#[test]
fn bursts_that_fit_into_the_queue_lose_nothing() {
    const BURST: u64 = 10_000;
    const BURSTS: u64 = 5;
    let setup = setup();
    let sink = Sink::datagram(&setup.folder().join("out"));
    let lua = format!(
        "tempos.qos \"strict\" {{ queue = {{ capacity = {BURST}, bytes = \"16MiB\" }} }}\n\
         tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(&setup, "in", ""),
        unix(&setup, "out", ""),
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    for burst in 1..=BURSTS {
        // All of it is in the node before the consumer takes anything.
        sink.hold();
        producer.flood(BURST);
        eventually("the burst in the node", || {
            (node.topic("press").events_in == burst * BURST).then_some(())
        });
        sink.release();
        sink.wait_for(burst * BURST).assert_exact(1, burst * BURST);
    }
    let figures = node.wait_for_rest("press", BURSTS * BURST);
    assert!(figures.dropped.is_empty(), "{figures:?}");
}

/// How often a thread went to sleep by itself so far.
fn sleeps(process: u32, thread: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/task/{thread}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|count| count.trim().parse().ok()).expect("the thread lives")
}

#[test]
fn a_hundred_idle_topics_wake_nobody() {
    const SECONDS: u64 = 4;
    let setup = setup();
    let lua = "for n = 1, 100 do\n\
               tempos.topic(\"idle/\" .. n) { qos = n % 2 == 0 and \"strict\" or \"best-effort\",\n\
               ingress = { tempos.udp { bind = \"127.0.0.1:0\", receive_buffer = \"64KiB\" } } }\n\
               end\n";
    let mut node = setup.wiring(lua).start();
    // What the start leaves to be done is done.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let process = node.daemon().pid();
    let lanes: Vec<(i32, String)> =
        threads(process).into_iter().filter(|(_, name)| name.starts_with("lane-")).collect();
    assert!(lanes.len() >= 2, "{lanes:?}");
    let before: Vec<u64> = lanes.iter().map(|(id, _)| sleeps(process, *id)).collect();
    std::thread::sleep(std::time::Duration::from_secs(SECONDS));
    for ((id, name), before) in lanes.iter().zip(before) {
        let woken = sleeps(process, *id) - before;
        println!("{name} was woken {woken} times in {SECONDS} s");
        assert!(woken <= 2 * SECONDS, "{name} was woken {woken} times in {SECONDS} s, with nothing to do");
    }
}

#[test]
fn a_stuck_consumer_and_a_slow_one_cost_the_others_nothing() {
    const EVENTS: u64 = 20_000;
    let setup = setup();
    let names = ["one", "two", "slow", "stuck"];
    let sinks = names.map(|name| Sink::datagram(&setup.folder().join(name)));
    let groups =
        names.map(|name| format!("tempos.group {name:?} {{ {} }}", unix(&setup, name, ""))).join(", ");
    let lua = format!(
        "tempos.topic \"log\" {{ ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }}, egress = {{ {groups} }} }}\n",
    );
    let node = setup.wiring(&lua).start();
    let mut producer = Producer::udp(1, node.udp_address("log/in/1"));
    let [one, two, slow, stuck] = &sinks;
    stuck.hold();
    slow.hold();
    for round in 1..=4 {
        producer.send_windowed(EVENTS / 4, 48, || one.received().min(two.received()));
        // The slow one takes a little now and then.
        slow.release();
        eventually("something at the slow one", || (slow.received() >= round).then_some(()));
        slow.hold();
    }
    one.wait_for(EVENTS).assert_exact(1, EVENTS);
    two.wait_for(EVENTS).assert_exact(1, EVENTS);
    slow.release();
    stuck.release();
    let figures = node.wait_for_rest("log", EVENTS);
    let lost = figures.dropped_for("copy-slow-consumer");
    assert_eq!((figures.events_out, figures.dropped_whole()), (EVENTS, 0), "{figures:?}");
    eventually("every copy to be accounted for", || {
        (slow.received() + stuck.received() + lost == 2 * EVENTS).then_some(())
    });
    assert!(lost > EVENTS / 2, "the two were to fall behind: {figures:?}");
}
