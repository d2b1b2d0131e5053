//! The least of a fixed set of numbers, by keys that may change: a binary heap that knows where each is.

const ABSENT: u32 = u32::MAX;

/// A heap of numbers below a bound, each with a key; the least key is first. O(log n), O(1) while it
/// holds one number; nothing is allocated after [`IndexHeap::new`].
#[derive(Debug)]
pub struct IndexHeap {
    /// The numbers, as a binary heap in their keys; `len` of them count.
    slots: Box<[(u64, u32)]>,
    /// Where each number stands in `slots`, or `ABSENT`.
    places: Box<[u32]>,
    len: usize,
}

impl IndexHeap {
    /// A heap that is empty and takes the numbers below `bound`.
    pub fn new(bound: u32) -> Self {
        IndexHeap {
            slots: vec![(u64::MAX, ABSENT); bound as usize].into_boxed_slice(),
            places: vec![ABSENT; bound as usize].into_boxed_slice(),
            len: 0,
        }
    }

    /// The number with the least key.
    pub fn first(&self) -> Option<u32> {
        (self.len > 0).then(|| self.slots[0].1)
    }

    /// The least key.
    pub fn first_key(&self) -> Option<u64> {
        (self.len > 0).then(|| self.slots[0].0)
    }

    /// Puts a number in with that key, or changes its key.
    ///
    /// # Panics
    /// Where the number is not below the bound.
    pub fn put(&mut self, number: u32, key: u64) {
        let at = match self.places[number as usize] {
            ABSENT => {
                self.len += 1;
                self.len - 1
            }
            place => place as usize,
        };
        self.slots[at] = (key, number);
        self.places[number as usize] = at as u32;
        self.sift(at);
    }

    /// Takes a number out, where it is in.
    ///
    /// # Panics
    /// Where the number is not below the bound.
    pub fn remove(&mut self, number: u32) {
        let at = self.places[number as usize];
        if at == ABSENT {
            return;
        }
        self.places[number as usize] = ABSENT;
        self.len -= 1;
        let (at, last) = (at as usize, self.len);
        if at != last {
            self.slots[at] = self.slots[last];
            self.places[self.slots[at].1 as usize] = at as u32;
            self.sift(at);
        }
    }

    /// Moves the entry at `at` to where its key belongs.
    fn sift(&mut self, mut at: usize) {
        while at > 0 && self.slots[at] < self.slots[(at - 1) / 2] {
            self.swap(at, (at - 1) / 2);
            at = (at - 1) / 2;
        }
        loop {
            let Some(child) =
                (2 * at + 1..=2 * at + 2).filter(|c| *c < self.len).min_by_key(|c| self.slots[*c])
            else {
                return;
            };
            if self.slots[at] <= self.slots[child] {
                return;
            }
            self.swap(at, child);
            at = child;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.slots.swap(a, b);
        self.places[self.slots[a].1 as usize] = a as u32;
        self.places[self.slots[b].1 as usize] = b as u32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_key_comes_first_whatever_changes() {
        let mut heap = IndexHeap::new(8);
        let mut keys = [None; 8];
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = (state >> 40) as u32 % 8;
            if state >> 60 < 6 {
                heap.remove(number);
                keys[number as usize] = None;
            } else {
                let key = (state >> 20) % 100;
                heap.put(number, key);
                keys[number as usize] = Some(key);
            }
            assert_eq!(heap.first_key(), keys.iter().flatten().min().copied());
            if let Some(first) = heap.first() {
                assert_eq!(keys[first as usize], heap.first_key());
            }
        }
    }
}
