//! What requests name: levels that are there.

use tempos_control::{Mistake, Origin, QosRequest, names};

use super::Wiring;

impl Wiring {
    /// Names in requests that nothing has.
    pub(super) fn check_requests(&self, mistakes: &mut Vec<Mistake>) {
        for topic in self.topics.values() {
            if let Some(request) = &topic.request {
                self.check_request(&format!("topic {:?}", topic.name), &topic.origin, request, mistakes);
            }
        }
        for workflow in self.workflows.values() {
            if let Some(request) = &workflow.request {
                self.check_request(
                    &format!("workflow {:?}", workflow.name),
                    &workflow.origin,
                    request,
                    mistakes,
                );
            }
        }
    }

    fn check_request(&self, what: &str, origin: &Origin, request: &QosRequest, mistakes: &mut Vec<Mistake>) {
        for level in request.allow.levels.iter().filter(|level| !self.levels.contains_key(*level)) {
            let hint = names::hint(level, self.levels.keys().map(String::as_str));
            let sentence = format!("{what}: allow: unknown QoS level {level:?}{hint}");
            mistakes.push(Mistake::new(origin, sentence));
        }
    }
}
