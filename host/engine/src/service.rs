//! Orders that concern events rather than the wiring: publish, subscribe, prewarm, drain.

use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tempos_abi::PluginKind;
use tempos_abi::adapter::Direction;
use tempos_abi::attributes::{ATTRIBUTES_BYTES_MAX, AttributeValue, AttributeWriter, Attributes};
use tempos_control::{
    ChannelSpec, EventFormat, Kind, Origin, Pick, Refusal, RefusalKind, Reply, Value, names,
};

use crate::bridging::rules;
use crate::controller::Controller;
use crate::delivery::group::Member;
use crate::delivery::outlet::Outlet;
use crate::lane::cell::LaneCell;
use crate::lane::order::Injected;
use crate::lane::tables::Handover;
use crate::opening;
use crate::plan::{GroupPlan, OutletPlan, place};
use crate::stats::ChannelStats;
use crate::system::clock::realtime_ns;

/// The most subscriptions at a time.
const TAPS_MAX: usize = 256;

impl Controller {
    /// Puts an event into a topic, at the level that the topic's rules give it, or at the topic's own.
    pub(crate) fn publish(
        &mut self,
        topic: &str,
        attributes: &[(String, Value)],
        payload: &[u8],
    ) -> Result<Reply, Refusal> {
        if self.draining {
            return Err(Refusal::new(
                RefusalKind::ShuttingDown,
                "the node is draining and takes no more events",
            ));
        }
        let spec = self.wiring.topics.get(topic).ok_or_else(|| self.no_topic(topic))?;
        let block = attribute_block(attributes)?;
        // A caller who may publish at all is trusted with the topic's rules.
        let level = rules::ruled(&spec.rules, &Attributes::new(&block)).unwrap_or(&spec.qos).to_owned();
        let index = self.index_of(&level).ok_or_else(|| no_lane(&level))?;
        let id = self.next_publish_id + 1;
        let Some(entry) = &mut self.lanes[index] else { return Err(no_lane(&level)) };
        let Some(at) = entry.plan.topic_index(topic) else { return Err(no_lane(&level)) };
        let most = entry.lane.spec.event_bytes_max as usize;
        if payload.len() + block.len() > most {
            let sentence = format!(
                "the event has {} bytes with its attributes; level {level:?} takes at most {most}",
                payload.len() + block.len()
            );
            return Err(Refusal::new(RefusalKind::InvalidWiring, sentence));
        }
        let event = Injected {
            id,
            topic: at,
            source_time_ns: realtime_ns(),
            payload: payload.to_vec(),
            attributes: block,
        };
        if !entry.lane.inject(event) {
            return Err(Refusal::new(
                RefusalKind::Overloaded,
                format!("level {level:?} has not yet taken the events published before; try again later"),
            ));
        }
        self.next_publish_id = id;
        Ok(Reply::EventId(id))
    }

    fn no_topic(&self, topic: &str) -> Refusal {
        let hint = names::hint(topic, self.wiring.topics.keys().map(String::as_str));
        Refusal::new(RefusalKind::NoSuchObject, format!("there is no topic {topic:?}{hint}"))
    }

    /// Sends a copy of each event of a topic into a socket. A reader that does not keep up loses copies;
    /// nobody waits for it.
    pub(crate) fn subscribe(&mut self, topic: &str) -> Result<Reply, Refusal> {
        if !self.wiring.topics.contains_key(topic) {
            return Err(self.no_topic(topic));
        }
        let taps = self
            .lanes
            .iter()
            .flatten()
            .flat_map(|entry| entry.plan.topics.iter().flatten())
            .flat_map(|t| &t.groups)
            .filter(|g| g.tap)
            .count();
        if taps >= TAPS_MAX {
            return Err(Refusal::new(
                RefusalKind::Overloaded,
                format!("{TAPS_MAX} subscriptions are open already"),
            ));
        }
        let plugin = opening::plugin(&self.registry, "unix", PluginKind::ADAPTER).map_err(|sentence| {
            Refusal::new(
                RefusalKind::NoSuchObject,
                format!("a subscription needs the adapter \"unix\": {sentence}"),
            )
        })?;
        let system = |error: rustix::io::Errno| {
            Refusal::new(RefusalKind::System, format!("a socket pair cannot be made: {error}"))
        };
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .map_err(system)?;
        self.next_tap += 1;
        let name = format!("subscription {}", self.next_tap);
        let mut ours = Some(ours);
        for index in 0..self.lanes.len() {
            self.tap(index, topic, &name, &plugin, &mut ours)?;
        }
        self.show();
        Ok(Reply::Subscription(theirs))
    }

    /// Adds a subscription's channel to one lane.
    fn tap(
        &mut self,
        index: usize,
        topic: &str,
        name: &str,
        plugin: &Arc<crate::plugin::Plugin>,
        ours: &mut Option<OwnedFd>,
    ) -> Result<(), Refusal> {
        let Some(entry) = &mut self.lanes[index] else { return Ok(()) };
        let Some(at) = entry.plan.topic_index(topic) else { return Ok(()) };
        let Some(socket) = ours.as_ref() else { return Ok(()) };
        let spec = ChannelSpec {
            name: name.to_owned(),
            adapter: "unix".into(),
            qos: None,
            format: EventFormat::Event,
            endpoint: tempos_control::EndpointSpec::default(),
            options: vec![("type".into(), Value::Text("seqpacket".into()))],
            origin: Origin::new("subscription", 0),
        };
        let duplicate = rustix::io::fcntl_dupfd_cloexec(socket, 0).map_err(|e| {
            Refusal::new(RefusalKind::System, format!("a descriptor cannot be duplicated: {e}"))
        })?;
        debug_assert!(duplicate.as_raw_fd() >= 0);
        let opened = opening::open_channel(
            plugin,
            &spec,
            Direction::EGRESS,
            &entry.lane.spec,
            entry.lane.level,
            duplicate.into_raw_fd(),
        )
        .map_err(|sentences| Refusal::new(RefusalKind::System, sentences.join("; ")))?;
        let mut plan = entry.plan.clone();
        let id = place(&mut plan.outlets);
        let stats = Arc::new(ChannelStats::default());
        let cell = Arc::new(LaneCell::new(Outlet::new(
            opened.channel,
            id as u32,
            EventFormat::Event,
            Arc::clone(&stats),
            opened.counters.clone(),
        )));
        plan.outlets[id] = Some(OutletPlan {
            name: format!("{name}@{}", entry.lane.spec.name),
            topic: topic.to_owned(),
            topic_index: at,
            group: name.to_owned(),
            spec,
            plugin: Arc::clone(plugin),
            cell,
            address: opened.address,
            grant: opened.grant,
            stats,
            counters: opened.counters,
        });
        if let Some(Some(topic)) = plan.topics.get_mut(at as usize) {
            topic.groups.push(GroupPlan {
                name: name.to_owned(),
                members: vec![Member::Outlet(id as u32)],
                pick: Pick::Sticky,
                stall_ns: tempos_control::topic::STALL_NS,
                cursor: Arc::new(LaneCell::new(0)),
                tap: true,
            });
        }
        let tables = plan.tables(&entry.lane.spec, Handover::default());
        match entry.lane.swap(tables) {
            Ok(old) => {
                drop(old);
                entry.plan = plan;
                Ok(())
            }
            Err(tables) => {
                std::mem::forget(tables);
                Err(Refusal::new(RefusalKind::Overloaded, "the lane did not take the subscription in time"))
            }
        }
    }

    /// Subscriptions whose reader has gone are taken out.
    pub(crate) fn drop_dead_taps(&mut self) {
        let mut changed = false;
        for index in 0..self.lanes.len() {
            let Some(entry) = &mut self.lanes[index] else { continue };
            let dead: Vec<usize> = entry
                .plan
                .outlets
                .iter()
                .enumerate()
                .filter_map(|(id, outlet)| {
                    let outlet = outlet.as_ref()?;
                    let is_tap = &*outlet.spec.origin.file == "subscription";
                    (is_tap && (reader_has_gone(outlet) || outlet.stats.failed.get() != 0)).then_some(id)
                })
                .collect();
            if dead.is_empty() {
                continue;
            }
            let mut plan = entry.plan.clone();
            let gone: Vec<OutletPlan> = dead.iter().filter_map(|id| plan.outlets[*id].take()).collect();
            for topic in plan.topics.iter_mut().flatten() {
                topic
                    .groups
                    .retain(|group| !group.tap || !gone.iter().any(|outlet| outlet.group == group.name));
            }
            let handover = Handover {
                sources: Vec::new(),
                outlets: gone.iter().map(|o| (Arc::clone(&o.cell), None)).collect(),
                ..Handover::default()
            };
            let tables = plan.tables(&entry.lane.spec, handover);
            match entry.lane.swap(tables) {
                Ok(old) => {
                    drop(old);
                    entry.plan = plan;
                    self.retire_outlets(gone);
                    changed = true;
                }
                Err(tables) => std::mem::forget(tables),
            }
        }
        if changed {
            self.show();
        }
    }

    /// Makes instances of a workflow's function ready, and of its canary.
    pub(crate) fn prewarm(&mut self, workflow: &str, instances: u32) -> Result<Reply, Refusal> {
        let Some(spec) = self.wiring.workflows.get(workflow) else {
            let hint = names::hint(workflow, self.wiring.workflows.keys().map(String::as_str));
            return Err(Refusal::new(
                RefusalKind::NoSuchObject,
                format!("there is no workflow {workflow:?}{hint}"),
            ));
        };
        let most = spec.call.warm_max.unwrap_or(1024);
        if instances > most {
            let why = if spec.call.warm_max.is_some() { "its warm_max is" } else { "at most" };
            return Err(Refusal::new(
                RefusalKind::InvalidWiring,
                format!("workflow {workflow:?}: {instances} instances are asked for; {why} {most}"),
            ));
        }
        let plans = self.lanes.iter().flatten().flat_map(|entry| entry.plan.calls.iter().flatten());
        let functions = plans.filter(|call| call.spec.name == workflow).flat_map(|call| call.functions());
        // What is ready the method counts itself.
        match functions.map(|one| one.function.warm(instances)).min() {
            Some(ready) if ready >= instances => Ok(Reply::Done),
            Some(ready) => Err(Refusal::new(
                RefusalKind::System,
                format!("workflow {workflow:?}: {ready} of {instances} instances could be made ready"),
            )),
            None => Err(Refusal::new(
                RefusalKind::NoSuchObject,
                format!("workflow {workflow:?} is not running: its function could not be made ready"),
            )),
        }
    }

    /// Closes ingress and waits until the lanes are empty, at most so long. The answer is the counts.
    pub(crate) fn drain(&mut self, timeout_ms: u32) -> String {
        let started = Instant::now();
        let limit = started + Duration::from_millis(u64::from(timeout_ms));
        self.draining = true;
        self.model.change(|picture| picture.state = String::from("draining"));
        self.herald.tell(tempos_control::Notice::StateChanged { kind: Kind::Node, name: String::new() });
        for entry in self.lanes.iter().flatten() {
            for source in entry.plan.sources.iter().flatten() {
                entry.lane.shared.place.forget_raw(source.descriptor);
            }
        }
        let mut quiet = 0;
        loop {
            self.attend_lanes();
            quiet = if self.live() == 0 { quiet + 1 } else { 0 };
            // Twice empty: an event on its way from a function to its next topic is in one of the two.
            if quiet >= 3 || Instant::now() >= limit {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let report = self.drain_counts(started.elapsed());
        self.model.set_drain_report(&report);
        self.model.change(|picture| picture.state = String::from("drained"));
        self.herald.tell(tempos_control::Notice::StateChanged { kind: Kind::Node, name: String::new() });
        report
    }

    fn live(&self) -> u64 {
        self.lanes
            .iter()
            .flatten()
            .flat_map(|entry| entry.plan.topics.iter().flatten())
            .map(|topic| {
                let stats = &topic.stats;
                stats.live.get() as i64 + stats.crossed_out.get() as i64 - stats.crossed_in.get() as i64
            })
            .sum::<i64>()
            .max(0) as u64
    }

    fn drain_counts(&self, took: Duration) -> String {
        let (mut events_in, mut out, mut dropped) = (0, 0, 0);
        for topic in self.lanes.iter().flatten().flat_map(|entry| entry.plan.topics.iter().flatten()) {
            events_in += topic.stats.events_in.get();
            out += topic.stats.events_out.get();
            let mut drops = std::collections::BTreeMap::new();
            topic.stats.dropped.add_to(&mut drops);
            dropped += drops.values().sum::<u64>();
        }
        format!(
            "drained in {} ms: {events_in} events came in, {out} went out, {dropped} were dropped, {} are left",
            took.as_millis(),
            self.live()
        )
    }
}

fn no_lane(level: &str) -> Refusal {
    Refusal::new(
        RefusalKind::NoSuchObject,
        format!("level {level:?} has no lane: its queue policy is not loaded"),
    )
}

/// A subscription's socket says so once its reader has closed it.
fn reader_has_gone(outlet: &OutletPlan) -> bool {
    use std::os::fd::BorrowedFd;
    // SAFETY: only the descriptor's number is read, which never changes while the channel lives.
    let descriptor = unsafe { outlet.cell.get() }.descriptor;
    if descriptor < 0 {
        return outlet.stats.errors.get() > 0;
    }
    // SAFETY: the channel owns the descriptor and lives in the plan.
    let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
    let mut poll = [rustix::event::PollFd::new(&descriptor, rustix::event::PollFlags::empty())];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = rustix::event::poll(&mut poll, Some(&now));
    poll[0].revents().intersects(rustix::event::PollFlags::HUP | rustix::event::PollFlags::ERR)
}

/// The attributes of a call as an event carries them.
fn attribute_block(attributes: &[(String, Value)]) -> Result<Vec<u8>, Refusal> {
    let mut buffer = [0; ATTRIBUTES_BYTES_MAX];
    let mut writer = AttributeWriter::new(&mut buffer);
    for (key, value) in attributes {
        let written = match value {
            Value::Text(text) => writer.put(key, AttributeValue::Text(text)),
            Value::Integer(number) => writer.put(key, AttributeValue::Signed(*number)),
            Value::Flag(flag) => writer.put(key, AttributeValue::Unsigned(u64::from(*flag))),
            Value::Number(number) => writer.put(key, AttributeValue::Text(&number.to_string())),
            _ => {
                let sentence = format!("attribute {key:?}: a text, a flag or a number is allowed");
                return Err(Refusal::new(RefusalKind::InvalidWiring, sentence));
            }
        };
        if !written {
            let sentence = format!(
                "attribute {key:?} does not fit: keys have 1 to 255 bytes, all attributes together {ATTRIBUTES_BYTES_MAX}"
            );
            return Err(Refusal::new(RefusalKind::InvalidWiring, sentence));
        }
    }
    let len = writer.len();
    Ok(buffer[..len].to_vec())
}
