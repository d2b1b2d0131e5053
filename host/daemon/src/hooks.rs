//! Calls the hooks of the wiring in force, and carries out what they change, on a thread of their own.
//!
//! Nothing here runs on an event's road. A wiring without hooks has no such thread; it ends with its wiring.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tempos_abi::host::LogLevel;
use tempos_control::{Command, Node, Notice, Reply};
use tempos_lua::{Called, Hook, Hooks};

use crate::happenings::{Happenings, fact};
use crate::host_node::HostNode;
use crate::log::Log;

/// The log's name for this room, and that of the degradation.
const TARGET: &str = "hooks";
/// Least time between two changes of one object by hooks, so that two of them cannot play ball with it.
const CHANGE_HOLD: Duration = Duration::from_secs(1);
/// The most calls in a second.
const CALLS_MAX: u32 = 100;
/// After so many failures in a row the hooks are off until a wiring is applied.
const FAILURES_MAX: u32 = 10;
/// Changed objects that are kept in mind.
const CHANGED_MAX: usize = 1024;

/// Starts the thread for the wiring of that epoch.
///
/// # Errors
/// The system has no thread to give.
pub fn start(node: &Arc<HostNode>, epoch: u64, hooks: Hooks, log: Log) -> std::io::Result<()> {
    // Before the thread runs: what happens from now on is not missed.
    let notices = node.notices();
    let node = Arc::downgrade(node);
    let runner = Runner {
        epoch,
        hooks,
        log,
        happenings: Happenings::default(),
        changed: BTreeMap::new(),
        failures: 0,
        second: (Instant::now(), 0),
    };
    std::thread::Builder::new()
        .name("tempos-hooks".into())
        .stack_size(256 << 10)
        .spawn(move || runner.run(&notices, || node.upgrade()))
        .map(drop)
}

struct Runner {
    epoch: u64,
    hooks: Hooks,
    log: Log,
    happenings: Happenings,
    changed: BTreeMap<(&'static str, String), Instant>,
    failures: u32,
    /// The second that calls are counted in, and how many there were.
    second: (Instant, u32),
}

impl Runner {
    fn run(mut self, notices: &Receiver<Notice>, node: impl Fn() -> Option<Arc<HostNode>>) {
        loop {
            let notice = match self.next_call() {
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => notices.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            let Some(node) = node() else { return };
            if node.epoch() != self.epoch {
                return;
            }
            match notice {
                Ok(notice) => self.note(&node, &notice),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while self.may_call()
                && let Some((at, happening)) = self.happenings.take_due(self.hooks.list(), Instant::now())
            {
                let of = format!("{} of {} {:?}", happening.event, happening.kind, happening.name);
                let outcome = self.hooks.call(at, happening);
                let Some(hook) = self.hooks.list().get(at).cloned() else { continue };
                match outcome {
                    Ok(called) => self.carry_out(&node, &hook, &of, called),
                    Err(mistakes) => {
                        let sentences: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
                        self.fail(&node, &sentences.join("\n"));
                    }
                }
                if self.failures >= FAILURES_MAX {
                    return;
                }
            }
        }
    }

    fn note(&mut self, node: &HostNode, notice: &Notice) {
        let condition = |kind, name: &str| {
            node.observe(kind, name).map(|object| (object.condition.state, object.condition.reason))
        };
        if let Some(fact) = fact(notice, condition) {
            self.happenings.note(self.hooks.list(), &fact, Instant::now());
        }
    }

    /// When the next call may be made, where one is due.
    fn next_call(&self) -> Option<Instant> {
        let due = self.happenings.next(self.hooks.list())?;
        let (since, calls) = self.second;
        Some(if calls >= CALLS_MAX { due.max(since + Duration::from_secs(1)) } else { due })
    }

    fn may_call(&mut self) -> bool {
        if self.second.0.elapsed() >= Duration::from_secs(1) {
            self.second = (Instant::now(), 0);
        }
        self.second.1 += 1;
        self.second.1 <= CALLS_MAX
    }

    fn carry_out(&mut self, node: &HostNode, hook: &Hook, of: &str, called: Called) {
        for (origin, line) in &called.printed {
            self.log.say(LogLevel::INFO, "script", &format!("{origin}: {line}"));
        }
        if called.commands.is_empty() {
            self.recover(node);
            return;
        }
        let now = Instant::now();
        self.changed.retain(|_, at| now.duration_since(*at) < CHANGE_HOLD);
        let objects: Vec<_> = called.commands.iter().filter_map(object).collect();
        if let Some((kind, name)) = objects.iter().find(|object| self.changed.contains_key(*object)) {
            let hold = tempos_control::units::show_ns(CHANGE_HOLD.as_nanos() as u64);
            self.hooks.settle(false);
            let sentence = format!(
                "{}: {kind} {name:?} was changed by a hook less than {hold} ago and stays as it is",
                hook.origin
            );
            self.log.say(LogLevel::WARNING, TARGET, &sentence);
            return;
        }
        match node.change_by_hook(self.epoch, called.commands) {
            None => self.hooks.settle(false),
            Some(Ok(reply)) => {
                self.hooks.settle(true);
                let room = CHANGED_MAX.saturating_sub(self.changed.len());
                self.changed.extend(objects.into_iter().take(room).map(|object| (object, now)));
                let report = if let Reply::Report(report) = reply { report } else { String::new() };
                self.log.say(LogLevel::INFO, TARGET, &format!("{}: {of}: {report}", hook.origin));
                self.recover(node);
            }
            Some(Err(refusal)) => {
                self.hooks.settle(false);
                self.fail(node, &refusal.message);
            }
        }
    }

    fn recover(&mut self, node: &HostNode) {
        if std::mem::take(&mut self.failures) > 0 {
            node.engine().degrade(TARGET, None);
        }
    }

    fn fail(&mut self, node: &HostNode, sentence: &str) {
        self.failures += 1;
        self.log.say(LogLevel::ERROR, TARGET, sentence);
        let first = sentence.lines().next().unwrap_or_default();
        let sentence = if self.failures < FAILURES_MAX {
            format!("a hook has failed: {first}")
        } else {
            format!("the hooks are off after {FAILURES_MAX} failures in a row, apply a wiring: {first}")
        };
        node.engine().degrade(TARGET, Some(sentence));
    }
}

/// What a command changes.
fn object(command: &Command) -> Option<(&'static str, String)> {
    match command {
        Command::DeclareLevel(level) => Some(("qos", level.name.clone())),
        Command::DeclareTopic(topic) => Some(("topic", topic.name.clone())),
        Command::DeclareWorkflow(workflow) => Some(("workflow", workflow.name.clone())),
        _ => None,
    }
}
