//! Network interfaces are set when a node starts, and put back when it ends, also when it was killed.

use std::fs;

use tempos_tests::network::{gro, in_a_network, ip, own_sys, set_gro};
use tempos_tests::{Node, NodeSetup};

fn bare() -> NodeSetup {
    NodeSetup::new().plugins(["queue-fifo"]).wiring("")
}

/// A pair of veth, of which NAPI is there while GRO is on. The names are each test's own: kernel threads are seen by all.
fn pair(name: &str) {
    own_sys();
    ip(format_args!("link add {name} type veth peer name {name}-end"));
    ip(format_args!("link set {name} up"));
    ip(format_args!("link set {name}-end up"));
}

fn sys(interface: &str, what: &str) -> String {
    let path = format!("/sys/class/net/{interface}/{what}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

fn set_sys(interface: &str, what: &str, value: u32) {
    fs::write(format!("/sys/class/net/{interface}/{what}"), value.to_string()).expect("set");
}

/// Policy and priority of each NAPI thread of an interface.
fn threads(interface: &str) -> Vec<(i32, i32)> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let named = numbers.filter(|pid| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with(&format!("napi/{interface}-"))
    });
    named
        .map(|pid| {
            let mut parameters = libc::sched_param { sched_priority: 0 };
            // SAFETY: the struct is live for the call.
            let policy = unsafe {
                libc::sched_getparam(pid, &raw mut parameters);
                libc::sched_getscheduler(pid)
            };
            (policy, parameters.sched_priority)
        })
        .collect()
}

/// What the node says of its own troubles.
fn troubles(node: &Node) -> String {
    node.property("/org/tempos/Host1", "Node", "Degraded").to_string()
}

#[test]
fn jitter_gives_frames_to_threads_with_a_priority_and_takes_them_back() {
    in_a_network(|| {
        pair("tjit0");
        set_gro("tjit0", true);
        let node_file = "[interfaces]\njitter = [\"tjit0\"]\nnapi_priority = 30";
        let mut node = bare().node_file(node_file).start();
        assert_eq!(sys("tjit0", "threaded"), "1");
        let raised = threads("tjit0");
        assert!(
            !raised.is_empty() && raised.iter().all(|thread| *thread == (libc::SCHED_FIFO, 30)),
            "{raised:?}"
        );
        assert!(gro("tjit0"), "it stays as it is");
        let told = troubles(&node);
        assert!(told.contains("interface tjit0 has no interrupt coalescing to set"), "{told}");
        assert_eq!(told.matches("tjit0").count(), 1, "nothing else is lacking: {told}");
        node.end(libc::SIGTERM);
        assert_eq!(sys("tjit0", "threaded"), "0");
        let left = threads("tjit0");
        assert!(left.iter().all(|thread| *thread == (libc::SCHED_OTHER, 0)), "{left:?}");
    });
}

#[test]
fn latency_and_cpu_are_set_and_every_value_comes_back() {
    in_a_network(|| {
        pair("tlat0");
        for (profile, gro_before, inside) in [("latency", true, ["0", "0"]), ("cpu", false, ["2", "20000"])] {
            set_gro("tlat0", gro_before);
            set_sys("tlat0", "napi_defer_hard_irqs", 5);
            set_sys("tlat0", "gro_flush_timeout", 1000);
            let values = || ["napi_defer_hard_irqs", "gro_flush_timeout"].map(|what| sys("tlat0", what));
            let mut node = bare().node_file(&format!("[interfaces]\n{profile} = [\"tlat0\"]")).start();
            assert_eq!(
                (values().as_slice(), gro("tlat0")),
                (&inside.map(String::from)[..], !gro_before),
                "{profile}"
            );
            node.end(libc::SIGTERM);
            let before = ["5", "1000"].map(String::from);
            assert_eq!((values().as_slice(), gro("tlat0")), (&before[..], gro_before), "after {profile}");
        }
    });
}

#[test]
fn what_a_killed_node_has_left_is_put_back_by_the_next() {
    in_a_network(|| {
        pair("tkil0");
        set_gro("tkil0", true);
        set_sys("tkil0", "gro_flush_timeout", 1000);
        let setup = bare().node_file("[interfaces]\njitter = [\"tkil0\"]");
        let mut command = setup.command();
        let mut node = setup.start();
        node.end(libc::SIGKILL);
        let record = node.folder().join("run/interface-tkil0.was");
        assert_eq!((sys("tkil0", "threaded"), record.exists()), (String::from("1"), true), "it was killed");
        // The next one wants nothing of it.
        fs::write(node.folder().join("node.toml"), "").expect("written");
        node.restart(&mut command);
        node.wait_for_log("interface tkil0 was put back as it was before this node was killed");
        assert_eq!(sys("tkil0", "threaded"), "0");
        assert_eq!(sys("tkil0", "gro_flush_timeout"), "1000");
        let left = threads("tkil0");
        assert!(left.iter().all(|thread| *thread == (libc::SCHED_OTHER, 0)), "{left:?}");
        assert!(!record.exists());
        // What lies there and is no record harms nobody.
        node.end(libc::SIGKILL);
        fs::write(&record, "threaded 1\nend\n").expect("written");
        node.restart(&mut command);
        node.wait_for_log("interface-tkil0.was: it cannot be put back");
        assert_eq!((sys("tkil0", "threaded"), record.exists()), (String::from("0"), false));
    });
}

#[test]
fn what_is_lacking_degrades_or_where_it_is_wanted_refuses_and_changes_nothing() {
    in_a_network(|| {
        pair("tref0");
        // Without GRO a veth has no NAPI that a thread could run.
        let wants = "[interfaces]\njitter = [\"tref0\", \"nowhere0\"]\n";
        let node = bare().node_file(wants).start();
        let told = troubles(&node);
        for words in [
            "interface tref0 does not support what the profile wants of threaded NAPI",
            "interface tref0 has no interrupt coalescing to set",
            "interface \\\"nowhere0\\\" is not there; `ip link` lists those of this machine",
        ] {
            assert!(told.contains(words), "{words:?} is not in {told}");
        }
        drop(node);
        set_gro("tref0", true);
        let refusing = bare().node_file(&format!("{wants}on_unmet = \"refuse\""));
        let (code, log) = refusing.run_to_end();
        assert_eq!(code, Some(71), "{log}");
        assert!(
            log.contains(
                "interface tref0 has no interrupt coalescing to set (and 1 more); the node does not start"
            ),
            "{log}"
        );
        assert_eq!(sys("tref0", "threaded"), "0", "it was put back");
        for (text, words) in [
            ("latency = [\"a\"]\ncpu = [\"a\"]", "\"a\" stands twice; an interface has one profile"),
            (
                "latency = \"eth0\"",
                "a string stands where a list of interfaces such as [\"eth0\"] must stand",
            ),
            ("latency = [\"no/thing\"]", "\"no/thing\" is no name of an interface"),
            ("latncy = []", "unknown key \"latncy\" (did you mean \"latency\"?)"),
        ] {
            let (code, log) = bare().node_file(&format!("[interfaces]\n{text}")).run_to_end();
            assert!(code != Some(0) && log.contains(words), "{words:?} is not in\n{log}");
        }
    });
}
