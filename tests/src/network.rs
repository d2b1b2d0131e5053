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

/// Has `/sys` show the network of the calling thread, for it and what it starts.
///
/// # Panics
/// When the system does not let it: it needs root.
pub fn own_sys() {
    // SAFETY: unshare(2) moves this thread alone; it touches no memory.
    let done = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(done, 0, "a mount namespace: {}", io::Error::last_os_error());
    for words in ["--make-rprivate /", "-t sysfs sysfs /sys"] {
        let done = Command::new("mount").args(words.split_whitespace()).status().expect("mount is there");
        assert!(done.success(), "mount {words}");
    }
}

/// Whether GRO is on (linux/ethtool.h: ETHTOOL_GGRO).
///
/// # Panics
/// When the kernel does not say.
pub fn gro(interface: &str) -> bool {
    let mut words = [0x2b, 0];
    ethtool(interface, &mut words);
    words[1] != 0
}

/// Switches GRO on or off (ETHTOOL_SGRO).
///
/// # Panics
/// When the kernel does not.
pub fn set_gro(interface: &str, on: bool) {
    ethtool(interface, &mut [0x2c, u32::from(on)]);
}

fn ethtool(interface: &str, words: &mut [u32]) {
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    // SAFETY: request and words are live and zeroed, and the descriptor is closed here.
    let done = unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = words.as_mut_ptr().cast();
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let done = libc::ioctl(socket, SIOCETHTOOL as _, &raw mut request);
        libc::close(socket);
        done
    };
    assert_eq!(done, 0, "ethtool {interface}: {}", io::Error::last_os_error());
}
