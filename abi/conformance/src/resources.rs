//! What a plugin must not leave behind: descriptors, folders.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many descriptors this process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// A folder of the run's own, removed at its end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> std::io::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("tempos-conformance-{}-{}", std::process::id(), number()));
        std::fs::create_dir(&path)?;
        Ok(Folder(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A number that is given out once in this process.
pub fn number() -> u64 {
    static NUMBERS: AtomicU64 = AtomicU64::new(1);
    NUMBERS.fetch_add(1, Ordering::Relaxed)
}

/// Whether this process may open packet sockets (packet(7)).
pub fn packet_sockets() -> bool {
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| status.lines().find_map(|line| line.strip_prefix("CapEff:").map(str::to_owned)))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        // CAP_NET_RAW.
        .is_some_and(|bits| bits & (1 << 13) != 0)
}
