//! Workflows: retries, branches, deadlines along a chain, prewarming, and functions that take their time.

mod road;

use serde_json::Value;
use tempos_tests::figures::counts;
use tempos_tests::function::{ECHO, function};
use tempos_tests::thread::{scheduling, threads};
use tempos_tests::{Node, Producer, Signals, eventually};

use road::workflow::{dlf, done, one, send, start, text};
use road::{receiver, setup, unix};

/// Fails with the code that follows the letter in the first bytes, as often as the digit after it says:
/// `f71…` fails once with code 7. `calls` of one event are counted by its payload's last two digits.
const FLAKY: &str = "static int calls[100];\n\
    if (event->payload[0] == 'f') {\n\
    int at = (event->payload[event->payload_bytes - 2] - '0') * 10 + event->payload[event->payload_bytes - 1] - '0';\n\
    if (calls[at]++ < event->payload[2] - '0') return tempos_fail(output, (uint8_t)(event->payload[1] - '0'), \"not yet\");\n\
    }\n\
    return tempos_write(output, event->payload, event->payload_bytes);";

#[test]
fn what_fails_is_tried_again_and_nothing_overtakes_it() {
    const EVENTS: u64 = 100;
    let setup = setup();
    let flaky = function(setup.folder(), "flaky", FLAKY);
    let (node, producer, out) =
        start(setup, "", &dlf(&flaky, ", retry = { times = 3, backoff = \"2ms\", codes = { 7 } }"));
    for number in 0..EVENTS {
        let what = if number % 10 == 5 { "f72" } else { "g" };
        send(&producer, &format!("{what} {number:02}"));
    }
    for number in 0..EVENTS {
        let said = text(&out);
        assert!(said.ends_with(&format!(" {number:02}")), "{number} was overtaken: {said}");
    }
    let work = done(&node, EVENTS);
    assert_eq!((work["Retries"].as_u64(), counts(&work["Failures"]).len()), (Some(20), 0), "{work:#}");
    assert_eq!(node.wait_for_rest("raw", EVENTS).dropped_whole(), 0);
}

#[test]
fn what_goes_on_failing_or_was_not_named_is_given_up() {
    let setup = setup();
    let flaky = function(setup.folder(), "flaky", FLAKY);
    let call = dlf(&flaky, ", concurrency = 4, retry = { times = 3, backoff = \"1ms\", codes = { 7 } }");
    let (node, producer, out) = start(setup, "", &call);
    let signals = Signals::of(&node);
    for event in ["f79 00", "f81 01", "f73 02", "f74 03"] {
        send(&producer, event);
    }
    assert_eq!(text(&out), "f73 02", "three times are enough for it");
    let work = done(&node, 4);
    // 3 for each of the three that fail with code 7, none for code 8.
    assert_eq!(work["Retries"], 9, "{work:#}");
    assert_eq!(counts(&work["Failures"]).get("failed"), Some(&3), "{work:#}");
    let said = eventually("the signals", || {
        let said = signals.named("FunctionFailed");
        (said.len() == 3).then_some(said)
    });
    assert!(said.iter().all(|arguments| arguments[2] == "failed: not yet"), "{said:?}");
}

#[test]
fn a_retry_that_would_begin_after_the_deadline_is_none() {
    let setup = setup();
    let flaky = function(setup.folder(), "flaky", FLAKY);
    let call = dlf(&flaky, ", retry = { times = 9, backoff = \"30s\" }");
    let (node, producer, out) = start(setup, ", deadline = \"20s\"", &call);
    send(&producer, "f71 00");
    send(&producer, "g 01");
    assert_eq!(text(&out), "g 01");
    let work = done(&node, 2);
    assert_eq!((&work["Retries"], counts(&work["Failures"]).get("failed")), (&Value::from(0), Some(&1)));
}

#[test]
fn an_event_that_waits_to_be_tried_again_goes_on_under_another_wiring() {
    let setup = setup();
    let flaky = function(setup.folder(), "flaky", FLAKY);
    let retry = |backoff: &str| dlf(&flaky, &format!(", retry = {{ times = 2, backoff = \"{backoff}\" }}"));
    let folder = setup.folder().to_owned();
    let (node, producer, out) = start(setup, "", &retry("2s"));
    send(&producer, "f71 00");
    send(&producer, "g 01");
    eventually("the first attempt", || (node.workflow("work")["Retries"] == 1).then_some(()));
    // The function itself is the same: it remembers that it has been called.
    node.apply(&one(&folder, "", &retry("2001ms"))).expect("a sound wiring");
    // A lane that is rebuilt takes it along too.
    let rebuilt = format!("tempos.qos \"strict\" {{ workers = 2 }}\n{}", one(&folder, "", &retry("2001ms")));
    node.apply(&rebuilt).expect("a sound wiring");
    assert_eq!([text(&out), text(&out)], ["f71 00", "g 01"]);
    let work = done(&node, 2);
    assert_eq!((work["Retries"].as_u64(), counts(&work["Failures"]).len()), (Some(1), 0), "{work:#}");
}

#[test]
fn a_function_chooses_the_topic_of_its_output() {
    let setup = setup();
    let body = "tempos_write(output, event->payload, event->payload_bytes);\n\
        switch (event->payload[0]) {\n\
        case 'a': return tempos_send_to(output, \"alarm\");\n\
        case 'l': return tempos_send_to(output, \"log\");\n\
        case 'x': return tempos_send_to(output, \"alram\");\n\
        default: return 0; }";
    let sort = function(setup.folder(), "sort", body);
    let outs = ["alarms", "logs", "rest", "all"].map(|name| receiver(&setup, name));
    let egress = |name: &str| format!("egress = {{ {} }}", unix(&setup, name, ""));
    let echo = function(setup.folder(), "echo", ECHO);
    let wiring = |to: &str| {
        format!(
            "tempos.topic \"raw\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
             tempos.topic \"alarms\" {{ qos = \"strict\", {} }}\n\
             tempos.topic \"logs\" {{ {} }}\n\
             tempos.topic \"rest\" {{ qos = \"strict\", {} }}\n\
             tempos.topic \"all\" {{ qos = \"strict\", {} }}\n\
             tempos.workflow \"work\" {{ from = \"raw\", to = {{ {to} }}, call = {{ {} }} }}\n\
             tempos.workflow \"copy\" {{ from = \"raw\", to = \"all\", call = {{ {} }} }}\n",
            unix(&setup, "in", ""),
            egress("alarms"),
            egress("logs"),
            egress("rest"),
            egress("all"),
            dlf(&sort, ""),
            dlf(&echo, ""),
        )
    };
    let whole = wiring("alarm = \"alarms\", log = \"logs\", default = \"rest\"");
    let without = wiring("alarm = \"alarms\", log = \"logs\"");
    let wrong = wiring("alarm = \"alarm\"");
    let node = setup.node_file("[wiring]\nwatch = false").wiring(&whole).start();
    let signals = Signals::of(&node);
    let producer = Producer::datagram(1, &node.folder().join("in"));
    for event in ["a1", "l1", "r1", "a2"] {
        send(&producer, event);
    }
    assert_eq!([text(&outs[0]), text(&outs[0])], ["a1", "a2"]);
    assert_eq!([text(&outs[1]), text(&outs[2])], ["l1", "r1"]);
    // Two workflows of one topic get every event.
    assert_eq!([0; 4].map(|_| text(&outs[3])), ["a1", "l1", "r1", "a2"]);
    assert_eq!(
        node.workflow("work")["Branches"],
        serde_json::json!(["alarm=alarms", "default=rest", "log=logs"])
    );
    node.apply(&without).expect("a sound wiring");
    for event in ["x1", "r2", "a3"] {
        send(&producer, event);
    }
    assert_eq!(text(&outs[0]), "a3");
    assert_eq!(counts(&done(&node, 7)["Failures"]).get("bad-output"), Some(&2));
    let said = eventually("the signals", || {
        let said = signals.named("FunctionFailed");
        (said.len() == 2).then_some(said)
    });
    assert_eq!(said[0][2], "bad-output: it names the branch \"alram\", which its workflow has not");
    assert_eq!(said[1][2], "bad-output: it names no branch, and there is none named \"default\"");
    let refused = node.apply(&wrong).expect_err("an unknown topic");
    assert!(
        refused.contains("to.alarm names the unknown topic \"alarm\" (did you mean \"alarms\"?)"),
        "{refused}"
    );
}

#[test]
fn the_functions_after_one_keep_their_part_of_the_events_time() {
    // The first takes 150 ms of the 20 s that an event has.
    let setup = setup();
    let body = "usleep(150000); return tempos_write(output, event->payload, event->payload_bytes);";
    let slow = function(setup.folder(), "slow", body);
    let echo = function(setup.folder(), "echo", ECHO);
    let out = receiver(&setup, "out");
    let wiring = |after: &str| {
        format!(
            "tempos.topic \"raw\" {{ qos = \"strict\", deadline = \"20s\", ingress = {{ {} }} }}\n\
             tempos.topic \"between\" {{ qos = \"strict\" }}\n\
             tempos.topic \"done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
             tempos.workflow \"work\" {{ from = \"raw\", to = \"between\", call = {{ {} }} }}\n\
             tempos.workflow \"after\" {{ from = \"between\", to = \"done\", call = {{ {} }} }}\n",
            unix(&setup, "in", ""),
            unix(&setup, "out", ""),
            dlf(&slow, ""),
            dlf(&echo, after),
        )
    };
    let (easy, tight) = (wiring(""), wiring(", deadline = \"19900ms\""));
    let over = tight.replacen("slow.so\"", "slow.so\", deadline = \"200ms\"", 1);
    let node = setup.node_file("[wiring]\nwatch = false").wiring(&easy).start();
    let producer = Producer::datagram(1, &node.folder().join("in"));
    send(&producer, "1");
    assert_eq!(text(&out), "1");
    assert_eq!(counts(&done(&node, 1)["Failures"]).len(), 0);
    // The one after it declares 19.9 s of them: 100 ms are left for the first. Its output goes on all the same.
    node.apply(&tight).expect("a sound wiring");
    send(&producer, "2");
    assert_eq!(text(&out), "2");
    assert_eq!(counts(&done(&node, 2)["Failures"]).get("late"), Some(&1));
    assert_eq!((node.wait_for_rest("raw", 2).late, node.wait_for_rest("done", 2).late), (0, 0));
    let said = node.apply(&over).expect("a sound wiring");
    assert!(said.contains("workflow \\\"work\\\" may take 200 ms") && said.contains("have 20"), "{said}");
}

#[test]
fn an_event_that_is_late_costs_the_workflow_nothing_but_that() {
    let setup = setup();
    let body = "usleep(600000); return tempos_write(output, event->payload, event->payload_bytes);";
    let slow = function(setup.folder(), "slow", body);
    let (node, producer, out) = start(setup, ", deadline = \"5ms\"", &dlf(&slow, ""));
    send(&producer, "1");
    assert_eq!(text(&out), "1");
    let work = done(&node, 1);
    assert_eq!((counts(&work["Failures"]).get("late"), &work["State"]), (Some(&1), &Value::from("started")));
    send(&producer, "2");
    assert_eq!(text(&out), "2");
}

#[test]
fn instances_are_made_ready_by_order_up_to_the_workflows_most() {
    let setup = setup();
    let echo = function(setup.folder(), "echo", ECHO);
    let (node, ..) = start(setup, "", &dlf(&echo, ", warm_max = 4"));
    let said = |arguments: &[&str]| {
        let output = node.ctl(arguments);
        let both = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&both).into_owned())
    };
    let (good, text) = said(&["warm", "work", "4"]);
    assert!(good && text.contains("4 instances of workflow \"work\" are ready"), "{text}");
    let (good, text) = said(&["warm", "work", "5"]);
    assert!(!good && text.contains("5 instances are asked for; its warm_max is 4"), "{text}");
    let (good, text) = said(&["warm", "wrok", "1"]);
    assert!(!good && text.contains("there is no workflow \"wrok\" (did you mean \"work\"?)"), "{text}");
    // What the method counts is shown as it counts it: one library.
    let work = node.workflow("work");
    assert_eq!(
        ["Warm", "InstancesStarted", "InstancesCrashed"].map(|key| work[key].as_u64()),
        [Some(1), Some(1), Some(0)]
    );
    let (_, table) = said(&["workflows"]);
    assert!(table.contains("STARTED") && table.contains("CRASHED") && table.contains("RETRIES"), "{table}");
}

/// The strict level's function workers: whether each has real-time scheduling.
fn real_time(node: &mut Node) -> Vec<bool> {
    let pid = node.daemon().pid();
    let workers =
        threads(pid).into_iter().filter(|(_, name)| name.starts_with("fn") && name.ends_with("strict"));
    workers.filter_map(|(id, _)| Some(scheduling(id)?.policy == libc::SCHED_FIFO)).collect()
}

#[test]
fn a_function_that_sleeps_without_a_deadline_keeps_its_scheduling_and_one_that_burned_has_it_back() {
    let setup = setup();
    let slow = function(setup.folder(), "slow", BURN_OR_SLEEP);
    let (mut node, producer, out) = start(setup, "", &dlf(&slow, ""));
    if real_time(&mut node) != [true] {
        // Real time is not granted here: there is nothing to lose.
        return;
    }
    send(&producer, "s");
    while node.workflow("work")["EventsDone"] == 0 {
        let granted = real_time(&mut node);
        if node.workflow("work")["EventsDone"] == 0 {
            assert_eq!(granted, [true], "it was demoted in its sleep");
        }
    }
    assert_eq!(text(&out), "s");
    for event in ["b", "s", "s", "s", "s"] {
        send(&producer, event);
    }
    eventually("the one that computes to be demoted", || (real_time(&mut node) == [false]).then_some(()));
    eventually("its thread to have its scheduling again", || (real_time(&mut node) == [true]).then_some(()));
    let busy = node.workflow("work")["Busy"].as_u64();
    assert!(busy > Some(0), "it came back only when there was nothing more to do");
    assert_eq!([0; 5].map(|_| text(&out)).concat(), "bssss");
}

/// `b` computes for a good half second, `s` sleeps as long.
const BURN_OR_SLEEP: &str = "extern long clock(void);\n\
    if (event->payload[0] == 's') usleep(600000);\n\
    else for (long end = clock() + 600000; clock() < end;) {}\n\
    return tempos_write(output, event->payload, event->payload_bytes);";
