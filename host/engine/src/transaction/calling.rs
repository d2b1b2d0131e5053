//! Joining a workflow to its topic on one lane. What its method is told and what lies in its file decide
//! whether a function is prepared anew; all else only makes another cell around it.

use std::collections::VecDeque;

use tempos_abi::invoker::Outcome;
use tempos_control::CallSpec;

use super::*;
use crate::opening::Prepared;
use crate::plan::CallRoad;
use crate::processing::canary::Canary;
use crate::processing::retry::{Again, Retry};

impl Drafting<'_> {
    /// The id of a workflow's call on a lane; `None` where it cannot be, which has been noted.
    pub(super) fn call(
        &mut self,
        work: &mut Work<'_>,
        workflow: &WorkflowSpec,
        at: usize,
        existing: &Existing,
        used: &mut Used,
    ) -> Option<u32> {
        let known = existing.calls.get(workflow.name.as_str()).copied();
        let plugin = match opening::plugin(self.registry, &workflow.call.method, PluginKind::INVOKER) {
            Ok(plugin) => plugin,
            Err(sentence) => {
                let sentence = format!("workflow {:?}: {sentence}", workflow.name);
                self.mistake(&workflow.name, &workflow.call.origin, vec![sentence]);
                return None;
            }
        };
        let road = self.road(work, workflow);
        let own = &workflow.call;
        let other = own.canary.as_ref().map(|canary| CallSpec { file: canary.file.clone(), ..own.clone() });
        let present = known.and_then(|id| work.draft.plan.calls[id].as_ref());
        // What panicked is prepared anew, whenever there is an occasion.
        let keeps = |of: &Prepared, call: &CallSpec, failed: u64| {
            // New code comes by a user's order alone: what the node does by itself may find half a file.
            let stamp = match self.strictness {
                Strictness::Whole => opening::file_stamp(&call.file),
                Strictness::Part => of.stamp,
            };
            self.may_stay(failed) && of.is_still(&plugin, call, work.level, stamp)
        };
        let function = present.and_then(|plan| ready(plan, own, &keeps));
        let canary = other.as_ref().and_then(|other| present.and_then(|plan| ready(plan, other, &keeps)));
        if let Some(id) = known
            && let Some(plan) = present
            && same_workflow(&plan.spec, workflow)
            && plan.topic_index == at as u32
            && plan.road == road
            && is_same(function.as_ref(), Some(&plan.function))
            && is_same(canary.as_ref(), plan.canary.as_ref().map(|(canary, _)| canary))
        {
            used.calls.insert(id);
            return Some(id as u32);
        }
        if let Some(plan) = present.filter(|_| self.dry_run) {
            let same = same_workflow(&plan.spec, workflow);
            let changed = plan.function.stamp != opening::file_stamp(&own.file)
                || plan
                    .canary
                    .as_ref()
                    .zip(other.as_ref())
                    .is_some_and(|((canary, _), other)| canary.stamp != opening::file_stamp(&other.file));
            if same && changed {
                let line = format!("~ workflow {:?} gets new code: its file has changed", workflow.name);
                self.notes.insert(line);
            }
        }
        if own.output_bytes_max > work.level.event_bytes_max {
            let (most, level) = (work.level.event_bytes_max, &work.level.name);
            let sentence = format!(
                "workflow {:?}: its output_max is larger than the {most} bytes that an event of level {level:?} may have",
                workflow.name
            );
            self.mistake(&workflow.name, &own.origin, vec![sentence]);
            return None;
        }
        if self.dry_run {
            for call in std::iter::once(own).chain(&other) {
                self.check_call(workflow, call, &plugin);
            }
            return None;
        }
        let stats = present.map_or_else(Arc::default, |plan| Arc::clone(&plan.stats));
        // The same code goes on counting; a promoted one is counted as the workflow's own from then on.
        let canary_stats = present
            .and_then(|plan| plan.canary.as_ref())
            .filter(|(of, _)| is_same(Some(of), canary.as_ref()))
            .map_or_else(Arc::default, |(_, stats)| Arc::clone(stats));
        // What a thread was lost in stays out until a user says so.
        let is_out = function.is_some() && stats.failed.get() != 0;
        let canary_is_out = canary.is_some() && canary_stats.failed.get() != 0;
        let function = match self.made(work, workflow, own, &plugin, function) {
            Ok(function) => function,
            Err(sentences) => {
                self.mistake(&workflow.name, &own.origin, sentences);
                return None;
            }
        };
        let canary = match other.map(|other| self.made(work, workflow, &other, &plugin, canary)) {
            Some(Ok(canary)) => Some((canary, canary_stats)),
            Some(Err(sentences)) if self.strictness == Strictness::Part => {
                self.notes.insert(format!("{}; all events go to its own code", sentences.join("; ")));
                None
            }
            Some(Err(sentences)) => {
                self.mistake(&workflow.name, &own.origin, sentences);
                return None;
            }
            None => None,
        };
        let id = known
            .filter(|id| !used.calls.contains(id))
            .unwrap_or_else(|| place_from(&mut work.draft.plan.calls, &mut work.free.calls));
        if let Some(old) = work.draft.plan.calls[id].take() {
            work.draft.handover.calls.push((Arc::clone(&old.cell), Some(id as u32)));
            work.draft.gone_calls.push(old);
        }
        if !is_out {
            stats.failed.set(0);
        }
        if let Some((_, stats)) = canary.as_ref().filter(|_| !canary_is_out) {
            stats.failed.set(0);
        }
        let plan = plan(workflow, id as u32, at as u32, road, function, canary, stats);
        work.draft.plan.calls[id] = Some(plan);
        used.calls.insert(id);
        Some(id as u32)
    }

    /// Where a workflow's outputs go on a lane.
    fn road(&self, work: &Work<'_>, workflow: &WorkflowSpec) -> CallRoad {
        let place = |topic: &str| work.names.get(topic).map(|at| *at as u32);
        CallRoad {
            to: workflow.to.as_deref().and_then(place),
            branches: workflow
                .branches
                .iter()
                .filter_map(|(name, topic)| Some((name.clone(), place(topic)?)))
                .collect(),
            downstream_ns: self.downstream.get(workflow.name.as_str()).copied().unwrap_or(0),
        }
    }

    /// Checks what can be checked of a function that is not made yet.
    fn check_call(&mut self, workflow: &WorkflowSpec, call: &CallSpec, plugin: &Plugin) {
        let subject = format!("workflow {:?}: {}", workflow.name, call.method);
        // A method with an option of that name looks for the file elsewhere than on the node.
        let elsewhere = plugin.info.options.iter().any(|option| option.key == "file");
        let sentences = match options::check(&subject, &plugin.info.options, &call.options) {
            Err(sentences) => sentences,
            Ok(_) if !elsewhere && opening::file_stamp(&call.file) == (0, 0) => {
                vec![format!("workflow {:?}: there is no file {:?}", workflow.name, call.file)]
            }
            Ok(_) => return,
        };
        self.mistake(&workflow.name, &call.origin, sentences);
    }

    /// A function that is there, or is made now.
    fn made(
        &self,
        work: &mut Work<'_>,
        workflow: &WorkflowSpec,
        call: &CallSpec,
        plugin: &Arc<Plugin>,
        ready: Option<Prepared>,
    ) -> Result<Prepared, Vec<String>> {
        if let Some(ready) = ready {
            return Ok(ready);
        }
        let prepared = opening::prepare(plugin, &workflow.name, call, work.level, work.index)?;
        work.draft.opened.push(OpenedCell::Function(Arc::clone(&prepared.function)));
        Ok(prepared)
    }
}

/// What a workflow has ready already for a call: its own function, or, where that is what is asked for now, its
/// canary. To promote a canary so costs no preparation, and neither does going back.
fn ready(
    plan: &CallPlan,
    call: &CallSpec,
    keeps: &impl Fn(&Prepared, &CallSpec, u64) -> bool,
) -> Option<Prepared> {
    if keeps(&plan.function, call, plan.stats.failed.get()) {
        return Some(plan.function.clone());
    }
    let canary = plan.canary.as_ref().filter(|(canary, stats)| keeps(canary, call, stats.failed.get()));
    canary.map(|(canary, _)| canary.clone())
}

fn is_same(a: Option<&Prepared>, b: Option<&Prepared>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(&a.function, &b.function),
        (None, None) => true,
        _ => false,
    }
}

/// The plan of a call, with its cell.
fn plan(
    workflow: &WorkflowSpec,
    id: u32,
    topic_index: u32,
    road: CallRoad,
    function: Prepared,
    canary: Option<(Prepared, Arc<WorkflowStats>)>,
    stats: Arc<WorkflowStats>,
) -> CallPlan {
    let call = &workflow.call;
    let outstanding = Arc::new(Tally::default());
    let share_percent = call.canary.as_ref().map_or(0, |canary| canary.share_percent);
    let cell = Arc::new(LaneCell::new(Call {
        function: Arc::clone(&function.function),
        canary: canary.as_ref().map(|(prepared, stats)| Canary {
            function: Arc::clone(&prepared.function),
            share_percent,
            failed: stats.failed.get() != 0,
            stats: Arc::clone(stats),
        }),
        id,
        topic: workflow.from.as_str().into(),
        to: road.to,
        branches: road.branches.iter().map(|(name, topic)| (name.as_str().into(), *topic)).collect(),
        replies: workflow.replies,
        inline: call.inline,
        concurrency: call.concurrency,
        worker: id,
        deadline_ns: call.deadline_ns.unwrap_or(0),
        downstream_ns: road.downstream_ns,
        output_bytes_max: call.output_bytes_max,
        in_flight: 0,
        outstanding: Arc::clone(&outstanding),
        pending: waiting_room(0),
        retry: call.retry.as_ref().map(Retry::of),
        retrying: waiting_room(Again { handle: 0, due_ns: 0, attempt: 0, outcome: Outcome::DONE }),
        failed: stats.failed.get() != 0,
        stats: Arc::clone(&stats),
    }));
    CallPlan { spec: workflow.clone(), topic_index, road, function, canary, cell, outstanding, stats }
}

/// An empty list for what waits for a call, all of it touched: no lane waits for a page of it.
fn waiting_room<T: Clone>(filler: T) -> VecDeque<T> {
    let mut room = VecDeque::from(vec![filler; PENDING_MAX * 2]);
    room.clear();
    room
}
