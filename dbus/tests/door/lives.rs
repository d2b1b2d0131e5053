//! The bus comes and goes, the socket's file was there before: the node is reachable all the same.

use std::os::unix::net::UnixListener;

use tempos_dbus::{Bus, Door, DoorConfig, DoorError};

use crate::node::FakeNode;
use crate::scene::{Folder, Scene, Side, eventually, start_bus};

const ROOT: &str = "/org/tempos/Host1";
const NODE: &str = "org.tempos.Host1.Node";

fn degraded(scene: &Scene) -> String {
    scene.busctl_says(Side::Peer, &["get-property", "org.tempos.Host1", ROOT, NODE, "Degraded"])
}

#[test]
fn the_node_starts_without_its_bus_and_finds_it_later() {
    let mut scene = Scene::with(FakeNode::new(), |_| None, |_| {});
    assert_eq!(scene.door.as_ref().unwrap().degraded().len(), 1);
    let said = degraded(&scene);
    assert!(said.contains("cannot be reached, it is tried again"), "{said}");
    let (_, said) = scene.ctl_says(Side::Bus, &["status"], 69);
    assert!(said.contains("no node can be reached"), "{said}");

    for _ in 0..2 {
        scene.bus = Some(start_bus(&scene.folder.0));
        eventually("the node is on the bus", || scene.ctl(Side::Bus, &["status"], b"").status.success());
        assert_eq!(degraded(&scene), "as 0\n");
        // The bus dies; the socket goes on.
        scene.bus = None;
        let _ = std::fs::remove_file(scene.folder.0.join("bus"));
        eventually("the node says that it lost the bus", || degraded(&scene).contains("tried again"));
        scene.ctl_says(Side::Peer, &["status"], 3);
    }
}

#[test]
fn a_name_that_another_has_is_waited_for() {
    let mut scene = Scene::new();
    let config = DoorConfig {
        bus: Bus::Address(scene.address(Side::Bus)),
        peer_socket: None,
        ..DoorConfig::default()
    };
    let second = scene.runtime.block_on(Door::open(config, FakeNode::new())).unwrap();
    assert!(second.degraded()[0].contains("another process has the name"), "{:?}", second.degraded());
    let first = scene.door.take().unwrap();
    scene.runtime.block_on(first.close());
    eventually("the second takes over", || second.degraded().is_empty());
    scene.runtime.block_on(second.close());
    let owned = scene.busctl(Side::Bus, &["status", "org.tempos.Host1"]);
    assert!(!owned.status.success(), "the name was given back");
}

fn open(folder: &Folder) -> Result<Door, DoorError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = DoorConfig {
        bus: Bus::None,
        peer_socket: Some(folder.0.join("control.sock")),
        ..DoorConfig::default()
    };
    runtime.block_on(Door::open(config, FakeNode::new()))
}

#[test]
fn a_socket_that_nobody_listens_at_is_replaced_and_no_other_file_is() {
    let folder = Folder::new();
    let path = folder.0.join("control.sock");
    drop(UnixListener::bind(&path).unwrap());
    drop(open(&folder).unwrap());
    assert!(!path.exists(), "the door took its file with it");

    let live = UnixListener::bind(&path).unwrap();
    let refused = open(&folder).err().unwrap().to_string();
    assert!(refused.contains("another node listens"), "{refused}");
    drop(live);

    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "notes").unwrap();
    let refused = open(&folder).err().unwrap().to_string();
    assert!(refused.contains("is not a socket"), "{refused}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "notes");

    let gone = Folder(folder.0.join("nowhere"));
    assert!(open(&gone).err().unwrap().to_string().contains("cannot listen"));
}
