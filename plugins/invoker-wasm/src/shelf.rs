//! Instances that are ready, each in a place of its own. Taken and put back by the threads that run events,
//! which never wait: a place that somebody else holds is passed over.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

struct Kept<T> {
    instance: T,
    since_ns: u64,
}

/// A bounded number of instances.
pub struct Shelf<T> {
    places: Box<[Mutex<Option<Kept<T>>>]>,
    count: AtomicU32,
}

impl<T> Shelf<T> {
    /// Room for so many.
    pub fn new(capacity: u32) -> Self {
        Shelf { places: (0..capacity).map(|_| Mutex::new(None)).collect(), count: AtomicU32::new(0) }
    }

    /// How many are ready, about.
    pub fn len(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// The most that there is room for.
    pub fn capacity(&self) -> u32 {
        self.places.len() as u32
    }

    /// Takes one, that of the place `first` if it is there.
    pub fn take(&self, first: u32) -> Option<T> {
        if self.len() == 0 {
            return None;
        }
        self.from(first).find_map(|place| place.try_lock().ok()?.take()).map(|kept| {
            self.count.fetch_sub(1, Ordering::Relaxed);
            kept.instance
        })
    }

    /// Puts one back, to the place `first` if it is free; given back where there is no room.
    pub fn put(&self, first: u32, instance: T, now_ns: u64) -> Option<T> {
        for place in self.from(first) {
            if let Ok(mut place) = place.try_lock()
                && place.is_none()
            {
                *place = Some(Kept { instance, since_ns: now_ns });
                self.count.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        }
        Some(instance)
    }

    /// Takes one of those that have had nothing to do since then, as long as more than `least` are left.
    pub fn take_idle(&self, least: u32, since_ns: u64) -> Option<T> {
        // From the end: the first places are used first.
        self.places.iter().rev().find_map(|place| {
            let mut place = place.try_lock().ok()?;
            if self.len() <= least || place.as_ref()?.since_ns > since_ns {
                return None;
            }
            self.count.fetch_sub(1, Ordering::Relaxed);
            place.take().map(|kept| kept.instance)
        })
    }

    fn from(&self, first: u32) -> impl Iterator<Item = &Mutex<Option<Kept<T>>>> {
        let (count, first) = (self.places.len(), first as usize);
        (0..count).map(move |step| &self.places[(first + step) % count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_finds_its_own_first_and_another_one_where_that_is_gone() {
        let shelf = Shelf::new(3);
        assert_eq!(shelf.take(0), None);
        for number in 0..3 {
            assert_eq!(shelf.put(number, number, 0), None);
        }
        assert_eq!(shelf.put(0, 9, 0), Some(9), "there is no room");
        assert_eq!((shelf.take(2), shelf.take(2), shelf.take(7)), (Some(2), Some(0), Some(1)));
        assert_eq!((shelf.len(), shelf.take(0)), (0, None));
        assert_eq!(Shelf::new(0).put(0, 1, 0), Some(1));
    }

    #[test]
    fn what_idles_goes_down_to_the_least() {
        let shelf = Shelf::new(4);
        for (number, since_ns) in [(0, 50), (1, 10), (2, 20), (3, 60)] {
            assert_eq!(shelf.put(number, number, since_ns), None);
        }
        assert_eq!(shelf.take_idle(1, 30), Some(2));
        assert_eq!(shelf.take_idle(1, 30), Some(1));
        assert_eq!(shelf.take_idle(1, 30), None);
        assert_eq!(shelf.take_idle(2, 100), None, "two are left");
    }
}
