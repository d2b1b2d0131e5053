//! Chains and branches of workflows: where an output may come to, and how the time of an event is split over
//! the functions on its way.

use std::collections::{BTreeSet, HashMap};

use tempos_control::{WorkflowSpec, units};

use super::Wiring;

impl Wiring {
    /// The topics that a workflow's output may go to.
    pub(crate) fn targets<'a>(&'a self, workflow: &'a WorkflowSpec) -> impl Iterator<Item = &'a str> {
        let replies = self.topics.values().filter(|topic| workflow.replies && topic.takes_replies);
        let replies = replies.map(|topic| topic.name.as_str());
        workflow.targets().map(|(_, topic)| topic).chain(replies).collect::<BTreeSet<_>>().into_iter()
    }

    /// Whether a workflow's output reaches its own topic again.
    pub(super) fn comes_back(&self, workflow: &WorkflowSpec) -> bool {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = self.targets(workflow).collect();
        while let Some(topic) = next.pop() {
            if topic == workflow.from {
                return true;
            }
            if reached.insert(topic) {
                next.extend(
                    self.workflows.values().filter(|w| w.from == topic).flat_map(|w| self.targets(w)),
                );
            }
        }
        false
    }

    /// What the functions that a workflow's output comes to have declared to take at most, on the longest way
    /// (ns), by workflow. What declares no deadline counts for nothing.
    pub fn downstream(&self) -> HashMap<&str, u64> {
        let targets: Vec<(&WorkflowSpec, Vec<&str>)> =
            self.workflows.values().map(|workflow| (workflow, self.targets(workflow).collect())).collect();
        let mut from: HashMap<&str, u64> = HashMap::new();
        let longest = |from: &HashMap<&str, u64>, to: &[&str]| {
            to.iter().filter_map(|topic| from.get(topic)).copied().max().unwrap_or(0)
        };
        // Workflows make no circles: as many rounds as there are workflows settle everything.
        for _ in 0..=targets.len() {
            let mut grown = false;
            for (workflow, to) in &targets {
                let ns = workflow.call.deadline_ns.unwrap_or(0).saturating_add(longest(&from, to));
                let known = from.entry(&workflow.from).or_default();
                grown |= ns > *known;
                *known = ns.max(*known);
            }
            if !grown {
                break;
            }
        }
        targets.iter().map(|(workflow, to)| (workflow.name.as_str(), longest(&from, to))).collect()
    }

    /// Topics whose events have less time than the functions on their way have declared, one line each.
    pub fn tight_deadlines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let downstream = self.downstream();
        for workflow in self.workflows.values() {
            let Some(topic) = self.topics.get(&workflow.from) else { continue };
            let (Some(given), Some(own)) = (topic.deadline_ns, workflow.call.deadline_ns) else { continue };
            let downstream = downstream.get(workflow.name.as_str()).copied().unwrap_or(0);
            if own.saturating_add(downstream) > given {
                let whole = units::show_ns(own.saturating_add(downstream));
                let (given, own) = (units::show_ns(given), units::show_ns(own));
                lines.push(format!(
                    "! workflow {:?} may take {own} and the functions after it bring that to {whole}; events of topic {:?} have {given}",
                    workflow.name, topic.name
                ));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use tempos_control::{CallSpec, Origin, TopicSpec};

    use super::*;

    fn wiring(workflows: &[(&str, &str, &[&str], Option<u64>)]) -> Wiring {
        let origin = Origin::builtin();
        let mut wiring = Wiring::default();
        for (name, from, to, deadline_ms) in workflows {
            for topic in std::iter::once(from).chain(to.iter()) {
                wiring.topics.insert((*topic).into(), TopicSpec::named(topic, &origin));
            }
            let mut call = CallSpec::new("dlf", "/f.so", &origin);
            call.deadline_ns = deadline_ms.map(|ms| ms * 1_000_000);
            let branches: Vec<_> =
                to.iter().map(|topic| ((*topic).to_owned(), (*topic).to_owned())).collect();
            wiring.workflows.insert(
                (*name).into(),
                WorkflowSpec {
                    name: (*name).into(),
                    from: (*from).into(),
                    to: None,
                    branches,
                    replies: false,
                    group: None,
                    request: None,
                    call,
                    origin: origin.clone(),
                },
            );
        }
        wiring
    }

    #[test]
    fn what_follows_is_the_longest_of_its_ways() {
        let wiring = wiring(&[
            ("first", "a", &["b", "c"], Some(1)),
            ("short", "b", &["d"], Some(2)),
            ("long", "c", &["d"], None),
            ("also", "c", &["e"], Some(3)),
            ("last", "d", &[], Some(4)),
        ]);
        let downstream = wiring.downstream();
        let downstream = |name: &str| downstream[name] / 1_000_000;
        assert_eq!(
            ["first", "short", "long", "also", "last"].map(downstream),
            [6, 4, 4, 0, 0],
            "first: 2 + 4 by b, not 0 + 4 or 3 by c"
        );
    }

    #[test]
    fn a_chain_that_declares_more_than_its_events_have_is_told() {
        let mut wiring = wiring(&[("first", "a", &["b"], Some(4)), ("last", "b", &[], Some(4))]);
        assert_eq!(wiring.tight_deadlines(), Vec::<String>::new());
        if let Some(topic) = wiring.topics.get_mut("a") {
            topic.deadline_ns = Some(5_000_000);
        }
        let said = wiring.tight_deadlines().join("\n");
        assert!(
            said.contains("\"first\" may take 4.00 ms")
                && said.contains("8.00 ms")
                && said.contains("have 5.00 ms"),
            "{said}"
        );
    }

    #[test]
    fn a_circle_through_a_branch_is_one() {
        let wiring = wiring(&[("out", "a", &["b", "c"], None), ("back", "c", &["a"], None)]);
        assert!(wiring.comes_back(&wiring.workflows["out"]) && wiring.comes_back(&wiring.workflows["back"]));
    }
}
