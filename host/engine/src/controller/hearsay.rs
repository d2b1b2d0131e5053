//! What plugins say of channels that are open: shown beside what was granted, told, and written to the log.

use tempos_control::Kind;

use super::Controller;
use crate::plugin::LogLevel;
use crate::plugin::host_api::{Said, take_said};

impl Controller {
    /// Passes on what was said since the last look.
    pub(super) fn hear_plugins(&mut self) {
        for Said { channel, works, sentence } in take_said() {
            let grant = self.grants().get(channel.as_str()).copied().map(str::to_owned);
            // It was closed meanwhile.
            let Some(grant) = grant else {
                self.said.remove(&channel);
                continue;
            };
            if sentence.is_empty() {
                self.said.remove(&channel);
            } else {
                let level = if works { LogLevel::INFO } else { LogLevel::WARNING };
                self.say(level, "channels", &format!("channel {channel:?}: {sentence}"));
                self.said.insert(channel.clone(), (works, sentence));
            }
            // A channel that failed or is out says that.
            let state = self.model.condition(Kind::Channel, &channel).map(|condition| condition.state);
            if matches!(state.as_deref(), Some("started" | "degraded")) {
                self.show_what_was_said(&channel, &grant);
            }
        }
    }

    /// A channel that works says what it was granted, and what was said of it last.
    pub(crate) fn show_what_was_said(&self, channel: &str, grant: &str) {
        match self.said.get(channel) {
            None => self.condition(Kind::Channel, channel, "started", grant),
            Some((true, said)) => {
                self.condition(Kind::Channel, channel, "started", &format!("{grant}; {said}"));
            }
            Some((false, said)) => self.condition(Kind::Channel, channel, "degraded", said),
        }
    }
}
