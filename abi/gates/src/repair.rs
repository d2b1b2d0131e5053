//! What stands on one interface, what it should be, and how it is mended. It is told what happened and decides; it
//! waits for nothing but the kernel's answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tempos_ptp::ClockConfig;
use tempos_qdisc::{Link, Options, Saved, TAPRIO_HANDLE, read, read_all, restore, save};
use tempos_tsn::{Schedule, show_duration};

use crate::changing::Changing;
use crate::clocks::Clocks;
use crate::fit::{same_gates, taprio};
use crate::ladder::{Launching, Shape, asked, children, climb, queue_of, rearm, shape};
use crate::news::{Incident, News};
use crate::owner::Owner;
use crate::urgent::Urgent;

/// Hears the news.
pub type Hear = Box<dyn Fn(&News) + Send>;

/// Somebody whose frames go through the gates.
pub struct Member {
    /// Its number.
    pub id: u64,
    /// Its name, for sentences.
    pub name: String,
    /// Where its schedule is from.
    pub source: String,
    /// Its schedule.
    pub schedule: Schedule,
    /// The class of its frames, and the lead where they have launch times.
    pub class: u8,
    /// How long before their launch times its frames are sent.
    pub lead_ns: Option<u64>,
    /// Its schedule is another one than that which is kept: it follows when those who have that one are gone.
    pub waits: bool,
    /// The clock on which its schedule rests; none: nobody is asked.
    pub clock: Option<ClockConfig>,
    /// Hears what happens.
    pub hear: Hear,
}

/// What a look at the gates has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// They are as they were left.
    Whole,
    /// They were not, and have been set again, or it was told that they cannot be.
    Mended,
    /// They are not.
    Broken,
}

/// One interface's gates.
pub struct Standing {
    /// The interface.
    pub link: Link,
    /// The right to set its gates; none while an older copy of this plugin holds it.
    pub owner: Option<Owner>,
    /// What stood there before.
    saved: Option<Saved>,
    /// What is kept.
    pub schedule: Schedule,
    /// How it is kept; none while it cannot be.
    pub shape: Option<Shape>,
    children: Vec<(u32, u32, String)>,
    /// Those who joined.
    pub members: Vec<Member>,
    /// Steps of the clock that were seen: launch times from before are worth nothing.
    pub steps: Arc<AtomicU64>,
    /// How many are changing the gates now: the kernel opens them all meanwhile, and members hold their frames back.
    pub changing: Arc<AtomicU32>,
    /// While nobody knows what the gates do.
    held: Option<Changing>,
    /// Why the gates do not work now.
    pub trouble: Option<String>,
    /// The clocks of the members.
    pub(crate) clocks: Clocks,
    counts: BTreeMap<&'static str, u64>,
}

impl Standing {
    /// Nothing is set yet.
    pub fn new(link: Link, owner: Option<Owner>, schedule: Schedule) -> Self {
        Standing {
            link,
            owner,
            saved: None,
            schedule,
            shape: None,
            children: Vec::new(),
            members: Vec::new(),
            steps: Arc::default(),
            changing: Arc::default(),
            held: None,
            trouble: None,
            clocks: Clocks::default(),
            counts: BTreeMap::new(),
        }
    }

    /// The classes that are to take launch times.
    pub fn launching(&self) -> Vec<Launching> {
        let mut all: BTreeMap<u8, u64> = BTreeMap::new();
        for member in self.members.iter().filter(|member| !member.waits) {
            if let Some(lead_ns) = member.lead_ns {
                let lead = all.entry(member.class).or_insert(lead_ns);
                *lead = (*lead).min(lead_ns);
            }
        }
        all.into_iter().collect()
    }

    /// Sets the gates the best way there is.
    ///
    /// # Errors
    /// One sentence; what stood before stands again.
    pub fn set(&mut self) -> Result<(), String> {
        if self.saved.is_none() {
            let mut saved = save(&self.link).map_err(|refusal| refusal.to_string())?;
            // What a node that ended without a word has left behind is nobody's.
            if saved.disciplines.first().is_some_and(|root| root.handle == TAPRIO_HANDLE) {
                saved.disciplines.clear();
            }
            self.saved = Some(saved);
        }
        let changing = Changing::begin(&self.changing);
        match climb(&self.link, &self.schedule, &self.launching(), &changing) {
            Ok(shape) => {
                self.shape = Some(shape);
                self.note_children();
                Ok(())
            }
            Err(refused) => {
                self.shape = None;
                self.put_back();
                Err(refused.join("; "))
            }
        }
    }

    /// Something was heard of the gates: members hold their frames back until it has been looked at.
    pub fn hold(&mut self) {
        self.held.get_or_insert_with(|| Changing::begin(&self.changing));
    }

    /// It has been: the gates work, or nothing can be done.
    pub fn release(&mut self) {
        self.held = None;
    }

    /// Goes by what another holder of the interface has set, until that one ends. `false`: those are other gates.
    pub fn adopt(&mut self) -> bool {
        let found = read(&self.link).ok().flatten();
        let Some((root, Options::Taprio(has))) = found.map(|root| (root.handle, root.options)) else {
            return false;
        };
        if !same_gates(&taprio(&self.schedule, has.mode, false), &has) {
            return false;
        }
        let etfs = read_all(&self.link).unwrap_or_default();
        let launch = (0..self.schedule.class_count() as u8).filter_map(|class| {
            let parent = queue_of(root, class);
            let etf = etfs.iter().find(|qdisc| qdisc.parent == parent && qdisc.kind == "etf")?;
            match &etf.options {
                Options::Etf(etf) if etf.offload => Some((class, 0)),
                Options::Etf(etf) => Some((class, etf.delta_ns)),
                _ => None,
            }
        });
        self.shape = Some(Shape {
            mode: has.mode,
            root,
            sizes: !has.max_sdu.is_empty(),
            launch: launch.collect(),
            refused: Vec::new(),
        });
        true
    }

    /// The gates again, in the way that was obtained, on nothing.
    fn renew(&mut self) -> Result<(), String> {
        let Some(old) = &self.shape else { return self.set() };
        let changing = Changing::begin(&self.changing);
        match shape(&self.link, &self.schedule, old.mode, &self.launching(), &changing) {
            Ok(new) => {
                self.shape = Some(Shape { refused: old.refused.clone(), ..new });
                self.note_children();
                Ok(())
            }
            Err(failed) => Err(failed.sentence),
        }
    }

    /// Launch times are asked for by other classes than before, or by none any more.
    pub fn reshape(&mut self) -> Result<(), String> {
        self.renew()
    }

    /// A member is gone. Its schedule goes with the last one that has it, and the next one's is kept.
    pub fn leave(&mut self, id: u64) {
        let before = self.launching();
        self.members.retain(|member| member.id != id);
        self.watch_clocks();
        if self.owner.is_none() || self.members.is_empty() {
            return;
        }
        if self.members.iter().any(|member| !member.waits) {
            if self.launching() != before {
                // What is left goes on as it is where that fails: the watchdog sees it.
                let _ = self.reshape();
            }
            return;
        }
        self.schedule = self.members[0].schedule.clone();
        for member in &mut self.members {
            if member.schedule == self.schedule {
                member.waits = false;
                // It was opened without launch times.
                member.lead_ns = None;
            }
        }
        match self.set() {
            Ok(()) => {
                self.trouble = None;
                self.tell_all(
                    Incident::Followed,
                    true,
                    format!("{}: its schedule is kept now", self.link.name),
                );
            }
            Err(why) => self.tell(Incident::Refused, Some(why)),
        }
    }

    /// What hangs beneath the root is ours, or was seen.
    fn note_children(&mut self) {
        let root = self.shape.as_ref().map_or(0, |shape| shape.root);
        self.children = children(&self.link, root).unwrap_or_default();
    }

    /// Puts back what stood before.
    pub fn put_back(&mut self) {
        if let Some(saved) = self.saved.take() {
            // Whoever is left has no gates in any case; there is nobody to be told.
            let _ = restore(&self.link, &saved);
        }
    }

    /// Another program changed a discipline: looks at what stands there now, and mends it where it may.
    pub fn disciplines_changed(&mut self, may_mend: bool) -> Found {
        let Some(shape) = &self.shape else { return Found::Whole };
        let root = match read(&self.link) {
            Ok(root) => root,
            Err(refusal) => {
                self.tell(Incident::Refused, Some(refusal.to_string()));
                return Found::Whole;
            }
        };
        let wanted = asked(&self.schedule, shape);
        let stands = root.as_ref().is_some_and(|root| {
            root.handle == shape.root
                && matches!(&root.options, Options::Taprio(has) if same_gates(&wanted, has))
        });
        if !stands && !may_mend {
            return Found::Broken;
        }
        if !stands {
            self.mend(Incident::RootLost, true, "another program deleted or changed the gates");
            return Found::Mended;
        }
        let now = children(&self.link, shape.root).unwrap_or_default();
        if now == self.children {
            return Found::Whole;
        }
        if !may_mend {
            return Found::Broken;
        }
        // Without its etf a class sends launch times at once.
        let is_whole = shape.launch.iter().all(|(class, _)| {
            let parent = queue_of(shape.root, *class);
            now.iter().any(|(at, _, kind)| *at == parent && kind == "etf")
        });
        self.children = now;
        self.mend(
            Incident::ChildGrafted,
            !is_whole,
            "another program changed a discipline beneath the gates, which stops them",
        );
        Found::Mended
    }

    /// The link as it is now: the kernel stops gates where it is switched off or loses its carrier.
    pub fn link_changed(&mut self, now: Link) {
        let (worked, works) = (self.link.up && self.link.carrier, now.up && now.carrier);
        let up = now.up;
        self.link = now;
        if self.shape.is_none() {
            return;
        }
        match (worked, works) {
            (true, false) => {
                let why = if up { "has no carrier" } else { "is switched off" };
                self.tell(
                    Incident::LinkLost,
                    Some(format!("{} {why}: nothing leaves until it is back", self.link.name)),
                );
            }
            (false, true) => {
                self.mend(Incident::LinkReturned, false, "its link is back");
            }
            _ => {}
        }
    }

    /// The clock was stepped by so much.
    pub fn clock_stepped(&mut self, by_ns: i64) {
        self.steps.fetch_add(1, Ordering::Relaxed);
        if self.shape.is_none() {
            return;
        }
        // To the millisecond where it is one or more.
        let grain = if by_ns.unsigned_abs() < 1_000_000 { 1_000 } else { 1_000_000 };
        let by = show_duration(by_ns.unsigned_abs() / grain * grain);
        let (way, back) = if by_ns < 0 { ("back", true) } else { ("ahead", false) };
        self.mend(Incident::ClockStepped, back, &format!("the clock was stepped {way} by {by}"));
    }

    /// Nothing leaves through some gates; `again`: setting the gates again did not help.
    pub fn silent(&mut self, classes: &[u8], again: bool) {
        let list: Vec<String> = classes.iter().map(u8::to_string).collect();
        let what = format!("nothing left through the gate of class {}", list.join(" and "));
        self.mend(Incident::Silent, again, &what);
    }

    /// Tries once more what failed.
    pub fn retry(&mut self) {
        self.mend(Incident::Refused, true, "they could not be set before");
    }

    /// Sets the gates again, from nothing where `anew`, and tells.
    fn mend(&mut self, incident: Incident, anew: bool, what: &str) {
        if self.owner.is_none() {
            // Whoever holds the interface does it.
            return;
        }
        let urgent = Urgent::begin(Urgent::CHANGE);
        let done = match (&self.shape, anew) {
            (Some(shape), false) => {
                match rearm(&self.link, &self.schedule, shape, &Changing::begin(&self.changing)) {
                    Ok(()) => {
                        self.note_children();
                        Ok(())
                    }
                    // A root that is not there any more is no reason to give up.
                    Err(_) => self.renew(),
                }
            }
            _ => self.renew(),
        };
        // Before it is told, which takes its time.
        self.release();
        drop(urgent);
        match done {
            Ok(()) => {
                let count = self.counts.entry(incident.word()).or_default();
                *count += 1;
                let times = if *count == 1 { String::new() } else { format!(" ({count} times so far)") };
                let sentence = format!("{}: {what}: the gates were set again{times}", self.link.name);
                self.trouble = None;
                self.tell_all(incident, true, sentence);
            }
            Err(why) => self.tell(Incident::Refused, Some(format!("{what}; the gates cannot be set: {why}"))),
        }
    }
}
