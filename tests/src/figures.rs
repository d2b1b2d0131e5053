//! What a node counts, read through `temposctl` as a user would.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;

use crate::node::Node;
use crate::wait::eventually;

/// The counters of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFigures {
    /// Events that came in.
    pub events_in: u64,
    /// Events that went out.
    pub events_out: u64,
    /// Events that were late.
    pub late: u64,
    /// Events that the node holds.
    pub queued: u64,
    /// Drops by reason; copies lost by one group alone begin with `copy-`.
    pub dropped: BTreeMap<String, u64>,
}

impl TopicFigures {
    /// Events dropped for one reason.
    pub fn dropped_for(&self, reason: &str) -> u64 {
        self.dropped.get(reason).copied().unwrap_or(0)
    }

    /// Events that nobody got.
    pub fn dropped_whole(&self) -> u64 {
        self.dropped.iter().filter(|(reason, _)| !reason.starts_with("copy-")).map(|(_, n)| n).sum()
    }
}

impl Node {
    fn listed(&self, verb: &str, name: &str) -> Value {
        let list = self.ctl_json([verb]);
        let found = list.as_array().and_then(|list| list.iter().find(|entry| entry["name"] == name).cloned());
        found.unwrap_or_else(|| panic!("no {name:?} among {verb}: {list:#}"))
    }

    /// What is counted for a topic.
    ///
    /// # Panics
    /// When there is no such topic.
    pub fn topic(&self, name: &str) -> TopicFigures {
        let topic = self.listed("topics", name);
        let count = |key: &str| topic[key].as_u64().unwrap_or_else(|| panic!("no {key} in {topic:#}"));
        TopicFigures {
            events_in: count("EventsIn"),
            events_out: count("EventsOut"),
            late: count("EventsLate"),
            queued: count("Queued"),
            dropped: counts(&topic["EventsDropped"]),
        }
    }

    /// What `temposctl workflows` lists of a workflow.
    ///
    /// # Panics
    /// When there is no such workflow.
    pub fn workflow(&self, name: &str) -> Value {
        self.listed("workflows", name)
    }

    /// What `temposctl channels` lists of a channel.
    ///
    /// # Panics
    /// When there is no such channel.
    pub fn channel(&self, name: &str) -> Value {
        self.listed("channels", name)
    }

    /// What `temposctl levels` lists of a level.
    ///
    /// # Panics
    /// When there is no such level.
    pub fn level(&self, name: &str) -> Value {
        self.listed("levels", name)
    }

    /// One count of a channel.
    ///
    /// # Panics
    /// When there is no such channel or count.
    pub fn channel_count(&self, name: &str, key: &str) -> u64 {
        let channel = self.channel(name);
        channel[key].as_u64().unwrap_or_else(|| panic!("no {key} in {channel:#}"))
    }

    /// Where a UDP channel listens.
    ///
    /// # Panics
    /// When it is no open UDP channel.
    pub fn udp_address(&self, channel: &str) -> SocketAddr {
        self.address_of(channel, "udp://")
    }

    /// Where a TCP channel is open.
    ///
    /// # Panics
    /// When it is not one.
    pub fn tcp_address(&self, channel: &str) -> SocketAddr {
        self.address_of(channel, "tcp://")
    }

    fn address_of(&self, channel: &str, kind: &str) -> SocketAddr {
        let address = self.channel(channel)["Address"].as_str().unwrap_or_default().to_owned();
        let parsed = address.strip_prefix(kind).and_then(|text| text.parse().ok());
        parsed.unwrap_or_else(|| panic!("channel {channel:?} is at {address:?}"))
    }

    /// Waits until a topic has taken in so many events and holds none, and gives back its counters.
    ///
    /// # Panics
    /// When it never does.
    pub fn wait_for_rest(&self, topic: &str, events_in: u64) -> TopicFigures {
        eventually(&format!("{events_in} events through topic {topic:?}"), || {
            let figures = self.topic(topic);
            (figures.events_in >= events_in && figures.queued == 0).then_some(figures)
        })
    }

    /// Writes a script beside the wiring folder, for `Apply` and `temposctl apply`.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write_script(&self, name: &str, lua: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, lua).expect("a script can be written");
        path
    }

    /// Applies a wiring through D-Bus: the report, or the message of the refusal.
    ///
    /// # Errors
    /// What the node says.
    pub fn apply(&self, lua: &str) -> Result<String, String> {
        let path = self.write_script("applied.lua", lua);
        let path = path.display().to_string();
        let output = self.busctl([
            "call",
            crate::node::BUS_NAME,
            crate::node::ROOT,
            "org.tempos.Host1.Node",
            "Apply",
            "s",
            &path,
        ]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }
}

/// A map of counts.
pub fn counts(value: &Value) -> BTreeMap<String, u64> {
    let map = value.as_object().into_iter().flatten();
    map.filter_map(|(key, count)| Some((key.clone(), count.as_u64()?))).collect()
}
