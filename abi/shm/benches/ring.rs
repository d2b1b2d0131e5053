//! How many nanoseconds a frame costs in the ring alone.
fn main() {}
