//! Who keeps which interface: several members with one schedule share the one root.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempos_ptp::ClockConfig;
use tempos_qdisc::{Link, Mode};
use tempos_tsn::Schedule;

use crate::keeper::Keeper;
use crate::news::News;
use crate::obstacle::obstacle;
use crate::owner::Owner;
use crate::repair::{Member, Standing};

/// Interfaces that are kept at once.
const KEEPERS_MAX: usize = 64;

static KEEPERS: Mutex<Vec<Kept>> = Mutex::new(Vec::new());

/// A network namespace and an interface of it.
type Key = (u64, i32);

struct Kept {
    key: Key,
    keeper: Keeper,
    next_id: u64,
}

fn keepers() -> MutexGuard<'static, Vec<Kept>> {
    KEEPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a member wants.
pub struct Want {
    /// Its name, for sentences.
    pub name: String,
    /// Where its schedule is from, such as a file: whoever names the same means the same schedule, and the newest
    /// reading counts.
    pub source: String,
    /// Its schedule, which has been checked.
    pub schedule: Schedule,
    /// The class of its frames.
    pub class: u8,
    /// How long before their launch times its frames are sent; none: they have none.
    pub lead_ns: Option<u64>,
    /// Whether it waits where another schedule is kept, until that one's members are gone.
    pub patient: bool,
    /// The clock on which its schedule rests: while that does not count, what was granted does not hold; none: nobody
    /// is asked.
    pub clock: Option<ClockConfig>,
    /// Hears what happens: called by an ordinary thread, which it must not keep waiting.
    pub hear: Box<dyn Fn(&News) + Send>,
}

/// What to say to the kernel as a launch time.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Beyond the instant meant.
    pub beyond_ns: u64,
    /// Counts steps of the clock: what was computed before one is worth nothing.
    pub steps: Arc<AtomicU64>,
}

/// A membership; it ends when it is dropped, and with the last one of an interface what stood there before is put
/// back. Dropping waits for the kernel's answers.
pub struct Gates {
    key: Key,
    id: u64,
}

/// Joins those who send through the gates of an interface, and sets them where nobody has yet.
///
/// # Errors
/// One sentence: why the schedule cannot be kept.
pub fn join(interface: &str, want: Want) -> Result<Gates, String> {
    let link = Link::find(interface).map_err(|refusal| refusal.to_string())?;
    if let Some(cause) = obstacle(&link, &want.schedule) {
        return Err(cause);
    }
    let key = (namespace(), link.index);
    let mut keepers = keepers();
    let at = keepers.iter().position(|kept| kept.key == key);
    let id = keepers.get(at.unwrap_or(usize::MAX)).map_or(0, |kept| kept.next_id);
    let member = Member {
        id,
        name: want.name,
        source: want.source,
        schedule: want.schedule,
        class: want.class,
        lead_ns: want.lead_ns,
        waits: false,
        clock: want.clock,
        hear: want.hear,
    };
    match at {
        Some(at) => {
            let kept = &mut keepers[at];
            kept.next_id += 1;
            let mut standing = kept.keeper.standing();
            admit(&mut standing, member, want.patient)?;
            standing.welcome(id);
        }
        None => {
            if keepers.len() >= KEEPERS_MAX {
                return Err(format!("the gates of {KEEPERS_MAX} interfaces are kept already"));
            }
            let keeper = first(link, member, want.patient)?;
            keeper.standing().welcome(id);
            keepers.push(Kept { key, keeper, next_id: 1 });
        }
    }
    Ok(Gates { key, id })
}

fn first(link: Link, member: Member, patient: bool) -> Result<Keeper, String> {
    let system = |what: &str, error: std::io::Error| format!("{what}: {error}");
    let owner = Owner::take(link.index).map_err(|error| system("the interface cannot be taken", error))?;
    let mut standing = Standing::new(link, owner, member.schedule.clone());
    standing.members.push(member);
    if standing.owner.is_some() {
        standing.set()?;
    } else if !standing.adopt() && !patient {
        return Err(format!(
            "another node, or an older copy of this plugin, rules the gates of {}, and its schedule is another one",
            standing.link.name
        ));
    }
    Keeper::start(standing).map_err(|error| system("the gates cannot be watched", error))
}

/// One more, on an interface that is kept.
fn admit(standing: &mut Standing, mut member: Member, patient: bool) -> Result<(), String> {
    let (class, id) = (member.class, member.id);
    // What replaces a channel of its own name is no second one beside it.
    let others = || standing.members.iter().filter(|held| held.name != member.name && !held.waits);
    if let Some(held) = others().find(|held| held.schedule != member.schedule && held.source != member.source)
    {
        if !patient {
            return Err(format!(
                "{} keeps the schedule of channel {:?}, which is another one: an interface has one; write it into a \
                 file that both name",
                standing.link.name, held.name
            ));
        }
        member.waits = true;
        standing.members.push(member);
        return Ok(());
    }
    if let Some(held) =
        others().find(|held| held.class == class && held.lead_ns.is_some() != member.lead_ns.is_some())
    {
        let (with, without) =
            if held.lead_ns.is_some() { (&held.name, &member.name) } else { (&member.name, &held.name) };
        return Err(format!(
            "class {class} has launch times for channel {with:?} and none for {without:?}: etf drops what has none; \
             give both launch = true, or each a class of its own"
        ));
    }
    let before = (standing.schedule.clone(), standing.launching());
    standing.schedule = member.schedule.clone();
    standing.members.push(member);
    if standing.owner.is_none() || before == (standing.schedule.clone(), standing.launching()) {
        return Ok(());
    }
    standing.reshape().or_else(|_| standing.set()).inspect_err(|_| {
        standing.members.retain(|held| held.id != id);
        standing.schedule = before.0.clone();
        // Those who are here already go on with what they had.
        standing.trouble = standing.set().err();
    })
}

/// The network namespace of this thread.
fn namespace() -> u64 {
    std::fs::metadata("/proc/thread-self/ns/net").map_or(0, |about| about.ino())
}

impl Gates {
    fn with<R>(&self, read: impl FnOnce(&mut Standing) -> R) -> Option<R> {
        let keepers = keepers();
        let kept = keepers.iter().find(|kept| kept.key == self.key)?;
        Some(read(&mut kept.keeper.standing()))
    }

    /// How the schedule is kept: one sentence, with what the interface refused.
    pub fn sentence(&self, class: u8) -> String {
        self.with(|standing| standing.sentence(self.id, class)).unwrap_or_default()
    }

    /// Who opens the gates; none while they are an older copy's.
    pub fn mode(&self) -> Option<Mode> {
        self.with(|standing| standing.shape.as_ref().map(|shape| shape.mode)).flatten()
    }

    /// Not 0 while the gates are being changed: all of them are open then, and nothing is to be sent.
    pub fn changing(&self) -> Arc<AtomicU32> {
        self.with(|standing| Arc::clone(&standing.changing)).unwrap_or_default()
    }

    /// How launch times of a class are said; none where the interface refused them.
    pub fn launch(&self, class: u8) -> Option<Launch> {
        self.with(|standing| {
            let waits = standing.members.iter().any(|member| member.id == self.id && member.waits);
            let shape = standing.shape.as_ref().filter(|_| !waits)?;
            let (_, beyond) = shape.launch.iter().find(|(launching, _)| *launching == class)?;
            Some(Launch { beyond_ns: u64::from(*beyond), steps: Arc::clone(&standing.steps) })
        })
        .flatten()
    }
}

impl Drop for Gates {
    fn drop(&mut self) {
        let mut keepers = keepers();
        let Some(at) = keepers.iter().position(|kept| kept.key == self.key) else { return };
        let left = {
            let mut standing = keepers[at].keeper.standing();
            standing.leave(self.id);
            standing.members.len()
        };
        if left == 0 {
            keepers.swap_remove(at).keeper.end();
        }
    }
}
