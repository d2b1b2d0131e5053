//! Things of an interface that are read and set, each a list of numbers.

use std::{fs, io};

use crate::ethtool;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thing {
    /// The words of struct ethtool_coalesce.
    Coalescing,
    /// Polls without a frame before the card may interrupt again.
    Deferrals,
    /// Nanoseconds that this may take.
    FlushTimeout,
    /// Whether frames are taken by threads.
    Threaded,
    /// Whether frames of a flow are merged.
    Gro,
}

/// In the order in which they are set; they are put back the other way round. Of some interfaces (veth) NAPI is there
/// only while GRO is on.
pub const THINGS: [Thing; 5] =
    [Thing::Coalescing, Thing::Deferrals, Thing::FlushTimeout, Thing::Threaded, Thing::Gro];

impl Thing {
    /// What it is called in records.
    pub const fn word(self) -> &'static str {
        match self {
            Thing::Coalescing => "coalescing",
            Thing::Deferrals => "napi_defer_hard_irqs",
            Thing::FlushTimeout => "gro_flush_timeout",
            Thing::Threaded => "threaded",
            Thing::Gro => "gro",
        }
    }

    /// What it is called in sentences.
    pub const fn words(self) -> &'static str {
        match self {
            Thing::Coalescing => "interrupt coalescing",
            Thing::Deferrals => "deferred interrupts (napi_defer_hard_irqs)",
            Thing::FlushTimeout => "the time of deferred interrupts (gro_flush_timeout)",
            Thing::Threaded => "threaded NAPI",
            Thing::Gro => "GRO",
        }
    }

    /// What it is now.
    ///
    /// # Errors
    /// What the system says; EOPNOTSUPP or ENOENT where the interface has no such thing.
    pub fn read(self, interface: &str) -> io::Result<Vec<u64>> {
        match self {
            Thing::Coalescing => ethtool::coalescing(interface),
            Thing::Gro => ethtool::gro(interface).map(|on| vec![on]),
            Thing::Deferrals | Thing::FlushTimeout | Thing::Threaded => {
                let text = fs::read_to_string(self.path(interface))?;
                let number = text.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
                Ok(vec![number])
            }
        }
    }

    /// Sets it.
    ///
    /// # Errors
    /// What the system says; it needs CAP_NET_ADMIN, and some of it root.
    pub fn write(self, interface: &str, values: &[u64]) -> io::Result<()> {
        let first = values.first().copied().unwrap_or(0);
        match self {
            Thing::Coalescing => ethtool::set_coalescing(interface, values),
            Thing::Gro => ethtool::set_gro(interface, first),
            Thing::Deferrals | Thing::FlushTimeout | Thing::Threaded => {
                fs::write(self.path(interface), first.to_string())
            }
        }
    }

    fn path(self, interface: &str) -> String {
        format!("/sys/class/net/{interface}/{}", self.word())
    }
}
