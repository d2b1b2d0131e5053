//! A list whose links lie in a table of rows: nothing is allocated to append, and a row leaves in O(1).

use crate::queue::NO_HANDLE;

/// The neighbours of a row in one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    previous: u32,
    next: u32,
}

impl Link {
    /// In no chain, or alone in one.
    pub const NONE: Link = Link { previous: NO_HANDLE, next: NO_HANDLE };
}

/// A table of rows that each have a link for the chain in question.
pub trait Links {
    /// The link of a row, which exists.
    fn link(&mut self, row: u32) -> &mut Link;
}

/// The two ends of a list.
#[derive(Clone, Copy, Debug)]
pub struct Chain {
    first: u32,
    last: u32,
}

impl Chain {
    /// A list without rows.
    pub const EMPTY: Chain = Chain { first: NO_HANDLE, last: NO_HANDLE };

    /// The row that has been in it the longest.
    pub fn first(&self) -> Option<u32> {
        (self.first != NO_HANDLE).then_some(self.first)
    }

    /// Adds a row, which is in no chain of these links, at the end.
    pub fn append(&mut self, row: u32, links: &mut impl Links) {
        *links.link(row) = Link { previous: self.last, next: NO_HANDLE };
        match self.last {
            NO_HANDLE => self.first = row,
            last => links.link(last).next = row,
        }
        self.last = row;
    }

    /// Takes a row, which is in this chain, out of it.
    pub fn unlink(&mut self, row: u32, links: &mut impl Links) {
        let Link { previous, next } = std::mem::replace(links.link(row), Link::NONE);
        match previous {
            NO_HANDLE => self.first = next,
            previous => links.link(previous).next = next,
        }
        match next {
            NO_HANDLE => self.last = previous,
            next => links.link(next).previous = previous,
        }
    }
}
