//! Where the code of the lanes lies, for whoever locks it.

use super::state::LaneState;

/// Addresses inside the lanes' own functions. The linker keeps a crate's functions together, so what lies
/// around these is the rest of the event's road.
pub fn addresses() -> [usize; 5] {
    [
        super::worker::run as *const () as usize,
        LaneState::receive as *const () as usize,
        LaneState::admit as *const () as usize,
        LaneState::dispatch as *const () as usize,
        LaneState::collect as *const () as usize,
    ]
}
