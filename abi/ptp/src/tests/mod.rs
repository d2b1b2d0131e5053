//! The codec against bytes of a real ptp4l and garbage, the watch against a table, the whole against ptp4l.

mod codec;
mod garbage;
mod judging;
mod ptp4l;
