//! The protocol in loom: interleavings of the two sides with up to five preemptions, and the orders in which weak
//! memory may show their words. A lost wake-up leaves a thread waiting for ever, which loom reports as a deadlock.
//! Without a bound the model does not come to an end within minutes. Where the flags are set by plain stores it finds
//! a deadlock with four preemptions.

use loom::sync::atomic::{AtomicU8, AtomicU64, fence};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::*;

/// The shared words, and the bell that a side waits for: a byte in a socket.
#[derive(Default)]
struct Shared {
    words: [AtomicU64; 6],
    /// What the ring holds: too small for a record, and large enough to see whether it is read unwritten.
    cells: [AtomicU8; 2],
    reader: Bell,
    writer: Bell,
}

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// Whether it had rung; it is quiet from then on.
    fn drain(&self) -> bool {
        std::mem::take(&mut *self.rung.lock().unwrap())
    }

    /// Waits until it rings, and leaves it ringing.
    fn wait(&self) {
        let mut rung = self.rung.lock().unwrap();
        while !*rung {
            rung = self.changed.wait(rung).unwrap();
        }
    }
}

impl Words for Shared {
    fn load(&self, word: Word, order: Ordering) -> u64 {
        self.words[word as usize].load(order)
    }

    fn store(&self, word: Word, value: u64, order: Ordering) {
        self.words[word as usize].store(value, order);
    }

    fn swap(&self, word: Word, value: u64) -> u64 {
        self.words[word as usize].swap(value, Ordering::Relaxed)
    }

    fn fence(&self) {
        fence(Ordering::SeqCst);
    }
}

const RECORD: u64 = RECORD_ALIGN;

/// Writes numbered records, waiting for room where there is none.
fn write(shared: &Shared, capacity: u64, count: u8, batch: u8) {
    let mut writing = Writing::new(capacity);
    for number in 1..=count {
        while !writing.has_room(shared, RECORD).unwrap() {
            if writing.publish(shared) {
                shared.reader.ring();
            }
            if writing.wait_for(shared, RECORD).unwrap() {
                shared.writer.wait();
                shared.writer.drain();
            }
        }
        let cell = (writing.place() / RECORD % (capacity / RECORD)) as usize;
        shared.cells[cell].store(number, Ordering::Relaxed);
        writing.stage(RECORD);
        if number % batch == 0 && writing.publish(shared) {
            shared.reader.ring();
        }
    }
    if writing.publish(shared) {
        shared.reader.ring();
    }
}

/// Reads them as a program does that waits for each.
fn read(shared: &Shared, capacity: u64, count: u8) {
    let mut reading = Reading::new(capacity);
    let mut next = 1;
    while next <= count {
        while reading.available(shared).unwrap() > 0 {
            take(shared, capacity, &mut reading, &mut next);
            if reading.release(shared) {
                shared.writer.ring();
            }
        }
        if next <= count && reading.sleep(shared).unwrap() {
            shared.reader.wait();
            reading.wake(shared);
            shared.reader.drain();
        }
    }
}

/// Reads them as a lane does: the bell is left ringing while there may be more, and quieted before the reader
/// says that it waits. The other way round, the bell of an earlier frame, rung late, would be taken for that of
/// a later one.
fn read_as_a_lane(shared: &Shared, capacity: u64, count: u8) {
    let mut reading = Reading::new(capacity);
    let (mut next, mut flag) = (1, false);
    while next <= count {
        if !flag {
            shared.reader.wait();
        }
        while reading.available(shared).unwrap() > 0 {
            take(shared, capacity, &mut reading, &mut next);
            if reading.release(shared) {
                shared.writer.ring();
            }
        }
        shared.reader.drain();
        flag = !reading.sleep(shared).unwrap();
    }
}

fn take(shared: &Shared, capacity: u64, reading: &mut Reading, next: &mut u8) {
    let cell = (reading.place() / RECORD % (capacity / RECORD)) as usize;
    assert_eq!(shared.cells[cell].load(Ordering::Relaxed), *next, "read before it was written");
    *next += 1;
    reading.take(RECORD);
}

fn explore(check: impl Fn(&Arc<Shared>) + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(5);
    model.check(move || check(&Arc::new(Shared::default())));
}

fn with_writer(shared: &Arc<Shared>, capacity: u64, count: u8, batch: u8, reader: impl FnOnce(&Shared)) {
    let writer = Arc::clone(shared);
    let writer = thread::spawn(move || write(&writer, capacity, count, batch));
    reader(shared);
    writer.join().unwrap();
}

#[test]
fn a_reader_that_waits_is_woken_and_reads_what_was_written() {
    explore(|shared| with_writer(shared, 2 * RECORD, 2, 1, |shared| read(shared, 2 * RECORD, 2)));
}

#[test]
fn a_writer_that_waits_for_room_is_woken() {
    explore(|shared| with_writer(shared, RECORD, 2, 1, |shared| read(shared, RECORD, 2)));
}

#[test]
fn batches_that_do_not_fit_wake_both() {
    explore(|shared| with_writer(shared, 2 * RECORD, 3, 2, |shared| read(shared, 2 * RECORD, 3)));
}

#[test]
fn a_lane_that_quiets_its_bell_misses_nothing() {
    explore(|shared| {
        shared.reader.ring();
        with_writer(shared, 2 * RECORD, 2, 1, |shared| read_as_a_lane(shared, 2 * RECORD, 2));
    });
    explore(|shared| {
        shared.reader.ring();
        with_writer(shared, RECORD, 2, 1, |shared| read_as_a_lane(shared, RECORD, 2));
    });
}

/// What the model is worth: without the fences it finds the lost wake-up.
#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fences_a_wake_up_is_lost() {
    struct Unfenced<'a>(&'a Shared);
    impl Words for Unfenced<'_> {
        fn load(&self, word: Word, order: Ordering) -> u64 {
            self.0.load(word, order)
        }
        fn store(&self, word: Word, value: u64, order: Ordering) {
            self.0.store(word, value, order);
        }
        fn swap(&self, word: Word, value: u64) -> u64 {
            self.0.swap(word, value)
        }
        fn fence(&self) {}
    }
    explore(|shared| {
        let other = Arc::clone(shared);
        let writer = thread::spawn(move || {
            let mut writing = Writing::new(RECORD);
            writing.stage(RECORD);
            if writing.publish(&Unfenced(&other)) {
                other.reader.ring();
            }
        });
        let mut reading = Reading::new(RECORD);
        while reading.available(&Unfenced(shared)).unwrap() == 0 {
            if reading.sleep(&Unfenced(shared)).unwrap() {
                shared.reader.wait();
            }
        }
        writer.join().unwrap();
    });
}
