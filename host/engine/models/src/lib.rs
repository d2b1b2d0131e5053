//! Models of what lanes, controller and supervisor share.
//!
//! The engine's own files, `lane/ownership.rs`, `lane/shared.rs` and `system/sleep_flag.rs`, are built here
//! as they stand, but with loom's atomics in the place of the standard library's, and with stand-ins for
//! what they carry. loom then runs each test in every order that the memory model allows, and finds races,
//! lost wake-ups and deadlocks. What the stand-ins hold is watched: two threads at once are an error.
//!
//! Each model must also fail: [`system::atomic::weaken`] takes away what an order promises.

pub mod lane;
pub mod system;

pub mod watched {
    //! Memory that the model watches.
    use loom::cell::UnsafeCell;

    /// A number that one thread may change, or several may read, at a time.
    #[derive(Debug, Default)]
    pub struct Watched(UnsafeCell<u64>);

    // SAFETY: the model says so where it is not true.
    unsafe impl Sync for Watched {}
    // SAFETY: it is a number.
    unsafe impl Send for Watched {}

    impl Watched {
        /// Reads it.
        pub fn read(&self) -> u64 {
            // SAFETY: the model watches.
            self.0.with(|number| unsafe { *number })
        }

        /// Changes it.
        pub fn write(&self, number: u64) {
            // SAFETY: the model watches.
            self.0.with_mut(|place| unsafe { *place = number });
        }
    }
}

pub mod bridging {
    //! A channel that is asked for its descriptor.
    pub mod endpoint {
        //! See above.
        /// The channel.
        #[derive(Debug, Default)]
        pub struct Source(pub crate::watched::Watched);

        impl Source {
            /// Its descriptor.
            pub fn take_over(&mut self) -> i32 {
                self.0.write(self.0.read() + 1);
                self.0.read() as i32
            }
        }
    }
}

pub mod delivery {
    //! The same on the way out.
    pub mod outlet {
        //! See above.
        pub use crate::bridging::endpoint::Source as Outlet;
    }
}

pub mod processing {
    //! A function worker's port.
    pub mod invoker {
        //! See above.
        pub use crate::watched::Watched as FunctionPort;
    }
}

pub mod stats {
    //! Nothing is counted.
    /// Nothing.
    #[derive(Debug, Default)]
    pub struct LaneStats {}
}
