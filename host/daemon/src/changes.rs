//! Changes of the wiring, from whichever door: read, checked and brought into force by the engine, then written
//! down as a generation, and rolled back where they fail their probe.

use std::time::{Duration, Instant};

use tempos_abi::host::LogLevel;
use tempos_control::generation::PROBE_NS_MAX;
use tempos_control::units::show_ns;
use tempos_control::{Keeping, Order, Refusal, RefusalKind, Reply, Terms, Who};

use crate::generations::Generations;
use crate::generations::record::{Body, Head};
use crate::host_node::{HostNode, STATE, WIRING, first_line};
use crate::probe::{Probe, Watch};
use crate::wanted::{Ready, Wanted};
use crate::wiring_watch::Scripts;

/// A change that was made.
#[derive(Debug)]
pub(crate) struct Applied {
    /// The generation in force.
    pub generation: u64,
    /// What changed.
    pub report: String,
}

/// What is in force, and what was before.
#[derive(Debug)]
pub(crate) struct Standing {
    /// All that are remembered.
    pub generations: Generations,
    /// The wiring in force as it was declared: without what hooks changed of it.
    pub body: Body,
    /// The number under which it came into force.
    number: u64,
    /// The probe that it is on.
    pub probe: Option<Probe>,
    /// The configured scripts are to be read again when the probe is over.
    read_again: bool,
}

impl Standing {
    /// Before anything is in force.
    pub fn new(generations: Generations) -> Self {
        Standing { generations, body: Body::default(), number: 0, probe: None, read_again: false }
    }
}

impl HostNode {
    /// Brings the wiring into force that the node is to start with: the one that was given by call last, where the
    /// configured scripts are as they were then, and else that of the scripts. Where these hold mistakes the
    /// last wiring that was in force goes on.
    ///
    /// # Errors
    /// The mistakes of the scripts, where there is no other wiring.
    pub fn begin(&self) -> Result<Reply, Refusal> {
        let newest = self.standing().generations.newest().cloned();
        let as_they_were =
            newest.as_ref().is_some_and(|head| head.scripts == Scripts::look(&self.wiring).fingerprint());
        let mut terms = Terms::default();
        if let Some(head) = newest.as_ref().filter(|head| !head.is_from_files) {
            if as_they_were {
                match self.restore(head) {
                    Ok(reply) => return Ok(reply),
                    Err(sentence) => self.trouble(&sentence),
                }
                // Where it is whole the next start may bring it back: a plugin may have been missing.
                terms.until_restart = self.standing().generations.head(head.number).is_some();
            } else {
                let sentence = format!(
                    "the wiring scripts were edited since generation {} was given by call ({}): they are in force; \
                     `temposctl rollback {}` brings that one back",
                    head.number, head.who, head.number
                );
                self.log.say(LogLevel::WARNING, WIRING, &sentence);
            }
        }
        let outcome = self.change(&Who::at("files"), "start", Wanted::Files, &terms);
        let outcome = outcome.map(|applied| Reply::Report(applied.report));
        let (Err(_), Some(head)) = (&outcome, newest.filter(|_| !as_they_were)) else { return outcome };
        match self.restore(&head) {
            Ok(reply) => Ok(reply),
            Err(sentence) => {
                self.trouble(&sentence);
                outcome
            }
        }
    }

    /// Brings a generation back into force under its own number.
    fn restore(&self, head: &Head) -> Result<Reply, String> {
        let number = head.number;
        let _held = self.turn().map_err(|refusal| refusal.message)?;
        let body = self.standing().generations.read(number)?;
        let ready = self.ready(Wanted::Back(body)).map_err(|refusal| refusal.message)?;
        let report = self.bring_back(number, ready).map_err(|refusal| {
            format!("generation {number} cannot be brought back: {}", first_line(&refusal.message))
        })?;
        let given = if head.is_from_files { "as the scripts were" } else { "as it was given by call" };
        let said = format!("generation {number} is in force again {given}: {} ({})", head.what, head.who);
        self.log.say(LogLevel::INFO, WIRING, &said);
        Ok(Reply::Report(report))
    }

    /// Brings a wiring into force that has its number already. The answer is the engine's report.
    fn bring_back(&self, number: u64, ready: Ready) -> Result<String, Refusal> {
        self.engine.set_next_generation(number);
        let order = Order::Apply { commands: ready.commands, whole: true, dry_run: false };
        let answer = self.engine.carry_out(order);
        if answer.is_ok() && self.engine.generation() != number {
            // An empty wiring is no change for the engine.
            self.engine.count_generation();
        }
        let highest = self.standing().generations.highest();
        self.engine.set_next_generation(highest + 1);
        let Reply::Report(report) = answer? else {
            return Err(Refusal::new(RefusalKind::System, "the engine gave no report"));
        };
        {
            let mut standing = self.standing();
            standing.body = ready.body;
            standing.number = number;
        }
        self.take_hooks(ready.hooks);
        Ok(report)
    }

    /// Whether a wiring that the engine does not tell from the one in force is that generation: it has its hooks, and
    /// has not become so by a hook, whose changes are not kept.
    fn is_known(&self, number: u64, body: &Body) -> bool {
        let standing = self.standing();
        standing.body.hooks == body.hooks && standing.generations.has_body(number)
    }

    /// The number of the newest generation, where that is this wiring, read from the scripts.
    fn is_newest(&self, body: &Body) -> Option<u64> {
        let mut standing = self.standing();
        let number = standing.generations.newest().filter(|head| head.is_from_files)?.number;
        // One that cannot be read is none; it is found and told where it is wanted.
        standing.generations.read(number).ok().filter(|known| known.is_same(body)).map(|_| number)
    }

    /// Reads the configured wiring and brings it into force. Where it holds mistakes the old one goes on,
    /// and the node says so until a wiring is applied.
    ///
    /// # Errors
    /// The mistakes.
    pub fn reload(&self, who: &Who, what: &str) -> Result<Reply, Refusal> {
        self.change(who, what, Wanted::Files, &Terms::default()).map(|applied| Reply::Report(applied.report))
    }

    /// Says what a change would be, and changes nothing.
    pub(crate) fn plan(&self, wanted: Wanted) -> Result<Reply, Refusal> {
        let _held = self.turn()?;
        let Ready { commands, whole, .. } = self.ready(wanted)?;
        self.engine.carry_out(Order::Apply { commands, whole, dry_run: true })
    }

    /// Makes a change, and keeps account of it.
    pub(crate) fn change(
        &self,
        who: &Who,
        what: &str,
        wanted: Wanted,
        terms: &Terms,
    ) -> Result<Applied, Refusal> {
        let is_files = matches!(wanted, Wanted::Files);
        let outcome = check_terms(terms).and_then(|()| {
            let _held = self.turn()?;
            self.change_in_turn(who, what, wanted, terms)
        });
        self.account(who, what, outcome.as_ref().map(|applied| applied.generation));
        match &outcome {
            Ok(_) if is_files => self.engine.degrade(WIRING, None),
            // That it came at the wrong time is no mistake in the scripts.
            Err(refusal)
                if is_files
                    && (is_unheard(who)
                        || !matches!(refusal.kind, RefusalKind::Overloaded | RefusalKind::OutOfDate)) =>
            {
                let sentence =
                    format!("the wiring on disk is not in force: {}", first_line(&refusal.message));
                self.engine.degrade(WIRING, Some(sentence));
                self.log.say(LogLevel::ERROR, WIRING, &refusal.message);
            }
            _ => {}
        }
        outcome
    }

    /// The same within the turn, without an account.
    pub(crate) fn change_in_turn(
        &self,
        who: &Who,
        what: &str,
        wanted: Wanted,
        terms: &Terms,
    ) -> Result<Applied, Refusal> {
        let before = self.engine.generation();
        if let Some(wanted) = terms.only_if.filter(|wanted| *wanted != before) {
            let sentence = format!("the change was meant for generation {wanted}, and {before} is in force");
            return Err(Refusal::new(RefusalKind::OutOfDate, sentence));
        }
        let is_files = matches!(wanted, Wanted::Files);
        let is_return = matches!(wanted, Wanted::Generation(_) | Wanted::Back(_));
        let on_probe = self.standing().probe.as_ref().map(|probe| (probe.number, probe.left_ns()));
        if let Some((number, left_ns)) = on_probe.filter(|_| !is_return) {
            // Whoever asked for it is told; nobody tells an editor.
            self.standing().read_again |= is_files && is_unheard(who);
            let left = show_ns(left_ns);
            let sentence = format!(
                "generation {number} is on probe for another {left}: confirm it, roll it back, or try again then"
            );
            return Err(Refusal::new(RefusalKind::Overloaded, sentence));
        }
        let scripts = Scripts::look(&self.wiring).fingerprint();
        let ready = match self.ready(wanted) {
            Ok(ready) => ready,
            Err(refusal) => {
                self.engine.reject(&refusal.message);
                return Err(refusal);
            }
        };
        if before == 0 && is_files {
            // At the start: what the scripts say may be what was in force before it.
            if let Some(number) = self.is_newest(&ready.body) {
                return self.bring_back(number, ready).map(|report| Applied { generation: number, report });
            }
        }
        let watch = terms.probe_ns.map(|_| Watch::begin(self));
        let order = Order::Apply { commands: ready.commands, whole: ready.whole, dry_run: false };
        let Reply::Report(mut report) = self.engine.carry_out(order)? else {
            return Err(Refusal::new(RefusalKind::System, "the engine gave no report"));
        };
        let mut number = self.engine.generation();
        if number == before && !self.is_known(before, &ready.body) {
            number = self.engine.count_generation();
        }
        if number == before {
            // Nothing changed; but what was to last until the restart may now be for good.
            if !terms.until_restart && terms.probe_ns.is_none() {
                self.keep(number, &mut report);
            }
            if !ready.keeps_hooks {
                self.take_hooks(ready.hooks);
            }
            return Ok(Applied { generation: number, report });
        }
        let keeping = match (terms.probe_ns, terms.until_restart) {
            (Some(_), _) => Keeping::OnProbe,
            (None, true) => Keeping::UntilRestart,
            (None, false) => Keeping::Kept,
        };
        let head = Generations::new_head(number, who, what, &report);
        let head = Head { is_from_files: is_files, scripts, ..head };
        let ended = {
            let mut standing = self.standing();
            let written = standing.generations.add(head, Some(&ready.body), keeping);
            // What was amiss at the start is told until the next change.
            if before > 0 || written.is_err() {
                self.note_written(number, written, &mut report);
            }
            let back = std::mem::replace(&mut standing.body, ready.body);
            let back_to = std::mem::replace(&mut standing.number, number);
            let ended = standing.probe.take();
            if let Some(ended) = &ended {
                let sentence = format!("rolled back with generation {number}, before its probe was over");
                standing.generations.turn(ended.number, Keeping::RolledBack, Some(&sentence));
            }
            if let (Some(watch), Some(probe_ns)) = (watch, terms.probe_ns) {
                let until = Instant::now() + Duration::from_nanos(probe_ns);
                let was_kept =
                    standing.generations.head(back_to).is_none_or(|(_, keeping)| keeping == Keeping::Kept);
                let probe = Probe {
                    number,
                    back_to,
                    back,
                    was_kept,
                    until,
                    until_restart: terms.until_restart,
                    needs_confirmation: terms.confirm,
                };
                report.push_str(&format!("\n{}", probe.words()));
                standing.probe = Some(probe);
                drop(standing);
                if let Err(sentence) = watch.start(self, number) {
                    report.push_str(&format!("\n{sentence}"));
                }
            }
            ended
        };
        if !ready.keeps_hooks {
            self.take_hooks(ready.hooks);
        }
        if ended.is_some() {
            self.read_again_if_wanted();
        }
        Ok(Applied { generation: number, report })
    }

    /// Keeps a generation for good, where it is not already.
    pub(crate) fn keep(&self, number: u64, report: &mut String) {
        let written = self.standing().generations.keep(number);
        self.note_written(number, written, report);
    }

    /// What could not be written down is said where it is seen.
    fn note_written(&self, number: u64, written: Result<(), String>, report: &mut String) {
        match written {
            Ok(()) => self.engine.degrade(STATE, None),
            Err(sentence) => {
                let sentence = format!("generation {number} does not outlive a restart: {sentence}");
                self.trouble(&sentence);
                report.push_str(&format!("\n{sentence}"));
            }
        }
    }

    /// Something is amiss with what is kept.
    pub(crate) fn trouble(&self, sentence: &str) {
        self.log.say(LogLevel::ERROR, STATE, sentence);
        self.engine.degrade(STATE, Some(sentence.to_owned()));
    }

    /// Ends the probe of a generation: it stays.
    ///
    /// # Errors
    /// It is not on probe.
    pub(crate) fn confirm(&self, generation: Option<u64>) -> Result<u64, Refusal> {
        let refused = |kind, sentence| Err(Refusal::new(kind, sentence));
        let probe = {
            let mut standing = self.standing();
            let on_probe = standing.probe.as_ref().map(|probe| probe.number);
            let is_meant = |probe: &mut Probe| generation.is_none_or(|wanted| wanted == probe.number);
            match (standing.probe.take_if(is_meant), on_probe) {
                (Some(probe), _) => probe,
                (None, Some(other)) => {
                    let sentence = format!("it is generation {other} that is on probe");
                    return refused(RefusalKind::OutOfDate, sentence);
                }
                (None, None) => {
                    return refused(RefusalKind::NoSuchObject, String::from("no generation is on probe"));
                }
            }
        };
        self.passed(&probe);
        Ok(probe.number)
    }

    /// A generation has passed its probe, which is taken already.
    pub(crate) fn passed(&self, probe: &Probe) {
        if probe.until_restart {
            self.standing().generations.turn(probe.number, Keeping::UntilRestart, None);
        } else {
            self.keep(probe.number, &mut String::new());
        }
        self.log.say(LogLevel::INFO, WIRING, &format!("generation {} has passed its probe", probe.number));
        self.read_again_if_wanted();
    }

    /// Scripts that were saved during a probe are read when it is over, on a thread of their own: this may be
    /// within somebody's turn.
    pub(crate) fn read_again_if_wanted(&self) {
        if !std::mem::take(&mut self.standing().read_again) {
            return;
        }
        let Some(this) = self.this.upgrade() else { return };
        let again = move || {
            // The refusal has been logged and stands among the degradations.
            let _ = this.reload(&Who::at("files"), "reload");
        };
        if let Err(error) = std::thread::Builder::new().name("tempos-wiring".into()).spawn(again) {
            self.log.say(
                LogLevel::ERROR,
                WIRING,
                &format!("saved scripts were not read: no thread: {error}"),
            );
        }
    }
}

/// Whether a refusal is told to nobody.
fn is_unheard(who: &Who) -> bool {
    matches!(who.door.as_str(), "files" | "signal")
}

fn check_terms(terms: &Terms) -> Result<(), Refusal> {
    let wrong = |sentence: String| Err(Refusal::new(RefusalKind::InvalidWiring, sentence));
    match terms.probe_ns {
        None if terms.confirm => {
            wrong(String::from("to be confirmed within which time? give a probe as well"))
        }
        Some(ns) if !(1_000_000..=PROBE_NS_MAX).contains(&ns) => {
            wrong(format!("a probe of {} is none: 1 ms to 1 h are", show_ns(ns)))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_checked() {
        assert!(check_terms(&Terms::default()).is_ok());
        let probe =
            |probe_ns| check_terms(&Terms { probe_ns: Some(probe_ns), confirm: true, ..Terms::default() });
        assert!(probe(1_000_000).is_ok() && probe(PROBE_NS_MAX).is_ok());
        assert!(probe(0).is_err() && probe(PROBE_NS_MAX + 1).is_err());
        assert!(check_terms(&Terms { confirm: true, ..Terms::default() }).is_err());
    }
}
