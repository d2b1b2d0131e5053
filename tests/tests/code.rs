//! The code of functions: when it is made ready, what it shares, and how it changes while events flow.

mod road;

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempos_tests::figures::counts;
use tempos_tests::function::function;
use tempos_tests::sequence::FRAME_BYTES;
use tempos_tests::setup::drop_plugin;
use tempos_tests::{LIVENESS, Producer, built, eventually, sequence};

use road::workflow::{COUNT, dlf, done, one, send, start, text};
use road::{receive, receiver, setup, unix};

#[test]
fn a_function_is_made_anew_where_its_method_is_told_something_else_and_only_there() {
    let setup = setup();
    let count = function(setup.folder(), "count", COUNT);
    let folder = setup.folder().to_owned();
    let (node, producer, out) = start(setup, "", &dlf(&count, ""));
    let next = |lua: &str| {
        node.apply(lua).expect("a sound wiring");
        send(&producer, "x");
        text(&out)
    };
    let plain = one(&folder, "", &dlf(&count, ""));
    let level = |keys: &str| format!("tempos.qos \"strict\" {{ {keys} }}\n{plain}");
    assert_eq!(next(&plain), "1");
    // Of these the method knows nothing.
    assert_eq!(next(&one(&folder, "", &dlf(&count, ", retry = { times = 2 }"))), "2");
    assert_eq!(next(&one(&folder, "", &dlf(&count, ", inline = true"))), "3");
    assert_eq!(next(&plain.replace("to = \"done\"", "to = { default = \"done\" }")), "4");
    assert_eq!(next(&one(&folder, ", deadline = \"20s\"", &dlf(&count, ""))), "5");
    assert_eq!(next(&level("workers = 2")), "6");
    // These it is told: what it starts for the level's workers runs as they do.
    assert_eq!(next(&level("priority = 44")), "1");
    assert_eq!(next(&level("priority = 44")), "2");
    assert_eq!(next(&level("priority = 44, cpus = { 0 }")), "1");
    assert_eq!(next(&level("priority = 44, cpus = { 0 }, function_priority = 30")), "1");
    assert_eq!(next(&one(&folder, "", &dlf(&count, ", recycle = 1000"))), "1");
    assert_eq!(next(&one(&folder, "", &dlf(&count, ", recycle = 1000, idle = \"1s\""))), "1");
}

#[test]
fn one_file_serves_many_workflows_and_each_has_its_own_variables() {
    let setup = setup();
    let body = format!(
        "{COUNT}\n}}\n\
         int32_t second(const tempos_event *event, tempos_output *output);\n\
         int32_t second(const tempos_event *event, tempos_output *output)\n{{\n\
         return tempos_write_text(output, \"second\");"
    );
    let both = function(setup.folder(), "both", &body);
    let outs = ["one", "two", "three"].map(|name| receiver(&setup, name));
    let flow = |name: &str, more: &str| {
        format!(
            "tempos.topic \"{name}.raw\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
             tempos.topic \"{name}.done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
             tempos.workflow \"{name}\" {{ from = \"{name}.raw\", to = \"{name}.done\", call = {{ {} }} }}\n",
            unix(&setup, &format!("{name}.in"), ""),
            unix(&setup, name, ""),
            dlf(&both, more),
        )
    };
    let lua = flow("one", "") + &flow("two", "") + &flow("three", ", symbol = \"second\"");
    let node = setup.wiring(&lua).start();
    let producers =
        ["one", "two", "three"].map(|name| Producer::datagram(1, &node.folder().join(format!("{name}.in"))));
    for number in 1..=3 {
        send(&producers[0], "x");
        assert_eq!(text(&outs[0]), number.to_string());
    }
    send(&producers[1], "x");
    assert_eq!(text(&outs[1]), "1", "the other workflow's calls are its own");
    send(&producers[2], "x");
    assert_eq!(text(&outs[2]), "second");
}

/// Gives a numbered frame back, with the version of its code after it.
fn version(folder: &Path, name: &str, version: usize) -> PathBuf {
    let body = format!(
        "uint8_t version = {version}; tempos_write(output, event->payload, event->payload_bytes);\n\
         return tempos_write(output, &version, 1);"
    );
    function(folder, name, &body)
}

/// Ends a flow, also where what is done meanwhile fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Reads numbered frames with a version, each once and in the order of the numbers, until as many have come as
/// `sent` says once it knows. The versions, in that order.
fn versions(out: &UnixDatagram, sent: &OnceLock<u64>) -> Vec<u8> {
    let (mut versions, mut last) = (Vec::new(), Instant::now());
    let mut frame = [0; 128];
    while sent.get().is_none_or(|sent| (versions.len() as u64) < *sent) {
        match out.recv(&mut frame) {
            Ok(len) => {
                let read = sequence::read(&frame[..len - 1]);
                assert_eq!(read, Some((1, versions.len() as u64)), "lost, doubled or overtaken");
                versions.push(frame[FRAME_BYTES]);
                last = Instant::now();
            }
            Err(_) => assert!(last.elapsed() < LIVENESS, "{} of {sent:?} events came", versions.len()),
        }
    }
    versions
}

#[test]
fn code_is_replaced_twenty_times_under_load_and_every_event_is_answered_once_and_in_order() {
    const REPLACEMENTS: usize = 20;
    let setup = setup();
    let folder = setup.folder().to_owned();
    let built: Vec<PathBuf> =
        (0..=REPLACEMENTS).map(|number| version(&folder, &format!("v{number}"), number)).collect();
    let work = folder.join("work.so");
    let put = |number: usize| {
        let hidden = folder.join(".work.so");
        fs::copy(&built[number], &hidden).expect("a copy");
        fs::rename(&hidden, &work).expect("it is moved into place");
    };
    put(0);
    let (node, mut producer, out) = start(setup, "", &dlf(&work, ""));
    let lua = one(&folder, "", &dlf(&work, ""));
    out.set_read_timeout(Some(Duration::from_millis(50))).expect("a limit");
    let (stop, sent) = (AtomicBool::new(false), OnceLock::new());
    let seen = std::thread::scope(|scope| {
        scope.spawn(|| {
            producer.send_at_rate(2000, || stop.load(Ordering::Acquire));
            sent.get_or_init(|| producer.sent());
        });
        scope.spawn(|| {
            let _stop = Stop(&stop);
            for number in 1..=REPLACEMENTS {
                put(number);
                let script = node.write_script("planned.lua", &lua).display().to_string();
                let planned = node.ctl(["plan", &script]).stdout;
                let planned = String::from_utf8_lossy(&planned);
                assert!(planned.contains("workflow \"work\" gets new code"), "{planned}");
                let said = node.apply(&lua).expect("a sound wiring");
                assert!(said.contains("gets new code"), "{said}");
                let before = node.workflow("work")["EventsDone"].as_u64();
                eventually("events to flow on", || {
                    let now = node.workflow("work")["EventsDone"].as_u64();
                    (now > before.map(|done| done + 20)).then_some(())
                });
            }
        });
        versions(&out, &sent)
    });
    assert!(seen.windows(2).all(|pair| pair[0] <= pair[1]), "old code ran after new: {seen:?}");
    for number in 0..=REPLACEMENTS {
        assert!(seen.contains(&(number as u8)), "version {number} never ran");
    }
    let work = done(&node, seen.len() as u64);
    assert_eq!(counts(&work["Failures"]).len(), 0, "{work:#}");
    for topic in ["raw", "done"] {
        assert_eq!(node.wait_for_rest(topic, seen.len() as u64).dropped_whole(), 0);
    }
}

#[test]
fn half_a_file_is_taken_into_use_by_nobody() {
    let setup = setup();
    let folder = setup.folder().to_owned();
    let count = function(&folder, "count", COUNT);
    let (node, producer, out) = start(setup, "", &dlf(&count, ""));
    let whole = fs::read(&count).expect("a library");
    fs::write(&count, &whole[..whole.len() / 2]).expect("half a library");
    // The node does something by itself meanwhile.
    drop_plugin(&built::plugin("queue-edf"), &node.plugin_folder());
    node.wait_for_log("edf 0.1.0 was started");
    send(&producer, "x");
    assert_eq!(text(&out), "1");
    let refused = node.apply(&one(&folder, "", &dlf(&count, ""))).expect_err("half a library");
    assert!(refused.contains("it is cut off; copy it again, whole"), "{refused}");
    send(&producer, "x");
    assert_eq!((text(&out).as_str(), &node.workflow("work")["State"]), ("2", &Value::from("started")));
    fs::write(&count, &whole).expect("a library");
    node.apply(&one(&folder, "", &dlf(&count, ""))).expect("a whole library");
    send(&producer, "x");
    assert_eq!(text(&out), "1");
}

#[test]
fn a_canary_gets_its_share_is_promoted_and_taken_back_under_load() {
    let setup = setup();
    let folder = setup.folder().to_owned();
    let (old, new) = (version(&folder, "old", 1), version(&folder, "new", 2));
    let (node, mut producer, out) = start(setup, "", &dlf(&old, ""));
    let canary = |share: u32| {
        one(&folder, "", &dlf(&old, &format!(", canary = {{ file = {:?}, share = {share} }}", new.display())))
    };
    let mut sent = 0;
    let mut flow = |events: u64| {
        let mut seen = Vec::new();
        for _ in 0..events / 50 {
            producer.flood(50);
            for _ in 0..50 {
                let frame = receive(&out);
                assert_eq!(
                    sequence::read(&frame[..FRAME_BYTES]),
                    Some((1, sent)),
                    "lost, doubled or overtaken"
                );
                sent += 1;
                seen.push(frame[FRAME_BYTES]);
            }
        }
        seen
    };
    let of_new = |seen: &[u8]| seen.iter().filter(|version| **version == 2).count();
    assert_eq!(of_new(&flow(100)), 0);
    node.apply(&canary(20)).expect("a sound wiring");
    let seen = flow(1000);
    let share = of_new(&seen);
    assert!((180..=220).contains(&share), "{share} of 1000 went to the canary");
    let work = done(&node, 1100);
    assert_eq!(work["CanaryDone"].as_u64(), Some(share as u64), "{work:#}");
    assert_eq!(
        (&work["CanaryShare"], &work["Canary"]),
        (&Value::from(20), &Value::from(new.display().to_string()))
    );
    assert!(work["LatencyNs"]["canary"].is_array() && work["LatencyNs"]["function"].is_array(), "{work:#}");
    assert!(String::from_utf8_lossy(&node.ctl(["workflows"]).stdout).contains("20 % to "));
    // More of it: neither of the two is made anew, and it goes on counting.
    node.apply(&canary(50)).expect("a sound wiring");
    let more = of_new(&flow(1000));
    assert!((470..=530).contains(&more), "{more} of 1000 went to the canary");
    assert_eq!(done(&node, 2100)["CanaryDone"].as_u64(), Some((share + more) as u64));
    // Back: the old code is there.
    node.apply(&one(&folder, "", &dlf(&old, ""))).expect("a sound wiring");
    assert_eq!(of_new(&flow(100)), 0);
    assert_eq!(node.workflow("work")["CanaryDone"], 0);
    // Promoted.
    node.apply(&canary(10)).expect("a sound wiring");
    node.apply(&one(&folder, "", &dlf(&new, ""))).expect("a sound wiring");
    assert_eq!(of_new(&flow(100)), 100);
    let work = done(&node, 2300);
    assert_eq!((counts(&work["Failures"]).len(), node.wait_for_rest("raw", 2300).dropped_whole()), (0, 0));
}

#[test]
fn a_promoted_canary_goes_on_as_it_is() {
    let setup = setup();
    let folder = setup.folder().to_owned();
    let old = function(&folder, "old", COUNT);
    let new = function(&folder, "new", &COUNT.replace("\"%d\"", "\"new %d\""));
    let (node, producer, out) = start(setup, "", &dlf(&old, ""));
    let next = |lua: &str| {
        node.apply(lua).expect("a sound wiring");
        send(&producer, "x");
        text(&out)
    };
    let beside = |file: &Path, canary: &Path, share: u32| {
        one(
            &folder,
            "",
            &dlf(file, &format!(", canary = {{ file = {:?}, share = {share} }}", canary.display())),
        )
    };
    assert_eq!(next(&beside(&old, &new, 100)), "new 1");
    assert_eq!(next(&beside(&old, &new, 0)), "1");
    assert_eq!(next(&beside(&old, &new, 100)), "new 2");
    assert_eq!(next(&one(&folder, "", &dlf(&new, ""))), "new 3", "it was prepared already");
    // The two change places: what was let go is made anew, what is there stays.
    assert_eq!(next(&beside(&new, &old, 0)), "new 4");
    assert_eq!(next(&beside(&new, &old, 100)), "1");
}
