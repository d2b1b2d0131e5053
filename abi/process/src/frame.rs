//! The frames that the node and a resident worker exchange (the README of `invoker-spawn`, "Resident workers"). Pure; trusts nothing
//! that a worker writes. All numbers are little endian.

use tempos_abi::event::EventView;

/// Bytes before topic, attributes and payload of an event.
pub const EVENT_HEAD_BYTES: usize = 48;
/// Bytes before explanation and payload of an answer.
pub const ANSWER_HEAD_BYTES: usize = 24;
/// The longest explanation of an answer.
pub const EXPLANATION_BYTES_MAX: usize = 1024;
/// The largest payload that an answer may announce at all; what the workflow takes is less.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The call of the answer by which a worker says that it is ready.
pub const READY: u64 = 0;

/// Status of an answer beside 0 (done, with an output) and 1 to 255 (failed, with that code).
pub const DONE_WITHOUT_OUTPUT: u32 = 256;
/// The invocation crashed; the worker did not.
pub const CRASHED: u32 = 257;
/// It asked for more memory than it may have.
pub const OVER_MEMORY: u32 = 258;
/// What the function gave back is nothing that can be an output.
pub const BAD_OUTPUT: u32 = 259;

/// The head of an event's frame.
pub fn event_head(event: &EventView<'_>, call: u64, deadline_ns: u64) -> [u8; EVENT_HEAD_BYTES] {
    let (topic, attributes, payload) = (event.topic.len(), event.attribute_block.len(), event.payload.len());
    let rest = EVENT_HEAD_BYTES - 4 + topic + attributes + payload;
    let mut head = [0; EVENT_HEAD_BYTES];
    head[0..4].copy_from_slice(&(rest as u32).to_le_bytes());
    head[4..6].copy_from_slice(&(topic as u16).to_le_bytes());
    head[6..8].copy_from_slice(&(attributes as u16).to_le_bytes());
    head[8..16].copy_from_slice(&call.to_le_bytes());
    head[16..24].copy_from_slice(&event.id.to_le_bytes());
    head[24..32].copy_from_slice(&event.source_time_ns.to_le_bytes());
    head[32..40].copy_from_slice(&deadline_ns.to_le_bytes());
    head[40] = event.level.0;
    head[44..48].copy_from_slice(&(payload as u32).to_le_bytes());
    head
}

/// The head of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerHead {
    /// How it went.
    pub status: u32,
    /// Bytes of explanation that follow.
    pub explanation_bytes: usize,
    /// Bytes of payload that follow then.
    pub payload_bytes: usize,
}

impl AnswerHead {
    /// Reads it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(head: &[u8; ANSWER_HEAD_BYTES], call: u64) -> Result<Self, &'static str> {
        let number = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let own_call = u64::from(number(8)) | u64::from(number(12)) << 32;
        let (explanation_bytes, payload_bytes) = (number(16) as usize, number(20) as usize);
        let answer = AnswerHead { status: number(4), explanation_bytes, payload_bytes };
        let rest = (ANSWER_HEAD_BYTES - 4).checked_add(explanation_bytes + payload_bytes);
        if rest != Some(number(0) as usize) {
            Err("the length of its answer is not that of its parts")
        } else if own_call != call {
            Err("it answered another call than the one it was given")
        } else if explanation_bytes > EXPLANATION_BYTES_MAX {
            Err("its explanation is longer than 1024 bytes")
        } else if payload_bytes > ANSWER_BYTES_MAX {
            Err("its output is longer than 64 MiB")
        } else if answer.status > BAD_OUTPUT {
            Err("the status of its answer is unknown")
        } else {
            Ok(answer)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(length: u32, status: u32, call: u64, explanation: u32, payload: u32) -> [u8; ANSWER_HEAD_BYTES] {
        let mut head = [0; ANSWER_HEAD_BYTES];
        head[0..4].copy_from_slice(&length.to_le_bytes());
        head[4..8].copy_from_slice(&status.to_le_bytes());
        head[8..16].copy_from_slice(&call.to_le_bytes());
        head[16..20].copy_from_slice(&explanation.to_le_bytes());
        head[20..24].copy_from_slice(&payload.to_le_bytes());
        head
    }

    #[test]
    fn an_answer_is_taken_only_where_everything_in_it_fits() {
        let well = AnswerHead { status: 7, explanation_bytes: 3, payload_bytes: 5 };
        let call = u64::MAX - 1;
        assert_eq!(AnswerHead::read(&head(28, 7, call, 3, 5), call), Ok(well));
        for wrong in [
            head(27, 7, call, 3, 5),
            head(0, 0, 0, 0, 0),
            head(28, 7, 1, 3, 5),
            head(20 + 1025, 0, call, 1025, 0),
            head(20 + (65 << 20), 0, call, 0, 65 << 20),
            head(u32::MAX, 0, call, u32::MAX, u32::MAX),
            head(28, 260, call, 3, 5),
            [0x78; ANSWER_HEAD_BYTES],
        ] {
            assert!(AnswerHead::read(&wrong, call).is_err(), "{wrong:?}");
        }
    }
}
