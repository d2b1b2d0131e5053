//! Other users: they read, and give orders only where they may.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use tempos_dbus::Bus;
use zbus::zvariant::OwnedValue;

use crate::node::FakeNode;
use crate::scene::{Folder, SIDES, Scene, Side, run, start_system_bus};

const NOBODY: &str = "65534";

/// The number of a group that every system has.
fn group() -> (String, String) {
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let line = groups.lines().find(|line| line.starts_with("daemon:")).expect("a group named daemon");
    ("daemon".into(), line.split(':').nth(2).unwrap().to_owned())
}

/// busctl as another user, with those groups.
fn busctl_as(scene: &Scene, side: Side, groups: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY]);
    if groups.is_empty() {
        command.arg("--clear-groups");
    } else {
        command.args(["--groups", groups]);
    }
    command.arg("busctl").arg(format!("--address={}", scene.address(side))).args(arguments);
    run(&mut command, b"")
}

fn scene() -> Scene {
    let scene = Scene::with(
        FakeNode::new(),
        |folder| {
            std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
            Some(start_system_bus(folder))
        },
        |config| {
            config.peer_socket_mode = 0o666;
            config.allow_group = Some(group().0);
        },
    );
    let bus = scene.folder.0.join("bus");
    std::fs::set_permissions(bus, std::fs::Permissions::from_mode(0o777)).unwrap();
    scene
}

const ROOT: &str = "/org/tempos/Host1";
const NODE: &str = "org.tempos.Host1.Node";

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // Becoming another user takes root; CI runs as root.
        eprintln!("not root: other users cannot be tried");
    }
    root
}

#[test]
fn a_stranger_reads_and_is_refused_every_order_with_a_sentence() {
    if !is_root() {
        return;
    }
    let scene = scene();
    for side in SIDES {
        for read in [
            &["tree", "org.tempos.Host1"][..],
            &["introspect", "org.tempos.Host1", ROOT],
            &["get-property", "org.tempos.Host1", ROOT, NODE, "State"],
            &["call", "org.tempos.Host1", ROOT, NODE, "Doctor"],
        ] {
            let output = busctl_as(&scene, side, "", read);
            assert!(output.status.success(), "{side:?} {read:?}: {output:?}");
        }
        scene.node.take_orders();
        for order in [
            &["Apply", "s", "/a"][..],
            &["ApplyText", "ss", "a", "b"],
            &["Plan", "s", "/a"],
            &["ApplyWith", "sa{sv}", "/a", "0"],
            &["ApplyTextWith", "ssa{sv}", "a", "b", "0"],
            &["Rollback", "ta{sv}", "0", "0"],
            &["Confirm", "t", "0"],
            &["Reload"],
            &["Drain", "u", "1"],
            &["Publish", "sa{sv}ay", "press/alarms", "0", "0"],
            &["Subscribe", "s", "press/alarms"],
            &["LoadPlugin", "s", "/a.so"],
            &["Prewarm", "su", "detect", "1"],
            &["Calibrate", "u", "1000"],
        ] {
            let call: Vec<_> =
                ["call", "org.tempos.Host1", ROOT, NODE].into_iter().chain(order.iter().copied()).collect();
            let output = busctl_as(&scene, side, "", &call);
            assert!(!output.status.success(), "{side:?} {order:?}");
            let said = String::from_utf8(output.stderr).unwrap();
            let sentence = format!("user 65534 may not call {}: only root", order[0]);
            assert!(said.contains(&sentence), "{side:?}: {said}");
            // The node is told, for its account: who, from where, what.
            let told = scene.node.turned_away.lock().unwrap().pop().unwrap_or_default();
            let door = if side == Side::Peer { "socket" } else { "bus" };
            assert!(told.starts_with("user 65534, process "), "{told}");
            assert!(told.contains(&format!("{door}: {}: user 65534 may not", order[0])), "{told}");
        }
        assert_eq!(scene.node.take_orders(), [""; 0], "nothing reached the node");
    }
}

#[test]
fn a_member_of_the_group_gives_orders_but_loads_no_plugin() {
    if !is_root() {
        return;
    }
    let scene = scene();
    let (name, gid) = group();
    for side in SIDES {
        let call = |arguments: &[&str]| {
            let call: Vec<_> = ["call", "org.tempos.Host1", ROOT, NODE]
                .into_iter()
                .chain(arguments.iter().copied())
                .collect();
            busctl_as(&scene, side, &gid, &call)
        };
        let reload = call(&["Reload"]);
        assert!(reload.status.success(), "{side:?} {name}: {reload:?}");
        let who = scene.node.callers.lock().unwrap().pop().expect("the node knows who gave the order");
        assert_eq!((who.user, who.process.is_some()), (Some(65534), true), "{side:?}: {who}");
        let load = call(&["LoadPlugin", "s", "/a.so"]);
        let said = String::from_utf8(load.stderr).unwrap();
        assert!(said.contains("only root and the daemon's user may"), "{side:?}: {said}");
    }
}

#[test]
fn the_socket_has_its_mode_and_temposctl_says_77() {
    if !is_root() {
        return;
    }
    let scene = scene();
    let mode = std::fs::metadata(scene.folder.0.join("control.sock")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o666);
    // The tool where another user can run it.
    let tool = scene.folder.0.join("temposctl");
    std::fs::copy(env!("CARGO_BIN_EXE_temposctl"), &tool).unwrap();
    for side in SIDES {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
        command.arg(&tool).args(["--bus", &scene.address(side), "reload"]);
        let output = run(&mut command, b"");
        assert_eq!(output.status.code(), Some(77), "{output:?}");
    }
    // Not even in: the socket as it is by default.
    std::fs::set_permissions(scene.folder.0.join("control.sock"), std::fs::Permissions::from_mode(0o660))
        .unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    command.arg(&tool).args(["--bus", &scene.address(Side::Peer), "status"]);
    let output = run(&mut command, b"");
    assert_eq!(output.status.code(), Some(77), "{output:?}");
}

/// A polkit that grants one action.
struct Polkit;

#[zbus::interface(name = "org.freedesktop.PolicyKit1.Authority")]
impl Polkit {
    fn check_authorization(
        &self,
        subject: (String, HashMap<String, OwnedValue>),
        action: &str,
        _details: HashMap<String, String>,
        _flags: u32,
        _cancellation: &str,
    ) -> ((bool, bool, HashMap<String, String>),) {
        let named = subject.0 == "system-bus-name" && subject.1.contains_key("name");
        ((named && action == "org.tempos.host1.reload", false, HashMap::new()),)
    }
}

/// The system bus is found through the environment, which a test may only set for another process: the
/// test runs itself again.
#[test]
fn polkit_may_grant_what_user_and_group_do_not() {
    if !is_root() {
        return;
    }
    let folder = Folder::new();
    std::fs::set_permissions(&folder.0, std::fs::Permissions::from_mode(0o755)).unwrap();
    let bus = start_system_bus(&folder.0);
    let address = format!("unix:path={}", folder.0.join("bus").display());
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["--ignored", "--exact", "access::on_a_system_bus_with_polkit"]);
    let output = run(again.env("DBUS_SYSTEM_BUS_ADDRESS", &address), b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    drop(bus);
}

#[test]
#[ignore = "run by polkit_may_grant_what_user_and_group_do_not, which sets DBUS_SYSTEM_BUS_ADDRESS"]
fn on_a_system_bus_with_polkit() {
    let scene = Scene::with(FakeNode::new(), |_| None, |config| config.bus = Bus::System);
    assert_eq!(scene.door.as_ref().unwrap().degraded(), [""; 0]);
    let address = std::env::var("DBUS_SYSTEM_BUS_ADDRESS").unwrap();
    let call = |verb: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "busctl"]);
        command.arg(format!("--address={address}")).args(["call", "org.tempos.Host1", ROOT, NODE]).args(verb);
        run(&mut command, b"")
    };
    assert!(!call(&["Reload"]).status.success(), "without polkit the refusal stands");
    let polkit = async {
        let builder = zbus::connection::Builder::system().unwrap();
        let builder = builder.name("org.freedesktop.PolicyKit1").unwrap();
        builder.serve_at("/org/freedesktop/PolicyKit1/Authority", Polkit).unwrap().build().await.unwrap()
    };
    let polkit = scene.runtime.block_on(polkit);
    let reload = call(&["Reload"]);
    assert!(reload.status.success(), "{reload:?}");
    let drain = call(&["Drain", "u", "1"]);
    assert!(String::from_utf8(drain.stderr).unwrap().contains("user 65534 may not call Drain"));
    assert_eq!(scene.node.take_orders(), ["Reload"]);
    let _inside = scene.runtime.enter();
    drop(polkit);
}
