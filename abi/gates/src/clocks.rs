//! What the clocks are worth on which schedules rest: ptp4l is asked on behalf of those who want it, once for all that
//! want the same.

use std::time::{Duration, Instant};

use tempos_ptp::{Cause, Clock, ClockConfig, ClockState};
use tempos_qdisc::Mode;
use tempos_tsn::show_duration;

/// A clock that does not count is told again where the cause is another one, but not more often.
const AGAIN: Duration = Duration::from_secs(2);

/// What was told of a clock last.
#[derive(Clone, Copy, Debug)]
struct Told {
    granted: bool,
    cause: Option<Cause>,
    at: Instant,
}

/// A clock that somebody wants.
#[derive(Debug)]
struct Watched {
    config: ClockConfig,
    /// None where it could not be asked: it is tried again.
    clock: Option<Clock>,
    state: Result<ClockState, String>,
    told: Option<Told>,
}

/// A piece of news about a clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockNews {
    /// Whether it counts.
    pub granted: bool,
    /// Whether it did until now.
    pub is_lost: bool,
    /// One sentence: how good it is, or what is wrong with it.
    pub reason: String,
}

/// The clocks of one interface's members.
#[derive(Debug, Default)]
pub struct Clocks {
    all: Vec<Watched>,
}

impl Clocks {
    /// Watches this one as well.
    pub fn want(&mut self, config: &ClockConfig) {
        if !self.all.iter().any(|watched| watched.config == *config) {
            let state = Err(String::from("ptp4l has not been asked yet"));
            let mut watched = Watched { config: config.clone(), clock: None, state, told: None };
            watched.ask();
            // Whoever wants it is told by the one who asks for it.
            let _ = watched.news(Instant::now());
            self.all.push(watched);
        }
    }

    /// Watches only those that are still wanted.
    pub fn keep(&mut self, wanted: impl Fn(&ClockConfig) -> bool) {
        self.all.retain(|watched| wanted(&watched.config));
    }

    /// What is wrong with one; none where it counts.
    pub fn wrong(&self, config: &ClockConfig) -> Option<String> {
        let watched = self.all.iter().find(|watched| watched.config == *config)?;
        match &watched.state {
            Ok(state) if state.granted => None,
            Ok(state) => Some(state.reason.clone()),
            Err(sentence) => Some(sentence.clone()),
        }
    }

    /// Asks after all of them, and answers with what is new. It waits for nothing.
    pub fn look(&mut self, now: Instant) -> Vec<(ClockConfig, ClockNews)> {
        self.all
            .iter_mut()
            .filter_map(|watched| {
                watched.ask();
                watched.news(now).map(|news| (watched.config.clone(), news))
            })
            .collect()
    }
}

impl Watched {
    fn ask(&mut self) {
        if self.clock.is_none() {
            match Clock::new(self.config.clone()) {
                Ok(clock) => self.clock = Some(clock),
                Err(error) => {
                    let folder = self.config.folder.display();
                    self.state = Err(format!("ptp4l cannot be asked: its answers go to {folder}: {error}"));
                }
            }
        }
        if let Some(clock) = &mut self.clock {
            self.state = Ok(clock.poll());
        }
    }

    fn news(&mut self, now: Instant) -> Option<ClockNews> {
        let (granted, cause, reason) = match &self.state {
            Ok(state) => (state.granted, state.cause, &state.reason),
            Err(sentence) => (false, None, sentence),
        };
        let is_new = self.told.is_none_or(|told| {
            told.granted != granted
                || (told.cause != cause && now.saturating_duration_since(told.at) >= AGAIN)
        });
        if !is_new {
            return None;
        }
        let is_lost = self.told.is_some_and(|told| told.granted) && !granted;
        self.told = Some(Told { granted, cause, at: now });
        Some(ClockNews { granted, is_lost, reason: reason.clone() })
    }
}

/// On what clock a schedule rests.
pub fn clock_sentence(mode: Mode, asked: Option<&ClockConfig>) -> String {
    let clock = match mode {
        Mode::FullOffload => String::from("the card's clock"),
        Mode::Software | Mode::TxtimeAssist { .. } => match tempos_ptp::tai_offset_s() {
            Ok(seconds) => format!("CLOCK_TAI, {seconds}s ahead of UTC"),
            Err(_) => String::from("CLOCK_TAI"),
        },
    };
    match asked {
        None => format!("by {clock}, of which no ptp4l is asked"),
        Some(config) => format!(
            "by {clock}, to be within {} by the ptp4l of {}",
            show_duration(config.bounds.offset_max_ns),
            config.socket.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use tempos_ptp::PTP4L_SOCKET;

    use super::*;

    fn config(folder: &str) -> ClockConfig {
        ClockConfig::new(PTP4L_SOCKET, folder)
    }

    fn state(cause: Option<Cause>) -> Result<ClockState, String> {
        let (granted, in_bounds) = (cause.is_none(), matches!(cause, None | Some(Cause::Hold)));
        let reason = format!("{cause:?}");
        let (offset_ns, port, tai_offset_s) = (None, None, None);
        Ok(ClockState { granted, in_bounds, cause, reason, offset_ns, port, tai_offset_s, garbage: 0 })
    }

    #[test]
    fn a_loss_and_a_return_are_told_at_once_and_another_cause_after_a_while() {
        let mut watched =
            Watched { config: config("/"), clock: None, state: state(Some(Cause::Silence)), told: None };
        let start = Instant::now();
        for (at_ms, cause, told) in [
            (0, Some(Cause::Silence), Some((false, false))),
            (100, Some(Cause::Silence), None),
            (200, Some(Cause::Hold), None),
            (300, None, Some((true, false))),
            (400, None, None),
            (500, Some(Cause::Offset), Some((false, true))),
            (600, Some(Cause::Hold), None),
            (2_499, Some(Cause::Silence), None),
            (2_500, Some(Cause::Silence), Some((false, false))),
            (2_600, None, Some((true, false))),
        ] {
            watched.state = state(cause);
            let news = watched.news(start + Duration::from_millis(at_ms));
            assert_eq!(news.map(|news| (news.granted, news.is_lost)), told, "at {at_ms} ms");
        }
    }

    #[test]
    fn one_that_cannot_be_asked_does_not_count_and_says_why() {
        let mut clocks = Clocks::default();
        let (one, other) = (config("/no/such/folder"), config("/another/folder"));
        for config in [&one, &one, &other] {
            clocks.want(config);
        }
        assert_eq!(clocks.look(Instant::now()), [], "nothing is new");
        let wrong = clocks.wrong(&one).unwrap_or_default();
        assert!(
            wrong.starts_with("ptp4l cannot be asked: its answers go to /no/such/folder: No such"),
            "{wrong}"
        );
        clocks.keep(|config| *config == other);
        assert_eq!((clocks.wrong(&one), clocks.wrong(&other).is_some()), (None, true));
    }
}
