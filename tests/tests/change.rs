//! Change under load: another wiring, other levels, newer plugins, and scripts with mistakes, while events
//! flow. Nothing is lost, nothing comes twice, nothing is overtaken.

mod road;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tempos_tests::function::{ECHO, function};
use tempos_tests::newer::with_version;
use tempos_tests::setup::drop_plugin_as;
use tempos_tests::{Node, NodeSetup, Producer, Sink, built, eventually};

use road::{setup, unix};

/// What the generated wirings differ in: each step moves one of these on.
#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    side_topics: usize,
    side_channel: usize,
    other_group: usize,
    function: usize,
    schedule: usize,
    queue: usize,
    marks: usize,
    policy: usize,
    workers: usize,
    shares: usize,
}

impl Turn {
    fn step(&mut self, number: usize) {
        let moved = [
            &mut self.side_topics,
            &mut self.side_channel,
            &mut self.other_group,
            &mut self.function,
            &mut self.schedule,
            &mut self.queue,
            &mut self.marks,
            &mut self.policy,
            &mut self.workers,
            &mut self.shares,
        ];
        let at = number % moved.len();
        if let Some(moved) = moved.into_iter().nth(at) {
            *moved += 1;
        }
    }

    /// The wiring: two flows that must stay whole, and what changes around them.
    fn lua(&self, folder: &Path, echo: &Path) -> String {
        let pick = |words: &[&str], at: usize| words[at % words.len()].to_owned();
        let at = |name: &str| format!("path = \"{}\"", folder.join(name).display());
        let level = format!(
            "tempos.qos \"strict\" {{ scheduler = \"fifo\", priority = {}, cpus = {{{}}}, batch = {}, workers = {},\n\
             queue = {{ policy = \"{}\", capacity = {} }}, network = {{ dscp = {} }} }}\n",
            45 - self.schedule % 3,
            pick(&["", "0", "1", "0, 1"], self.schedule),
            pick(&["1", "4", "32"], self.marks),
            pick(&["1", "2", "3"], self.workers),
            pick(&["fifo", "priority"], self.policy),
            pick(&["4096", "2048", "8192"], self.queue),
            pick(&["46", "0"], self.marks),
        );
        let other = match self.other_group % 4 {
            0 => String::new(),
            1 => format!(", tempos.group \"watch\" {{ tempos.unix {{ {} }} }}", at("watch")),
            2 => format!(
                ", tempos.group \"watch\" {{ tempos.unix {{ {} }}, tempos.unix {{ {} }}, pick = \"least-loaded\" }}",
                at("watch"),
                at("watch.2")
            ),
            _ => format!(", tempos.unix {{ {} }}", at("watch.2")),
        };
        let press = format!(
            "tempos.topic \"press\" {{ qos = \"strict\", rank = {}, ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }},\n\
             egress = {{ tempos.group \"main\" {{ tempos.unix {{ {}, type = \"seqpacket\", send_buffer = \"2MiB\" }} }}{other} }} }}\n",
            128 + self.shares % 2,
            at("press.out"),
        );
        let call = format!(
            "tempos.topic \"raw\" {{ qos = \"strict\", weight = {}, ingress = {{ tempos.unix {{ {} }} }} }}\n\
             tempos.topic \"done\" {{ qos = \"strict\", egress = {{ tempos.unix {{ {} }} }} }}\n\
             tempos.workflow \"echo\" {{ from = \"raw\", to = \"done\",\n\
             call = {{ method = \"dlf\", file = {echo:?}, warm = {}, deadline = \"{}\" }} }}\n",
            1 + self.shares % 3,
            at("raw.in"),
            at("done.out"),
            1 + self.function % 2,
            pick(&["5s", "10s", "20s"], self.function),
        );
        let sides: String = (0..self.side_topics % 4)
            .map(|side| {
                format!(
                    "tempos.topic \"side/{side}\" {{ qos = \"{}\", ingress = {{ tempos.unix {{ {} }} }}, egress = {{ tempos.unix {{ {} }} }} }}\n",
                    pick(&["strict", "best-effort"], side),
                    at(&format!("side.{side}.{}", self.side_channel % 2)),
                    at("nobody"),
                )
            })
            .collect();
        format!("{level}{press}{call}{sides}")
    }
}

/// The two flows: their producers, their sinks.
struct Flows {
    press: Producer,
    raw: Producer,
    press_out: Sink,
    done_out: Sink,
    _watch: [Sink; 2],
}

impl Flows {
    fn bind(setup: &NodeSetup) -> impl FnOnce(&Node) -> Flows + use<> {
        let at = |name: &str| setup.folder().join(name);
        let (press_out, done_out) = (Sink::seqpacket(&at("press.out")), Sink::datagram(&at("done.out")));
        let watch = [Sink::datagram(&at("watch")), Sink::datagram(&at("watch.2"))];
        move |node| Flows {
            press: Producer::udp(1, node.udp_address("press/in/1")),
            raw: Producer::datagram(2, &node.folder().join("raw.in")),
            press_out,
            done_out,
            _watch: watch,
        }
    }

    /// Lets both flow while `change` is done, and takes account.
    fn while_flowing(&mut self, node: &Node, change: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        /// Ends the flows also where `change` fails: the scope would wait for them for ever.
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        std::thread::scope(|scope| {
            let stopping = Stop(&stop);
            scope.spawn(|| self.press.send_at_rate(2000, || stop.load(Ordering::Acquire)));
            scope.spawn(|| self.raw.send_at_rate(1000, || stop.load(Ordering::Acquire)));
            eventually("the flows", || (self.press_out.received() > 100).then_some(()));
            change();
            drop(stopping);
        });
        assert!(self.press.sent() > 500 && self.raw.sent() > 250, "hardly anything flowed");
        let (press, done) =
            (node.wait_for_rest("press", self.press.sent()), node.wait_for_rest("done", self.raw.sent()));
        let raw = node.topic("raw");
        for (name, figures) in [("press", &press), ("raw", &raw), ("done", &done)] {
            assert_eq!(figures.dropped_whole(), 0, "{name}: {figures:?}");
        }
        assert_eq!(node.channel_count("press/in/1", "KernelDropped"), 0);
        self.press_out.wait_for(self.press.sent()).assert_exact(1, self.press.sent());
        self.done_out.wait_for(self.raw.sent()).assert_exact(2, self.raw.sent());
    }
}

fn plugin_version(node: &Node, name: &str) -> String {
    node.property(&format!("/org/tempos/Host1/plugin/{name}"), "Plugin", "Version")
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn two_hundred_wirings_and_twenty_plugins_later_nothing_is_lost_doubled_or_overtaken() {
    const SWAPS: usize = 200;
    const REPLACEMENTS: usize = 20;
    let setup = setup().node_file("[wiring]\nwatch = false");
    let echo = function(setup.folder(), "echo", ECHO);
    let folder = setup.folder().to_owned();
    let flows = Flows::bind(&setup);
    let mut turn = Turn::default();
    let node = setup.wiring(&turn.lua(&folder, &echo)).start();
    let mut flows = flows(&node);
    let address = node.udp_address("press/in/1");
    let mut versions = [0, 0];
    flows.while_flowing(&node, || {
        let generation = node.generation();
        // A channel of a topic that is not there at the time changes nothing.
        let (mut changes, mut before) = (0, turn.lua(&folder, &echo));
        for number in 0..SWAPS {
            turn.step(number);
            let lua = turn.lua(&folder, &echo);
            let report = node.apply(&lua);
            changes += u64::from(lua != before);
            before = lua;
            assert!(report.is_ok(), "swap {number}, {turn:?}: {report:?}");
            if number % (SWAPS / REPLACEMENTS) == 0 {
                let which = number / (SWAPS / REPLACEMENTS) % 2;
                versions[which] += 1;
                replace(&node, ["udp", "unix"][which], versions[which]);
            }
        }
        assert!(changes > SWAPS as u64 * 9 / 10, "{changes} of {SWAPS} swaps changed something");
        assert!(node.generation() >= generation + changes, "some changes were none");
    });
    assert_eq!(versions.iter().sum::<usize>(), REPLACEMENTS);
    assert_eq!(node.udp_address("press/in/1"), address, "the socket went from hand to hand");
}

/// Drops the next version of an adapter into the plugin folder and waits until it is in use.
fn replace(node: &Node, adapter: &str, number: usize) {
    let version = format!("0.{}.{}", 1 + number / 10, number % 10);
    let built = built::plugin(&format!("adapter-{adapter}"));
    let newer = node.folder().join("newer.so");
    with_version(&built, &version, &newer);
    let name = built.file_name().unwrap_or_default();
    drop_plugin_as(&newer, &node.plugin_folder().join(name));
    eventually(&format!("{adapter} {version}"), || (plugin_version(node, adapter) == version).then_some(()));
}

#[test]
fn scripts_with_mistakes_change_nothing_while_events_flow() {
    let setup = setup().node_file("[wiring]\nwatch = false");
    let echo = function(setup.folder(), "echo", ECHO);
    let folder = setup.folder().to_owned();
    let flows = Flows::bind(&setup);
    let good = Turn::default().lua(&folder, &echo);
    let node = setup.wiring(&good).start();
    let mut flows = flows(&node);
    let mistakes = [
        ("a word that is none", good.replace("egress", "egres"), "did you mean"),
        ("syntax", format!("{good}\nif"), "applied.lua:"),
        ("a level that is none", good.replace("qos = \"strict\"", "qos = \"stricct\""), "did you mean"),
        ("an unknown topic", good.replace("from = \"raw\"", "from = \"rwa\""), "did you mean"),
        ("a function that is not there", good.replace("echo.so", "ecco.so"), "ecco.so"),
        ("an address that is none", good.replace("127.0.0.1:0", "127.0.0.1"), "127.0.0.1"),
        ("an address of another machine", good.replace("127.0.0.1:0", "192.0.2.1:0"), "192.0.2.1"),
        ("an error half-way", format!("{good}\nerror(\"half-way\")"), "half-way"),
        ("an endless loop", format!("{good}\nwhile true do end"), "applied.lua:"),
        (
            "a guarded endless loop",
            format!("{good}\nwhile true do pcall(function() while true do end end) end"),
            "applied.lua:",
        ),
        (
            "a memory bomb",
            format!("{good}\nlocal t = {{}} while true do t[#t + 1] = string.rep('x', 65536) end"),
            "applied.lua:",
        ),
        ("a deep recursion", format!("{good}\nlocal function f() return 1 + f() end f()"), "applied.lua:"),
        ("another process", format!("{good}\nos.execute('true')"), "os"),
        ("compiled code", String::from("\u{1b}Lua"), "applied.lua"),
    ];
    flows.while_flowing(&node, || {
        let generation = node.generation();
        for (what, lua, word) in &mistakes {
            assert_ne!(*lua, good, "{what}: the mistake was not made");
            match node.apply(lua) {
                Ok(report) => panic!("{what} was accepted: {report}"),
                Err(said) => assert!(said.contains(word), "{what}: {said}"),
            }
            assert_eq!(node.generation(), generation, "{what} changed the wiring");
        }
    });
}

#[test]
fn a_saved_script_applies_the_difference_and_leaves_sockets_and_queued_events_alone() {
    const EVENTS: u64 = 1000;
    let setup = setup().node_file("[wiring]\nsettle = \"20ms\"");
    let sink = Sink::datagram(&setup.folder().join("out"));
    let press = format!(
        "tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }}, egress = {{ {} }} }}\n",
        unix(&setup, "out", ""),
    );
    let lathe = |path: &str| {
        format!("tempos.topic \"lathe\" {{ qos = \"strict\", ingress = {{ {} }} }}\n", unix(&setup, path, ""))
    };
    let (before, after) = (press.clone() + &lathe("lathe.1"), press.clone() + &lathe("lathe.2"));
    let node = setup.wiring(&before).start();
    let address = node.udp_address("press/in/1");
    let since = |kind: &str, name: &str, interface: &str| {
        node.property(&format!("/org/tempos/Host1/{kind}/{name}"), interface, "Since")
    };
    let opened = since("channel", "press_2fin_2f1", "Channel");
    let mut producer = Producer::udp(1, address);
    sink.hold();
    producer.flood(EVENTS / 2);
    eventually("the events in the node", || (node.topic("press").events_in == EVENTS / 2).then_some(()));
    let queued = node.topic("press").queued;
    assert!(queued > 100, "the consumer was to hold them back: {queued}");

    let generation = node.generation();
    node.save_wiring(&after);
    eventually("the new wiring", || (node.generation() > generation).then_some(()));
    assert!(node.folder().join("lathe.2").exists() && !node.folder().join("lathe.1").exists());
    assert_eq!(node.udp_address("press/in/1"), address);
    assert_eq!(since("channel", "press_2fin_2f1", "Channel"), opened);
    assert_eq!(node.topic("press").queued, queued, "what is queued stays queued");

    let generation = node.generation();
    node.save_wiring(&after.replace("ingress", "ingres"));
    node.wait_for_log("did you mean \"ingress\"");
    assert_eq!(node.generation(), generation);
    assert_eq!(node.topic("press").queued, queued);
    assert!(node.folder().join("lathe.2").exists(), "the old wiring goes on");

    producer.flood(EVENTS / 2);
    sink.release();
    sink.wait_for(EVENTS).assert_exact(1, EVENTS);
    assert!(node.topic("press").dropped.is_empty(), "{:?}", node.topic("press"));
}

#[test]
fn a_level_that_changes_takes_along_what_its_stuck_consumer_leaves_queued() {
    const EVENTS: u64 = 500;
    let setup = setup().node_file("[wiring]\nwatch = false");
    let sink = Sink::datagram(&setup.folder().join("out"));
    let lua = |queue: &str| {
        format!(
            "tempos.qos \"strict\" {{ queue = {{ {queue} }} }}\n\
             tempos.topic \"press\" {{ qos = \"strict\", ingress = {{ tempos.udp {{ bind = \"127.0.0.1:0\" }} }}, egress = {{ {} }} }}\n",
            unix(&setup, "out", ""),
        )
    };
    let changes =
        ["capacity = 2048", "policy = \"priority\"", "capacity = 600", "bytes = \"8MiB\", policy = \"fifo\""]
            .map(lua);
    let first = lua("capacity = 1024");
    let node = setup.wiring(&first).start();
    let mut producer = Producer::udp(1, node.udp_address("press/in/1"));
    sink.hold();
    producer.flood(EVENTS);
    eventually("the events in the node", || (node.topic("press").events_in == EVENTS).then_some(()));
    for change in &changes {
        node.apply(change).expect("a good wiring");
        assert!(node.topic("press").dropped.is_empty(), "{change}: {:?}", node.topic("press"));
    }
    sink.release();
    sink.wait_for(EVENTS).assert_exact(1, EVENTS);
    assert!(node.topic("press").dropped.is_empty(), "{:?}", node.topic("press"));
}

#[test]
fn a_replaced_function_takes_over_what_waits_for_it() {
    const EVENTS: u64 = 400;
    let setup = setup().node_file("[wiring]\nwatch = false");
    let sink = Sink::datagram(&setup.folder().join("out"));
    let body = format!("usleep(500); {ECHO}");
    let files: Vec<PathBuf> =
        ["one", "two"].iter().map(|name| function(setup.folder(), name, &body)).collect();
    let lua = |file: &Path| {
        format!(
            "tempos.topic \"raw\" {{ qos = \"strict\", ingress = {{ {} }} }}\n\
             tempos.topic \"done\" {{ qos = \"strict\", egress = {{ {} }} }}\n\
             tempos.workflow \"echo\" {{ from = \"raw\", to = \"done\", call = {{ method = \"dlf\", file = {file:?} }} }}\n",
            unix(&setup, "in", ""),
            unix(&setup, "out", ""),
        )
    };
    let wirings: Vec<String> = files.iter().map(|file| lua(file)).collect();
    let node = setup.wiring(&wirings[0]).start();
    let mut producer = Producer::datagram(1, &node.folder().join("in"));
    producer.flood(EVENTS / 2);
    for round in 1..=6 {
        node.apply(&wirings[round % 2]).expect("a good wiring");
    }
    // A function that is built anew under the same name is another one for the next order.
    fs::copy(&files[1], node.folder().join("three.so")).expect("a copy");
    fs::rename(node.folder().join("three.so"), &files[0]).expect("moved into place");
    node.apply(&wirings[0]).expect("a good wiring");
    producer.flood(EVENTS / 2);
    sink.wait_for(EVENTS).assert_exact(1, EVENTS);
    assert_eq!(node.workflow("echo")["EventsDone"], EVENTS);
}

/// Three ways in, one way out.
struct Ways {
    producers: [Producer; 3],
    sink: Sink,
}

impl Ways {
    fn lua(setup: &NodeSetup, topic: &str, level: &str) -> String {
        format!(
            "tempos.topic {topic:?} {{ qos = {level:?}, egress = {{ {} }},\n\
             ingress = {{ tempos.udp {{ name = \"udp\", bind = \"127.0.0.1:0\" }}, {}, {} }} }}\n",
            unix(setup, "out", ", name = \"out\""),
            unix(setup, "in", ", name = \"in\""),
            unix(setup, "in.connected", ", name = \"connected\", type = \"seqpacket\""),
        )
    }

    /// Lets events flow in by all three while `change` is done. What was queued on one lane may be overtaken
    /// by what comes on another, but nothing is lost and nothing comes twice.
    fn while_flowing(&mut self, change: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        struct Stop<'a>(&'a AtomicBool);
        impl Drop for Stop<'_> {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Release);
            }
        }
        std::thread::scope(|scope| {
            let stopping = Stop(&stop);
            for producer in &mut self.producers {
                scope.spawn(|| producer.send_at_rate(500, || stop.load(Ordering::Acquire)));
            }
            eventually("the flows", || (self.sink.received() > 50).then_some(()));
            change();
            drop(stopping);
        });
        let ledger = self.sink.wait_for(self.producers.iter().map(Producer::sent).sum());
        for producer in &self.producers {
            let track = ledger.track(producer.id());
            assert_eq!(
                (track.received, track.duplicates),
                (producer.sent(), 0),
                "producer {}",
                producer.id()
            );
        }
        assert_eq!(ledger.foreign, 0);
    }
}

#[test]
fn a_topic_that_changes_its_level_and_channels_that_change_their_topic_lose_nothing() {
    let setup = setup().node_file("[wiring]\nwatch = false");
    let sink = Sink::datagram(&setup.folder().join("out"));
    let wirings =
        [("press", "strict"), ("press", "best-effort"), ("lathe", "best-effort"), ("lathe", "strict")]
            .map(|(topic, level)| Ways::lua(&setup, topic, level));
    let node = setup.wiring(&wirings[0]).start();
    let address = node.udp_address("udp");
    let at = |name: &str| node.folder().join(name);
    let mut ways = Ways {
        producers: [
            Producer::udp(1, address),
            Producer::datagram(2, &at("in")),
            Producer::seqpacket(3, &at("in.connected")),
        ],
        sink,
    };
    ways.while_flowing(|| {
        for round in 1..=24 {
            node.apply(&wirings[round % wirings.len()])
                .unwrap_or_else(|said| panic!("round {round}: {said}"));
            assert_eq!(node.udp_address("udp"), address, "the port went along");
        }
    });
}

#[test]
fn a_wiring_that_is_refused_half_way_leaves_every_socket_where_it_is() {
    let setup = setup().node_file("[wiring]\nwatch = false");
    let sink = Sink::datagram(&setup.folder().join("out"));
    let good = Ways::lua(&setup, "press", "strict");
    let node = setup.wiring(&good).start();
    let address = node.udp_address("udp");
    // Everything is opened anew, then one channel cannot be.
    let half = good.replace(", name", ", receive_buffer = \"1MiB\", name")
        + "tempos.topic \"lathe\" { ingress = { tempos.unix { path = \"/nowhere/at/all\" } } }\n";
    for _ in 0..3 {
        let said = node.apply(&half).expect_err("there is no such folder");
        assert!(said.contains("/nowhere/at/all"), "{said}");
    }
    assert_eq!(node.udp_address("udp"), address);
    // Who comes now finds every door where it was.
    let at = |name: &str| node.folder().join(name);
    let producers = [
        Producer::udp(1, address),
        Producer::datagram(2, &at("in")),
        Producer::seqpacket(3, &at("in.connected")),
    ];
    Ways { producers, sink }.while_flowing(|| {});
}

#[test]
fn a_channel_that_goes_takes_its_socket_file_along() {
    let setup = setup().node_file("[wiring]\nwatch = false");
    let _sink = Sink::datagram(&setup.folder().join("out"));
    let lua = Ways::lua(&setup, "press", "strict");
    let node = setup.wiring(&lua).start();
    let files = ["in", "in.connected"].map(|name| node.folder().join(name));
    assert!(files.iter().all(|file| file.exists()));
    node.apply("").expect("an empty wiring");
    assert!(files.iter().all(|file| !file.exists()), "a socket's file stayed behind");
    node.apply(&lua).expect("the same again");
    assert!(files.iter().all(|file| file.exists()));
}
