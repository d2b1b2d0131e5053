//! Seeded garbage for what is taken off the wire: the event header and the attributes.

use tempos_abi::attributes::{ATTRIBUTES_BYTES_MAX, AttributeValue, AttributeWriter, Attributes};
use tempos_abi::envelope::{ENVELOPE_BYTES_MAX, Envelope, TOPIC_BYTES_MAX};
use tempos_abi::level::QosLevel;

const INPUTS: u64 = 300_000;

/// A small generator with a seed (splitmix64), so that a failure can be repeated.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn sample(dice: &mut Dice) -> Vec<u8> {
    let mut block = [0; 256];
    let mut writer = AttributeWriter::new(&mut block);
    for at in 0..dice.below(6) {
        let key = ["unit", "peer.uid", "ß", "a", "x.y.z", "k"][at];
        match dice.below(4) {
            0 => writer.put(key, AttributeValue::Unsigned(dice.next())),
            1 => writer.put(key, AttributeValue::Text("mm/s²")),
            2 => writer.put(key, AttributeValue::Bytes(&[1, 2, 3])),
            _ => writer.put(key, AttributeValue::Address(&[127, 0, 0, 1, 0x15, 0x7d])),
        };
    }
    let len = writer.len();
    let envelope = Envelope {
        event_id: dice.next(),
        level: QosLevel(dice.next() as u8),
        source_time_ns: dice.next(),
        deadline_ns: dice.next(),
        topic: ["", "press/vibration", "pression/température"][dice.below(3)],
        attributes: &block[..len],
        payload: &[],
    };
    let mut head = [0; ENVELOPE_BYTES_MAX];
    let len = envelope.encode_head(&mut head).expect("the sample fits");
    let mut frame = head[..len].to_vec();
    frame.extend((0..dice.below(64)).map(|_| 0xa5));
    frame
}

#[test]
fn no_frame_is_believed() {
    let mut dice = Dice(20_261_123);
    let (mut taken, mut refused) = (0, 0);
    for _ in 0..INPUTS {
        let mut frame = sample(&mut dice);
        match dice.below(4) {
            0 => {}
            1 => frame.truncate(dice.below(frame.len() + 1)),
            2 => {
                for _ in 0..=dice.below(8) {
                    let at = dice.below(frame.len());
                    frame[at] = dice.next() as u8;
                }
            }
            _ => frame = (0..dice.below(120)).map(|_| dice.next() as u8).collect(),
        }
        match Envelope::decode(&frame) {
            Ok(envelope) => {
                taken += 1;
                assert!(
                    envelope.topic.len() <= TOPIC_BYTES_MAX
                        && envelope.attributes.len() <= ATTRIBUTES_BYTES_MAX
                );
                assert!(Attributes::new(envelope.attributes).is_well_formed());
                assert!(envelope.payload.len() < frame.len());
                // What was read is written again to the same bytes, but for those that a reader ignores.
                let mut head = [0; ENVELOPE_BYTES_MAX];
                let len = envelope.encode_head(&mut head).expect("what was read fits");
                frame[32..40].fill(0);
                assert_eq!(&frame[..len], &head[..len]);
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty() && !error.to_string().contains('\n'));
            }
        }
    }
    assert!(taken > INPUTS / 10 && refused > INPUTS / 10, "both roads were taken: {taken}, {refused}");
}

#[test]
fn no_block_of_attributes_is_believed() {
    let mut dice = Dice(7);
    for _ in 0..INPUTS {
        let block: Vec<u8> = (0..dice.below(80)).map(|_| (dice.next() % 12) as u8).collect();
        let mut bytes = 0;
        for (key, value) in Attributes::new(&block) {
            assert!(!key.is_empty());
            bytes += 4 + key.len();
            bytes += match value {
                AttributeValue::Bytes(v) | AttributeValue::Address(v) => v.len(),
                AttributeValue::Text(v) => v.len(),
                _ => 8,
            };
        }
        assert!(bytes <= block.len());
        assert_eq!(Attributes::new(&block).is_well_formed(), bytes == block.len());
    }
}
