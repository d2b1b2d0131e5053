//! Functions of scripts that are called when something happens in a running node.

mod road;

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use tempos_tests::function::function;
use tempos_tests::{Node, NodeSetup, Producer, eventually};

use road::{receiver, setup, unix};

fn level_of(node: &Node, topic: &str) -> String {
    let topics = node.ctl_json(["topics"]);
    let found = topics.as_array().and_then(|list| list.iter().find(|entry| entry["name"] == topic)).cloned();
    found.expect("the topic is there")["Level"].as_str().unwrap_or_default().to_owned()
}

/// Takes what comes out, until nothing does any more.
fn taken(out: UnixDatagram) {
    std::thread::spawn(move || while out.recv(&mut [0; 64]).is_ok() {});
}

/// What the node says of its own troubles.
fn troubles(node: &Node) -> String {
    node.property("/org/tempos/Host1", "Node", "Degraded").to_string()
}

/// Frames go through a function that computes as many milliseconds as their first byte says, on the lane of the alarms.
fn line(setup: &NodeSetup, hook: &str) -> String {
    let body = "struct timespec a, b; clock_gettime(CLOCK_MONOTONIC, &a);\n\
                do clock_gettime(CLOCK_MONOTONIC, &b);\n\
                while ((b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000 < event->payload[0]);\n\
                return 0;";
    let text = format!(
        "return 0;\n}}\n#include <time.h>\n\
         int32_t tempos_frame(const tempos_event *event, tempos_output *output) {{\n{body}"
    );
    let file = function(setup.folder(), "frame", &text);
    format!(
        "tempos.topic \"alarms\" {{ qos = \"strict\", deadline = \"25ms\", ingress = {{ {} }}, egress = {{ {} }} }}\n\
         tempos.topic \"frames\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
         tempos.workflow \"look\" {{ from = \"frames\", call = {{ method = \"dlf\", file = {file:?}, \
         symbol = \"tempos_frame\", inline = true }} }}\n{hook}\n",
        unix(setup, "alarms", ""),
        unix(setup, "out", ""),
        unix(setup, "frames", ""),
    )
}

/// Sends an alarm every 45 ms and a frame of that many milliseconds every 100 ms, for that long or until the answer is
/// yes.
fn drive(node: &Node, frame_ms: u8, limit: Duration, mut enough: impl FnMut() -> bool) -> bool {
    let connect = |name: &str| Producer::datagram(1, &node.folder().join(name));
    let (alarms, frames) = (connect("alarms"), connect("frames"));
    let begun = Instant::now();
    let (mut at, mut frames_sent) = (Duration::ZERO, 0);
    while at < limit {
        std::thread::sleep(at.saturating_sub(begun.elapsed()));
        if at >= Duration::from_millis(100) * frames_sent {
            frames_sent += 1;
            frames.socket().send(&[frame_ms]).expect("the node listens");
        }
        alarms.socket().send(b"alarm").expect("the node listens");
        if enough() {
            return true;
        }
        at = begun.elapsed().max(at + Duration::from_millis(45));
    }
    false
}

#[test]
fn a_hook_keeps_alarms_inside_their_bound_while_the_load_grows_tenfold() {
    let setup = setup();
    taken(receiver(&setup, "out"));
    let hook = "tempos.on(\"deadline-missed\", { name = \"alarms\", hold = \"3s\" }, function(e)\n\
                  print(e.state)\n\
                  if e.state == \"begins\" then tempos.change(\"topic\", \"frames\", { qos = \"best-effort\" }) end\n\
                  if e.state == \"ended\" then tempos.change(\"topic\", \"frames\", { qos = \"strict\" }) end\n\
                end)";
    let lua = line(&setup, hook);
    let node = setup.wiring(&lua).start();
    drive(&node, 4, Duration::from_secs(1), || false);
    assert_eq!(level_of(&node, "frames"), "strict", "there is time for both: {}", node.log());
    let begun = node.generation();
    assert!(
        drive(&node, 40, Duration::from_secs(60), || level_of(&node, "frames") == "best-effort"),
        "the frames stay in the way of the alarms: {}",
        node.log()
    );
    assert!(node.generation() > begun, "a change by a hook is a wiring like any other");
    // What was queued before is done with; from then on no alarm is late, though the load stays.
    eventually("the strict lane to be free", || {
        drive(&node, 40, Duration::from_millis(500), || false);
        let before = node.topic("alarms").late;
        drive(&node, 40, Duration::from_secs(1), || false);
        (node.topic("alarms").late == before).then_some(())
    });
    node.wait_for_log("deadline-missed of topic \"alarms\"");
    // The load goes: after the hold the frames are back.
    eventually("the frames to be strict again", || (level_of(&node, "frames") == "strict").then_some(()));
    assert!(!troubles(&node).contains("hook"), "{}", troubles(&node));
}

#[test]
fn a_hook_that_fails_is_told_and_put_off_and_the_node_goes_on() {
    let setup = setup();
    taken(receiver(&setup, "out"));
    let hook =
        "tempos.on(\"deadline-missed\", { hold = \"1ms\" }, function(e) error(\"no idea \" .. e.state) end)";
    let lua = line(&setup, hook);
    let node = setup.wiring(&lua).start();
    let off = || troubles(&node).contains("the hooks are off after 10 failures in a row");
    assert!(drive(&node, 40, Duration::from_secs(60), off), "{}: {}", troubles(&node), node.log());
    assert!(troubles(&node).contains("10-test.lua:4: no idea"), "{}", troubles(&node));
    node.save_wiring(&lua.replace("error(", "print("));
    node.ctl(["reload"]);
    eventually("the trouble to be over", || (!troubles(&node).contains("hook")).then_some(()));
    assert!(drive(&node, 40, Duration::from_secs(60), || node.log().contains("info    script: ")));
}

#[test]
fn a_failed_plugin_and_an_overload_are_told() {
    let setup = setup();
    let hook = "tempos.qos \"best-effort\" { queue = { capacity = 4, full = \"drop-new\" } }\n\
                tempos.on(\"overload\", function(e) print(\"told\", e.event, e.name, e.reason, e.count > 0) end)\n\
                tempos.on(\"plugin-failed\", function(e) print(\"told\", e.event, e.kind, e.state) end)";
    let lua =
        line(&setup, hook).replacen("\"frames\" { qos = \"strict\"", "\"frames\" { qos = \"best-effort\"", 1);
    let node = setup.wiring(&lua).start();
    std::fs::write(node.plugin_folder().join("libwrong.so"), b"no plugin").expect("written");
    node.wait_for_log(r"told\tplugin-failed\tplugin\tbegins");
    assert!(drive(&node, 200, Duration::from_secs(60), || node.log().contains(r"told\toverload\tframes\t")));
}
