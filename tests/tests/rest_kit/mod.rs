//! What the tests of the REST door share.

#![allow(dead_code)] // Each of them uses its part.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempos_tests::http::Rest;
use tempos_tests::node::{BUS_NAME, ROOT};
use tempos_tests::{Node, NodeSetup, port};

use crate::road::unix;

/// A token that may look.
pub const READ: &str = "0123456789abcdef0123456789abcdef-read";
/// A token that may change.
pub const CHANGE: &str = "0123456789abcdef0123456789abcdef-change";

/// A topic from a socket to a socket.
pub fn wiring(setup: &NodeSetup, topic: &str) -> String {
    format!(
        "tempos.topic \"{topic}\" {{ qos = \"strict\", ingress = {{ {} }}, egress = {{ {} }} }}\n",
        unix(setup, "in", ""),
        unix(setup, "out", "")
    )
}

pub fn write_tokens(folder: &Path, text: &str) {
    let path = folder.join("tokens");
    fs::write(&path, text).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// A node file with a TCP address, and that address.
pub fn with_tcp(setup: NodeSetup, more: &str) -> (NodeSetup, SocketAddr) {
    write_tokens(setup.folder(), &format!("screen read {READ}\nplanner change {CHANGE}\n"));
    let address = port::reserved();
    let folder = setup.folder().display().to_string();
    let toml = format!("[rest]\nlisten = \"{address}\"\ntokens = \"{folder}/tokens\"\n{more}");
    (setup.node_file(&toml), address)
}

pub fn rest(node: &Node) -> Rest {
    Rest::unix(node.folder())
}

/// What busctl says to a call of a method of the node: the answer, or the sentence.
pub fn busctl(node: &Node, arguments: &[&str]) -> Result<String, String> {
    let interface = format!("{BUS_NAME}.Node");
    let output = node.busctl([&["call", BUS_NAME, ROOT, &interface], arguments].concat());
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(said(&output.stdout)),
        false => {
            let sentence = said(&output.stderr);
            Err(sentence.strip_prefix("Call failed: ").unwrap_or(&sentence).to_owned())
        }
    }
}
