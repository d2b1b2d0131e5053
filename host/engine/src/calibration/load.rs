//! Ordinary load: a thread for each CPU that computes and touches memory, as best-effort work of a node does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// More than a core's own cache holds.
const MEMORY_BYTES: usize = 4 << 20;

/// Load that lasts until it is dropped, at most as long as was said.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts it. Where the system gives fewer threads, there is less of it.
    pub fn start(most: Duration) -> Load {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let stop = Arc::new(AtomicBool::new(false));
        let end = Instant::now() + most;
        let threads = (0..cpus).filter_map(|_| {
            let stop = Arc::clone(&stop);
            let body = move || {
                let mut memory = vec![1_u8; MEMORY_BYTES];
                while !stop.load(Ordering::Relaxed) && Instant::now() < end {
                    for at in (0..MEMORY_BYTES).step_by(64) {
                        memory[at] = memory[at].wrapping_mul(31).wrapping_add(at as u8);
                    }
                    std::hint::black_box(&memory);
                }
            };
            std::thread::Builder::new().name("calibration-load".into()).spawn(body).ok()
        });
        let threads = threads.collect();
        Load { stop, threads }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
