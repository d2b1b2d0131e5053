//! Against the running kernel, in a network namespace of each test's own.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::halves;
use crate::control::{delete_root, read, restore, save, set_etf, set_mqprio, set_taprio};
use crate::etf::Etf;
use crate::link::Link;
use crate::monitor::{Change, ChangeBell, LinkMonitor};
use crate::mqprio::Mqprio;
use crate::qdisc::{Options, Qdisc, ROOT, Saved, handle};

/// Runs a test on a thread in a namespace of its own, where that is permitted.
fn in_a_namespace(test: impl FnOnce() + Send + 'static) {
    let worker = thread::spawn(move || {
        // SAFETY: unshare(2) moves this thread alone; it touches no memory.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            println!("skipped: a network namespace is not permitted here ({})", io::Error::last_os_error());
            return;
        }
        test();
    });
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Switches the loopback on or off (netdevice(7)).
fn switch_loopback(on: bool) {
    // SAFETY: the request is live and zeroed, and the descriptor is closed here.
    let done = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        request.ifr_ifru.ifru_flags = if on { libc::IFF_UP as libc::c_short } else { 0 };
        let done = libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw mut request);
        libc::close(socket);
        done
    };
    assert_eq!(done, 0, "{}", io::Error::last_os_error());
}

fn pfifo() -> Qdisc {
    Qdisc {
        kind: "pfifo".into(),
        handle: handle(0x42, 0),
        parent: ROOT,
        options: Options::Other(Vec::new()),
        counters: Default::default(),
    }
}

fn await_change(monitor: &mut LinkMonitor, what: &str, wanted: impl Fn(&Change) -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        match monitor.next_change().expect("the monitor hears") {
            Some(change) if wanted(&change) => return,
            Some(_) => {}
            None => thread::sleep(Duration::from_millis(1)),
        }
    }
    panic!("{what} was never told");
}

#[test]
fn a_link_is_found_and_its_absence_is_said() {
    in_a_namespace(|| {
        let link = Link::find("lo").expect("every namespace has lo");
        assert_eq!((link.index, link.tx_queues, link.up, &*link.name), (1, 1, false, "lo"));
        assert_eq!(link.mtu_bytes, 65_536);
        let refusal = Link::find("nothing0").expect_err("there is no such interface");
        assert_eq!(refusal.errno, libc::ENODEV);
        let sentence = refusal.to_string();
        assert!(sentence.starts_with("interface \"nothing0\": "), "{sentence}");
        assert!(sentence.ends_with("; name an interface of this network namespace"), "{sentence}");
        let long = Link::find("a-name-that-is-too-long").expect_err("too long").to_string();
        assert!(long.contains("1 to 15 bytes"), "{long}");
        let time = link.hardware_time().expect("lo has software stamps");
        assert_eq!((time.clock, time.stamps_sent, time.stamps_received), (None, false, false));
        assert_eq!(link.speed_mbit().expect_err("lo has no speed").errno, libc::EOPNOTSUPP);
    });
}

/// lo has one queue, and this kernel may have no taprio: it is refused either way, with the reason and the mend.
#[test]
fn taprio_on_one_queue_is_refused_in_the_kernels_words() {
    in_a_namespace(|| {
        let link = Link::find("lo").expect("lo");
        let before = read(&link).expect("can be read");
        let refusal = set_taprio(&link, &halves()).expect_err("lo cannot have gates");
        let sentence = refusal.to_string();
        assert!(sentence.starts_with("lo: set taprio in software: the kernel says \""), "{sentence}");
        match refusal.errno {
            libc::ENOENT => {
                assert!(sentence.contains("Specified qdisc kind is unknown"), "{sentence}");
                assert!(
                    sentence.contains("; boot a kernel that has it (CONFIG_NET_SCH_TAPRIO"),
                    "{sentence}"
                );
            }
            libc::EOPNOTSUPP => {
                assert!(sentence.contains("Multi-queue device is required"), "{sentence}");
                assert!(sentence.contains("; take an interface with several transmit queues"), "{sentence}");
            }
            other => panic!("errno {other}: {sentence}"),
        }
        assert_eq!(read(&link).expect("can be read"), before, "a refusal changes nothing");
    });
}

#[test]
fn what_the_kernel_lacks_or_refuses_is_a_sentence_for_every_kind() {
    in_a_namespace(|| {
        let link = Link::find("lo").expect("lo");
        let taprio = halves();
        let mqprio = Mqprio { map: taprio.map, queues: taprio.queues, hardware: false };
        let refusal = set_mqprio(&link, &mqprio).expect_err("lo has one queue");
        assert!(refusal.errno != 0 && refusal.to_string().starts_with("lo: set mqprio: "), "{refusal}");
        let refusal =
            set_etf(&link, handle(0x7e05, 1), &Etf::default()).expect_err("there is no such parent");
        let sentence = refusal.to_string();
        assert!(refusal.errno != 0 && sentence.starts_with("lo: set etf at 7e05:1: "), "{sentence}");
    });
}

/// pfifo is in every kernel with CONFIG_NET_SCHED.
#[test]
fn what_stood_there_is_saved_replaced_and_restored() {
    in_a_namespace(|| {
        let link = Link::find("lo").expect("lo");
        let empty = save(&link).expect("can be read");
        assert_eq!(empty, Saved::default(), "the kernel's default is nothing to save");
        let pfifo = |limit: u32| Saved {
            disciplines: vec![Qdisc {
                kind: "pfifo".into(),
                handle: handle(0x42, 0),
                parent: ROOT,
                options: Options::Other(limit.to_ne_bytes().to_vec()),
                counters: Default::default(),
            }],
        };
        restore(&link, &pfifo(17)).expect("pfifo is in every kernel");
        let saved = save(&link).expect("can be read");
        assert_eq!(saved, pfifo(17));
        restore(&link, &pfifo(3)).expect("another");
        assert_eq!(save(&link).expect("can be read"), pfifo(3));
        restore(&link, &saved).expect("back again");
        assert_eq!(save(&link).expect("can be read"), pfifo(17));
        delete_root(&link).expect("deleted");
        delete_root(&link).expect("nothing to delete is no mistake");
        assert_eq!(save(&link).expect("can be read"), empty);
    });
}

#[test]
fn a_bell_rings_for_its_own_link_alone() {
    in_a_namespace(|| {
        let link = Link::find("lo").expect("lo");
        let (bell, other) =
            (ChangeBell::new(link.index).expect("a bell"), ChangeBell::new(77).expect("a bell"));
        let rung = |bell: &ChangeBell| bell.has_rung().expect("it hears");
        assert!(!rung(&bell), "nothing has happened yet");
        switch_loopback(true);
        assert!(rung(&bell), "the kernel has told before the call returned");
        assert!(!rung(&bell), "once");
        restore(&link, &Saved { disciplines: vec![pfifo()] }).expect("pfifo");
        assert!(rung(&bell), "a discipline was set");
        assert!(!rung(&other), "another link's");
    });
}

#[test]
fn changes_of_links_and_disciplines_are_told() {
    in_a_namespace(|| {
        let mut monitor = LinkMonitor::new().expect("needs no rights");
        assert_eq!(monitor.next_change().expect("hears"), None, "nothing has happened yet");
        switch_loopback(true);
        await_change(
            &mut monitor,
            "up",
            |change| matches!(change, Change::Link(link) if link.name == "lo" && link.up && link.carrier),
        );
        let link = Link::find("lo").expect("lo");
        restore(&link, &Saved { disciplines: vec![pfifo()] }).expect("pfifo");
        await_change(
            &mut monitor,
            "pfifo",
            |change| matches!(change, Change::Qdisc { index: 1, qdisc } if qdisc.kind == "pfifo"),
        );
        delete_root(&link).expect("deleted");
        await_change(
            &mut monitor,
            "its end",
            |change| matches!(change, Change::QdiscGone { index: 1, qdisc } if qdisc.kind == "pfifo"),
        );
        switch_loopback(false);
        await_change(&mut monitor, "down", |change| matches!(change, Change::Link(link) if !link.up));
    });
}
