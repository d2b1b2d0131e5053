//! Descriptors on their way from a channel that goes, changes or moves to the one that takes its address:
//! what waits in the kernel's buffer goes along, and nobody finds the address unoccupied.

use tempos_abi::adapter::Direction;
use tempos_abi::level::QosLevel;
use tempos_control::{ChannelSpec, Value};

/// What decides whether a channel can go on with another's descriptor.
#[derive(Debug)]
pub struct HeirKey {
    name: String,
    adapter: String,
    direction: Direction,
    options: Vec<(String, Value)>,
}

impl HeirKey {
    /// The key of a channel.
    pub fn of(spec: &ChannelSpec, direction: Direction) -> Self {
        HeirKey {
            name: spec.name.clone(),
            adapter: spec.adapter.clone(),
            direction,
            options: spec.options.clone(),
        }
    }

    /// Whether a channel has its adapter and options, and so its address.
    pub fn suits(&self, spec: &ChannelSpec) -> bool {
        self.adapter == spec.adapter && self.options == spec.options
    }

    /// The channel's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A duplicated descriptor.
#[derive(Debug)]
struct Heir {
    key: HeirKey,
    level: QosLevel,
    /// The channel of its own name will want it: no other may take it.
    claimed: bool,
    descriptor: i32,
}

/// Duplicated descriptors that wait for an heir.
#[derive(Debug, Default)]
pub struct Heirs {
    list: Vec<Heir>,
}

impl Heirs {
    /// Adds one. `claimed`: the wiring to come has a channel of the same name, adapter and options.
    pub fn add(&mut self, key: HeirKey, level: QosLevel, claimed: bool, descriptor: i32) {
        self.list.push(Heir { key, level, claimed, descriptor });
    }

    /// The descriptor of the channel of the same name and options; else of one that had the same options,
    /// and so the same address; else of the one of the same name; -1: none. Of several, one of the same lane.
    pub fn take(&mut self, spec: &ChannelSpec, direction: Direction, level: QosLevel) -> i32 {
        let suits = |heir: &Heir| {
            let key = &heir.key;
            if key.adapter != spec.adapter || key.direction != direction {
                return None;
            }
            match (key.name == spec.name, key.options == spec.options) {
                (true, true) => Some(0),
                (false, true) if !heir.claimed => Some(1),
                (true, false) => Some(2),
                _ => None,
            }
        };
        let best = self
            .list
            .iter()
            .enumerate()
            .filter_map(|(at, heir)| Some(((suits(heir)?, heir.level != level), at)))
            .min();
        best.map_or(-1, |(_, at)| self.list.swap_remove(at).descriptor)
    }

    /// Closes what nobody took.
    pub fn close(self) {
        use std::os::fd::FromRawFd as _;
        for heir in self.list {
            // SAFETY: the channel duplicated it for us.
            drop(unsafe { std::os::fd::OwnedFd::from_raw_fd(heir.descriptor) });
        }
    }
}

#[cfg(test)]
mod tests {
    use tempos_control::{EventFormat, Origin};

    use super::*;

    fn channel(name: &str, address: &str) -> ChannelSpec {
        ChannelSpec {
            name: name.into(),
            adapter: "udp".into(),
            qos: None,
            format: EventFormat::Raw,
            endpoint: tempos_control::EndpointSpec::default(),
            options: vec![("bind".into(), Value::Text(address.into()))],
            origin: Origin::new("test", 0),
        }
    }

    #[test]
    fn an_address_goes_to_who_has_it_next() {
        let (level, other) = (QosLevel::STRICT, QosLevel::BEST_EFFORT);
        let mut heirs = Heirs::default();
        let entries = [
            ("a", ":1", other, false),
            ("a", ":1", level, false),
            ("b", ":2", level, false),
            ("c", ":0", level, true),
        ];
        for (number, (name, address, lane, claimed)) in entries.into_iter().enumerate() {
            let key = HeirKey::of(&channel(name, address), Direction::INGRESS);
            heirs.add(key, lane, claimed, 100 + number as i32);
        }
        let mut take =
            |name: &str, address: &str| heirs.take(&channel(name, address), Direction::INGRESS, level);
        assert_eq!(take("d", ":0"), -1, "c will want its own");
        assert_eq!(take("a", ":2"), 102, "the address of b, which goes");
        assert_eq!(take("a", ":1"), 101, "of the same lane");
        assert_eq!(take("a", ":3"), 100, "its own, in case that another option changed");
        assert_eq!(take("c", ":0"), 103);
        heirs.list.clear();
    }
}
