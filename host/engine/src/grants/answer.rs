//! One request on one level: what it lacks there, and the rows that a user reads.

use tempos_control::{Answer, Grade, Grant, HopGrant, Kind, Origin, QosRequest, units::show_ns};

use super::hops::{Hop, Part, View};
use super::promise;
use super::road::Stage;
use super::watch::{HopOf, Watched, WatchedHop};

/// A topic or a workflow that asks, or that is only to be shown.
pub struct Ask<'a> {
    /// Which kind.
    pub kind: Kind,
    /// Its name.
    pub name: &'a str,
    /// Where it was declared.
    pub origin: &'a Origin,
    /// What it asks beside a level.
    pub request: QosRequest,
    /// Whether it asks anything at all.
    pub is_request: bool,
    /// The level that the user named.
    pub named_level: Option<&'a str>,
    /// Its road.
    pub road: Vec<Stage<'a>>,
}

/// What an ask gets on a level.
pub struct Weighed<'a> {
    parts: Vec<Part<'a>>,
    /// The whole of the bounds (ns).
    pub whole_ns: Option<u64>,
    grade: Grade,
    /// What it lacks, by hop; one past the last is the whole.
    lacks: Vec<(usize, String)>,
    /// Why its bound is not promised; `None` where it is.
    missing: Option<String>,
}

impl<'a> Ask<'a> {
    /// The words for it in a sentence.
    pub fn subject(&self) -> String {
        format!("{} {:?}", self.kind.word(), self.name)
    }

    /// Weighs it.
    pub fn weigh(&self, view: &View<'_>) -> Weighed<'a> {
        let parts = view.parts(&self.road);
        let bounds = parts.iter().map(|part| part.bound_ns.ok());
        let whole_ns = bounds.sum::<Option<u64>>();
        let best_ns: u64 = parts.iter().map(|part| part.best_ns).sum();
        let mut lacks = Vec::new();
        for (at, part) in parts.iter().enumerate() {
            if part.bound_ns.is_err() {
                lacks.push((at, view.why(part)));
            }
            let is_first_queue = matches!(part.hop, Hop::Queue(_)) && at < 2;
            if let (true, Some(_), Some(instead)) = (is_first_queue, self.named_level, &view.level.instead) {
                let (level, asked) = (&view.level.name, &view.level.asked);
                lacks.push((at, format!("level {level:?} runs as {instead} instead of {asked}")));
            }
            if let (true, Some(named)) =
                (is_first_queue, self.named_level.filter(|name| *name != view.level.name))
            {
                lacks.push((
                    at,
                    format!("level {named:?} is asked for, and {:?} is what is left", view.level.name),
                ));
            }
            lacks.extend(view.lacks(part, &self.request, whole_ns).into_iter().map(|lack| (at, lack)));
        }
        if let (Some(asked), Some(ns)) = (self.request.latency_p99_ns, whole_ns)
            && ns > asked
        {
            let worst = parts
                .iter()
                .max_by_key(|part| part.bound_ns.unwrap_or(0))
                .map(|part| hop_name(&part.hop, view));
            lacks.push((
                parts.len(),
                format!(
                    "the hops together take {}, and p99 {} is asked for; most of it is {}",
                    show_ns(ns),
                    show_ns(asked),
                    worst.unwrap_or_default()
                ),
            ));
        }
        if let (Some(asked), Some(ns)) = (self.request.jitter_ns, whole_ns) {
            let jitter = ns.saturating_sub(best_ns);
            if jitter > asked {
                let (jitter, asked) = (show_ns(jitter), show_ns(asked));
                lacks.push((
                    parts.len(),
                    format!("the slowest event may take {jitter} longer than the fastest, and jitter {asked} is asked for"),
                ));
            }
        }
        Weighed { parts, whole_ns, grade: Grade::Shared, lacks, missing: None }
    }
}

impl Weighed<'_> {
    /// How much it lacks: the number of sentences.
    pub fn lacking(&self) -> usize {
        self.lacks.len()
    }

    /// What it lacks, a sentence for each, with the hop.
    pub fn sentences(&self, view: &View<'_>) -> Vec<String> {
        self.lacks
            .iter()
            .map(|(at, lack)| match self.parts.get(*at) {
                Some(part) => format!("{}: {lack}", hop_name(&part.hop, view)),
                None => lack.clone(),
            })
            .collect()
    }

    /// Judges how far it can be relied on: not before it is settled which level it gets, for every load is looked at.
    pub fn judge(&mut self, ask: &Ask<'_>, view: &View<'_>) {
        let lacking = self.lacks.first().map(|(_, lack)| lack.as_str());
        self.missing = promise::missing(view, &ask.road, &self.parts, lacking);
        if self.missing.is_some() {
            // No hop is more than the way that it is a part of.
            for part in &mut self.parts {
                part.grade = part.grade.min(Grade::Prioritised);
            }
        }
        self.grade = self.parts.iter().map(|part| part.grade).min().unwrap_or(Grade::Shared);
    }

    /// The whole answer.
    pub fn grant(&self, ask: &Ask<'_>, view: &View<'_>, answer: Answer) -> Grant {
        let asked = ask.request.words();
        let level = &view.level.name;
        let mut hops: Vec<HopGrant> =
            self.parts.iter().enumerate().map(|(at, part)| self.row(at, part, ask, view)).collect();
        let whole = match self.whole_ns {
            Some(ns) => format!("{}, p99 at most {}", self.grade.word(), show_ns(ns)),
            None => format!("{}, without a bound", self.grade.word()),
        };
        let lacking: Vec<&str> = self.lacks.iter().map(|(_, lack)| lack.as_str()).collect();
        let basis = view.facts.costs.basis();
        let sentence = match lacking.first() {
            None => format!("{} on level {level:?}: {whole}; on {basis}", answer.word()),
            Some(first) => format!("{} on level {level:?}: {first}", answer.word()),
        };
        let own: Vec<&str> = self
            .lacks
            .iter()
            .filter(|(at, _)| *at == self.parts.len())
            .map(|(_, lack)| lack.as_str())
            .collect();
        hops.push(HopGrant {
            hop: String::from("whole"),
            asked: if asked.is_empty() { format!("level {level}") } else { asked.clone() },
            granted: whole,
            why: match (&self.missing, own.is_empty()) {
                (_, false) => own.join("; "),
                (None, true) => format!(
                    "99 of 100 events, as many as its endpoints let in, whatever other traffic does, on {basis}; a \
                     maximum is not promised"
                ),
                (Some(missing), true) => format!(
                    "the sum of the hops and the least of their grades, on {basis}; not guaranteed: {missing}"
                ),
            },
        });
        Grant {
            answer,
            level: level.clone(),
            grade: self.grade,
            latency_ns: self.whole_ns,
            asked,
            sentence,
            hops,
        }
    }

    /// What is to be watched of it; nothing where there is no bound.
    pub fn watched(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Watched> {
        let whole = self.whole_ns?;
        let hops = self.parts.iter().filter_map(|part| {
            let of = match part.hop {
                Hop::Ingress(_) => return None,
                Hop::Queue(topic) => HopOf::Queue(topic.name.clone()),
                Hop::Function(workflow) => HopOf::Function(workflow.name.clone()),
                Hop::Egress(topic) => HopOf::Egress(topic.name.clone()),
            };
            let bound = part.bound_ns.ok()?;
            let share = ask.request.latency_p99_ns.map_or(0, |asked| share(asked, bound, whole));
            Some(WatchedHop { name: hop_name(&part.hop, view), of, limit_ns: bound.max(share) })
        });
        let whole_ns = whole.max(ask.request.latency_p99_ns.unwrap_or(0));
        Some(Watched { kind: ask.kind, name: ask.name.to_owned(), hops: hops.collect(), whole_ns })
    }

    fn row(&self, at: usize, part: &Part<'_>, ask: &Ask<'_>, view: &View<'_>) -> HopGrant {
        // The time of the whole is split over the hops as they need it.
        let asked = match (ask.request.latency_p99_ns, self.whole_ns, part.bound_ns) {
            (Some(asked), Some(whole), Ok(ns)) if whole > 0 => show_ns(share(asked, ns, whole)),
            _ => String::from("–"),
        };
        let granted = match part.bound_ns {
            Ok(ns) => format!("{}, {}", part.grade.word(), show_ns(ns)),
            Err(_) => String::from("no bound"),
        };
        let lacks: Vec<&str> =
            self.lacks.iter().filter(|(of, _)| *of == at).map(|(_, lack)| lack.as_str()).collect();
        let why = if lacks.is_empty() { view.why(part) } else { lacks.join("; ") };
        HopGrant { hop: hop_name(&part.hop, view), asked, granted, why }
    }
}

/// A hop's part of what was asked for, as it needs it of the whole (ns).
fn share(asked_ns: u64, ns: u64, whole_ns: u64) -> u64 {
    let share = u128::from(asked_ns) * u128::from(ns) / u128::from(whole_ns.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}

/// A hop's name for a reader.
fn hop_name(hop: &Hop<'_>, view: &View<'_>) -> String {
    match hop {
        Hop::Ingress(topic) => format!("ingress {}", topic.name),
        Hop::Queue(topic) => format!("queue {} ({}, {})", topic.name, view.level.name, view.level.policy),
        Hop::Function(workflow) => format!("function {}", workflow.name),
        Hop::Egress(topic) => format!("egress {}", topic.name),
    }
}
