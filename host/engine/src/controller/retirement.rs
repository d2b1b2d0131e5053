//! What no lane uses any more: closed once nothing is under way in it.

use super::*;
use crate::opening::Prepared;

/// Something that no lane uses any more, and that may only be closed once nothing is under way in it.
pub enum Retired {
    /// A channel.
    Source(SourcePlan),
    /// A channel.
    Outlet(OutletPlan),
    /// A function, with the time after which it is left alone.
    Call(Box<CallPlan>, Instant),
}

impl Controller {
    pub(super) fn retire(
        &mut self,
        sources: Vec<SourcePlan>,
        outlets: Vec<OutletPlan>,
        calls: Vec<CallPlan>,
    ) {
        let limit = Instant::now() + Duration::from_secs(60);
        self.retired.extend(sources.into_iter().map(Retired::Source));
        self.retired.extend(outlets.into_iter().map(Retired::Outlet));
        self.retired.extend(calls.into_iter().map(|call| Retired::Call(Box::new(call), limit)));
        self.close_retired();
    }

    pub(crate) fn retire_outlets(&mut self, outlets: Vec<OutletPlan>) {
        self.retire(Vec::new(), outlets, Vec::new());
    }

    pub(super) fn retire_plan(&mut self, plan: LanePlan) {
        let LanePlan { sources, outlets, calls, .. } = plan;
        self.retire(
            sources.into_iter().flatten().collect(),
            outlets.into_iter().flatten().collect(),
            calls.into_iter().flatten().collect(),
        );
    }

    /// Closes what is no longer used.
    pub(super) fn close_retired(&mut self) {
        let soon = crate::system::clock::monotonic_ns() + 100_000_000;
        let mut waiting = Vec::new();
        let mut calls: Vec<Box<CallPlan>> = Vec::new();
        for retired in std::mem::take(&mut self.retired) {
            match retired {
                Retired::Source(plan) => {
                    // SAFETY: the lane has left the tables that held this cell.
                    let source = unsafe { plan.cell.get() };
                    if plan.stats.failed.get() == LOST {
                        // A lost thread may still be in it.
                        std::mem::forget(plan);
                    } else {
                        source.channel.close(soon);
                    }
                }
                Retired::Outlet(plan) => {
                    // SAFETY: as above.
                    let outlet = unsafe { plan.cell.get() };
                    if plan.stats.failed.get() == LOST {
                        std::mem::forget(plan);
                    } else {
                        outlet.channel.close(soon);
                    }
                }
                Retired::Call(plan, limit) => {
                    let lost = plan.stats.failed.get() == LOST || plan.canary_failed() == LOST;
                    if plan.outstanding.get() == 0 && !lost {
                        calls.push(plan);
                    } else if lost || Instant::now() > limit {
                        // A thread may still be in one of them: whoever else holds it lets it be as well.
                        self.left_alone.extend(plan.functions().map(|one| Arc::clone(&one.function)));
                        std::mem::forget(plan);
                    } else {
                        waiting.push(Retired::Call(plan, limit));
                    }
                }
            }
        }
        self.retired = waiting;
        while let Some(plan) = calls.pop() {
            for one in plan.functions() {
                let others = calls.iter().flat_map(|plan| plan.functions());
                let is_held = others.chain(self.functions()).any(|f| Arc::ptr_eq(&f.function, &one.function));
                if !is_held && !self.left_alone.iter().any(|f| Arc::ptr_eq(f, &one.function)) {
                    one.function.retire(soon);
                }
            }
        }
    }

    /// The functions of all wired and all retiring workflows.
    fn functions(&self) -> impl Iterator<Item = &Prepared> {
        let wired = self.lanes.iter().flatten().flat_map(|entry| entry.plan.calls.iter().flatten());
        let retiring = self.retired.iter().filter_map(|retired| match retired {
            Retired::Call(plan, _) => Some(&**plan),
            _ => None,
        });
        wired.chain(retiring).flat_map(CallPlan::functions)
    }

    /// Topics that were removed and have delivered what they held leave for good.
    pub(super) fn finish_removals(&mut self) {
        for index in 0..self.lanes.len() {
            let Some(entry) = &self.lanes[index] else { continue };
            let now = Instant::now();
            let done: Vec<(usize, Arc<str>, bool)> = entry
                .plan
                .topics
                .iter()
                .enumerate()
                .filter_map(|(at, topic)| {
                    let topic = topic.as_ref()?;
                    let limit = topic.removed?;
                    (topic.stats.live.get() == 0 || now > limit).then_some((
                        at,
                        Arc::clone(&topic.name),
                        now > limit,
                    ))
                })
                .collect();
            // What is still on its way to it is waited for.
            let done: Vec<usize> = done
                .into_iter()
                .filter(|(_, name, over)| *over || self.crossing_events(name) == 0)
                .map(|(at, ..)| at)
                .collect();
            let Some(entry) = &mut self.lanes[index] else { continue };
            let done = without_awaited(&entry.plan, done);
            if done.is_empty() {
                continue;
            }
            let mut plan = entry.plan.clone();
            let mut handover = crate::lane::tables::Handover::default();
            let (mut outlets, mut calls) = (Vec::new(), Vec::new());
            for at in done {
                plan.topics[at] = None;
                for slot in
                    plan.outlets.iter_mut().filter(|o| o.as_ref().is_some_and(|o| o.topic_index == at as u32))
                {
                    outlets.extend(slot.take());
                }
                for slot in
                    plan.calls.iter_mut().filter(|c| c.as_ref().is_some_and(|c| c.topic_index == at as u32))
                {
                    calls.extend(slot.take());
                }
            }
            handover.outlets = outlets.iter().map(|o| (Arc::clone(&o.cell), None)).collect();
            handover.calls = calls.iter().map(|c| (Arc::clone(&c.cell), None)).collect();
            let tables = plan.tables(&entry.lane.spec, handover);
            match entry.lane.swap(tables) {
                Ok(old) => {
                    drop(old);
                    entry.plan = plan;
                    self.retire(Vec::new(), outlets, calls);
                }
                Err(tables) => std::mem::forget(tables),
            }
        }
    }
}

/// Of the topics that are done, those that no function of another removed topic may still put out to: its outputs
/// would come to whichever topic got the free place.
fn without_awaited(plan: &LanePlan, mut done: Vec<usize>) -> Vec<usize> {
    loop {
        let before = done.len();
        let stays = |topic: u32| !done.contains(&(topic as usize));
        let awaited = |at: &usize| {
            let mut calls = plan.calls.iter().flatten();
            calls.any(|call| stays(call.topic_index) && call.road.leads_to(*at as u32))
        };
        let left: Vec<usize> = done.iter().copied().filter(|at| !awaited(at)).collect();
        done = left;
        if done.len() == before {
            return done;
        }
    }
}
