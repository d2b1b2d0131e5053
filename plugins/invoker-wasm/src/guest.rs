//! What a guest's store holds beside the guest's own state: the event that it works on, its limits, its walls.

use std::ptr::NonNull;
use std::sync::Arc;

use tempos_abi::event::{EventView, Output};
use wasmtime::{Memory, ResourceLimiter, UpdateDeadline};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtxView, WasiView};

use crate::clock::now_ns;
use crate::deadlines::Deadlines;
use crate::journal::Journal;
use crate::sandbox::Sandbox;

/// Elements of all tables of an instance.
const TABLE_ELEMENTS_MAX: usize = 20_000;

/// What all instances of a function share.
pub struct Shared {
    /// Invocations under way.
    pub deadlines: Arc<Deadlines>,
    /// What guests say.
    pub journal: Arc<Journal>,
    /// What they may see through WASI.
    pub sandbox: Sandbox,
    /// The most memory of an instance in bytes.
    pub memory_bytes: u64,
}

/// A guest's side of the store.
pub struct Guest {
    /// What all instances share.
    pub shared: Arc<Shared>,
    /// Its memory, once it is known.
    pub memory: Option<Memory>,
    /// It has been refused memory.
    pub over_memory: bool,
    /// Its place among the invocations under way.
    pub place: usize,
    memory_bytes: usize,
    table_elements: usize,
    lent: Lent,
    /// Boxed: most guests never look, and a store is moved.
    wasi: Option<Box<WasiP1Ctx>>,
}

/// The event and the output of the invocation under way.
#[derive(Default)]
struct Lent {
    event: Option<NonNull<EventView<'static>>>,
    output: Option<NonNull<Output<'static>>>,
}

// SAFETY: both are set by the thread that runs the invocation and cleared before it returns (see `lend`); while
// they are set the store, and with it this, is used by that thread alone.
unsafe impl Send for Lent {}
// SAFETY: as above; a shared reference gives no access to what they point at.
unsafe impl Sync for Lent {}

impl Guest {
    /// A guest that has not begun.
    pub fn new(shared: Arc<Shared>, place: usize) -> Self {
        Guest {
            shared,
            memory: None,
            over_memory: false,
            place,
            memory_bytes: 0,
            table_elements: 0,
            lent: Lent::default(),
            wasi: None,
        }
    }

    /// Lends it an event and an output until [`Guest::take_back`].
    ///
    /// # Safety
    /// Both must live until then, and only the calling thread may use this guest meanwhile.
    pub unsafe fn lend(&mut self, event: &EventView<'_>, output: &mut Output<'_>) {
        self.lent =
            Lent { event: Some(NonNull::from(event).cast()), output: Some(NonNull::from(output).cast()) };
    }

    /// Ends the loan.
    pub fn take_back(&mut self) {
        self.lent = Lent::default();
    }

    /// The event, while it works on one.
    pub fn event(&self) -> Option<&EventView<'_>> {
        // SAFETY: see `lend`.
        self.lent.event.map(|event| unsafe { event.cast::<EventView<'_>>().as_ref() })
    }

    /// The output, while it works on an event.
    pub fn output(&mut self) -> Option<&mut Output<'_>> {
        // SAFETY: see `lend`.
        self.lent.output.map(|output| unsafe { output.cast::<Output<'_>>().as_mut() })
    }

    /// Whether it has to stop, asked when the engine's epoch has moved on.
    pub fn verdict(&self) -> UpdateDeadline {
        match self.shared.deadlines.is_over(self.place, now_ns()) {
            true => UpdateDeadline::Interrupt,
            false => UpdateDeadline::Continue(1),
        }
    }

    /// What it may see through WASI, made when it first looks.
    pub fn wasi(&mut self) -> &mut WasiP1Ctx {
        let (sandbox, journal) = (&self.shared.sandbox, &self.shared.journal);
        self.wasi.get_or_insert_with(|| Box::new(sandbox.open(journal)))
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        self.wasi().ctx()
    }
}

impl ResourceLimiter for Guest {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if grown as u64 > self.shared.memory_bytes {
            self.over_memory = true;
            return Ok(false);
        }
        self.memory_bytes = grown;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let grown = self.table_elements.saturating_add(desired.saturating_sub(current));
        if grown > TABLE_ELEMENTS_MAX {
            self.over_memory = true;
            return Ok(false);
        }
        self.table_elements = grown;
        Ok(true)
    }
}
