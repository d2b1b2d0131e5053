//! The picture that doors look at, drawn anew after each change.

use std::collections::{BTreeMap, HashMap};

use tempos_abi::PluginKind;
use tempos_control::Kind;

use crate::controller::Controller;
use crate::model::{AdapterView, ChannelView, LevelView, Picture, TopicView, WorkflowView};
use crate::wiring::Channels as _;

impl Controller {
    /// Draws the picture.
    pub(crate) fn show(&self) {
        let (generation, state, grants) =
            self.model.read(|old| (old.generation, old.state.clone(), std::sync::Arc::clone(&old.grants)));
        let mut picture = Picture { generation, state, grants, ..Picture::default() };
        self.show_topics(&mut picture);
        self.show_lanes(&mut picture);
        self.show_failures(&mut picture);
        for state in self.registry.states() {
            picture.plugins.insert(state.name.clone(), state);
        }
        for plugin in self.registry.of_kind(PluginKind::ADAPTER) {
            let name = plugin.info.name.clone();
            let channels =
                picture.channels.values().filter(|c| c.adapter == name && c.counts.is_some()).count() as u64;
            let capabilities = plugin
                .adapter()
                .map(|adapter| {
                    adapter.ability().capabilities.words().into_iter().map(str::to_owned).collect()
                })
                .unwrap_or_default();
            picture.adapters.insert(name, AdapterView { capabilities, channels });
        }
        self.set_conditions(&picture);
        self.model.show(picture);
    }

    fn show_topics(&self, picture: &mut Picture) {
        for topic in self.wiring.topics.values() {
            picture.topics.insert(topic.name.clone(), TopicView { spec: topic.clone(), stats: Vec::new() });
        }
        for workflow in self.wiring.workflows.values() {
            picture.workflows.insert(workflow.name.clone(), WorkflowView::of(workflow));
        }
    }

    fn show_lanes(&self, picture: &mut Picture) {
        for entry in self.lanes.iter().flatten() {
            let level = &entry.lane.spec;
            let mut topics = Vec::new();
            for topic in entry.plan.topics.iter().flatten() {
                topics.push(std::sync::Arc::clone(&topic.stats));
                if let Some(view) = picture.topics.get_mut(&*topic.name) {
                    view.stats.push(std::sync::Arc::clone(&topic.stats));
                }
            }
            for call in entry.plan.calls.iter().flatten() {
                if let Some(view) = picture.workflows.get_mut(&call.spec.name) {
                    view.add(call);
                }
            }
            for source in entry.plan.sources.iter().flatten() {
                let view = ChannelView {
                    topic: source.topic.clone(),
                    group: String::new(),
                    adapter: source.spec.adapter.clone(),
                    direction: "ingress",
                    level: level.name.clone(),
                    address: source.address.clone(),
                    counts: Some((std::sync::Arc::clone(&source.stats), source.counters.clone())),
                };
                picture.channels.insert(source.name.clone(), view);
            }
            for outlet in entry.plan.outlets.iter().flatten() {
                let view = ChannelView {
                    topic: outlet.topic.clone(),
                    group: outlet.group.clone(),
                    adapter: outlet.spec.adapter.clone(),
                    direction: "egress",
                    level: level.name.clone(),
                    address: outlet.address.clone(),
                    counts: Some((std::sync::Arc::clone(&outlet.stats), outlet.counters.clone())),
                };
                picture.channels.insert(outlet.name.clone(), view);
            }
            let view = LevelView {
                spec: level.clone(),
                shared: std::sync::Arc::clone(&entry.lane.shared),
                threads: entry.lane.threads(),
                topics,
            };
            picture.levels.insert(level.name.clone(), view);
        }
    }

    /// What was declared and could not be opened is shown too.
    fn show_failures(&self, picture: &mut Picture) {
        let by_name: BTreeMap<&str, (&str, &tempos_control::ChannelSpec, &'static str)> = self
            .wiring
            .topics
            .values()
            .flat_map(|topic| {
                let ingress = topic.ingress.len();
                topic
                    .channels()
                    .enumerate()
                    .map(|(at, channel)| {
                        let direction = if at < ingress { "ingress" } else { "egress" };
                        (channel.name.as_str(), (topic.name.as_str(), channel, direction))
                    })
                    .collect::<Vec<_>>()
            })
            .filter(|(name, _)| self.failed.contains_key(*name))
            .collect();
        for (name, (topic, channel, direction)) in by_name {
            picture.channels.entry(name.to_owned()).or_insert_with(|| ChannelView {
                topic: topic.to_owned(),
                group: String::new(),
                adapter: channel.adapter.clone(),
                direction,
                level: channel.qos.clone().unwrap_or_default(),
                address: String::new(),
                counts: None,
            });
        }
    }

    fn set_conditions(&self, picture: &Picture) {
        let grants = self.grants();
        for (name, view) in &picture.channels {
            match (&view.counts, self.failed.get(name)) {
                (_, Some(reason)) => self.condition(Kind::Channel, name, "failed", reason),
                // What it says of itself stays until it is back.
                (Some((stats, _)), None) if stats.out.get() != 0 => {}
                (Some((stats, _)), None) if stats.failed.get() == 0 => {
                    let grant = grants.get(name.as_str()).copied().unwrap_or_default();
                    self.show_what_was_said(name, grant);
                }
                _ => {}
            }
        }
        for (name, view) in &picture.topics {
            let lost = view.spec.channels().find_map(|channel| {
                let condition = self.model.condition(Kind::Channel, &channel.name)?;
                (condition.state == "failed")
                    .then(|| format!("its channel {:?} failed: {}", channel.name, condition.reason))
            });
            match (lost, self.violation(Kind::Topic, name)) {
                (Some(reason), _) => self.condition(Kind::Topic, name, "failed", &reason),
                (None, Some(slow)) => self.condition(Kind::Topic, name, "degraded", slow),
                (None, None) => self.condition(Kind::Topic, name, "started", "its channels are open"),
            }
        }
        for (name, view) in &picture.workflows {
            match self.failed.get(name) {
                Some(reason) => self.condition(Kind::Workflow, name, "failed", reason),
                // What it says of a failure stays until that is over.
                None if view.has_failed() => {}
                None if self.violation(Kind::Workflow, name).is_some() => {
                    let slow = self.violation(Kind::Workflow, name).unwrap_or_default();
                    self.condition(Kind::Workflow, name, "degraded", slow);
                }
                None => self.condition(Kind::Workflow, name, "started", "its function is ready"),
            }
        }
        self.model.keep_conditions(|kind, name| match kind {
            Kind::Channel => picture.channels.contains_key(name),
            Kind::Topic => picture.topics.contains_key(name),
            Kind::Workflow => picture.workflows.contains_key(name),
            Kind::QosLevel => picture.levels.contains_key(name),
            _ => true,
        });
    }

    /// What each channel obtained for its lane, by name.
    pub(crate) fn grants(&self) -> HashMap<&str, &str> {
        let plans = || self.lanes.iter().flatten().map(|entry| &entry.plan);
        let sources = plans().flat_map(|plan| plan.sources.iter().flatten());
        let outlets = plans().flat_map(|plan| plan.outlets.iter().flatten());
        sources
            .map(|source| (source.name.as_str(), source.grant.as_str()))
            .chain(outlets.map(|outlet| (outlet.name.as_str(), outlet.grant.as_str())))
            .collect()
    }
}
