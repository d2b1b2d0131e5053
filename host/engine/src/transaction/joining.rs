//! Joining a topic to its channels on one lane: what is there and unchanged stays, all else
//! is opened.

use super::*;

impl Drafting<'_> {
    pub(super) fn ingress(
        &mut self,
        work: &mut Work<'_>,
        topic: &TopicSpec,
        at: usize,
        existing: &Existing,
        used: &mut Used,
    ) {
        for spec in &topic.ingress {
            if spec.qos.as_deref().unwrap_or(&topic.qos) != work.level.name {
                continue;
            }
            let known = existing.sources.get(spec.name.as_str()).copied();
            let plugin = match opening::plugin(self.registry, &spec.adapter, PluginKind::ADAPTER) {
                Ok(plugin) => plugin,
                Err(sentence) => {
                    self.mistake(
                        &spec.name,
                        &spec.origin,
                        vec![format!("channel {:?}: {sentence}", spec.name)],
                    );
                    continue;
                }
            };
            if let Some(id) = known
                && let Some(plan) = &work.draft.plan.sources[id]
                && same_channel(&plan.spec, spec)
                && Arc::ptr_eq(&plan.plugin, &plugin)
                && plan.topic == topic.name
                && !work.marks_changed
                && self.may_stay(plan.stats.failed.get())
            {
                used.sources.insert(id);
                continue;
            }
            let Some(opened) = self.open(work, &plugin, spec, Direction::INGRESS) else { continue };
            let id = known
                .filter(|id| !used.sources.contains(id))
                .unwrap_or_else(|| place_from(&mut work.draft.plan.sources, &mut work.free.sources));
            let stats = match work.draft.plan.sources[id].take() {
                Some(old) => {
                    let stats = Arc::clone(&old.stats);
                    stats.failed.set(0);
                    work.draft.gone_sources.push(old);
                    stats
                }
                None => Arc::new(ChannelStats::default()),
            };
            let descriptor = opened.channel.readiness();
            let cell = Arc::new(LaneCell::new(Source {
                channel: opened.channel,
                id: id as u32,
                descriptor,
                topic: at as u32,
                format: spec.format,
                batch: 1,
                barren: 0,
                rests_until_ns: 0,
                entrance: Entrance::of(spec),
                failed: false,
                stats: Arc::clone(&stats),
            }));
            work.draft.opened.push(OpenedCell::Source(Arc::clone(&cell)));
            work.draft.opened_sources.push(id);
            used.sources.insert(id);
            work.draft.plan.sources[id] = Some(SourcePlan {
                id: id as u32,
                name: spec.name.clone(),
                topic: topic.name.clone(),
                spec: spec.clone(),
                plugin,
                cell,
                descriptor,
                address: opened.address,
                grant: opened.grant,
                stats,
                counters: opened.counters,
            });
        }
    }

    pub(super) fn egress(
        &mut self,
        work: &mut Work<'_>,
        topic: &TopicSpec,
        at: usize,
        existing: &Existing,
        workflows: Option<&Vec<&WorkflowSpec>>,
        used: &mut Used,
    ) -> Vec<GroupPlan> {
        let old = work.draft.plan.topics[at].as_ref().map(|plan| plan.groups.clone()).unwrap_or_default();
        let mut groups: Vec<GroupPlan> = Vec::new();
        for group in &topic.egress {
            let mut members = Vec::new();
            for spec in &group.members {
                if spec.qos.as_ref().is_some_and(|qos| *qos != work.level.name) {
                    continue;
                }
                if let Some(id) = self.outlet(work, topic, at, &group.name, spec, existing, used) {
                    members.push(Member::Outlet(id));
                }
            }
            groups.push(GroupPlan {
                name: group.name.clone(),
                members,
                pick: group.pick,
                stall_ns: group.stall_ns,
                cursor: cursor(&old, &group.name),
                tap: false,
            });
        }
        for workflow in workflows.into_iter().flatten() {
            let Some(id) = self.call(work, workflow, at, existing, used) else { continue };
            let own = format!("workflow {}", workflow.name);
            let name = workflow.group.as_ref().unwrap_or(&own);
            match groups.iter_mut().find(|group| group.name == *name) {
                Some(group) => group.members.push(Member::Call(id)),
                None => groups.push(GroupPlan {
                    name: name.clone(),
                    members: vec![Member::Call(id)],
                    pick: tempos_control::Pick::default(),
                    stall_ns: tempos_control::topic::STALL_NS,
                    cursor: cursor(&old, name),
                    tap: false,
                }),
            }
        }
        for tap in old.into_iter().filter(|group| group.tap) {
            used.outlets.extend(tap.members.iter().filter_map(|member| match member {
                Member::Outlet(id) => Some(*id as usize),
                Member::Call(_) => None,
            }));
            groups.push(tap);
        }
        groups
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn outlet(
        &mut self,
        work: &mut Work<'_>,
        topic: &TopicSpec,
        at: usize,
        group: &str,
        spec: &ChannelSpec,
        existing: &Existing,
        used: &mut Used,
    ) -> Option<u32> {
        let known = existing.outlets.get(spec.name.as_str()).copied();
        let plugin = match opening::plugin(self.registry, &spec.adapter, PluginKind::ADAPTER) {
            Ok(plugin) => plugin,
            Err(sentence) => {
                self.mistake(&spec.name, &spec.origin, vec![format!("channel {:?}: {sentence}", spec.name)]);
                return None;
            }
        };
        if let Some(id) = known
            && let Some(plan) = &work.draft.plan.outlets[id]
            && same_channel(&plan.spec, spec)
            && Arc::ptr_eq(&plan.plugin, &plugin)
            && plan.topic_index == at as u32
            && !work.marks_changed
            && self.may_stay(plan.stats.failed.get())
        {
            used.outlets.insert(id);
            return Some(id as u32);
        }
        let opened = self.open(work, &plugin, spec, Direction::EGRESS)?;
        let id = known
            .filter(|id| !used.outlets.contains(id))
            .unwrap_or_else(|| place_from(&mut work.draft.plan.outlets, &mut work.free.outlets));
        let stats = match work.draft.plan.outlets[id].take() {
            Some(old) => {
                let stats = Arc::clone(&old.stats);
                stats.failed.set(0);
                work.draft.handover.outlets.push((Arc::clone(&old.cell), Some(id as u32)));
                work.draft.gone_outlets.push(old);
                stats
            }
            None => Arc::new(ChannelStats::default()),
        };
        let counters = opened.counters.clone();
        let outlet = Outlet::new(opened.channel, id as u32, spec.format, Arc::clone(&stats), counters);
        let cell = Arc::new(LaneCell::new(outlet));
        work.draft.opened.push(OpenedCell::Outlet(Arc::clone(&cell)));
        work.draft.opened_outlets.push(id);
        used.outlets.insert(id);
        let name = if work.level.name == topic.qos {
            spec.name.clone()
        } else {
            format!("{}@{}", spec.name, work.level.name)
        };
        work.draft.plan.outlets[id] = Some(OutletPlan {
            name,
            topic: topic.name.clone(),
            topic_index: at as u32,
            group: group.to_owned(),
            spec: spec.clone(),
            plugin,
            cell,
            address: opened.address,
            grant: opened.grant,
            stats,
            counters: opened.counters,
        });
        Some(id as u32)
    }

    pub(super) fn open(
        &mut self,
        work: &mut Work<'_>,
        plugin: &Plugin,
        spec: &ChannelSpec,
        direction: Direction,
    ) -> Option<Opened> {
        if self.dry_run {
            if let Err(sentences) = opening::check_channel(plugin, spec) {
                self.mistake(&spec.name, &spec.origin, sentences);
            }
            return None;
        }
        let inherited = self.heirs.take(spec, direction, work.index);
        match opening::open_channel(plugin, spec, direction, work.level, work.index, inherited) {
            Ok(opened) => Some(opened),
            Err(sentences) => {
                self.mistake(&spec.name, &spec.origin, sentences);
                None
            }
        }
    }
}
