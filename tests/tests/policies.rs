//! Queue policies on a node: what leaves a lane first, and what does not leave it at all. A level that may pass on
//! only so many events in a second makes the others wait, so that its policy has a choice.

mod road;

use tempos_tests::{Node, NodeSetup, Producer, Sink};

use road::unix;

/// Events in a second that leave the level of these tests.
const RATE: u64 = 100;
/// How many may leave before the policy has a choice: what a pause saves up, and one that is under way.
const HEAD_START: u64 = 6;

fn setup() -> NodeSetup {
    NodeSetup::new().plugins([
        "adapter-unix",
        "queue-fifo",
        "queue-priority",
        "queue-edf",
        "queue-drr",
        "queue-newest",
    ])
}

/// A level with this queue, and topics with these keys. Each takes events in at its name, and all of them send to
/// `NAME-out`.
fn wired(queue: &str, topics: &[(&str, &str)]) -> (Node, Vec<Sink>) {
    let setup = setup();
    let outs =
        topics.iter().map(|(name, _)| Sink::datagram(&setup.folder().join(format!("{name}-out")))).collect();
    let mut lua =
        format!("tempos.qos \"slow\" {{ batch = 1, rate = {{ max = {RATE} }}, queue = {{ {queue} }} }}\n");
    for (name, keys) in topics {
        lua += &format!(
            "tempos.topic \"{name}\" {{ qos = \"slow\"{keys}, ingress = {{ {} }}, egress = {{ {} }} }}\n",
            unix(&setup, name, ""),
            unix(&setup, &format!("{name}-out"), ""),
        );
    }
    (setup.wiring(&lua).start(), outs)
}

fn flood(node: &Node, topic: &str, id: u32, events: u64) {
    Producer::datagram(id, &node.folder().join(topic)).flood(events);
}

/// What had come of the other topic when so many events of the first had.
fn came_before(first: &Sink, events: u64, other: &Sink) -> u64 {
    first.wait_for(events);
    other.received()
}

#[test]
fn the_topic_of_the_higher_rank_goes_first() {
    let (node, outs) = wired("policy = \"priority\"", &[("low", ", rank = 10"), ("high", ", rank = 20")]);
    flood(&node, "low", 1, 60);
    flood(&node, "high", 2, 30);
    let before = came_before(&outs[1], 30, &outs[0]);
    assert!(before <= HEAD_START, "{before} of the lower rank went first");
    assert!(node.wait_for_rest("low", 60).dropped.is_empty());
}

#[test]
fn the_topic_with_the_earlier_deadline_goes_first() {
    let (node, outs) =
        wired("policy = \"edf\"", &[("far", ", deadline = \"2h\""), ("near", ", deadline = \"1h\"")]);
    flood(&node, "far", 1, 60);
    flood(&node, "near", 2, 30);
    let before = came_before(&outs[1], 30, &outs[0]);
    assert!(before <= HEAD_START, "{before} with the later deadline went first");
    assert!(node.wait_for_rest("far", 60).dropped.is_empty());
}

#[test]
fn what_is_late_is_dropped_as_expired_or_goes_on_as_the_policy_is_told() {
    for (late, drops) in [("drop", true), ("pass", false)] {
        let queue = format!("policy = \"edf\", late = \"{late}\"");
        let (node, outs) = wired(&queue, &[("brief", ", deadline = \"50ms\"")]);
        // A hundred in a second: most of them wait longer than 50 ms.
        flood(&node, "brief", 1, 60);
        let figures = node.wait_for_rest("brief", 60);
        let expired = figures.dropped_for("expired");
        assert_eq!(expired > 0, drops, "late = {late}: {figures:?}");
        assert_eq!(figures.dropped_whole(), expired, "{figures:?}");
        let left = outs[0].wait_for(60 - expired).received();
        assert_eq!(left + expired, 60, "late = {late}: each left or was counted");
        // Until then they wait their turn: those of the first 50 ms leave.
        assert!(left >= 1);
    }
}

#[test]
fn a_topic_gets_its_least_share_whatever_the_others_weigh() {
    for (share, least, most) in [(30, 28, 100), (0, 0, 10)] {
        let (node, outs) = wired(
            "policy = \"drr\", share_by = \"events\"",
            &[("small", &format!(", share = {share}")), ("big", ", weight = 1000")],
        );
        flood(&node, "big", 1, 400);
        flood(&node, "small", 2, 200);
        // The first hundred of the big one, and what the small one got meanwhile.
        let small = came_before(&outs[1], 100, &outs[0]);
        let part = 100 * small / (100 + small);
        assert!((least..=most).contains(&part), "{part} % with share = {share}");
    }
}

#[test]
fn only_the_newest_event_of_a_topic_waits() {
    let (node, outs) = wired("policy = \"newest\"", &[("reading", "")]);
    flood(&node, "reading", 1, 80);
    let figures = node.wait_for_rest("reading", 80);
    let evicted = figures.dropped_for("evicted");
    assert_eq!(figures.dropped_whole(), evicted, "{figures:?}");
    let ledger = outs[0].wait_for(80 - evicted);
    assert!(evicted > 0, "nothing was superseded");
    assert_eq!(ledger.received() + evicted, 80);
    assert!(ledger.track(1).has(79), "the last that was sent was superseded");
}

#[test]
fn shares_above_the_whole_are_refused_with_the_topics_that_make_them() {
    let setup = setup();
    let node = setup.wiring("tempos.topic \"kept\" {}\n").start();
    let answer = node.apply(
        "tempos.topic \"kept\" {}\n\
         tempos.topic \"a\" { share = 60 }\n\
         tempos.topic \"b\" { share = 30 }\n\
         tempos.topic \"c\" { share = 20 }\n",
    );
    let sentence = answer.expect_err("110 % are more than there is");
    assert!(
        sentence.contains(
            "level \"best-effort\": the shares of its topics make 110 %, the whole is 100 %: \"a\" (60 %), \"b\" (30 %), \"c\" (20 %)"
        ),
        "{sentence}"
    );
    assert!(sentence.contains(":4: "), "the line of the last: {sentence}");
    assert_eq!(node.ctl_json(["topics"]).as_array().map(Vec::len), Some(1), "the old wiring stands");
}
