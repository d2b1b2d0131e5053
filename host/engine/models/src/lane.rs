//! What `crate::lane` is to the engine's files.
#[path = "../../src/lane/ownership.rs"]
pub mod ownership;
#[path = "../../src/lane/shared.rs"]
pub mod shared;
pub mod cell {
    //! The cell, as it is in the engine.
    use std::cell::UnsafeCell;

    /// The cell.
    #[derive(Debug)]
    pub struct LaneCell<T>(UnsafeCell<T>);

    // SAFETY: as in the engine; what is in it is watched by the model.
    unsafe impl<T: Send> Sync for LaneCell<T> {}

    impl<T> LaneCell<T> {
        /// A cell.
        pub fn new(value: T) -> Self {
            LaneCell(UnsafeCell::new(value))
        }

        /// The content.
        ///
        /// # Safety
        /// As in the engine.
        #[allow(clippy::mut_from_ref)]
        pub unsafe fn get(&self) -> &mut T {
            // SAFETY: see above.
            unsafe { &mut *self.0.get() }
        }
    }
}
pub mod tables {
    //! Tables that hold a number.
    pub use crate::watched::Watched as LaneTables;
}
