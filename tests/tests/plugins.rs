//! Plugin files that come, change and go while the node runs, and files that are no plugins at all.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use tempos_tests::built::plugin;
use tempos_tests::fixture::{fixture, replaced};
use tempos_tests::node::ROOT;
use tempos_tests::numbered::{Numbered, outlet};
use tempos_tests::setup::{drop_plugin, drop_plugin_as};
use tempos_tests::{Node, NodeSetup, Signals, eventually};

const EVERY: Duration = Duration::from_millis(1);

/// A strict road from one unix socket of the folder to another.
fn road(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "tempos.topic \"good\" {{ qos = \"strict\",\n\
         ingress = {{ tempos.unix {{ name = \"goodin\", path = \"{folder}/good.in\" }} }},\n\
         egress = {{ tempos.unix {{ name = \"goodout\", path = \"{folder}/good.out\" }} }} }}\n"
    )
}

/// A node with a flow of numbered events through it.
fn flowing() -> (Node, Numbered) {
    let setup = NodeSetup::new().plugins(["adapter-unix", "queue-fifo"]).with_bus();
    // A backtrace of a constructor that panics may take longer than a constructor is given.
    let setup = setup.environment("RUST_BACKTRACE", "0");
    let lua = road(setup.folder());
    let out = outlet(&setup.folder().join("good.out"));
    let node = setup.wiring(&lua).start();
    let flow = Numbered::start(node.folder().join("good.in"), out, EVERY);
    flow.wait_for_more(10);
    (node, flow)
}

/// What the node shows of its plugins.
fn plugins(node: &Node) -> Vec<Value> {
    node.ctl_json(["plugins"]).as_array().cloned().unwrap_or_default()
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

/// Waits until the plugin of that name is in a state.
fn wait_for(node: &Node, name: &str, state: &str) -> Value {
    eventually(&format!("plugin {name} to be {state}"), || {
        plugins(node)
            .into_iter()
            .find(|plugin| text(plugin, "name") == name && text(plugin, "State") == state)
    })
}

fn channel(node: &Node, name: &str, property: &str) -> String {
    let value = node.property(&format!("{ROOT}/channel/{name}"), "Channel", property);
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_file_dropped_in_while_the_node_runs_is_used_once_it_is_whole() {
    let node = NodeSetup::new().plugins(["queue-fifo"]).start();
    let out = outlet(&node.folder().join("good.out"));
    assert!(!plugins(&node).iter().any(|plugin| text(plugin, "name") == "unix"));
    // Written slowly in place: nothing is made of it before its writer closes it.
    let bytes = fs::read(plugin("adapter-unix")).expect("the plugin is built");
    let target = node.plugin_folder().join("unix.so");
    let mut file = fs::File::create(&target).expect("a file in the plugin folder");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).expect("a mode");
    for part in bytes.chunks(bytes.len() / 4 + 1) {
        file.write_all(part).expect("room for a plugin");
        file.flush().expect("room for a plugin");
        std::thread::sleep(Duration::from_millis(150));
        assert!(!node.log().contains("unix.so"), "{}", node.log());
    }
    drop(file);
    wait_for(&node, "unix", "started");
    // In one step, through a rename.
    drop_plugin(&plugin("queue-priority"), &node.plugin_folder());
    wait_for(&node, "priority", "started");
    let lua =
        String::from("tempos.qos \"strict\" { queue = { policy = \"priority\" } }\n") + &road(node.folder());
    let path = node.folder().join("wiring.lua");
    fs::write(&path, lua).expect("a script");
    let applied = node.ctl(["apply".as_ref(), path.as_os_str()]);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let flow = Numbered::start(node.folder().join("good.in"), out, EVERY);
    flow.wait_for_more(100);
    flow.end_whole();
}

#[test]
fn a_newer_version_takes_over_its_channels_and_the_old_one_drains() {
    let (node, flow) = flowing();
    let signals = Signals::of(&node);
    for version in ["0.1.1", "0.1.2", "0.2.0"] {
        let copy = node.folder().join("newer.so");
        tempos_tests::newer::with_version(&plugin("adapter-unix"), version, &copy);
        drop_plugin_as(&copy, &node.plugin_folder().join(format!("unix-{version}.so")));
        eventually("the new version", || {
            let now = wait_for(&node, "unix", "started");
            (text(&now, "Version") == version).then_some(())
        });
        flow.wait_for_more(50);
        assert_eq!(channel(&node, "goodin", "State"), "started");
    }
    eventually("the signals of taking over", || {
        let told = signals.named("PluginStateChanged");
        let of = |state: &str| told.iter().filter(|told| told[0] == "unix" && told[1] == state).count();
        (of("started") >= 3 && of("gone") >= 3).then_some(())
    });
    let generations = node.property(&format!("{ROOT}/plugin/unix"), "Plugin", "Generations");
    assert_eq!(generations.as_u64(), Some(4));
    flow.end_whole();
}

#[test]
fn a_removed_file_takes_its_channels_along_and_they_come_back_with_it() {
    let (node, flow) = flowing();
    let signals = Signals::of(&node);
    let file = node.plugin_folder().join("libtempos_adapter_unix.so");
    for round in 1..=3 {
        fs::remove_file(&file).expect("the file was there");
        eventually("the channel without its plugin", || {
            (channel(&node, "goodin", "State") == "failed").then_some(())
        });
        let reason = channel(&node, "goodin", "Reason");
        assert!(reason.contains("unix"), "{reason}");
        assert_eq!(reason.lines().count(), 1, "{reason}");
        wait_for(&node, "unix", "gone");
        let told = eventually("the signal", || {
            let told = signals.named("PluginStateChanged");
            (told.iter().filter(|told| told[1] == "draining").count() >= round).then_some(told)
        });
        assert!(told.iter().all(|told| told[0] == "unix"), "{told:?}");
        drop_plugin(&plugin("adapter-unix"), &node.plugin_folder());
        eventually("the channel with its plugin", || {
            (channel(&node, "goodin", "State") == "started"
                && channel(&node, "goodout", "State") == "started")
                .then_some(())
        });
        flow.wait_for_more(50);
    }
    // What the node had taken in is accounted for: it came out, once and in order, or was counted.
    let topic = format!("{ROOT}/topic/good");
    let (numbers, sent) = flow.end();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "an event came out twice or late");
    let came_in = node.property(&topic, "Topic", "EventsIn").as_u64().expect("a number");
    println!("{sent} sent, {came_in} came in, {} came out", numbers.len());
    let dropped = node.property(&topic, "Topic", "EventsDropped");
    let dropped: u64 =
        dropped.as_object().expect("a table").values().filter_map(|count| count.as_u64()).sum();
    assert_eq!(came_in, numbers.len() as u64 + dropped, "what came in came out or was counted");
    // What was sent in the instant in which a socket closed is lost with it, as on any closed socket.
    assert!(sent - came_in <= 3, "{sent} sent, {came_in} came in");
}

#[test]
fn a_queue_policy_whose_file_goes_stays_until_nothing_needs_it() {
    let (node, flow) = flowing();
    fs::remove_file(node.plugin_folder().join("libtempos_queue_fifo.so")).expect("the file was there");
    wait_for(&node, "fifo", "draining");
    flow.wait_for_more(200);
    drop_plugin(&plugin("queue-fifo"), &node.plugin_folder());
    wait_for(&node, "fifo", "started");
    flow.wait_for_more(50);
    flow.end_whole();
}

/// Files of a test's making, outside of the plugin folder.
struct Workshop(PathBuf);

impl Workshop {
    fn file(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file can be written");
        path
    }

    /// The engine's fixture, which behaves as a mark in its file says.
    fn behaving(&self, behaviour: &str) -> PathBuf {
        let built = fs::read(fixture(ENGINE_FIXTURES, "plugin_fixture")).expect("it is built");
        let mark = |word: &str| format!("fixture-behaviour:{word:.<22}");
        self.file(behaviour, replaced(&built, &mark("good"), &mark(behaviour)))
    }

    /// A shared library that has nothing to do with plugins.
    fn plain_library(&self) -> PathBuf {
        let source = self.file("plain.c", "int nothing(void);\nint nothing(void) { return 1; }\n");
        let library = self.0.join("plain");
        tempos_tests::function::compile(&[], &source, &library);
        library
    }
}

const ENGINE_FIXTURES: &str = "../../host/engine/tests/fixtures";

/// Drops the file in and waits for the refusal, on every face of the node; then takes it out again.
fn refused(node: &Node, signals: &Signals, file: &Path, words: &str, mode: u32) {
    let name = format!("bad-{}.so", file.file_name().unwrap_or_default().display());
    let (target, hidden) = (node.plugin_folder().join(&name), node.plugin_folder().join(".part"));
    fs::copy(file, &hidden).expect("a file can be copied");
    fs::set_permissions(&hidden, fs::Permissions::from_mode(mode)).expect("a mode");
    let before = signals.named("PluginStateChanged").len();
    fs::rename(&hidden, &target).expect("a file can be moved");
    let report = eventually(&format!("the refusal of {name}"), || {
        let told = signals.named("PluginStateChanged").split_off(before);
        let told = told.into_iter().find(|told| told[1] == "failed")?;
        told[2].as_str().map(str::to_owned)
    });
    assert!(report.contains(words), "{name}: {report}");
    assert!(report.contains(&name), "{report}");
    assert_eq!(report.lines().count(), 1, "{report}");
    let shown = plugins(node).into_iter().find(|plugin| text(plugin, "Reason") == report);
    let shown = shown.unwrap_or_else(|| panic!("{name} is not shown: {:#?}", plugins(node)));
    assert_eq!(text(&shown, "State"), "failed", "{shown}");
    fs::remove_file(target).expect("the file is there");
    eventually("the refused file to be forgotten", || {
        (!plugins(node).iter().any(|plugin| text(plugin, "Reason") == report)).then_some(())
    });
}

#[test]
fn files_that_are_no_plugins_are_refused_with_one_sentence_and_harm_nobody() {
    let (mut node, flow) = flowing();
    let signals = Signals::of(&node);
    let shop = Workshop(node.folder().join("made"));
    fs::create_dir(&shop.0).expect("a folder");
    let good = fs::read(plugin("adapter-udp")).expect("it is built");
    let twin = [fs::read(plugin("adapter-unix")).expect("it is built"), b"\n".to_vec()].concat();
    for (file, words, mode) in [
        (shop.file("text", "hello\n"), "not an ELF", 0o644),
        (shop.file("empty", ""), "empty", 0o644),
        (shop.file("truncated", &good[..200_000]), "cut off", 0o644),
        (shop.plain_library(), "an ordinary shared library", 0o644),
        (fixture(ENGINE_FIXTURES, "plugin_other_layout"), "another layout", 0o644),
        (shop.file("twin", twin), "runs already", 0o644),
        (shop.behaving("abort"), "died by signal 6 (abort)", 0o644),
        (shop.behaving("segv"), "died by signal 11 (segmentation fault)", 0o644),
        (shop.behaving("panic"), "panicked: planted panic", 0o644),
        (shop.behaving("exit"), "exit code 3", 0o644),
        (shop.behaving("hang"), "did not return within 2.00 s", 0o644),
        (shop.behaving("factory-panic"), "its factory panicked", 0o644),
        (plugin("adapter-udp"), "can be written by everyone", 0o666),
        (plugin("adapter-udp"), "can be written by its group", 0o664),
    ] {
        refused(&node, &signals, &file, words, mode);
    }
    assert!(node.daemon().runs());
    flow.wait_for_more(50);
    flow.end_whole();
}

#[test]
fn a_folder_that_others_can_write_is_not_trusted() {
    let (node, flow) = flowing();
    let signals = Signals::of(&node);
    fs::set_permissions(node.plugin_folder(), fs::Permissions::from_mode(0o777)).expect("a mode");
    drop_plugin(&plugin("adapter-udp"), &node.plugin_folder());
    eventually("the refusal", || {
        let told = signals.named("PluginStateChanged");
        told.iter()
            .any(|told| told[1] == "failed" && told[2].as_str().is_some_and(|s| s.contains("its folder")))
            .then_some(())
    });
    flow.wait_for_more(50);
    fs::set_permissions(node.plugin_folder(), fs::Permissions::from_mode(0o755)).expect("a mode");
    drop_plugin(&plugin("adapter-udp"), &node.plugin_folder());
    wait_for(&node, "udp", "started");
    flow.end_whole();
}

#[test]
fn a_plugin_that_was_built_for_the_first_interface_still_works() {
    let setup = NodeSetup::new().plugins(["adapter-unix"]);
    drop_plugin(&fixture("plugin-old", "tempos_fixture_old"), &setup.folder().join("plugins"));
    let level = |name: &str| {
        format!("tempos.qos \"{name}\" {{ queue = {{ policy = \"old\", full = \"block\" }} }}\n")
    };
    let lua = level("strict") + &level("best-effort") + &road(setup.folder());
    let out = outlet(&setup.folder().join("good.out"));
    // The levels' own policy, fifo, is not there: the lanes come up with the wiring.
    let node = setup.wiring(&lua).start();
    assert_eq!(text(&wait_for(&node, "old", "started"), "AbiVersion"), "1.0");
    let flow = Numbered::start(node.folder().join("good.in"), out, EVERY);
    flow.wait_for_more(1000);
    flow.end_whole();
}

/// A generator whose sequence depends on nothing but its seed (xorshift64*).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }
}

#[test]
fn random_bytes_are_refused_as_plugins_by_order_too() {
    let (mut node, flow) = flowing();
    let good = fs::read(plugin("adapter-udp")).expect("it is built");
    let path = node.folder().join("random.so");
    let mut dice = Dice(0x51_7e3a_90c5);
    for round in 0..200u32 {
        let mut bytes: Vec<u8> = match round % 3 {
            // Noise; noise that says it is ELF; a plugin whose headers were hit.
            0 => (0..dice.roll() % 5000).map(|_| dice.roll() as u8).collect(),
            1 => {
                good[..64].iter().copied().chain((0..dice.roll() % 5000).map(|_| dice.roll() as u8)).collect()
            }
            _ => good[..good.len() / 2 + (dice.roll() as usize) % (good.len() / 4)].to_vec(),
        };
        if round % 3 == 2 {
            for _ in 0..8 {
                let at = (dice.roll() % 512) as usize;
                bytes[at] = dice.roll() as u8;
            }
        }
        fs::write(&path, &bytes).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
        let answer = node.busctl([
            "call",
            "org.tempos.Host1",
            ROOT,
            "org.tempos.Host1.Node",
            "LoadPlugin",
            "s",
            &path.display().to_string(),
        ]);
        let said = String::from_utf8_lossy(&answer.stderr);
        assert!(!answer.status.success(), "round {round} was loaded");
        assert_eq!(said.trim_end().lines().count(), 1, "round {round}: {said}");
        assert!(said.contains("random.so"), "round {round}: {said}");
    }
    assert!(node.daemon().runs());
    flow.end_whole();
}
