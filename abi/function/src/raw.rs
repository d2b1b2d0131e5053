//! The structs of `tempos_function.h`, field by field. They only grow at their ends.

/// There is an output, even if it is empty.
pub const OUTPUT_EMITTED: u32 = 1;
/// More was written than fits: the invocation fails.
pub const OUTPUT_OVERFLOWED: u32 = 2;

/// `tempos_event`: every pointer may be null where its length is 0.
#[repr(C)]
#[derive(Debug)]
pub struct RawEvent {
    /// The size of this struct as the node knows it.
    pub struct_bytes: u32,
    /// The QoS level: 0 strict, 1 best-effort, others as declared.
    pub level: u32,
    /// Unique for this node.
    pub id: u64,
    /// When it came to be, nanoseconds since the epoch; 0: unknown.
    pub source_time_ns: u64,
    /// When it arrived here (CLOCK_MONOTONIC, ns).
    pub arrival_ns: u64,
    /// When it is late (CLOCK_MONOTONIC, ns); 0: never.
    pub deadline_ns: u64,
    /// UTF-8.
    pub topic: *const u8,
    /// Its length.
    pub topic_bytes: usize,
    /// The payload.
    pub payload: *const u8,
    /// Its length.
    pub payload_bytes: usize,
    /// The block of attributes.
    pub attributes: *const u8,
    /// Its length.
    pub attributes_bytes: usize,
}

/// `tempos_output`.
#[repr(C)]
#[derive(Debug)]
pub struct RawOutput {
    /// The size of this struct as the node knows it.
    pub struct_bytes: u32,
    /// [`OUTPUT_EMITTED`], [`OUTPUT_OVERFLOWED`].
    pub flags: u32,
    /// Where the output goes.
    pub data: *mut u8,
    /// The most bytes that it takes.
    pub capacity: usize,
    /// The bytes that were written.
    pub length: usize,
    /// Where a sentence goes that says what went wrong.
    pub error: *mut u8,
    /// The most bytes that it takes.
    pub error_capacity: usize,
    /// The bytes that were written.
    pub error_length: usize,
}

/// `tempos_handle`: 0 where it ended well, 1 to 255 where it failed.
pub type RawHandle = unsafe extern "C" fn(*const RawEvent, *mut RawOutput) -> i32;
