//! The allocator of the C library, told what a process wants that makes much at its start and little later.

/// The size from which a buffer is a mapping of its own: 128 KiB, glibc's own first value.
#[cfg(target_env = "gnu")]
const MAPPED_BYTES: i32 = 128 * 1024;

/// Keeps large buffers, such as a plugin's file while it is examined, mappings of their own that go back to
/// the system at once. glibc raises its threshold to the largest buffer that was ever given back, unless
/// it is set (mallopt(3)). To be called before there are threads.
pub fn prepare() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes integers and has no preconditions while there is one thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
    }
}

/// Gives back to the system what reading and checking a wiring has left behind (malloc_trim(3)). Takes
/// about a millisecond of the calling thread; lanes make no memory, so none of them waits for it.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes an integer and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
