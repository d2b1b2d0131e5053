//! What a frame of 256 bytes costs in the ring alone, one way, without bell or socket: first both ends in turn on
//! one CPU, which is the work that they do, then each on a CPU of its own, with the way between the caches. `cargo bench -p tempos-shm`

use std::time::Instant;

use tempos_shm::memory::Memory;
use tempos_shm::ring::{Reader, Writer};

const FRAMES: u64 = 500_000;
const FRAME_BYTES: usize = 256;
const CAPACITY: u64 = 256 << 10;

fn main() {
    let both = (0..5).map(|_| in_turn(64)).fold(f64::MAX, f64::min);
    #[allow(clippy::print_stdout)]
    {
        println!("one CPU, batches of 64: {both:.1} ns a frame for both ends together");
    }
    for batch in [1, 16, 64] {
        let each: Vec<f64> = (0..5).map(|_| run(batch)).collect();
        let (best, worst) = each.iter().fold((f64::MAX, 0f64), |(b, w), ns| (b.min(*ns), w.max(*ns)));
        #[allow(clippy::print_stdout)]
        {
            println!("batches of {batch:2}: {best:.1} to {worst:.1} ns a frame, {:.1} million/s", 1e3 / best);
        }
    }
}

/// Nanoseconds for each frame, written and read by one thread.
fn in_turn(batch: u64) -> f64 {
    let memory = Memory::new(CAPACITY).expect("memory");
    let copy = memory.descriptor().try_clone_to_owned().expect("a duplicate");
    let mut reader = Reader::new(Memory::adopt(copy, CAPACITY).expect("the same memory"));
    let mut writer = Writer::new(memory);
    let (mut frame, mut sum) = ([7u8; FRAME_BYTES], 0u64);
    let start = Instant::now();
    for _ in 0..FRAMES / batch {
        for _ in 0..batch {
            assert!(writer.push(b"", &frame).expect("an honest reader"));
        }
        let _ = writer.publish();
        while let Some(span) = reader.peek().expect("an honest writer") {
            reader.copy(span, &mut frame);
            sum += u64::from(frame[255]);
            reader.take(span);
        }
        let _ = reader.release();
    }
    assert_eq!(sum, 7 * (FRAMES / batch) * batch);
    start.elapsed().as_nanos() as f64 / FRAMES as f64
}

/// Nanoseconds for each frame.
fn run(batch: u64) -> f64 {
    let memory = Memory::new(CAPACITY).expect("memory");
    let copy = memory.descriptor().try_clone_to_owned().expect("a duplicate");
    let mut reader = Reader::new(Memory::adopt(copy, CAPACITY).expect("the same memory"));
    let mut writer = Writer::new(memory);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            pin(0);
            let frame = [7u8; FRAME_BYTES];
            for number in 1..=FRAMES {
                while !writer.push(b"", &frame).expect("an honest reader") {
                    let _ = writer.publish();
                    std::hint::spin_loop();
                }
                if number.is_multiple_of(batch) {
                    let _ = writer.publish();
                }
            }
            let _ = writer.publish();
        });
        pin(1);
        let (mut frame, mut got, mut sum) = ([0u8; FRAME_BYTES], 0, 0u64);
        while got < FRAMES {
            let Some(span) = reader.peek().expect("an honest writer") else {
                let _ = reader.release();
                std::hint::spin_loop();
                continue;
            };
            reader.copy(span, &mut frame);
            sum += u64::from(frame[255]);
            reader.take(span);
            got += 1;
            if got.is_multiple_of(batch) {
                let _ = reader.release();
            }
        }
        assert_eq!(sum, 7 * FRAMES);
    });
    start.elapsed().as_nanos() as f64 / FRAMES as f64
}

fn pin(cpu: usize) {
    // SAFETY: all zeroes is an empty set; the calls only read it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}
