//! Bringing a wiring into force: every lane is drafted, and only when all drafts are good is any told.

use super::*;

/// Every lane of a wiring, drafted.
pub(super) struct Drafted {
    pub(super) drafts: Vec<LaneDraft>,
    pub(super) mistakes: Vec<Mistake>,
    /// What is shown as failed, by name.
    pub(super) failed: BTreeMap<String, String>,
    /// What a user should know beside the declarations that change, one line each.
    pub(super) notes: BTreeSet<String>,
}

impl Controller {
    /// Drafts every lane of a wiring.
    pub(super) fn draft(&self, next: &Wiring, strictness: Strictness, dry_run: bool) -> Drafted {
        let reach = next.levels_of_topics();
        let downstream = next.downstream();
        let channels: HashMap<&str, &tempos_control::ChannelSpec> = next
            .topics
            .values()
            .flat_map(|topic| {
                topic.channels().map(|channel| (channel.name.as_str(), channel)).collect::<Vec<_>>()
            })
            .collect();
        let mut drafting = Drafting {
            registry: &self.registry,
            wiring: next,
            reach: &reach,
            downstream: &downstream,
            channels: &channels,
            strictness,
            dry_run,
            mistakes: Vec::new(),
            failed: BTreeMap::new(),
            notes: BTreeSet::new(),
            heirs: Heirs::default(),
        };
        for (index, entry) in self.lanes.iter().enumerate() {
            if let Some(entry) = entry {
                let level = next.levels.get(&entry.lane.spec.name);
                drafting.gather(level, QosLevel(index as u8), &entry.before());
            }
        }
        let mut drafts = Vec::new();
        let mut taken: Vec<bool> = self.lanes.iter().map(Option::is_some).collect();
        for level in next.levels.values() {
            let index = self.index_of(&level.name).or_else(|| match level.name.as_str() {
                STRICT => Some(0),
                BEST_EFFORT => Some(1),
                _ => (2..LEVELS_MAX).find(|at| !taken[*at]),
            });
            let Some(index) = index else { continue };
            taken[index] = true;
            let before = self.lanes[index].as_ref().map(LaneEntry::before);
            drafts.push(drafting.lane(level, QosLevel(index as u8), before.as_ref()));
        }
        drafting.heirs.close();
        let Drafting { mistakes, failed, notes, .. } = drafting;
        crossings::join(next, &mut drafts);
        Drafted { drafts, mistakes, failed, notes }
    }

    /// Brings a wiring into force, as a whole or not at all. The answer is what a user should know beside
    /// the difference.
    pub(crate) fn bring_into_force(
        &mut self,
        next: Wiring,
        strictness: Strictness,
    ) -> Result<Vec<String>, Refusal> {
        let Drafted { drafts, mistakes, failed, notes: told } = self.draft(&next, strictness, false);
        if !mistakes.is_empty() {
            for draft in drafts {
                draft.undo();
            }
            return Err(Refusal::of_mistakes(mistakes));
        }
        let mut notes = Vec::new();
        for sentence in told {
            self.say(LogLevel::WARNING, "wiring", &sentence);
            notes.push(sentence);
        }
        for draft in drafts {
            let index = draft.index.0 as usize;
            if let Err(sentence) = self.commit(draft, index) {
                self.say(LogLevel::ERROR, "wiring", &sentence);
                notes.push(sentence);
            }
        }
        self.make_crossings(&next);
        let gone: Vec<usize> = (0..self.lanes.len())
            .filter(|at| {
                self.lanes[*at].as_ref().is_some_and(|entry| !next.levels.contains_key(&entry.lane.spec.name))
            })
            .collect();
        for index in gone {
            if let Some(entry) = self.lanes[index].take() {
                entry.lane.stop();
                self.retire_plan(entry.plan);
                self.crossings.retain(|(from, to)| *from != index && *to != index);
            }
        }
        self.wiring = next;
        self.failed = failed;
        self.lock_code();
        self.show();
        self.check_grants();
        self.explain();
        self.herald.tell(Notice::ObjectsChanged);
        Ok(notes)
    }

    /// Tells one lane. What goes is closed only after the lane has left it.
    pub(super) fn commit(&mut self, mut draft: LaneDraft, index: usize) -> Result<(), String> {
        let mut handover = std::mem::take(&mut draft.handover);
        handover.sources = draft.gone_ids();
        let tables = draft.plan.tables(&draft.level, handover);
        let Some(queue_plugin) = draft.queue_plugin.take() else { return Ok(()) };
        let name = draft.level.name.clone();
        match &mut self.lanes[index] {
            None => {
                let Some((queue, topics)) = draft.queue.take() else { return Ok(()) };
                let lane = Lane::start(
                    draft.level.clone(),
                    draft.index,
                    queue,
                    tables,
                    &self.supervisor,
                    self.config.lock_memory,
                )
                .map_err(|error| format!("level {name:?}: its lane cannot be started: {error}"))?;
                let failed = draft.watch_sources(&lane.shared);
                self.lanes[index] =
                    Some(LaneEntry { lane, plan: draft.plan, queue_plugin, queue_topics: topics });
                if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
            }
            Some(entry) => {
                for source in &draft.gone_sources {
                    entry.lane.shared.place.forget_raw(source.descriptor);
                }
                let rescheduled = entry.lane.spec.scheduler != draft.level.scheduler
                    || entry.lane.spec.cpus != draft.level.cpus
                    || entry.lane.spec.function_priority != draft.level.function_priority;
                let old = match entry.lane.swap(tables) {
                    Ok(old) => old,
                    Err(tables) => {
                        // What the lane may have seen for an instant is not freed.
                        std::mem::forget(tables);
                        return Err(format!("level {name:?}: its lane did not take the new wiring in time"));
                    }
                };
                drop(old);
                let mut answer = Ok(());
                if let Some((queue, topics)) = draft.queue.take() {
                    let tables = draft.plan.tables(&draft.level, crate::lane::tables::Handover::default());
                    match entry.lane.rebuild(draft.level.clone(), queue, tables) {
                        Ok(old) => {
                            drop(old);
                            entry.queue_topics = topics;
                            entry.queue_plugin = queue_plugin;
                        }
                        Err(error) => {
                            answer = Err(format!("level {name:?}: its lane cannot be rebuilt: {error}"))
                        }
                    }
                } else {
                    if rescheduled && let Err(error) = entry.lane.reschedule(&draft.level) {
                        answer =
                            Err(format!("level {name:?}: the system does not grant its scheduling: {error}"));
                    }
                    entry.lane.spec = draft.level.clone();
                }
                entry.lane.set_share(&draft.level);
                let failed = draft.watch_sources(&entry.lane.shared);
                entry.plan = std::mem::take(&mut draft.plan);
                self.retire(draft.gone_sources, draft.gone_outlets, draft.gone_calls);
                if failed.is_empty() { answer } else { Err(failed.join("; ")) }
            }
        }
    }

    /// The lanes' code is locked, so that a branch seldom taken waits for no disk: the plugins that a lane
    /// uses, the C library, and the node itself.
    pub(super) fn lock_code(&self) {
        if !self.config.lock_memory {
            return;
        }
        let plans = || self.lanes.iter().flatten().map(|entry| &entry.plan);
        let sources = plans().flat_map(|plan| plan.sources.iter().flatten()).map(|source| &source.plugin);
        let outlets = plans().flat_map(|plan| plan.outlets.iter().flatten()).map(|outlet| &outlet.plugin);
        let calls = plans().flat_map(|plan| plan.calls.iter().flatten()).map(|call| &call.function.plugin);
        let queues = self.lanes.iter().flatten().map(|entry| &entry.queue_plugin);
        let used: BTreeSet<String> = sources
            .chain(outlets)
            .chain(calls)
            .chain(queues)
            .map(|plugin| plugin.staged.display().to_string())
            .collect();
        let own = std::env::current_exe().unwrap_or_default().display().to_string();
        lock_code(|path| used.contains(path) || path.contains("/libc.so") || path == "[vdso]" || path == own);
    }

    /// Compares what the lanes asked for with what the system granted.
    pub(crate) fn check_grants(&mut self) {
        let mut highest = 0;
        let mut refused = Vec::new();
        let mut unlocked = false;
        for entry in self.lanes.iter().flatten() {
            let wanted = crate::system::scheduling::requested(&entry.lane.spec.scheduler);
            highest = highest.max(crate::system::scheduling::priority_of(&entry.lane.spec.scheduler));
            let is_real_time = !matches!(entry.lane.spec.scheduler, Scheduler::Other { .. });
            let got = entry
                .lane
                .shared
                .thread()
                .map_or_else(|| String::from("gone"), crate::system::scheduling::granted);
            let demoted = entry.lane.is_demoted();
            if is_real_time && got != wanted && !demoted {
                refused.push(format!("level {:?} runs as {got} instead of {wanted}", entry.lane.spec.name));
            }
            let (state, reason) = if let Some(slow) = self.slow.get(&entry.lane.spec.name) {
                ("degraded", slow.clone())
            } else if got == wanted || demoted {
                ("granted", format!("its queue worker runs as {got}"))
            } else {
                ("degraded", format!("its queue worker runs as {got} instead of {wanted}"))
            };
            self.model.set_condition(tempos_control::Kind::QosLevel, &entry.lane.spec.name, state, &reason);
            unlocked |= self.config.lock_memory && !entry.lane.is_locked;
        }
        let sentence = (!refused.is_empty()).then(|| {
            let (cause, mend) = crate::system::preflight::real_time_cause(highest);
            format!("real-time scheduling is not granted: {}; {cause}; {mend}", refused.join(", "))
        });
        self.degrade("real-time scheduling", sentence);
        let sentence = unlocked.then(|| {
            String::from("locked memory is not granted: RLIMIT_MEMLOCK is too small and CAP_IPC_LOCK is missing; give the service LimitMEMLOCK=infinity")
        });
        self.degrade("locked memory", sentence);
    }
}
