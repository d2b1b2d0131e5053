//! A node that watches the machine's clock says when it is lost and when it counts again, with a real ptp4l.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempos_tests::network::{in_a_network, ip};
use tempos_tests::{Child, Node, NodeSetup, eventually};

const HOOK: &str = "tempos.on(\"clock-lost\", { hold = \"1ms\" }, function(e)\n\
                      print(\"told: \" .. e.state .. \" \" .. e.kind .. \" \" .. e.name .. \": \" .. e.reason)\n\
                    end)\n";

fn bare() -> NodeSetup {
    NodeSetup::new().plugins(["queue-fifo"])
}

/// It gives the time on its own, and must not set this machine's clock.
fn ptp4l(socket: &Path) -> Child {
    const CAP_SYS_TIME: libc::c_ulong = 25;
    let mut command = Command::new("ptp4l");
    command.args(["-i", "ptp0", "-S", "-2", "--logAnnounceInterval", "-3", "--uds_address"]).arg(socket);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: prctl(2) alone, between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    Child::start("ptp4l (linuxptp)", &mut command)
}

fn node_file(socket: &Path, more: &str) -> String {
    format!("[clock]\nwatch = true\nptp4l = {socket:?}\nhold = \"300ms\"\nsilence_max = \"300ms\"\n{more}")
}

/// What the node says of its own troubles.
fn troubles(node: &Node) -> String {
    node.property("/org/tempos/Host1", "Node", "Degraded").to_string()
}

#[test]
fn a_killed_ptp4l_is_told_to_hooks_and_so_is_its_return() {
    in_a_network(|| {
        ip("link add ptp0 type veth peer name ptp1");
        ip("link set ptp0 up");
        ip("link set ptp1 up");
        let setup = bare();
        let socket = setup.folder().join("ptp4l");
        let node = setup.node_file(&node_file(&socket, "role = \"leader\"")).wiring("");
        let running = ptp4l(&socket);
        let node = node.start();
        node.wait_for_log("clock: the clock counts: port 1 gives the time");
        let before = node.generation();
        node.save_wiring(HOOK);
        eventually("the hooks", || (node.generation() > before).then_some(()));
        eventually("no trouble", || (!troubles(&node).contains("clock")).then_some(()));
        assert!(!node.log().contains("told: "), "it is not lost: {}", node.log());

        drop(running);
        let place = format!("node {}: ", socket.display());
        node.wait_for_log(&format!("told: begins {place}ptp4l has not "));
        assert!(troubles(&node).contains("clock: ptp4l has not "), "{}", troubles(&node));

        // Hooks that come later hear of it too.
        let known = node.log().matches("told: begins").count();
        node.save_wiring(&format!("-- saved again\n{HOOK}"));
        eventually("the new hooks", || (node.log().matches("told: begins").count() > known).then_some(()));

        let _again = ptp4l(&socket);
        node.wait_for_log(&format!("told: ended {place}port 1 gives the time"));
        eventually("no trouble", || (!troubles(&node).contains("clock")).then_some(()));
    });
}

#[test]
fn a_port_that_is_not_what_it_is_to_be_is_said_and_nothing_is_where_nothing_is_watched() {
    in_a_network(|| {
        ip("link add ptp0 type veth peer name ptp1");
        ip("link set ptp0 up");
        ip("link set ptp1 up");
        let setup = bare();
        let socket = setup.folder().join("ptp4l");
        let node = setup.node_file(&node_file(&socket, "role = \"follower\"")).wiring(HOOK);
        let _running = ptp4l(&socket);
        let node = node.start();
        node.wait_for_log("told: begins");
        let wrong = eventually("the port's state", || {
            Some(troubles(&node))
                .filter(|told| told.contains("port 1 of ptp4l is MASTER, and is to be SLAVE"))
        });
        assert!(wrong.contains("clock: "), "{wrong}");
        let unwatched = bare().wiring(HOOK).start();
        assert!(!troubles(&unwatched).contains("clock"), "{}", troubles(&unwatched));
    });
}

#[test]
fn mistakes_of_the_section_have_their_line() {
    let setup = bare().node_file(
        "[clock]\nwach = true\nrole = \"slave\"\noffset_max = \"2s\"\nport = 0\nptp4l = \"ptp4l\"",
    );
    let (code, log) = setup.run_to_end();
    assert_ne!(code, Some(0));
    for words in [
        "node.toml:2:1: [clock]: unknown key \"wach\" (did you mean \"watch\"?)",
        "node.toml:3:8: [clock] role: unknown word \"slave\"",
        "node.toml:4:14: [clock] offset_max: 2.00 s is out of range",
        "node.toml:5:8: [clock] port: 0 is out of range, a whole number from 1 to 65534",
        "node.toml:6:9: [clock] ptp4l: \"ptp4l\" is not a full path",
    ] {
        assert!(log.contains(words), "{words:?} is not in\n{log}");
    }
}
