//! Reservations under SCHED_DEADLINE: the node refuses what the kernel would refuse, with the arithmetic, and what it
//! takes the kernel grants.

use tempos_tests::node::ROOT;
use tempos_tests::thread::{scheduling, threads};
use tempos_tests::{Node, NodeSetup};

/// So many levels, each with a runtime in a period of 100 ms.
fn levels(count: usize, runtime_us: u64) -> String {
    let level = |at: usize| {
        format!(
            "tempos.qos \"r{at}\" {{ scheduler = \"deadline\", runtime = \"{runtime_us}us\", deadline = \"100ms\", \
             period = \"100ms\", share = 0 }}\n"
        )
    };
    (0..count).map(level).collect()
}

fn apply(node: &Node, lua: &str) -> (bool, String) {
    let path = node.write_script("levels.lua", lua);
    let output = node.ctl(["apply".as_ref(), path.as_os_str()]);
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

fn state(node: &Node, level: &str) -> String {
    let state = node.property(&format!("{ROOT}/qos/{level}"), "QosLevel", "State");
    state.as_str().unwrap_or_default().to_owned()
}

#[test]
fn what_the_kernel_would_refuse_is_refused_and_what_is_taken_is_granted() {
    let mut node = NodeSetup::new()
        .plugins(["adapter-unix", "queue-fifo"])
        .node_file("[wiring]\nwatch = false")
        .wiring("")
        .start();
    let (taken, said) = apply(&node, &levels(1, 1_000));
    assert!(taken, "{said}");
    if state(&node, "r0") != "granted" {
        eprintln!("passed over: this system grants no reservations");
        return;
    }
    // A CPU each is more than there is, however many there are.
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    if cpus > 12 {
        eprintln!("passed over: a node has not as many levels as this machine has CPUs");
        return;
    }
    let generation = node.generation();
    let (taken, said) = apply(&node, &levels(cpus, 100_000));
    assert!(!taken && said.contains("the reservations make r0 100 ms in 100 ms = 1.000"), "{said}");
    assert_eq!(node.generation(), generation);
    // `… the kernel grants 0.900 of 2 CPUs = 1.800 (sched-deadline)`: all of that, to a thousandth of a CPU, it does.
    let each = said.split_once("the kernel grants ").and_then(|(_, rest)| rest.split_once(" of "));
    let each: f64 =
        each.and_then(|(each, _)| each.parse().ok()).unwrap_or_else(|| panic!("no figure: {said}"));
    let runtime_us = (each * 100_000.0) as u64 - 100;
    let (taken, said) = apply(&node, &levels(cpus, runtime_us));
    assert!(taken, "{said}");
    for level in 0..cpus {
        assert_eq!(state(&node, &format!("r{level}")), "granted", "{each} of a CPU: {said}");
    }
    // The kernel's own word for it: policy 6.
    let policy = |thread: i32| scheduling(thread).map(|of| of.policy);
    let reserved = threads(node.daemon().pid()).into_iter().filter(|(thread, _)| policy(*thread) == Some(6));
    assert_eq!(reserved.count(), cpus);
    let (taken, said) = apply(&node, &levels(cpus, runtime_us + 200));
    assert!(!taken && said.contains("together "), "{said}");
}
