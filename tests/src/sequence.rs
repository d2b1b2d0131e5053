//! Numbered frames, and the account of what came through: nothing lost, nothing twice, nothing out of order,
//! nothing changed on the way.

use std::collections::BTreeMap;

const MAGIC: [u8; 4] = *b"SEQ1";
/// The length of a numbered frame.
pub const FRAME_BYTES: usize = 64;

/// The frame number `sequence` of a producer.
pub fn frame(producer: u32, sequence: u64) -> [u8; FRAME_BYTES] {
    let mut frame = [filler(sequence); FRAME_BYTES];
    frame[..4].copy_from_slice(&MAGIC);
    frame[4..8].copy_from_slice(&producer.to_le_bytes());
    frame[8..16].copy_from_slice(&sequence.to_le_bytes());
    frame
}

/// Producer and number of a frame; `None` for what no producer made, or what was changed on the way.
pub fn read(bytes: &[u8]) -> Option<(u32, u64)> {
    let head = bytes.first_chunk::<16>().filter(|head| head.starts_with(&MAGIC))?;
    let producer = u32::from_le_bytes(*head[4..].first_chunk()?);
    let sequence = u64::from_le_bytes(*head[8..].first_chunk()?);
    let whole = bytes.len() == FRAME_BYTES && bytes[16..].iter().all(|byte| *byte == filler(sequence));
    whole.then_some((producer, sequence))
}

fn filler(sequence: u64) -> u8 {
    sequence.to_le_bytes()[0] ^ 0x5a
}

/// What came of one producer's frames.
#[derive(Clone, Debug, Default)]
pub struct Track {
    /// Different numbers that came.
    pub received: u64,
    /// Frames that came once more.
    pub duplicates: u64,
    /// Frames that came after a later one.
    pub reordered: u64,
    /// One more than the largest number that came.
    pub next: u64,
    seen: Vec<u64>,
}

impl Track {
    fn note(&mut self, sequence: u64) {
        let (word, bit) = ((sequence / 64) as usize, 1 << (sequence % 64));
        if word >= self.seen.len() {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicates += 1;
            return;
        }
        self.seen[word] |= bit;
        self.received += 1;
        if sequence < self.next {
            self.reordered += 1;
        } else {
            self.next = sequence + 1;
        }
    }

    /// Whether this number came.
    pub fn has(&self, sequence: u64) -> bool {
        self.seen.get((sequence / 64) as usize).is_some_and(|word| word & (1 << (sequence % 64)) != 0)
    }
}

/// The account of one receiver.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    tracks: BTreeMap<u32, Track>,
    /// Frames that no producer made.
    pub foreign: u64,
}

impl Ledger {
    /// Enters one frame.
    pub fn note(&mut self, bytes: &[u8]) {
        match read(bytes) {
            Some((producer, sequence)) => self.tracks.entry(producer).or_default().note(sequence),
            None => self.foreign += 1,
        }
    }

    /// What came of one producer's frames.
    pub fn track(&self, producer: u32) -> Track {
        self.tracks.get(&producer).cloned().unwrap_or_default()
    }

    /// Different frames that came, of all producers.
    pub fn received(&self) -> u64 {
        self.tracks.values().map(|track| track.received).sum()
    }

    /// Checks that nothing came twice, out of order or changed; gaps are allowed.
    ///
    /// # Panics
    /// Where something did.
    pub fn assert_in_order(&self) {
        for (producer, track) in &self.tracks {
            assert_eq!(track.duplicates, 0, "producer {producer}: frames came twice");
            assert_eq!(track.reordered, 0, "producer {producer}: frames came out of order");
        }
        assert_eq!(self.foreign, 0, "frames came that no producer made");
    }

    /// Checks that the first `sent` frames of a producer came, each once and in their order.
    ///
    /// # Panics
    /// Where they did not; the sentence names the first numbers that are missing.
    pub fn assert_exact(&self, producer: u32, sent: u64) {
        self.assert_in_order();
        let track = self.track(producer);
        let missing: Vec<u64> = (0..sent).filter(|sequence| !track.has(*sequence)).take(16).collect();
        assert!(
            missing.is_empty() && track.received == sent,
            "producer {producer}: {} of {sent} frames came; the first that did not: {missing:?}",
            track.received
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_tells_losses_repetitions_disorder_and_damage_apart() {
        let mut ledger = Ledger::default();
        for sequence in [0, 1, 3, 2, 3, 5] {
            ledger.note(&frame(9, sequence));
        }
        let mut damaged = frame(9, 6);
        damaged[40] ^= 1;
        ledger.note(&damaged);
        ledger.note(b"");
        let track = ledger.track(9);
        assert_eq!((track.received, track.duplicates, track.reordered, track.next), (5, 1, 1, 6));
        assert_eq!((ledger.foreign, track.has(4), track.has(5)), (2, false, true));
    }
}
