//! A network of a test's own: a namespace with interfaces that nobody else has.

use std::fmt::Display;
use std::io;
use std::process::Command;

/// Runs a test on a thread in a network namespace of its own, with `lo` up. What it starts is in there too, and all
/// of it is gone at its end.
///
/// # Panics
/// When the test does, or when a namespace is not permitted: these tests run as root.
pub fn in_a_network(test: impl FnOnce() + Send + 'static) {
    let worker = std::thread::spawn(move || {
        // SAFETY: unshare(2) moves this thread alone; it touches no memory.
        let done = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(done, 0, "a network namespace needs root: {}", io::Error::last_os_error());
        ip("link set lo up");
        test();
    });
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs `ip` (iproute2) with those words, in the namespace of the calling thread.
///
/// # Panics
/// When it fails; its words are in the message.
pub fn ip(words: impl Display) {
    let words = words.to_string();
    let output = Command::new("ip").args(words.split_whitespace()).output().expect("iproute2 is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {words}: {errors}");
}

/// An interface with that address (`10.9.0.1/24`) and a neighbour who takes everything that goes out by it and says
/// nothing.
///
/// # Panics
/// As [`ip`].
pub fn way_out(name: &str, address: &str, neighbour: &str) {
    ip(format_args!("link add {name} type veth peer name {name}-end"));
    ip(format_args!("addr add {address} dev {name}"));
    ip(format_args!("link set {name} up"));
    ip(format_args!("link set {name}-end up"));
    ip(format_args!("neigh add {neighbour} lladdr 02:00:00:00:00:02 dev {name} nud permanent"));
}
