//! What `crate::system` is to the engine's files.
pub mod atomic;
#[path = "../../src/system/sleep_flag.rs"]
pub mod sleep_flag;
pub mod wake;
pub mod scheduling {
    //! Threads by their number.

    /// A thread.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ThreadId(pub i32);
}
