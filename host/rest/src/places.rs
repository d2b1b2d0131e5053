//! The places for connections and streams, by who takes them: nobody can take them all.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use crate::access::Caller;
use crate::shared::lock;

/// Whose places are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Taker {
    /// A user of this machine.
    User(u32),
    /// An address.
    Address(IpAddr),
    /// A token.
    Token(String),
}

impl From<&Caller> for Taker {
    fn from(caller: &Caller) -> Self {
        match caller {
            Caller::Local { uid, .. } => Taker::User(*uid),
            Caller::Token { name, .. } => Taker::Token(name.clone()),
            Caller::Certificate { from } => Taker::Address(*from),
        }
    }
}

/// Places, of which each has its bound and all together have one.
#[derive(Debug, Default)]
pub struct Places {
    taken: Mutex<HashMap<Taker, usize>>,
}

impl Places {
    /// A place, where there is one: `all` together and `each` are the bounds.
    pub fn take(self: &Arc<Self>, who: Taker, all: usize, each: usize) -> Option<Place> {
        let mut taken = lock(&self.taken);
        let own = taken.get(&who).copied().unwrap_or_default();
        if own >= each || taken.values().sum::<usize>() >= all {
            return None;
        }
        taken.insert(who.clone(), own + 1);
        Some(Place { places: self.clone(), who })
    }
}

/// A place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    who: Taker,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        if let Some(count) = taken.get_mut(&self.who) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_takes_all_places_and_every_place_comes_back() {
        let places = Arc::new(Places::default());
        let first: Vec<_> = (0..9).map_while(|_| places.take(Taker::User(1), 8, 4)).collect();
        let second: Vec<_> = (0..9).map_while(|_| places.take(Taker::User(2), 8, 5)).collect();
        assert_eq!((first.len(), second.len()), (4, 4));
        assert!(places.take(Taker::User(3), 8, 4).is_none());
        assert!(places.take(Taker::User(0), 9, 9).is_some(), "a reserved one");
        drop((first, second));
        assert!(lock(&places.taken).is_empty());
    }
}
