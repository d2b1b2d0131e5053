//! Members of a group beside each other: what one does not take goes to another, and one that takes nothing
//! is out until it does again.

use super::group::{Group, Load, Member, choose};
use super::outlet::Outlet;
use crate::lane::order::LaneNotice;
use crate::lane::ownership::Disowned;
use crate::lane::pool::Handle;
use crate::lane::state::LaneState;
use crate::stats::Reason;
use crate::system::clock::monotonic_ns;

/// How often an event may be given to another member.
const ATTEMPTS_MAX: u8 = 16;
/// How soon the events of a member that is out are offered again to others that were full.
const OFFER_AGAIN_NS: u64 = 10_000_000;

impl LaneState {
    /// The group of a member that has others beside it.
    fn siblings(&self, member: Member) -> Option<&'static Group> {
        let tables = self.tables();
        let (topic, group) = match member {
            Member::Outlet(id) => {
                let entry = tables.outlets.get(id as usize)?.as_ref()?;
                (entry.topic, entry.group)
            }
            Member::Call(id) => {
                let entry = tables.calls.get(id as usize)?.as_ref()?;
                (entry.topic, entry.group)
            }
        };
        let groups = &self.topic(topic)?.groups;
        groups.get(group as usize).filter(|group| group.members.len() > 1)
    }

    /// Gives an event that a member did not take to another one of its group; `false` where none has room:
    /// the event is then still the caller's. It waits there with the others: nothing is sent and no function is
    /// run in here, so that nobody can be lost in the middle of what the caller does.
    pub(crate) fn give_to_another(&mut self, from: Member, handle: Handle) -> bool {
        let Some(group) = self.siblings(from) else { return false };
        let record = self.pool.record(handle);
        let (topic, key_hash, attempts) = (record.topic, record.key_hash, record.attempts);
        if attempts >= ATTEMPTS_MAX {
            return false;
        }
        let full = Load { has_room: false, waiting: u32::MAX };
        // SAFETY: this is the lane's owner.
        let cursor = unsafe { group.cursor.get() };
        let chosen = choose(group.pick, cursor, key_hash, group.members.len(), |at| {
            match group.members[at] {
                member if member == from => full,
                // It would have to run at once.
                Member::Call(id) if self.call(id).is_none_or(|call| call.inline) => full,
                member => self.load(member),
            }
        });
        let Some(at) = chosen else { return false };
        self.pool.record_mut(handle).attempts = attempts + 1;
        self.rooms_gone = true;
        #[cfg(test)]
        crate::simulation::world::note_rerouted(self.pool.payload(handle));
        if let Some(entry) = self.topic(topic) {
            entry.stats.rerouted.add(1);
        }
        match group.members[at] {
            Member::Outlet(id) => {
                self.enqueue(id, handle);
            }
            Member::Call(id) => {
                self.wait_for_call(id, handle);
                self.calls_wait = true;
            }
        }
        true
    }

    /// A channel refused the first of the events that wait for it; whether it may be asked for the next one.
    pub(crate) fn was_refused(&mut self, id: u32) -> bool {
        let Some(outlet) = self.outlet(id) else { return false };
        let Some(handle) = outlet.pending.pop_front() else { return false };
        if self.siblings(Member::Outlet(id)).is_none() {
            self.refuse_copy(handle, Reason::SendError);
            return true;
        }
        let out = outlet.health.refused(self.now);
        if !self.give_to_another(Member::Outlet(id), handle) {
            if self.pool.record(handle).attempts >= ATTEMPTS_MAX {
                self.refuse_copy(handle, Reason::SendError);
            } else {
                // Nobody takes it now: it waits for whoever comes back first.
                outlet.pending.push_front(handle);
            }
        }
        self.look_after(outlet);
        if out {
            self.take_out(outlet, false);
        }
        outlet.health.is_in()
    }

    /// A channel gave up a frame that it had taken.
    pub(crate) fn was_given_up(&mut self, id: u32) {
        let Some(outlet) = self.outlet(id) else { return };
        if self.siblings(Member::Outlet(id)).is_none() {
            return;
        }
        let out = outlet.health.refused(self.now);
        self.look_after(outlet);
        if out {
            self.take_out(outlet, false);
        }
    }

    /// A receiver will not acknowledge an event any more.
    pub(crate) fn was_lost(&mut self, id: u32, handle: Handle) {
        let given = self.give_to_another(Member::Outlet(id), handle);
        if self.siblings(Member::Outlet(id)).is_some()
            && let Some(outlet) = self.outlet(id)
        {
            let out = outlet.health.refused(self.now);
            self.look_after(outlet);
            if out {
                self.take_out(outlet, false);
            }
        }
        if given {
            return;
        }
        match self.outlet(id) {
            // It gets the event once more, when it is back: nothing that was taken is given up for a reason
            // that may pass.
            Some(outlet)
                if !outlet.failed
                    && outlet.pending.len() < outlet.pending.capacity()
                    && self.pool.record(handle).attempts < ATTEMPTS_MAX =>
            {
                #[cfg(test)]
                crate::simulation::world::note_rerouted(self.pool.payload(handle));
                self.pool.record_mut(handle).attempts += 1;
                self.enqueue(id, handle);
            }
            _ => self.refuse_copy(handle, Reason::ReceiverFailed),
        }
    }

    /// A member took an event.
    pub(crate) fn member_took(&mut self, outlet: &mut Outlet) {
        if outlet.health.took() {
            // It has room again: topics that waited for some go on.
            self.look_again = true;
            outlet.stats.out.set(0);
            self.tell(LaneNotice::MemberBack { outlet: outlet.id });
        }
    }

    /// A member says that it can take events.
    pub(crate) fn member_can(&mut self, outlet: &mut Outlet) {
        if outlet.health.unblocks() {
            self.look_again = true;
            outlet.stats.out.set(0);
            self.tell(LaneNotice::MemberBack { outlet: outlet.id });
        }
    }

    /// Notes that a member with others beside it is to be looked after.
    pub(crate) fn look_after(&mut self, outlet: &mut Outlet) {
        let Some(group) = self.siblings(Member::Outlet(outlet.id)) else { return };
        self.rooms_gone = true;
        let due_ns = outlet.health.due_ns(group.stall_ns);
        if due_ns != 0 {
            let first = self.ailing_at_ns == 0;
            self.ailing_at_ns = if first { due_ns } else { due_ns.min(self.ailing_at_ns) };
        }
        if !outlet.watched && self.ailing.len() < self.ailing.capacity() {
            outlet.watched = true;
            self.ailing.push(outlet.id);
        }
    }

    /// A member is out: its events go to the others.
    fn take_out(&mut self, outlet: &mut Outlet, stalled: bool) {
        outlet.stats.out.set(1);
        self.rooms_gone = true;
        self.tell(LaneNotice::MemberOut { outlet: outlet.id, stalled });
        self.evacuate(outlet);
    }

    /// Offers what waits for a member that is out to the others.
    fn evacuate(&mut self, outlet: &mut Outlet) {
        for _ in 0..outlet.pending.len() {
            let Some(handle) = outlet.pending.pop_front() else { break };
            let expires_ns = self.pool.record(handle).expires_ns;
            if expires_ns != 0 && self.now > expires_ns {
                self.refuse_copy(handle, Reason::Expired);
            } else if !self.give_to_another(Member::Outlet(outlet.id), handle) {
                // All of them go round once: their order stays.
                outlet.pending.push_back(handle);
            }
        }
        outlet.stats.pending.set(outlet.pending.len() as u64);
    }

    /// Looks after the members that block or are out, where it is time.
    pub(crate) fn tend_members(&mut self) -> Result<(), Disowned> {
        if self.ailing_at_ns == 0 {
            return Ok(());
        }
        let now = monotonic_ns();
        if now < self.ailing_at_ns {
            return Ok(());
        }
        self.now = now;
        self.ailing_at_ns = 0;
        let mut at = 0;
        while let Some(id) = self.ailing.get(at).copied() {
            if let Some(outlet) = self.outlet(id) {
                self.tend(outlet)?;
            }
            if self.outlet(id).is_some_and(|outlet| outlet.watched) {
                at += 1;
            } else {
                self.ailing.swap_remove(at);
            }
        }
        self.release_holds()
    }

    fn tend(&mut self, outlet: &mut Outlet) -> Result<(), Disowned> {
        let Some(group) = self.siblings(Member::Outlet(outlet.id)).filter(|_| !outlet.failed) else {
            outlet.watched = false;
            if !outlet.failed {
                // The others have gone: its events are nobody else's, and it is asked like any receiver.
                self.member_can(outlet);
            }
            return Ok(());
        };
        if outlet.health.stalls(self.now, group.stall_ns) {
            self.take_out(outlet, true);
        } else if !outlet.health.is_in() {
            self.evacuate(outlet);
        }
        if outlet.health.tries(self.now) && !outlet.pending.is_empty() {
            outlet.blocked = false;
            self.flush_outlet(outlet.id)?;
        }
        outlet.watched = outlet.health.ails();
        if outlet.watched {
            let mut due_ns = outlet.health.due_ns(group.stall_ns);
            if !outlet.pending.is_empty() && !outlet.health.is_in() {
                due_ns = due_ns.min(self.now + OFFER_AGAIN_NS);
            }
            if due_ns != 0 {
                let first = self.ailing_at_ns == 0;
                self.ailing_at_ns = if first { due_ns } else { due_ns.min(self.ailing_at_ns) };
            }
        }
        Ok(())
    }
}
