//! Joining lanes: which topics have rules, where they stand on each lane, and the crossings that events go by.

use std::collections::{BTreeSet, HashMap};

use super::*;
use crate::bridging::rules::LevelTable;
use crate::lane::crossing::crossing;
use crate::lane::tables::{Handover, TopicRules};
use tempos_control::TopicSpec;

/// Whether rules or senders may give events of a topic another level.
fn has_rules(topic: &TopicSpec) -> bool {
    !topic.rules.is_empty() || topic.ingress.iter().any(|channel| channel.endpoint.qos_max.is_some())
}

/// Says to every draft what all of them know together: the levels, and the places of topics with rules.
pub(super) fn join(next: &Wiring, drafts: &mut [LaneDraft]) {
    let mut levels = LevelTable::default();
    for draft in drafts.iter() {
        levels.set(draft.index.0 as usize, &draft.level.name, draft.level.rank);
    }
    let levels = Arc::new(levels);
    let ruled: Vec<&TopicSpec> = next.topics.values().filter(|topic| has_rules(topic)).collect();
    let mut routes: HashMap<&str, [Option<(u32, u64)>; LEVELS_MAX]> =
        ruled.iter().map(|topic| (topic.name.as_str(), [None; LEVELS_MAX])).collect();
    for draft in drafts.iter().filter(|_| !ruled.is_empty()) {
        for (at, topic) in draft.plan.topics.iter().enumerate() {
            if let Some(topic) = topic.as_ref().filter(|topic| topic.removed.is_none())
                && let Some(places) = routes.get_mut(&*topic.name)
            {
                places[draft.index.0 as usize % LEVELS_MAX] = Some((at as u32, topic.number));
            }
        }
    }
    let rules: HashMap<&str, Arc<TopicRules>> = ruled
        .iter()
        .map(|topic| {
            let routes = routes.get(topic.name.as_str()).copied().unwrap_or_default();
            (topic.name.as_str(), Arc::new(TopicRules { rules: topic.rules.clone(), routes }))
        })
        .collect();
    for draft in drafts {
        draft.plan.levels = Arc::clone(&levels);
        for topic in draft.plan.topics.iter_mut().flatten() {
            topic.rules = rules.get(&*topic.name).cloned();
        }
    }
}

impl Controller {
    /// Makes the crossings that a wiring needs and that are not there yet. Lanes that do not take them go on
    /// without: their events keep the level of their endpoint.
    pub(super) fn make_crossings(&mut self, next: &Wiring) {
        let mut wanted = BTreeSet::new();
        for topic in next.topics.values().filter(|topic| has_rules(topic)) {
            let reached = next.levels_by_rule(topic);
            for channel in &topic.ingress {
                let own = channel.qos.as_deref().unwrap_or(&topic.qos);
                let from = self.index_of(own);
                let to =
                    reached.iter().filter(|level| **level != own).filter_map(|level| self.index_of(level));
                wanted.extend(to.filter_map(|to| Some((from?, to))));
            }
        }
        let missing: Vec<(usize, usize)> = wanted.difference(&self.crossings).copied().collect();
        if missing.is_empty() {
            return;
        }
        let mut handovers: Vec<Handover> = (0..LEVELS_MAX).map(|_| Handover::default()).collect();
        for (from, to) in &missing {
            let (Some(source), Some(target)) = (&self.lanes[*from], &self.lanes[*to]) else { continue };
            let shared = Arc::clone(&target.lane.shared);
            let (out, into) = crossing(shared, source.lane.spec.event_bytes_max, self.config.lock_memory);
            handovers[*from].crossings_out.push((*to as u8, Some(out)));
            handovers[*to].crossings_in.push((*from as u8, Some(into)));
        }
        for (index, handover) in handovers.into_iter().enumerate() {
            if handover.crossings_in.is_empty() && handover.crossings_out.is_empty() {
                continue;
            }
            let Some(entry) = &mut self.lanes[index] else { continue };
            let tables = entry.plan.tables(&entry.lane.spec, handover);
            match entry.lane.swap(tables) {
                Ok(old) => drop(old),
                Err(tables) => {
                    // What the lane may have seen for an instant is not freed.
                    std::mem::forget(tables);
                    let sentence = format!(
                        "level {:?}: its lane did not take its crossings in time",
                        entry.lane.spec.name
                    );
                    self.say(LogLevel::ERROR, "wiring", &sentence);
                }
            }
        }
        self.crossings.extend(missing);
    }

    /// Events of a topic that are on their way from one lane to another.
    pub(super) fn crossing_events(&self, topic: &str) -> u64 {
        let stats = self.lanes.iter().flatten().flat_map(|entry| entry.plan.topics.iter().flatten());
        let (out, into) = stats.filter(|plan| &*plan.name == topic).fold((0, 0), |(out, into), plan| {
            (out + plan.stats.crossed_out.get(), into + plan.stats.crossed_in.get())
        });
        out.saturating_sub(into)
    }
}
