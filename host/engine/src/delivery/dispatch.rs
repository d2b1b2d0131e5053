//! Dispatch: the policy says who goes next; each group of its topic gets it through one member.

use tempos_abi::queue::NextItem;

use super::group::{Group, Load, Member, choose};
use crate::lane::ownership::{Disowned, Doing};
use crate::lane::pool::{Handle, Stage};
use crate::lane::state::{InCall, LaneState};
use crate::stats::Reason;
use crate::system::clock::monotonic_ns;

/// Events dispatched before the channels are looked at again.
const ROUND_EVENTS: usize = 128;

impl LaneState {
    /// Dispatches until the queue has nothing that may go, or the round is full.
    pub(crate) fn dispatch(&mut self) -> Result<(), Disowned> {
        if self.queue_failed || self.queued == 0 {
            self.more_queued = false;
            // What the policy wanted to be asked for has left with its topic: the lane does not wake up for it.
            self.wake_at_ns = 0;
            if !self.dirty.is_empty() {
                self.now = monotonic_ns();
            }
            return self.flush_dirty();
        }
        self.now = monotonic_ns();
        self.more_queued = true;
        let mut round = ROUND_EVENTS;
        if let Some(shaper) = &self.shaper {
            round = shaper.allows(self.now, ROUND_EVENTS);
            if round == 0 {
                self.more_queued = false;
                self.wake_at_ns = shaper.next_ns();
                return self.flush_dirty();
            }
        }
        for _ in 0..round {
            if self.rooms_gone {
                self.hold_stuck()?;
            }
            self.in_call = InCall::Policy;
            self.enter(Doing::Policy, 0);
            let next = self.queue.next(self.now);
            self.leave(Doing::Policy)?;
            let gone = matches!(next.verdict, NextItem::GO | NextItem::EXPIRED);
            if gone && self.is_queued(next.handle) {
                self.queued -= 1;
                self.shared.stats.queued.set(u64::from(self.queued));
            }
            match next.verdict {
                NextItem::GO if self.pool_knows(next.handle) => {
                    if let Some(shaper) = &mut self.shaper {
                        shaper.take(self.now, 1);
                    }
                    self.deliver(next.handle)?;
                }
                NextItem::EXPIRED if self.pool_knows(next.handle) => {
                    self.drop_event(next.handle, Reason::Expired)
                }
                NextItem::NOTHING => {
                    self.more_queued = false;
                    self.wake_at_ns = next.wake_at_ns;
                    break;
                }
                _ => {
                    self.fail_queue();
                    break;
                }
            }
            if self.queued == 0 {
                self.more_queued = false;
                self.wake_at_ns = 0;
                break;
            }
        }
        self.flush_dirty()
    }

    fn pool_knows(&self, handle: Handle) -> bool {
        handle < self.pool.handles() && self.pool.record(handle).stage == Stage::Queued
    }

    /// Hands an event to one member of each group of its topic.
    fn deliver(&mut self, handle: Handle) -> Result<(), Disowned> {
        let now = self.now;
        let record = self.pool.record_mut(handle);
        record.stage = Stage::Delivering;
        record.taken_ns = now;
        let (topic, waited, expired, late, key_hash) = (
            record.topic,
            now.saturating_sub(record.arrival_ns),
            record.is_expired(now),
            record.deadline_ns != 0 && now > record.deadline_ns,
            record.key_hash,
        );
        let Some(entry) = self.topic(topic) else {
            self.drop_event(handle, Reason::Removed);
            return Ok(());
        };
        if expired || late && entry.drops_late {
            self.drop_event(handle, Reason::Expired);
            return Ok(());
        }
        self.shared.stats.queue.record(waited);
        if let Some(latency) = entry.stats.latency.get() {
            latency.queue.record(waited);
        }
        for (at, group) in entry.groups.iter().enumerate() {
            self.retain(handle);
            self.delivering = Some((handle, at + 1));
            match self.pick(group, key_hash) {
                Some(Member::Outlet(id)) => self.push_to_outlet(id, handle)?,
                Some(Member::Call(id)) => self.push_to_call(id, handle)?,
                None => {
                    let reason =
                        if self.all_failed(group) { Reason::ReceiverFailed } else { Reason::SlowConsumer };
                    self.refuse_copy(handle, reason);
                }
            }
        }
        if let [only] = &entry.groups[..entry.receivers]
            && !self.any_room(only)
            && !self.all_failed(only)
        {
            self.hold(topic)?;
        }
        // The queue's own reference.
        self.delivering = None;
        self.release(handle);
        Ok(())
    }

    fn pick(&self, group: &Group, key_hash: u64) -> Option<Member> {
        // SAFETY: this is the lane's owner.
        let cursor = unsafe { group.cursor.get() };
        choose(group.pick, cursor, key_hash, group.members.len(), |at| self.load(group.members[at]))
            .map(|at| group.members[at])
    }

    pub(crate) fn load(&self, member: Member) -> Load {
        let nothing = Load { has_room: false, waiting: u32::MAX };
        match member {
            Member::Outlet(id) => self.outlet(id).map_or(nothing, |outlet| outlet.load()),
            Member::Call(id) => self.call(id).map_or(nothing, |call| self.call_load(call)),
        }
    }

    fn any_room(&self, group: &Group) -> bool {
        group.members.iter().any(|member| self.load(*member).has_room)
    }

    fn all_failed(&self, group: &Group) -> bool {
        group.members.iter().all(|member| match member {
            Member::Outlet(id) => self.outlet(*id).is_none_or(|outlet| outlet.failed),
            Member::Call(id) => self.call(*id).is_none_or(|call| call.failed),
        })
    }

    /// Whether the topic's only receivers can take no more.
    pub(crate) fn is_stuck(&self, topic: u32) -> bool {
        self.topic(topic).is_some_and(|entry| match &entry.groups[..entry.receivers] {
            [only] => !self.any_room(only) && !self.all_failed(only),
            _ => false,
        })
    }

    /// The topic's only receivers can take no more: its events stay in the queue, others go on.
    pub(crate) fn hold(&mut self, topic: u32) -> Result<(), Disowned> {
        self.held.push_once(topic);
        self.in_call = InCall::Policy;
        self.enter(Doing::Policy, 0);
        self.queue.hold(topic, true);
        self.leave(Doing::Policy)
    }

    /// Puts topics on hold whose members lost their room other than by a delivery: they are out, or hold what
    /// another one left behind.
    fn hold_stuck(&mut self) -> Result<(), Disowned> {
        self.rooms_gone = false;
        for at in 0..self.ailing.len() {
            let outlet = self.ailing[at] as usize;
            let Some(topic) = self.tables().outlets.get(outlet).and_then(|entry| Some(entry.as_ref()?.topic))
            else {
                continue;
            };
            if self.is_stuck(topic) {
                self.hold(topic)?;
            }
        }
        Ok(())
    }

    /// Lets topics go on whose receivers have room again.
    pub(crate) fn release_holds(&mut self) -> Result<(), Disowned> {
        for _ in 0..self.held.len() {
            let Some(topic) = self.held.pop() else { break };
            if self.is_stuck(topic) {
                self.held.push_front(topic);
            } else if !self.queue_failed {
                self.in_call = InCall::Policy;
                self.enter(Doing::Policy, 0);
                self.queue.hold(topic, false);
                self.leave(Doing::Policy)?;
                self.more_queued = self.queued > 0;
            }
        }
        Ok(())
    }
}
