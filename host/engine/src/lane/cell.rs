//! A thing that the controller makes and keeps alive, and that only the lane's owner touches.

use std::cell::UnsafeCell;

/// The cell.
#[derive(Debug)]
pub struct LaneCell<T>(UnsafeCell<T>);

// SAFETY: `get` is only called by the lane's owner while the cell is in its tables, and by the
// controller before the first such tables and after the last (see `LaneTables`).
unsafe impl<T: Send> Sync for LaneCell<T> {}

impl<T> LaneCell<T> {
    /// A cell that no lane knows yet.
    pub fn new(value: T) -> Self {
        LaneCell(UnsafeCell::new(value))
    }

    /// The content.
    ///
    /// # Safety
    /// The caller owns the lane, or no lane has this cell in its tables; and no other reference to the
    /// content is alive.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn get(&self) -> &mut T {
        // SAFETY: see above.
        unsafe { &mut *self.0.get() }
    }
}
