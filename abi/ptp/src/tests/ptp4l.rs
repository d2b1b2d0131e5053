//! Against the real one (linuxptp), two of them in two network namespaces, over a pair of veth with the kernel's stamps.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::clock::{Clock, ClockConfig, ClockState};
use crate::message::PortState;
use crate::watch::Role;

const PATIENCE: Duration = Duration::from_secs(60);
const CAP_SYS_TIME: libc::c_ulong = 25;

/// Killed and reaped when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Both share this machine's clock, and none of them may set it: they would only do harm. So the offset is small.
fn start(interface: &str, socket: &Path, words: &str) -> Running {
    let mut command = Command::new("ptp4l");
    command.args(["-i", interface, "-S", "-2", "--uds_address"]).arg(socket).args(words.split_whitespace());
    command.args(
        "--transportSpecific 1 --logSyncInterval -4 --logAnnounceInterval -2 --logMinDelayReqInterval -4"
            .split(' '),
    );
    // With stamps in software its servo takes half a minute to settle otherwise.
    command.args("--pi_proportional_const 0.7 --pi_integral_const 0.3 --summary_interval 6".split(' '));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: prctl(2) alone, between fork and exec.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_CAPBSET_DROP, CAP_SYS_TIME, 0, 0, 0) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
    Running(command.spawn().expect("ptp4l runs"))
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split_whitespace()).status().expect("iproute2 is installed");
    assert!(done.success(), "ip {words}");
}

fn leave_the_network() -> bool {
    // SAFETY: unshare(2) moves this thread alone; it touches no memory.
    unsafe { libc::unshare(libc::CLONE_NEWNET) == 0 }
}

/// Polls until a state is wanted.
fn until(clock: &mut Clock, what: &str, wanted: impl Fn(&ClockState) -> bool) -> ClockState {
    let begun = Instant::now();
    loop {
        let state = clock.poll();
        if wanted(&state) {
            return state;
        }
        assert!(begun.elapsed() < PATIENCE, "{what} never came: {state:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_clock_is_granted_lost_and_granted_again() {
    let installed = Command::new("ptp4l").arg("-v").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if installed.is_err() {
        println!("skipped: ptp4l is missing; apt-get install linuxptp");
        return;
    }
    let worker = std::thread::spawn(|| {
        if !leave_the_network() {
            println!("skipped: a network namespace is not permitted here ({})", io::Error::last_os_error());
            return;
        }
        follow();
    });
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

fn follow() {
    let folder = tempfile::tempdir().expect("a folder");
    let [leader_socket, follower_socket] = ["leader", "follower"].map(|name| folder.path().join(name));
    ip("link add ptp0 type veth peer name ptp1");
    ip("link set ptp0 up");
    // The other one's namespace lives as long as its process.
    let (tell, told) = channel();
    let (moved, is_moved) = channel();
    let path = leader_socket.clone();
    let other = std::thread::spawn(move || {
        assert!(leave_the_network());
        // SAFETY: gettid(2) takes nothing.
        tell.send(unsafe { libc::gettid() }).expect("told");
        is_moved.recv().expect("moved");
        ip("link set ptp1 up");
        start("ptp1", &path, "--priority1 100")
    });
    ip(&format!("link set ptp1 netns {}", told.recv().expect("told")));
    moved.send(()).expect("it waits");
    let leader = other.join().expect("it runs");
    let follower = |words: &str| start("ptp0", &follower_socket, &format!("--slaveOnly 1 {words}"));
    let running = follower("");

    let mut config = ClockConfig::new(&follower_socket, folder.path());
    config.bounds.role = Role::Follower;
    // The machine may be busy: stamps in software come late then.
    config.bounds.offset_max_ns = 50_000_000;
    config.bounds.hold_ns = 500_000_000;
    let mut clock = Clock::new(config.clone()).expect("a socket");
    let state = until(&mut clock, "a grant", |state| state.granted);
    assert_eq!(state.port, Some(PortState::SLAVE));
    assert!(state.reason.contains("from grandmaster") && state.tai_offset_s.is_some(), "{state:?}");

    // One that asks for more than this can give.
    let mut narrow = config.clone();
    narrow.bounds.offset_max_ns = 0;
    let mut narrow = Clock::new(narrow).expect("a socket");
    until(&mut narrow, "an offset", |state| state.reason.contains("and may be 0 ns"));

    let mut leading = ClockConfig::new(&leader_socket, folder.path());
    leading.bounds.role = Role::Leader;
    let mut leading = Clock::new(leading).expect("a socket");
    until(&mut leading, "the leader's grant", |state| {
        state.granted && state.reason == "port 1 gives the time"
    });

    // A clock of a card that is not there, and a file that is no clock.
    for (file, words) in [("/dev/ptp-none", "No such file"), ("/dev/null", "Invalid argument")] {
        let mut carded = config.clone();
        carded.hardware = Some(file.into());
        let mut carded = Clock::new(carded).expect("a socket");
        let sentence = format!("the card's clock {file} cannot be read: {words}");
        until(&mut carded, &sentence, |state| !state.granted && state.reason.contains(&sentence));
    }

    // Killed.
    drop(running);
    let state = until(&mut clock, "the end", |state| !state.granted);
    assert!(state.reason.contains("ptp4l has not"), "{state:?}");

    // A road that is 200 ms longer one way than the other puts the clock 100 ms or more off.
    let running = follower("--ingressLatency 200000000");
    let state = until(&mut clock, "an offset", |state| state.reason.contains("from grandmaster"));
    assert!(!state.granted && state.reason.contains("and may be 50.00 ms"), "{state:?}");
    drop(running);

    // And back: granted again only after the hold.
    let _running = follower("");
    until(&mut clock, "the hold", |state| {
        !state.granted && state.reason.contains("it counts after 500.00 ms")
    });
    until(&mut clock, "a grant again", |state| state.granted);

    // The leader's end is heard by its silence, while the follower's ptp4l goes on answering.
    drop(leader);
    let state = until(&mut clock, "the leader's end", |state| !state.granted);
    assert!(state.reason.contains("no Sync") || state.reason.contains("is to be SLAVE"), "{state:?}");
}
