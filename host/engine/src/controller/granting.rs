//! Requests: the facts that they are weighed by, and what the answer changes in a wiring.

use std::sync::Arc;

use tempos_abi::PluginKind;
use tempos_abi::adapter::Capabilities;
use tempos_abi::level::QosGrant;
use tempos_control::{Grade, Kind, Notice, Refusal, RefusalKind, Scheduler, Value};

use super::Controller;
use crate::grants::costs::Costs;
use crate::grants::facts::{AdapterFacts, Facts, LevelFacts};
use crate::grants::{Mode, Settled, settle};
use crate::system::preflight::kernel;
use crate::system::scheduling;
use crate::wiring::Wiring;

impl Controller {
    /// Chooses what a wiring leaves to the node, and admits its requests. The answer is a line for each.
    ///
    /// # Errors
    /// A request is not met, and asks to be refused then.
    pub(super) fn admit(&self, next: &mut Wiring) -> Result<Vec<String>, Refusal> {
        let settled = settle(&self.facts(next), next, &self.grants.held(&self.wiring, next), Mode::Choose);
        if !settled.refusals.is_empty() {
            let message = Refusal::of_mistakes(settled.refusals).message;
            return Err(Refusal::new(RefusalKind::QosNotGrantable, message));
        }
        for (name, level) in &settled.levels {
            if let Some(topic) = next.topics.get_mut(name) {
                let before = std::mem::replace(&mut topic.qos, level.clone());
                let named = topic.qos_given_up.take().unwrap_or(before);
                topic.qos_given_up = (!topic.qos_is_free && named != *level).then_some(named);
            }
        }
        for topic in next.topics.values_mut().filter(|_| !settled.acknowledged.is_empty()) {
            let members = topic.egress.iter_mut().flat_map(|group| &mut group.members);
            for channel in members.filter(|channel| settled.acknowledged.contains(&channel.name)) {
                channel.options.retain(|(key, _)| key != "acknowledge");
                channel.options.push((String::from("acknowledge"), Value::Flag(true)));
            }
        }
        Ok(settled.lines())
    }

    /// Other figures: what each request gets is reckoned anew, and nothing else changes.
    pub(super) fn take_costs(&mut self, costs: Costs) {
        self.costs = costs;
        self.explain();
        self.herald.tell(Notice::StateChanged { kind: Kind::Node, name: String::new() });
    }

    /// Says anew what each topic and workflow gets under the wiring in force.
    pub(crate) fn explain(&mut self) {
        let settled = settle(&self.facts(&self.wiring), &self.wiring, &Default::default(), Mode::Explain);
        self.grants = Arc::new(settled);
        let grants = Arc::clone(&self.grants);
        self.model.change(|picture| picture.grants = grants);
        self.watch_grants();
    }

    fn facts(&self, wiring: &Wiring) -> Facts {
        let lanes = || self.lanes.iter().flatten();
        let instead = |level: &str| {
            let entry = lanes().find(|entry| entry.lane.spec.name == level)?;
            let wanted = scheduling::requested(&entry.lane.spec.scheduler);
            let got = scheduling::granted(entry.lane.shared.thread()?);
            (got != wanted && !entry.lane.is_demoted()).then_some((entry.lane.spec.scheduler.clone(), got))
        };
        // What one lane is refused, a new one will be too.
        let refused = lanes().filter(|entry| !matches!(entry.lane.spec.scheduler, Scheduler::Other { .. }));
        let refused = refused.filter_map(|entry| instead(&entry.lane.spec.name)).map(|(_, got)| got).next();
        let levels = wiring.levels.values().map(|level| {
            let known =
                lanes().any(|e| e.lane.spec.name == level.name && e.lane.spec.scheduler == level.scheduler);
            let is_real_time = !matches!(level.scheduler, Scheduler::Other { .. });
            let got = match known {
                true => instead(&level.name).map(|(_, got)| got),
                false => refused.clone().filter(|_| is_real_time),
            };
            let mut facts = LevelFacts::of(level, got);
            let entry = lanes().find(|entry| entry.lane.spec.name == level.name).filter(|_| known);
            facts.functions_instead = entry.and_then(|entry| entry.lane.functions_instead());
            // A new lane's memory is locked where that of those before it is.
            facts.is_locked = match entry {
                Some(entry) => entry.lane.is_locked,
                None => lanes().all(|entry| entry.lane.is_locked),
            } && self.config.lock_memory;
            (level.name.clone(), facts)
        });
        let adapters = self.registry.of_kind(PluginKind::ADAPTER).into_iter().filter_map(|plugin| {
            let ability = plugin.adapter()?.ability();
            let facts = AdapterFacts {
                grade: match ability.grade_max {
                    QosGrant::GUARANTEED => Grade::Guaranteed,
                    QosGrant::PRIORITISED => Grade::Prioritised,
                    _ => Grade::Shared,
                },
                // What comes in order over a connection, or from a sender of this machine, waits where there is
                // no room for it.
                holds_back: ability.capabilities.has(Capabilities::ORDERED)
                    || ability.capabilities.has(Capabilities::ACKNOWLEDGED),
                acknowledges: ability.capabilities.has(Capabilities::RECEIPTS),
            };
            Some((plugin.info.name.clone(), facts))
        });
        let plans = || lanes().map(|entry| &entry.plan);
        let sources = plans().flat_map(|plan| plan.sources.iter().flatten());
        let outlets = plans().flat_map(|plan| plan.outlets.iter().flatten());
        let channels = sources
            .map(|source| (&source.spec, &source.grant))
            .chain(outlets.map(|outlet| (&outlet.spec, &outlet.grant)));
        let lesser = channels.filter(|(_, grant)| !grant.starts_with(Grade::Guaranteed.word()));
        let obtained = lesser
            .map(|(channel, grant)| (channel.name.clone(), (channel.adapter.clone(), grant.clone())))
            .collect();
        Facts {
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
            reservable_ppm: scheduling::reservable_ppm(),
            levels: levels.collect(),
            adapters: adapters.collect(),
            obtained,
            kernel: kernel::holds_up(),
            costs: self.costs.of_versions(|plugin| {
                let plugin = self.registry.current(plugin)?;
                Some((plugin.info.version.clone(), plugin.sha256.clone()))
            }),
        }
    }
}

/// No request yet.
pub(super) fn none() -> Arc<Settled> {
    Arc::new(Settled::default())
}
