//! What is said of one interface's gates and clocks: to its members as it happens, and to those who ask.

use std::time::Instant;

use crate::clocks::clock_sentence;
use crate::ladder::mode_word;
use crate::news::{Incident, News};
use crate::repair::Standing;

impl Standing {
    /// Something does not work now; the same is not told twice.
    pub(crate) fn tell(&mut self, incident: Incident, trouble: Option<String>) {
        if let Some(sentence) = trouble
            && self.trouble.as_ref() != Some(&sentence)
        {
            self.trouble = Some(sentence.clone());
            self.tell_all(incident, false, sentence);
        }
    }

    /// The gates work again, or do not. Where a member's clock does not count, working gates are not all it needs.
    pub(crate) fn tell_all(&self, incident: Incident, works: bool, sentence: String) {
        for member in self.members.iter().filter(|member| !member.waits) {
            let wrong = member.clock.as_ref().and_then(|clock| self.clocks.wrong(clock));
            let sentence = match &wrong {
                Some(wrong) if works => format!("{sentence}; but the clock does not count: {wrong}"),
                _ => sentence.clone(),
            };
            (member.hear)(&News { incident, counts: works, works: works && wrong.is_none(), sentence });
        }
    }

    /// Asks the clocks that the members want, and no others any more.
    pub(crate) fn watch_clocks(&mut self) {
        let Standing { clocks, members, .. } = self;
        clocks.keep(|config| members.iter().any(|member| member.clock.as_ref() == Some(config)));
        members.iter().filter_map(|member| member.clock.as_ref()).for_each(|config| clocks.want(config));
    }

    /// Tells a new member at once where its clock does not count: until it was in its bounds for the hold time.
    pub(crate) fn welcome(&mut self, id: u64) {
        self.watch_clocks();
        let Some(member) = self.members.iter().find(|member| member.id == id && !member.waits) else {
            return;
        };
        if let Some(wrong) = member.clock.as_ref().and_then(|clock| self.clocks.wrong(clock)) {
            let sentence = format!("the clock does not count yet: {wrong}");
            (member.hear)(&News { incident: Incident::ClockLost, counts: false, works: false, sentence });
        }
    }

    /// Asks after the clocks, and tells those whose clock was lost or counts again.
    pub fn look_at_clocks(&mut self, now: Instant) {
        for (config, news) in self.clocks.look(now) {
            let (incident, what) = match (news.granted, news.is_lost) {
                (true, _) => (Incident::ClockCounts, "the clock counts"),
                (false, true) => (Incident::ClockLost, "the clock is lost"),
                (false, false) => (Incident::ClockLost, "the clock does not count"),
            };
            let mut sentence = format!("{what}: {}", news.reason);
            if let Some(trouble) = self.trouble.as_ref() {
                sentence.push_str(&format!("; {trouble}"));
            }
            let works = news.granted && self.trouble.is_none();
            let news = News { incident, counts: news.is_lost, works, sentence };
            let concerned =
                |member: &&crate::repair::Member| !member.waits && member.clock.as_ref() == Some(&config);
            self.members.iter().filter(concerned).for_each(|member| (member.hear)(&news));
        }
    }

    /// How the schedule is kept, for those who ask what they got.
    pub fn sentence(&self, id: u64, class: u8) -> String {
        let member = self.members.iter().find(|member| member.id == id);
        if member.is_some_and(|member| member.waits)
            && let Some(held) = self.members.iter().find(|member| !member.waits)
        {
            return format!(
                "mode none for now: {} keeps the schedule of channel {:?}, and this one's when that is closed",
                self.link.name, held.name
            );
        }
        let Some(shape) = &self.shape else {
            return match &self.trouble {
                Some(trouble) => trouble.clone(),
                None => format!(
                    "mode none for now: another node, or an older copy of this plugin, rules the gates of {}, and this \
                     one's follow when that ends",
                    self.link.name
                ),
            };
        };
        let launch = if shape.launch.iter().any(|(launching, _)| *launching == class) {
            ", launch times by etf"
        } else {
            ""
        };
        let clock = clock_sentence(shape.mode, member.and_then(|member| member.clock.as_ref()));
        let mut text = format!("class {class}, mode {}{launch}, {clock}", mode_word(shape.mode));
        if !shape.refused.is_empty() {
            text.push_str(&format!(" (refused: {})", shape.refused.join("; ")));
        }
        text
    }
}
