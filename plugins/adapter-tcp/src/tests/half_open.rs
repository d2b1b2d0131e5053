//! Peers that are gone without a word: the cable is pulled. In a network of the test's own, whose only
//! interface goes down; that takes the right to make one (CAP_SYS_ADMIN).

use super::*;

fn ip(arguments: &str) {
    let done = std::process::Command::new("ip").args(arguments.split(' ')).status();
    assert!(done.is_ok_and(|status| status.success()), "ip {arguments}");
}

#[test]
fn both_ends_of_a_connection_notice_that_the_other_is_gone() {
    let noticed = std::thread::spawn(|| {
        // SAFETY: the call changes this thread's network and nothing else.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return false;
        }
        ip("link set lo up");
        let ingress = ingress(&[("keepalive", 1000 * MS)]);
        let mut receiver = open(&ingress);
        let egress = egress(address(&receiver), &[("peer_timeout", 300 * MS)]);
        let mut sender = open(&egress);
        assert_eq!(send(&mut sender, &[b"here"]).ok(), Some(1));
        assert_eq!(until(&mut receiver, 4, |frames| !frames.is_empty()), [b"here"]);
        ip("link set lo down");
        let _ = send(&mut sender, &[b"lost"]);
        let end = Instant::now() + PATIENCE;
        while egress.counters.connections.get() > 0 {
            assert!(Instant::now() < end, "the sender never noticed");
            is_ready(&sender, libc::POLLIN, 50);
            let _ = send(&mut sender, &[b"lost"]);
        }
        until_counted(&mut receiver, || ingress.counters.connections.get() == 0);
        true
    });
    // Without the right there is nothing to be shown here.
    let may = std::process::Command::new("unshare").args(["-n", "true"]).status();
    assert_eq!(noticed.join().expect("it ends"), may.is_ok_and(|status| status.success()));
}
