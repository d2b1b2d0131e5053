//! What always holds of a lane between two turns, and what holds once everything has come to rest.

use super::rig::Rig;
use super::world::{World, with};
use crate::delivery::group::Member;
use crate::lane::pool::Stage;
use crate::processing::function_worker::JOBS;
use crate::stats::Reason;

/// Checks a lane that is between two turns.
pub fn between_turns(rig: &Rig) {
    let broken = Books::of(rig).broken;
    with(|world| world.broken.extend(broken));
}

/// What the lane's own books say, counted anew from what it holds.
struct Books<'a> {
    rig: &'a Rig,
    broken: Vec<String>,
    /// Receivers that hold each handle.
    holders: Vec<u16>,
    in_flight: Vec<u32>,
}

impl<'a> Books<'a> {
    fn of(rig: &'a Rig) -> Self {
        let handles = rig.lane.pool.handles() as usize;
        let in_flight = vec![0; rig.plan.calls.len()];
        let mut books = Books { rig, broken: Vec::new(), holders: vec![0; handles], in_flight };
        books.receivers();
        books.pool();
        books.topics();
        books
    }

    fn must(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(format!("lane {}: {}", self.rig.number, what()));
        }
    }

    /// Who holds what: lists of outlets and calls, jobs of workers.
    fn receivers(&mut self) {
        for plan in self.rig.plan.outlets.iter().flatten() {
            // SAFETY: nobody else is at the cells between two turns.
            let outlet = unsafe { plan.cell.get() };
            for handle in outlet.pending.iter().chain(outlet.unsettled.iter().map(|(_, handle)| handle)) {
                self.holders[*handle as usize] += 1;
            }
            let waiting = outlet.pending.len() as u64;
            self.must(outlet.stats.pending.get() == waiting, || {
                format!(
                    "outlet {} has {waiting} events waiting and shows {}",
                    outlet.id,
                    outlet.stats.pending.get()
                )
            });
            self.must(!outlet.failed || outlet.pending.is_empty() && outlet.unsettled.is_empty(), || {
                format!("outlet {} has failed and holds events", outlet.id)
            });
        }
        for (number, port) in self.rig.lane.ports.iter().enumerate() {
            let mut jobs = 0;
            for index in 0..JOBS as u8 {
                // SAFETY: no worker runs while the books are made.
                let Some(job) = (unsafe { port.shared.job(index) }) else { continue };
                self.holders[job.handle as usize] += 1;
                jobs += 1;
                if let Some(count) = self.in_flight.get_mut(job.call as usize)
                    && self.rig.plan.calls[job.call as usize].as_ref().is_some_and(|call| {
                        // SAFETY: only counters are compared.
                        let known = unsafe { call.cell.get() };
                        std::sync::Arc::as_ptr(&known.stats) == job.stats
                    })
                {
                    *count += 1;
                }
            }
            let free = port.free.len();
            self.must(jobs + free == JOBS, || {
                format!("worker {number} has {jobs} jobs and {free} free places")
            });
        }
        for plan in self.rig.plan.calls.iter().flatten() {
            // SAFETY: nobody else is at the cells between two turns.
            let call = unsafe { plan.cell.get() };
            for handle in call.pending.iter().copied().chain(call.retrying.iter().map(|again| again.handle)) {
                self.holders[handle as usize] += 1;
            }
            let jobs = self.in_flight[call.id as usize];
            self.must(call.in_flight == jobs, || {
                format!("call {} counts {} jobs under way and has {jobs}", call.id, call.in_flight)
            });
            let busy = u64::from(jobs) + call.waiting() as u64;
            self.must(call.stats.busy.get() == busy, || {
                format!("call {} has {busy} events and shows {}", call.id, call.stats.busy.get())
            });
        }
    }

    /// Buffers, references, bytes.
    fn pool(&mut self) {
        let pool = &self.rig.lane.pool;
        let (mut used, mut queued, mut bytes) = (0, 0, 0);
        for handle in 0..pool.handles() {
            let record = pool.record(handle);
            let holders = self.holders[handle as usize];
            if record.stage == Stage::Free {
                self.must(holders == 0, || {
                    format!("buffer {handle} is free and {holders} receivers hold it")
                });
                continue;
            }
            used += 1;
            if record.stage != Stage::Lost {
                bytes += u64::from(record.bytes());
            }
            let expected = match record.stage {
                Stage::Queued => 1,
                Stage::Delivering => holders,
                Stage::Lost => continue,
                Stage::Free | Stage::Arriving => {
                    self.must(false, || {
                        format!("event in buffer {handle} is {:?} between two turns", record.stage)
                    });
                    continue;
                }
            };
            queued += u32::from(record.stage == Stage::Queued);
            let references = record.references;
            self.must(references == expected && references > 0, || {
                format!(
                    "buffer {handle}, {:?} of topic {}, has {references} references and {holders} receivers",
                    record.stage, record.topic
                )
            });
            with(|world| {
                if let Some(event) = world.events.get_mut(World::event_of(pool.payload(handle))) {
                    event.expires_ns = record.expires_ns;
                }
            });
        }
        let lane = &self.rig.lane;
        self.must(pool.used() == used, || {
            format!("{used} buffers are used, the pool counts {}", pool.used())
        });
        let counted = lane.shared.stats.bytes.get();
        self.must(counted == bytes, || format!("{bytes} bytes are held, {counted} are counted"));
        self.must(lane.queued == queued, || {
            format!("{queued} events are queued, {} are counted", lane.queued)
        });
        if !lane.queue_failed {
            let known = lane.queue.queued();
            self.must(known == queued, || format!("{queued} events are queued, the policy has {known}"));
        }
    }

    /// `events_in = events_out + dropped + live`, for each topic.
    fn topics(&mut self) {
        let pool = &self.rig.lane.pool;
        let mut live = vec![0; self.rig.plan.topics.len()];
        for handle in 0..pool.handles() {
            let record = pool.record(handle);
            if !matches!(record.stage, Stage::Free | Stage::Lost)
                && let Some(count) = live.get_mut(record.topic as usize)
            {
                *count += 1;
            }
        }
        for (at, plan) in self.rig.plan.topics.iter().enumerate() {
            let Some(plan) = plan else { continue };
            let stats = &plan.stats;
            let dropped: u64 = Reason::ALL.iter().map(|reason| stats.dropped.get(*reason)).sum();
            let (come, gone, held) = (stats.events_in.get(), stats.events_out.get(), stats.live.get());
            self.must(come == gone + dropped + held, || {
                format!("topic {at}: {come} events in, {gone} out, {dropped} dropped, {held} live")
            });
            self.must(held == live[at], || format!("topic {at} holds {} events and counts {held}", live[at]));
            let given = with(|world| world.topics[plan.serial].given);
            self.must(come >= given || self.rig.taken_away > 0, || {
                format!("topic {at}: {given} events came, {come} are counted")
            });
        }
    }
}

/// Checks a lane that nothing more comes to, and that has done all that it can do.
pub fn at_rest(rig: &Rig) {
    between_turns(rig);
    let mut broken = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            broken.push(format!("lane {} at rest: {what}", rig.number));
        }
    };
    let pool = &rig.lane.pool;
    let lost = (0..pool.handles()).filter(|handle| pool.record(*handle).stage == Stage::Lost).count();
    must(pool.used() as usize == lost, format!("{} buffers are used, {lost} are lost", pool.used()));
    must(rig.lane.queued == 0, format!("{} events are still queued", rig.lane.queued));
    must(rig.lane.held.is_empty(), format!("{} topics are on hold", rig.lane.held.len()));
    for plan in rig.plan.topics.iter().flatten() {
        let stats = &plan.stats;
        must(stats.live.get() == 0, format!("{} events of topic {} are live", stats.live.get(), plan.serial));
        delivered(plan.serial, stats, &mut must);
        let full = [Reason::QueueFull, Reason::Evicted, Reason::NoBuffer].map(|r| stats.dropped.get(r));
        let only_ingress = with(|world| world.topics[plan.serial].put_out == 0);
        must(
            !rig.lossless || !only_ingress || full == [0; 3],
            format!("a queue that blocks its senders lost {full:?} of topic {}", plan.serial),
        );
    }
    for plan in &rig.retired {
        let lost = plan.stats.failed.get() == crate::stats::LOST;
        must(
            plan.outstanding.get() == 0 || lost || rig.lost_workers() > 0,
            format!(
                "function {} is gone and {} jobs of it are under way",
                plan.function,
                plan.outstanding.get()
            ),
        );
    }
    for plan in rig.plan.topics.iter().flatten() {
        for member in plan.groups.iter().flat_map(|group| &group.members) {
            let known = match member {
                Member::Outlet(id) => rig.plan.outlets[*id as usize].is_some(),
                Member::Call(id) => rig.plan.calls[*id as usize].is_some(),
            };
            must(known, format!("a member of topic {} is not there", plan.serial));
        }
    }
    with(|world| world.broken.extend(broken));
}

/// Each event came to one member of each group, or is counted: for a topic whose groups never changed.
fn delivered(serial: usize, stats: &crate::stats::TopicStats, must: &mut impl FnMut(bool, String)) {
    let (groups, out, missing) = with(|world| {
        let topic = &world.topics[serial];
        let groups = topic.groups.filter(|_| !topic.changed);
        let taken = world.events.iter().filter(|event| event.topic == serial && !event.groups.is_empty());
        let missing: usize =
            taken.clone().map(|event| groups.unwrap_or(0).saturating_sub(event.groups.len())).sum();
        (groups, taken.count() as u64, missing as u64)
    });
    let Some(groups) = groups else { return };
    let counted = stats.events_out.get();
    must(
        out == counted,
        format!("topic {serial}: {out} events came to somebody, {counted} are counted as out"),
    );
    let lost: u64 = Reason::ALL.iter().map(|reason| stats.copies_lost.get(*reason)).sum();
    must(
        missing == lost,
        format!("topic {serial} of {groups} groups: {missing} copies are missing, {lost} counted"),
    );
}
