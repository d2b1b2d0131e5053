//! A workflow as it is requested: topic → function → topic.

use crate::{Origin, QosRequest, Value, names};

/// The most branches of a workflow.
pub const BRANCHES_MAX: usize = 16;
/// The longest name of a branch, in bytes.
pub const BRANCH_BYTES_MAX: usize = 64;
/// How often an event may be tried again.
pub const RETRIES_MAX: u8 = 16;
/// The longest pause before an event is tried again for the first time.
pub const BACKOFF_NS_MAX: u64 = 60_000_000_000;
/// The pause where none is given.
pub const BACKOFF_NS: u64 = 10_000_000;
/// Outcomes after which an event may be tried again, in the words of counters and signals.
pub const RETRY_OUTCOMES: &[&str] =
    &["failed", "killed", "crashed", "over-memory", "bad-output", "output-too-large", "not-started"];
/// Those of them that are tried again where a workflow names none.
pub const RETRY_DEFAULT: &[&str] = &["failed", "crashed", "not-started"];

/// Which events are tried again, how often, and after what pause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySpec {
    /// How often an event is tried again, 1 to 16.
    pub times: u8,
    /// The pause before the first time; each following one is twice as long.
    pub backoff_ns: u64,
    /// The outcomes that are tried again, of [`RETRY_OUTCOMES`].
    pub outcomes: Vec<String>,
    /// The function's own codes that are tried again, 1 to 255.
    pub codes: Vec<u8>,
}

/// Other code beside a function's own, for a share of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CanarySpec {
    /// Its file, absolute.
    pub file: String,
    /// How many percent of the events it gets. Which ones, their ids decide.
    pub share_percent: u8,
}

/// The function of a workflow and how it is invoked.
#[derive(Clone, Debug, PartialEq)]
pub struct CallSpec {
    /// The invocation method plugin: `dlf`, `wasm`, `spawn`, `container`.
    pub method: String,
    /// The function's file. A relative path is relative to the script that declared it; doors make it
    /// absolute.
    pub file: String,
    /// Instances kept ready.
    pub warm: u32,
    /// The most instances kept ready; `None`: as many as may run at once.
    pub warm_max: Option<u32>,
    /// How long an instance above `warm` may have nothing to do before it is let go; `None`: for good.
    pub idle_ns: Option<u64>,
    /// Events after which an instance is replaced by a fresh one; `None`: never.
    pub recycle_after: Option<u32>,
    /// What is tried again; `None`: nothing.
    pub retry: Option<RetrySpec>,
    /// Other code for a share of the events.
    pub canary: Option<CanarySpec>,
    /// The function is stopped, or where that cannot be done reported late, after this long.
    pub deadline_ns: Option<u64>,
    /// The most memory an instance may use, where the method can hold it to that.
    pub memory_bytes: Option<u64>,
    /// The largest output, in bytes.
    pub output_bytes_max: u32,
    /// How many events the function may work on at once, 1 to 64; 1 keeps their order.
    pub concurrency: u32,
    /// Runs the function on the queue worker itself, for one that is short and never waits.
    pub inline: bool,
    /// Further options of the method, checked against its option table.
    pub options: Vec<(String, Value)>,
    /// Where it was declared.
    pub origin: Origin,
}

/// A workflow as requested.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkflowSpec {
    /// Its name.
    pub name: String,
    /// The topic whose events it works on.
    pub from: String,
    /// The topic that its output goes to; `None`: the output is counted and let go. With branches, where an
    /// output goes that names none.
    pub to: Option<String>,
    /// Topics by the names under which the function chooses one for its output; none for most workflows.
    pub branches: Vec<(String, String)>,
    /// Whether its output goes to the topic that the event names in its attribute `reply-to`, where that
    /// topic takes replies.
    pub replies: bool,
    /// The subscription group that it is a member of; `None`: one of its own.
    pub group: Option<String>,
    /// What is asked for from the way in of its topic to the way out of the last one.
    pub request: Option<Box<QosRequest>>,
    /// What it calls.
    pub call: CallSpec,
    /// Where it was declared.
    pub origin: Origin,
}

impl CallSpec {
    /// A call with every default.
    pub fn new(method: &str, file: &str, origin: &Origin) -> Self {
        CallSpec {
            method: method.into(),
            file: file.into(),
            warm: 1,
            warm_max: None,
            idle_ns: None,
            recycle_after: None,
            retry: None,
            canary: None,
            deadline_ns: None,
            memory_bytes: None,
            output_bytes_max: 65_536,
            concurrency: 1,
            inline: false,
            options: Vec::new(),
            origin: origin.clone(),
        }
    }

    /// What is wrong with it, apart from what only plugins know: sentences without subject.
    pub fn mistakes(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(most) = self.warm_max.filter(|most| *most < self.warm) {
            wrong.push(format!(
                "warm_max is {most} and warm is {}: the most cannot be less than what is kept ready",
                self.warm
            ));
        }
        if let Some(retry) = &self.retry {
            if self.inline {
                wrong.push(String::from(
                    "retry needs a function worker, and inline runs on the queue worker; leave one of them out",
                ));
            }
            if retry.times == 0 || retry.times > RETRIES_MAX {
                wrong.push(format!("retry: times is {}; 1 to {RETRIES_MAX} are allowed", retry.times));
            }
            if retry.backoff_ns > BACKOFF_NS_MAX {
                wrong.push(String::from("retry: backoff is longer than 1min"));
            }
            for word in retry.outcomes.iter().filter(|word| !RETRY_OUTCOMES.contains(&word.as_str())) {
                let hint = names::hint(word, RETRY_OUTCOMES.iter().copied());
                wrong.push(format!("retry: outcomes holds {word:?}, which is no outcome to try again{hint}"));
            }
            if retry.codes.contains(&0) {
                wrong.push(String::from("retry: codes holds 0, which is no failure; 1 to 255 are codes"));
            }
        }
        if let Some(canary) = self.canary.as_ref().filter(|canary| canary.share_percent > 100) {
            wrong.push(format!("canary: share is {}; 0 to 100 are percents", canary.share_percent));
        }
        wrong
    }
}

impl WorkflowSpec {
    /// What is wrong with it, apart from the topics that it names and from what only plugins know: sentences
    /// without subject.
    pub fn mistakes(&self) -> Vec<String> {
        let mut wrong: Vec<String> =
            self.call.mistakes().into_iter().map(|sentence| format!("call: {sentence}")).collect();
        if self.branches.len() > BRANCHES_MAX {
            wrong.push(format!("to has more than {BRANCHES_MAX} branches"));
        }
        for (name, _) in &self.branches {
            match names::check("branch", name) {
                Err(sentence) => wrong.push(format!("to: {sentence}")),
                Ok(()) if name.len() > BRANCH_BYTES_MAX => wrong.push(format!(
                    "to: the branch name has {} bytes; at most {BRANCH_BYTES_MAX} are allowed",
                    name.len()
                )),
                Ok(()) => {}
            }
        }
        wrong
    }

    /// The topics that it names as targets, each with the key that names it.
    pub fn targets(&self) -> impl Iterator<Item = (String, &str)> {
        let branches = self.branches.iter();
        let whole =
            self.to.as_deref().filter(|_| self.branches.is_empty()).map(|to| (String::from("to"), to));
        whole.into_iter().chain(branches.map(|(name, topic)| (format!("to.{name}"), topic.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_contradicts_itself_is_told_what() {
        let mut call = CallSpec::new("dlf", "/f.so", &Origin::builtin());
        assert_eq!(call.mistakes(), Vec::<String>::new());
        call.warm = 3;
        call.warm_max = Some(2);
        call.inline = true;
        call.retry = Some(RetrySpec {
            times: 17,
            backoff_ns: BACKOFF_NS_MAX + 1,
            outcomes: vec!["crahsed".into()],
            codes: vec![0],
        });
        call.canary = Some(CanarySpec { file: "/g.so".into(), share_percent: 101 });
        let said = call.mistakes().join("\n");
        for part in [
            "warm_max is 2 and warm is 3",
            "retry needs a function worker",
            "times is 17; 1 to 16",
            "longer than 1min",
            "\"crahsed\", which is no outcome to try again (did you mean \"crashed\"?)",
            "codes holds 0",
            "share is 101",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
