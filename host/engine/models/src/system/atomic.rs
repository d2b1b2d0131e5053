//! loom's atomics, whose orders a test may weaken to see that its model would notice.

use std::cell::Cell;

pub use loom::sync::atomic::Ordering;

/// What is taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weakness {
    /// Nothing.
    #[default]
    None,
    /// What stores and exchanges release.
    Release,
    /// What loads and exchanges acquire.
    Acquire,
    /// That fences order earlier stores before later loads.
    Fences,
    /// That exchanges are one step.
    Exchanges,
}

thread_local! {
    // A model's threads are all run by the thread of its test.
    static WEAKNESS: Cell<Weakness> = const { Cell::new(Weakness::None) };
    static IN_ORDER: Cell<bool> = const { Cell::new(false) };
}

/// From now on the calling test's atomics lack this.
pub fn weaken(weakness: Weakness) {
    WEAKNESS.set(weakness);
}

/// From now on the calling test's flags are stored to by exchanges whose answers nobody reads.
///
/// loom keeps no order between a flag's stores by one thread and its exchanges by another, though an
/// exchange has its place right behind what it has read. A flag that is stored to again after an exchange
/// then seems to lose what it never can. What a plain store lacks beside an exchange (order towards later
/// loads) is for the models without this to try.
pub fn keep_flags_in_order() {
    IN_ORDER.set(true);
}

fn weakened(order: Ordering) -> Ordering {
    match (WEAKNESS.get(), order) {
        (Weakness::Release, Ordering::Release) => Ordering::Relaxed,
        (Weakness::Release, Ordering::AcqRel) => Ordering::Acquire,
        (Weakness::Acquire, Ordering::Acquire) => Ordering::Relaxed,
        (Weakness::Acquire, Ordering::AcqRel) => Ordering::Release,
        (_, order) => order,
    }
}

/// A fence.
pub fn fence(order: Ordering) {
    let weak = WEAKNESS.get() == Weakness::Fences && order == Ordering::SeqCst;
    loom::sync::atomic::fence(if weak { Ordering::AcqRel } else { order });
}

macro_rules! number {
    ($name:ident, $value:ty) => {
        /// As the standard library's.
        #[derive(Debug)]
        pub struct $name(loom::sync::atomic::$name);

        impl Default for $name {
            fn default() -> Self {
                Self::new(<$value>::default())
            }
        }

        number!(@methods $name, $value,);
    };
    (@methods $name:ident, $value:ty, $($generic:tt)*) => {
        #[allow(missing_docs)]
        impl $($generic)* $name $($generic)* {
            pub fn new(value: $value) -> Self {
                $name(loom::sync::atomic::$name::new(value))
            }

            #[track_caller]
            pub fn load(&self, order: Ordering) -> $value {
                self.0.load(weakened(order))
            }

            #[track_caller]
            pub fn swap(&self, value: $value, order: Ordering) -> $value {
                if WEAKNESS.get() == Weakness::Exchanges {
                    let before = self.0.load(Ordering::Acquire);
                    self.store(value, Ordering::Release);
                    return before;
                }
                self.0.swap(value, weakened(order))
            }

            #[track_caller]
            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(current, new, weakened(success), weakened(failure))
            }
        }
    };
}

macro_rules! plain_store {
    ($name:ident, $value:ty, $($generic:tt)*) => {
        #[allow(missing_docs)]
        impl $($generic)* $name $($generic)* {
            #[track_caller]
            pub fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, weakened(order));
            }
        }
    };
}

number!(AtomicBool, bool);
number!(AtomicI32, i32);
number!(AtomicU32, u32);
number!(AtomicU64, u64);
plain_store!(AtomicI32, i32,);
plain_store!(AtomicU32, u32,);
plain_store!(AtomicU64, u64,);

impl AtomicBool {
    /// As the standard library's; see [`keep_flags_in_order`].
    #[track_caller]
    pub fn store(&self, value: bool, order: Ordering) {
        if IN_ORDER.get() {
            self.0.swap(value, weakened(order));
        } else {
            self.0.store(value, weakened(order));
        }
    }
}

#[allow(missing_docs)]
impl AtomicU64 {
    #[track_caller]
    pub fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, weakened(order))
    }
}

/// As the standard library's.
pub struct AtomicPtr<T>(loom::sync::atomic::AtomicPtr<T>);

impl<T> std::fmt::Debug for AtomicPtr<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AtomicPtr").finish_non_exhaustive()
    }
}

impl<T> Default for AtomicPtr<T> {
    fn default() -> Self {
        Self::new(std::ptr::null_mut())
    }
}

number!(@methods AtomicPtr, *mut T, <T>);
plain_store!(AtomicPtr, *mut T, <T>);
