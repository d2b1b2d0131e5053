//! What an event costs, for whoever works on it:
//! `cargo test --release -p tempos-adapter-unix speed -- --ignored --nocapture`.

use super::*;

/// CPU time of this thread in nanoseconds.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is live for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU per event at the sender and at the receiver, both driven by this thread.
fn cost(kind: &str, bytes: usize, batch: usize, rounds: usize) -> [f64; 2] {
    let folder = Folder::new(&format!("speed-{kind}"));
    let path = folder.at("s");
    let all = |spec: ChannelSpec| ChannelSpec { batch_max: 64, ..spec };
    let mut receiver = open(&all(ingress(&path, kind)));
    let mut sender = open(&all(egress(&path, kind)));
    let payload = vec![7u8; bytes];
    let frames = vec![TxFrame::payload(&payload, QosLevel::STRICT); batch];
    let mut buffers = vec![([0u8; 2048], [0u8; 96]); 64];
    let mut slots: Vec<_> = buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
    let (mut received, mut spent) = (0, [0, 0]);
    for _ in 0..rounds {
        let start = cpu_ns();
        let sent = sender.send_batch(&frames).unwrap_or(0);
        let between = cpu_ns();
        let mut got = 0;
        while got < sent {
            got += receiver.recv_batch(&mut slots).unwrap_or(0);
        }
        received += got;
        spent[0] += between - start;
        spent[1] += cpu_ns() - between;
    }
    spent.map(|ns| ns as f64 / received as f64)
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    for kind in ["seqpacket", "datagram"] {
        cost(kind, 256, 64, 1000);
        for (bytes, batch) in [(256, 64), (256, 16), (256, 1), (1400, 64)] {
            let [out, in_] = cost(kind, bytes, batch, 100_000 / batch);
            eprintln!("{kind}, {bytes} bytes, {batch} at once: out {out:.0} ns, in {in_:.0} ns per event");
        }
    }
}
