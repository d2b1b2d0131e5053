//! The node file: its manual is true, and every mistake in it is told with its place.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Parser;
use tempos_control::{Scheduler, schema};
use tempos_daemon::config::NodeFile;
use tempos_daemon::config::keys::KEYS;
use tempos_daemon::options::Options;
use tempos_dbus::Bus;

const MANUAL: &str = include_str!("../../../examples/node.toml");

/// Reads a text as `node.toml`; the mistakes as a user sees them.
fn read(text: &str) -> (NodeFile, Vec<String>) {
    let mut node = NodeFile::default();
    let mut mistakes = Vec::new();
    node.take(Path::new("node.toml"), text, &mut mistakes);
    (node, mistakes.iter().map(ToString::to_string).collect())
}

/// The manual with every setting switched on: a line `#key = value` or `#[section]` loses its sign.
fn manual_switched_on() -> String {
    let on = |line: &str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
            format!("{setting}\n")
        }
        _ => format!("{line}\n"),
    };
    // Keys that go with one scheduler only stand beside those of another in the manual.
    let of_deadline =
        |line: &&str| !["#nice", "#runtime", "#deadline", "#period"].iter().any(|key| line.starts_with(key));
    MANUAL.lines().filter(of_deadline).map(on).collect()
}

#[test]
fn the_manual_as_it_stands_sets_nothing() {
    let (node, mistakes) = read(MANUAL);
    assert_eq!(mistakes, Vec::<String>::new());
    assert_eq!(format!("{node:?}"), format!("{:?}", NodeFile::default()));
}

#[test]
fn the_manual_with_everything_switched_on_is_right_and_shows_the_defaults() {
    let text = manual_switched_on();
    let (mut node, mistakes) = read(&text);
    assert_eq!(mistakes, Vec::<String>::new(), "{text}");
    assert_eq!(node.levels.len(), 1);
    assert_eq!(node.levels[0].scheduler, Scheduler::RoundRobin { priority: 30 });
    assert_eq!(node.node_id, "press-7");
    assert_eq!(node.rest.tcp.listen.map(|address| address.port()), Some(8443));
    // Some values of the manual are examples, and named paths must be there; all others are defaults.
    let default = NodeFile::default();
    node.rest.clone_from(&default.rest);
    node.levels.clear();
    node.node_id.clone_from(&default.node_id);
    assert_eq!(node.clock.config.hardware.take(), Some(PathBuf::from("/dev/ptp0")));
    node.wiring_named = false;
    assert_eq!(format!("{node:?}"), format!("{default:?}"));
}

#[test]
fn every_key_stands_in_the_manual_with_its_default() {
    for key in KEYS {
        let section = MANUAL.split(&format!("\n[{}]\n", key.section)).nth(1).expect(key.section);
        let section = section.split("\n[").next().unwrap_or_default();
        let shown = section.lines().find_map(|line| line.strip_prefix(&format!("#{} = ", key.name)));
        let shown = shown.unwrap_or_else(|| panic!("[{}] {} is not in the manual", key.section, key.name));
        if !key.default.is_empty() {
            assert_eq!(shown, key.default, "[{}] {}", key.section, key.name);
        }
    }
    for name in ["qos", "qos.queue", "qos.network", "qos.rate"] {
        for key in schema::constructor(name).expect("a constructor").keys {
            let nested = matches!(key.kind, schema::KeyKind::Table(_));
            let line =
                if nested { format!("\n#[qos.{}]\n", key.name) } else { format!("\n#{} = ", key.name) };
            assert!(MANUAL.contains(&line), "{name}: {} is not in the manual", key.name);
        }
    }
}

#[test]
fn all_mistakes_come_at_once_each_with_line_and_column() {
    let (_, mistakes) = read(
        "[node]\n\
         idd = \"x\"\n\
         drain_timeout = \"10 parsecs\"\n\
         \n\
         [lgo]\n\
         level = \"info\"\n\
         \n\
         [log]\n\
         level = \"inof\"\n\
         lines_per_second = 0\n\
         \n\
         [plugins]\n\
         folders = [\"relative\"]\n\
         \n\
         [realtime]\n\
         strict = \"yes\"\n\
         \n\
         [bus]\n\
         address = \"sistem\"\n",
    );
    let starts: Vec<&str> = mistakes.iter().filter_map(|m| m.split(": ").next()).collect();
    let places = ["2:1", "3:17", "5:2", "9:9", "10:20", "13:11", "16:10", "19:11"];
    assert_eq!(starts, places.map(|place| format!("node.toml:{place}")), "{mistakes:#?}");
    let all = mistakes.join("\n");
    for words in [
        "[node]: unknown key \"idd\" (did you mean \"id\"?)",
        "unknown section \"lgo\" (did you mean \"log\"?)",
        "(did you mean \"info\"?)",
        "0 is out of range, a whole number from 1 to 100000",
        "\"relative\" is not a full path",
        "a string stands where true or false must stand",
        "\"sistem\" is not a bus",
    ] {
        assert!(all.contains(words), "{words:?} is not in\n{all}");
    }
}

#[test]
fn a_file_that_does_not_parse_says_where() {
    let (_, mistakes) = read("[node\nid = \n");
    assert!(!mistakes.is_empty());
    assert!(mistakes.iter().all(|m| m.starts_with("node.toml:")), "{mistakes:#?}");
    assert!(mistakes[0].starts_with("node.toml:1:"), "{mistakes:#?}");
}

#[test]
fn a_level_has_the_rules_of_the_wiring_and_the_lines_of_the_node_file() {
    let (node, mistakes) = read(
        "[[qos]]\nname = \"burst\"\nscheduler = \"rr\"\npriority = 30\n\n[qos.queue]\npolicy = \"edf\"\n\
         capacity = 16\nhorizon = 2.5\n\n[[qos]]\nname = \"say \\\"hi\\\"\"\n",
    );
    assert_eq!(mistakes, Vec::<String>::new());
    let burst = &node.levels[0];
    assert_eq!((burst.name.as_str(), burst.queue.policy.as_str()), ("burst", "edf"));
    assert_eq!(burst.queue.capacity_events, 16);
    assert_eq!(burst.queue.options.len(), 1);
    assert_eq!(burst.origin.to_string(), "node.toml:1");
    assert_eq!(node.levels[1].name, "say \"hi\"");

    let (_, mistakes) = read("[[qos]]\nname = \"burst\"\nprioritty = 30\n\n[[qos]]\nrank = 3\n");
    let all = mistakes.join("\n");
    assert!(all.contains("prioritty") && all.contains("did you mean \"priority\""), "{all}");
    assert!(all.contains("node.toml:5:") && all.contains("needs a name"), "{all}");
}

#[test]
fn no_text_of_the_node_file_becomes_code() {
    let (node, mistakes) = read("[[qos]]\nname = '''x\" {} while true do end --'''\n");
    assert_eq!(mistakes, Vec::<String>::new());
    assert_eq!(node.levels[0].name, "x\" {} while true do end --");
}

#[test]
fn fragments_come_after_the_file_and_flags_after_both() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("node.toml");
    let fragments = folder.path().join("node.d");
    std::fs::create_dir(&fragments).expect("a folder");
    std::fs::write(
        &file,
        "[node]\nid = \"a\"\ndrain_timeout = \"1s\"\n[[qos]]\nname = \"burst\"\nrank = 1\n",
    )
    .expect("a file");
    std::fs::write(fragments.join("20.toml"), "[node]\nid = \"c\"\n[[qos]]\nname = \"burst\"\nrank = 2\n")
        .expect("a file");
    std::fs::write(fragments.join("10.toml"), "[node]\nid = \"b\"\n[bus]\naddress = \"session\"\n")
        .expect("a file");
    std::fs::write(fragments.join(".30.toml"), "[node]\nid = \"hidden\"\n").expect("a file");
    let line = ["temposd", "--bus", "none", "--wiring", "/w", "--config"].map(PathBuf::from);
    let options = Options::try_parse_from(line.iter().chain([&file])).expect("flags");
    let node = NodeFile::load(&options).expect("no mistake");
    assert_eq!(node.node_id, "c");
    assert_eq!(node.drain_timeout, Duration::from_secs(1));
    assert_eq!(node.bus, Bus::None);
    assert_eq!((node.wiring, node.wiring_named), (vec![PathBuf::from("/w")], true));
    assert_eq!(node.levels.iter().map(|level| level.rank).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_named_file_that_is_missing_is_a_mistake() {
    let options = Options::try_parse_from(["temposd", "--config", "/no/such/node.toml"]).expect("flags");
    let mistakes = NodeFile::load(&options).expect_err("missing");
    assert!(mistakes[0].to_string().starts_with("/no/such/node.toml: the node file cannot be read"));
}
