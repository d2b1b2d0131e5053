//! A wiring on probe: watched for a time, and rolled back where something of it fails meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tempos_abi::host::LogLevel;
use tempos_control::units::show_ns;
use tempos_control::{Keeping, Kind, Node as _, Notice, ObjectState, Refusal, RefusalKind, Terms, Who};

use crate::generations::record::Body;
use crate::host_node::{HostNode, WIRING};
use crate::wanted::Wanted;

/// How often the watch looks whether the probe was ended by somebody else.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is waited for a turn.
const TURNS: usize = 6;
/// What can fail.
const KINDS: [Kind; 5] = [Kind::QosLevel, Kind::Plugin, Kind::Channel, Kind::Topic, Kind::Workflow];

/// A generation on probe.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Its number.
    pub number: u64,
    /// The number of the one before.
    pub back_to: u64,
    /// The wiring of that one.
    pub back: Body,
    /// That one was to outlive a restart.
    pub was_kept: bool,
    /// When it has passed.
    pub until: Instant,
    /// It is not to outlive a restart where it passes.
    pub until_restart: bool,
    /// It fails where nobody confirms it.
    pub needs_confirmation: bool,
}

impl Probe {
    /// The time that is left, in nanoseconds.
    pub fn left_ns(&self) -> u64 {
        let left = self.until.saturating_duration_since(Instant::now());
        u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)
    }

    /// What is told of it when it begins.
    pub fn words(&self) -> String {
        let (number, back_to, left) = (self.number, self.back_to, show_ns(self.left_ns()));
        match self.needs_confirmation {
            true => format!(
                "generation {number} is on probe for {left}: where something fails, or nobody confirms it, {back_to} \
                 comes back"
            ),
            false => format!(
                "generation {number} is on probe for {left}: where something fails, {back_to} comes back"
            ),
        }
    }
}

/// What was amiss before a wiring was applied, and what happens from then on.
#[derive(Debug)]
pub(crate) struct Watch {
    notices: Receiver<Notice>,
    amiss: BTreeSet<(Kind, String)>,
}

impl Watch {
    /// To be called before the wiring is applied.
    pub fn begin(node: &HostNode) -> Watch {
        let notices = node.notices();
        let amiss = all_amiss(node).map(|(object, _)| object).collect();
        Watch { notices, amiss }
    }

    /// Watches the wiring that was applied, on a thread of its own.
    ///
    /// # Errors
    /// One sentence: nobody watches.
    pub fn start(self, node: &HostNode, number: u64) -> Result<(), String> {
        let this = node.this.clone();
        let watch = move || self.run(number, || this.upgrade());
        let started =
            std::thread::Builder::new().name("tempos-probe".into()).stack_size(256 << 10).spawn(watch);
        started
            .map(drop)
            .map_err(|error| format!("nobody watches the probe, the system gives no thread: {error}"))
    }

    fn run(mut self, number: u64, upgrade: impl Fn() -> Option<Arc<HostNode>>) {
        let Some(first) = upgrade() else { return };
        // What is degraded from the start was allowed to be: the wiring would have been refused.
        let allowed = |(kind, _): &(Kind, String)| matches!(kind, Kind::Topic | Kind::Workflow);
        let from_start: Vec<_> = all_amiss(&first)
            .filter(|(object, state)| allowed(object) && state.condition.state == "degraded")
            .map(|(object, _)| object)
            .collect();
        self.amiss.extend(from_start);
        let mut failed = self.first_amiss(&first);
        drop(first);
        loop {
            let Some(node) = upgrade() else { return };
            let Some(left) = time_left(&node, number) else { return };
            // All is looked at once more when the probe ends: notices may have been lost.
            if left.is_zero() {
                failed = self.first_amiss(&node);
            }
            if failed.is_some() || left.is_zero() {
                return end(&node, number, failed);
            }
            drop(node);
            let notice = match self.notices.recv_timeout(left.min(LOOK)) {
                Ok(notice) => notice,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let Some(node) = upgrade() else { return };
            failed = self.told_by(&node, &notice);
        }
    }

    /// What is amiss and was not before.
    fn first_amiss(&self, node: &HostNode) -> Option<String> {
        all_amiss(node).find_map(|(_, state)| self.sentence(&state))
    }

    /// The same as far as a notice tells. The object is looked at right away: what fails is soon opened again.
    fn told_by(&self, node: &HostNode, notice: &Notice) -> Option<String> {
        match notice {
            Notice::StateChanged { kind, name } if KINDS.contains(kind) => {
                self.sentence(&node.observe(*kind, name)?)
            }
            Notice::PluginStateChanged { name, state, report } if state == "failed" => {
                let was_amiss = self.amiss.contains(&(Kind::Plugin, name.clone()));
                (!was_amiss).then(|| format!("plugin {name:?} is failed: {report}"))
            }
            _ => None,
        }
    }

    fn sentence(&self, object: &ObjectState) -> Option<String> {
        let condition = &object.condition;
        if !is_amiss(object) || self.amiss.contains(&(object.kind, object.name.clone())) {
            return None;
        }
        let what = if object.kind == Kind::QosLevel { "level" } else { object.kind.word() };
        Some(format!("{what} {:?} is {}: {}", object.name, condition.state, condition.reason))
    }
}

fn is_amiss(object: &ObjectState) -> bool {
    matches!(object.condition.state.as_str(), "failed" | "degraded" | "out" | "violated")
}

fn all_amiss(node: &HostNode) -> impl Iterator<Item = ((Kind, String), ObjectState)> {
    let of_kind = move |kind| node.names(kind).into_iter().filter_map(move |name| node.observe(kind, &name));
    KINDS
        .into_iter()
        .flat_map(of_kind)
        .filter(is_amiss)
        .map(|object| ((object.kind, object.name.clone()), object))
}

/// How long the generation is still on probe; `None` where it is not any more.
fn time_left(node: &HostNode, number: u64) -> Option<Duration> {
    let standing = node.standing();
    let probe = standing.probe.as_ref().filter(|probe| probe.number == number)?;
    Some(probe.until.saturating_duration_since(Instant::now()))
}

/// Ends the probe: the wiring stays, or the one before comes back.
fn end(node: &HostNode, number: u64, failed: Option<String>) {
    // Whoever has the turn may be about to end the probe himself.
    let held = (0..TURNS).find_map(|_| node.turn().ok());
    let probe = node.standing().probe.take_if(|probe| probe.number == number);
    let Some(probe) = probe else { return };
    let why = match failed {
        Some(why) => why,
        None if probe.needs_confirmation => String::from("nobody confirmed it"),
        None => return node.passed(&probe),
    };
    let (who, what) = (
        Who::at("node"),
        format!("rollback to {}, because generation {number} failed its probe", probe.back_to),
    );
    let terms = Terms { until_restart: !probe.was_kept, ..Terms::default() };
    let outcome = match held {
        Some(_held) => node.change_in_turn(&who, &what, Wanted::Back(probe.back), &terms),
        None => Err(Refusal::new(RefusalKind::Overloaded, "other wirings were being read all the time")),
    };
    node.account(&who, &what, outcome.as_ref().map(|applied| applied.generation));
    let sentence = match &outcome {
        Ok(applied) => format!(
            "generation {number} failed its probe and was rolled back with generation {}: {why}",
            applied.generation
        ),
        Err(refusal) => {
            format!(
                "generation {number} failed its probe ({why}) and could not be rolled back: {}",
                refusal.message
            )
        }
    };
    let keeping = if outcome.is_ok() { Keeping::RolledBack } else { Keeping::UntilRestart };
    node.standing().generations.turn(number, keeping, Some(&sentence));
    node.log.say(LogLevel::WARNING, WIRING, &sentence);
    if outcome.is_err() {
        node.trouble(&sentence);
    }
    node.read_again_if_wanted();
}
