//! What an event costs, for whoever works on it:
//! `cargo test --release -p tempos-adapter-tcp speed -- --ignored --nocapture`.

use super::*;

/// CPU time of this thread in nanoseconds.
fn cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is live for the call.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// CPU per event at the sender and at the receiver, both driven by this thread over the loopback.
fn cost(bytes: usize, batch: usize, rounds: usize) -> [f64; 2] {
    let mut spec = ingress(&[]);
    spec.batch_max = 64;
    let mut receiver = open(&spec);
    let mut sender =
        open(&ChannelSpec { batch_max: 64, ..egress(address(&receiver), &[("unsent", 1 << 20)]) });
    let payload = vec![7u8; bytes];
    let frames = vec![TxFrame::payload(&payload, QosLevel::STRICT); batch];
    let mut buffers = vec![([0u8; 2048], [0u8; 96]); 64];
    let mut slots: Vec<_> = buffers.iter_mut().map(|(frame, notes)| RxSlot::new(frame, notes)).collect();
    let (mut sent, mut received, mut spent) = (0, 0, [0, 0]);
    for _ in 0..rounds {
        let start = cpu_ns();
        let mut done = 0;
        while done < batch {
            match sender.send_batch(&frames[done..]) {
                Ok(count) => done += count,
                Err(_) => break,
            }
        }
        sent += done;
        let between = cpu_ns();
        while received < sent {
            received += receiver.recv_batch(&mut slots).unwrap_or(0);
        }
        spent[0] += between - start;
        spent[1] += cpu_ns() - between;
    }
    spent.map(|ns| ns as f64 / received as f64)
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    cost(256, 64, 2000);
    for (bytes, batch) in [(256, 64), (256, 16), (256, 1), (1400, 64), (64, 64)] {
        let [out, in_] = cost(bytes, batch, 400_000 / batch / 4);
        eprintln!("{bytes} bytes, {batch} at once: out {out:.0} ns, in {in_:.0} ns per event");
    }
}
