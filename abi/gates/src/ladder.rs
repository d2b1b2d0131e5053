//! The ways of keeping a schedule, from the best to the least: the card opens the gates (full offload), the card
//! keeps launch times (assist), or the kernel opens the gates by its own timer. Which one an interface takes is only
//! known by trying: cards and drivers claim more than they do.

use tempos_qdisc::{
    Etf, Link, Mode, Options, Refusal, Taprio, change_taprio, delete_root, read, read_all, set_etf,
    set_taprio,
};
use tempos_tsn::{Schedule, show_duration};

use crate::changing::Changing;
use crate::fit::{same_gates, taprio};
use crate::software;

/// How long before its launch time a frame is handed to a card that keeps launch times.
const ASSIST_DELTA_NS: u32 = 200_000;
/// The most that a frame may take from there to the wire.
const ASSIST_DELAY_NS: u32 = 300_000;

/// How a schedule is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Who opens the gates.
    pub mode: Mode,
    /// The number of the root; the queue of class c hangs at `root | c + 1`.
    pub root: u32,
    /// Whether the largest frames were told.
    pub sizes: bool,
    /// Classes that take launch times, with what their frames must say beyond the instant meant.
    pub launch: Vec<(u8, u32)>,
    /// What the interface refused on the way, in one sentence each.
    pub refused: Vec<String>,
}

/// A class that is to take launch times, and how long before them its frames are sent.
pub type Launching = (u8, u64);

/// A way's name.
pub fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Software => "software",
        Mode::TxtimeAssist { .. } => "launch-time assist",
        Mode::FullOffload => "full offload",
    }
}

/// Sets a schedule the best way that the interface takes. Nothing of what stood there is left. The change is over when
/// gates are in force.
///
/// # Errors
/// One sentence for each way that was tried; no root stands then.
pub fn climb(
    link: &Link,
    schedule: &Schedule,
    launching: &[Launching],
    changing: &Changing,
) -> Result<Shape, Vec<String>> {
    let mut refused = Vec::new();
    let assist = Mode::TxtimeAssist { delay_ns: ASSIST_DELAY_NS };
    for mode in [Mode::FullOffload, assist, Mode::Software] {
        match shape(link, schedule, mode, launching, changing) {
            Ok(mut shape) => {
                refused.append(&mut shape.refused);
                return Ok(Shape { refused, ..shape });
            }
            Err(failed) => {
                // Whatever was set of it goes: the next way starts anew.
                changing.again();
                let _ = delete_root(link);
                let last = failed.is_final;
                if last {
                    refused.clear();
                }
                refused.push(failed.sentence);
                if last {
                    break;
                }
            }
        }
    }
    Err(refused)
}

/// Why a way could not be gone.
pub struct Failed {
    /// One sentence.
    pub sentence: String,
    /// Whether no other way can be gone either.
    is_final: bool,
}

impl From<Refusal> for Failed {
    fn from(refusal: Refusal) -> Self {
        // No right, no interface, or no taprio at all: the same answer comes whatever is tried.
        let is_final = matches!(refusal.errno, libc::EPERM | libc::ENODEV | libc::ENOENT);
        Failed { sentence: refusal.to_string(), is_final }
    }
}

/// Sets a schedule in one way, on an interface without a root of its own. The change is over when it is in force.
///
/// # Errors
/// What the kernel says, or that it took other gates than were asked for.
pub fn shape(
    link: &Link,
    schedule: &Schedule,
    mode: Mode,
    launching: &[Launching],
    changing: &Changing,
) -> Result<Shape, Failed> {
    delete_root(link)?;
    let (root, sizes) = set(link, schedule, mode)?;
    let mut shape = Shape { mode, root, sizes, launch: Vec::new(), refused: Vec::new() };
    match mode {
        Mode::TxtimeAssist { .. } => {
            let etf =
                Etf { delta_ns: ASSIST_DELTA_NS, offload: true, deadline_mode: false, skip_sock_check: true };
            for class in 0..schedule.class_count() {
                set_etf(link, queue_of(root, class as u8), &etf)?;
            }
            shape.launch = launching.iter().map(|(class, _)| (*class, 0)).collect();
        }
        Mode::FullOffload | Mode::Software => {
            for launching in launching {
                take_launch_times(link, schedule, &mut shape, *launching);
            }
        }
    }
    if closes(schedule, mode) {
        software::reopen(link, schedule, &shape)?;
    } else if !shape.launch.is_empty() || mode != Mode::FullOffload {
        change_taprio(link, root, &asked(schedule, &shape))?;
    }
    changing.over();
    read_back(link, schedule, &shape)?;
    Ok(shape)
}

/// Whether the gates are closed first: see `software`.
fn closes(schedule: &Schedule, mode: Mode) -> bool {
    mode == Mode::Software && !software::starts_late(schedule)
}

fn set(link: &Link, schedule: &Schedule, mode: Mode) -> Result<(u32, bool), Refusal> {
    let first = |sizes| match closes(schedule, mode) {
        true => software::shut(link, taprio(schedule, mode, sizes)),
        false => taprio(schedule, mode, sizes),
    };
    match set_taprio(link, &first(true)) {
        Ok(root) => Ok((root, true)),
        // Kernels before 6.1 and some cards do not take largest sizes; nobody else minds.
        Err(with) => match set_taprio(link, &first(false)) {
            Ok(root) => Ok((root, false)),
            Err(_) => Err(with),
        },
    }
}

/// Puts etf beneath a class. What is refused is told and the class goes on without.
fn take_launch_times(link: &Link, schedule: &Schedule, shape: &mut Shape, (class, lead_ns): Launching) {
    let parent = queue_of(shape.root, class);
    let mut etf = Etf { delta_ns: delta_ns(schedule, class, lead_ns), ..Etf::default() };
    if shape.mode == Mode::FullOffload {
        match set_etf(link, parent, &Etf { offload: true, ..etf }) {
            Ok(()) => {
                shape.launch.push((class, 0));
                return;
            }
            Err(refusal) => shape.refused.push(refusal.to_string()),
        }
    }
    if etf.delta_ns == 0 {
        shape.refused.push(format!(
            "launch times: the windows of class {class} are too short for a lead of {}",
            show_duration(lead_ns)
        ));
        return;
    }
    etf.offload = false;
    match set_etf(link, parent, &etf) {
        // Without a card that waits, frames leave `delta` before what they say.
        Ok(()) => shape.launch.push((class, etf.delta_ns)),
        Err(refusal) => shape.refused.push(refusal.to_string()),
    }
}

/// How much before its launch time the kernel wakes for a frame: the lead, but so that a quarter of the class's
/// shortest window is left for it at most.
fn delta_ns(schedule: &Schedule, class: u8, lead_ns: u64) -> u32 {
    let windows = schedule.windows.iter().filter(|window| window.gates & (1 << class) != 0);
    let shortest = windows.map(|window| window.length_ns).min().unwrap_or(0);
    u32::try_from(lead_ns.min(shortest / 4)).unwrap_or(u32::MAX)
}

/// Where the discipline of a class hangs.
pub fn queue_of(root: u32, class: u8) -> u32 {
    root | (u32::from(class) + 1)
}

/// What is asked of the kernel for a shape.
pub fn asked(schedule: &Schedule, shape: &Shape) -> Taprio {
    taprio(schedule, shape.mode, shape.sizes)
}

/// Gives a standing root its schedule again: a software taprio that was stopped starts. The change is over when it is in
/// force.
///
/// # Errors
/// What the kernel says.
pub fn rearm(link: &Link, schedule: &Schedule, shape: &Shape, changing: &Changing) -> Result<(), Refusal> {
    if closes(schedule, shape.mode) {
        software::reopen(link, schedule, shape)?;
    } else {
        change_taprio(link, shape.root, &asked(schedule, shape))?;
    }
    changing.over();
    Ok(())
}

fn read_back(link: &Link, schedule: &Schedule, shape: &Shape) -> Result<(), Failed> {
    let asked = asked(schedule, shape);
    match read(link)?.map(|root| root.options) {
        Some(Options::Taprio(has)) if same_gates(&asked, &has) => Ok(()),
        has => Err(Failed {
            sentence: format!(
                "{}: {}: the kernel took other gates than were asked for: {has:?}",
                link.name,
                mode_word(shape.mode)
            ),
            is_final: false,
        }),
    }
}

/// The disciplines beneath a root that somebody has set, as (parent, number, kind).
///
/// # Errors
/// What the kernel says.
pub fn children(link: &Link, root: u32) -> Result<Vec<(u32, u32, String)>, Refusal> {
    let beneath = |parent: u32| parent >> 16 == root >> 16 && parent != root;
    let mut all: Vec<_> = read_all(link)?
        .into_iter()
        .filter(|qdisc| qdisc.handle != 0 && beneath(qdisc.parent))
        .map(|qdisc| (qdisc.parent, qdisc.handle, qdisc.kind))
        .collect();
    all.sort();
    Ok(all)
}
