//! Setting, reading, deleting and restoring disciplines.
//!
//! What a running software taprio does not survive is the caller's to mend by calling [`set_taprio`] again: a child
//! that is grafted, a link that goes down or loses its carrier. After a clock step backwards only [`delete_root`]
//! and [`set_taprio`] help.

use crate::error::Refusal;
use crate::etf::Etf;
use crate::link::Link;
use crate::mqprio::Mqprio;
use crate::qdisc::{KIND, OPTIONS, Options, Qdisc, ROOT, Saved, handle, show_handle};
use crate::socket::{dump, order};
use crate::taprio::{Mode, Taprio};
use crate::wire::Request;

/// The number that this crate gives to taprio at the root; `tc` shows 7e05:.
pub const TAPRIO_HANDLE: u32 = handle(0x7e05, 0);
const MQPRIO_HANDLE: u32 = handle(0x7e06, 0);

const NLM_F_REPLACE: u16 = 0x100;
const NLM_F_CREATE: u16 = 0x400;
/// struct tcmsg: family, index, handle, parent, info.
fn fixed(link: i32, handle: u32, parent: u32) -> Vec<u8> {
    [[0; 4], link.to_ne_bytes(), handle.to_ne_bytes(), parent.to_ne_bytes(), [0; 4]].concat()
}

fn set(
    link: &Link,
    what: &str,
    (number, parent): (u32, u32),
    kind: &str,
    put: impl FnOnce(&mut Request),
) -> Result<(), Refusal> {
    let fixed = fixed(link.index, number, parent);
    order(what, libc::RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, &fixed, |request| {
        request.put_text(KIND, kind);
        put(request);
    })
}

/// Makes taprio the link's root, or gives a running one its schedule again; the answer is the root's number, whose
/// class c has the parent `handle | c + 1` for each transmit queue c, counted from 0.
///
/// # Errors
/// What the kernel says, or a map that does not fit its classes.
pub fn set_taprio(link: &Link, taprio: &Taprio) -> Result<u32, Refusal> {
    let mode = match taprio.mode {
        Mode::Software => "in software",
        Mode::TxtimeAssist { .. } => "with launch-time assist",
        Mode::FullOffload => "with full offload",
    };
    let what = format!("{}: set taprio {mode}", link.name);
    taprio.check().map_err(|words| Refusal::new(&what, words))?;
    // A taprio that stands there keeps its number: the kernel only changes what has the same one.
    let number = match read(link)? {
        Some(root) if root.kind == "taprio" => root.handle,
        _ => {
            make_room(link, &what)?;
            TAPRIO_HANDLE
        }
    };
    set(link, &what, (number, ROOT), "taprio", |request| taprio.put(request, OPTIONS))?;
    Ok(number)
}

/// Gives a taprio that stands there another schedule, by its number and without looking: as quick as can be. Map and
/// mode of a running one cannot be changed.
///
/// # Errors
/// What the kernel says.
pub fn change_taprio(link: &Link, root: u32, taprio: &Taprio) -> Result<(), Refusal> {
    let what = format!("{}: change the gates", link.name);
    taprio.check().map_err(|words| Refusal::new(&what, words))?;
    set(link, &what, (root, ROOT), "taprio", |request| taprio.put(request, OPTIONS))
}

/// Deletes a root that somebody has set, before another is set: a 6.12 kernel hangs where taprio replaces mqprio in
/// one step. Each of them sets the link's classes, and the old one goes last.
fn make_room(link: &Link, what: &str) -> Result<(), Refusal> {
    delete_root(link).map_err(|refusal| Refusal { what: what.into(), ..refusal })
}

/// Makes mqprio the link's root; the answer is its number.
///
/// # Errors
/// What the kernel says, or a map that does not fit its classes.
pub fn set_mqprio(link: &Link, mqprio: &Mqprio) -> Result<u32, Refusal> {
    let what = format!("{}: set mqprio", link.name);
    mqprio.check().map_err(|words| Refusal::new(&what, words))?;
    // It cannot be changed, only made anew.
    make_room(link, &what)?;
    set(link, &what, (MQPRIO_HANDLE, ROOT), "mqprio", |request| mqprio.put(request, OPTIONS))?;
    Ok(MQPRIO_HANDLE)
}

/// Puts etf beneath a parent: [`ROOT`], or a queue of taprio's or mqprio's. An etf that is there already is made
/// anew, for it cannot be changed. It stops the schedule of a software taprio above it: set that again.
///
/// # Errors
/// What the kernel says.
pub fn set_etf(link: &Link, parent: u32, etf: &Etf) -> Result<(), Refusal> {
    let what = format!("{}: set etf{} at {}", link.name, offload(etf), show_handle(parent));
    let beneath = |qdisc: &Qdisc| qdisc.parent == parent && qdisc.kind == "etf" && qdisc.handle != 0;
    if read_all(link)?.iter().any(beneath) {
        delete(link, parent)?;
    }
    set(link, &what, (0, parent), "etf", |request| etf.put(request, OPTIONS))
}

fn offload(etf: &Etf) -> &'static str {
    if etf.offload { " with offload" } else { "" }
}

/// The link's root; none where the kernel shows none, as for a link that is switched off and has its default.
///
/// # Errors
/// What the kernel says.
pub fn read(link: &Link) -> Result<Option<Qdisc>, Refusal> {
    Ok(read_all(link)?.into_iter().find(|qdisc| qdisc.parent == ROOT))
}

/// The link's root and all that hangs beneath it; ingress is left out.
///
/// # Errors
/// What the kernel says.
pub fn read_all(link: &Link) -> Result<Vec<Qdisc>, Refusal> {
    let what = format!("{}: read its disciplines", link.name);
    let bodies = dump(&what, libc::RTM_GETQDISC, &fixed(link.index, 0, 0))?;
    let mut all: Vec<Qdisc> = bodies
        .iter()
        .filter_map(|body| Qdisc::decode(body))
        .filter(|(index, qdisc)| *index == link.index && !matches!(qdisc.kind.as_str(), "ingress" | "clsact"))
        .map(|(_, qdisc)| qdisc)
        .collect();
    all.sort_by_key(|qdisc| qdisc.parent != ROOT);
    Ok(all)
}

/// Deletes what hangs at a parent: the kernel puts its default there.
///
/// # Errors
/// What the kernel says.
pub fn delete(link: &Link, parent: u32) -> Result<(), Refusal> {
    let what = format!("{}: delete the discipline at {}", link.name, show_handle(parent));
    order(&what, libc::RTM_DELQDISC, 0, &fixed(link.index, 0, parent), |_| ())
}

/// Deletes the root; a link with the kernel's default already is left alone.
///
/// # Errors
/// What the kernel says.
pub fn delete_root(link: &Link) -> Result<(), Refusal> {
    match read(link)? {
        Some(root) if root.handle != 0 => delete(link, ROOT),
        _ => Ok(()),
    }
}

/// What stands on a link now, to [`restore`] it later.
///
/// # Errors
/// What the kernel says.
pub fn save(link: &Link) -> Result<Saved, Refusal> {
    let mut disciplines = read_all(link)?;
    // The kernel's defaults have no number: they come by themselves.
    disciplines.retain(|qdisc| qdisc.handle != 0);
    if disciplines.first().is_none_or(|qdisc| qdisc.parent != ROOT) {
        disciplines.clear();
    }
    Ok(Saved { disciplines })
}

/// Puts back what [`save`] found. Where nothing was set, the kernel's default comes back. Filters and classes of
/// disciplines that this crate does not know are not saved.
///
/// # Errors
/// The first refusal of the kernel's; what was set before it stays.
pub fn restore(link: &Link, saved: &Saved) -> Result<(), Refusal> {
    delete_root(link)?;
    // Parents first: whatever hangs beneath something that is not there yet waits for the next round.
    let mut rest: Vec<&Qdisc> = saved.disciplines.iter().collect();
    let mut placed = vec![ROOT];
    while let Some(at) =
        rest.iter().position(|q| placed.iter().any(|p| *p == q.parent || p >> 16 == q.parent >> 16))
    {
        let qdisc = rest.remove(at);
        put_back(link, qdisc)?;
        placed.push(qdisc.handle);
    }
    // Each graft has stopped the gates.
    match saved.disciplines.first() {
        Some(root) if root.kind == "taprio" && saved.disciplines.len() > 1 => put_back(link, root),
        _ => Ok(()),
    }
}

fn put_back(link: &Link, qdisc: &Qdisc) -> Result<(), Refusal> {
    let what = format!("{}: restore {} at {}", link.name, qdisc.kind, show_handle(qdisc.parent));
    set(link, &what, (qdisc.handle, qdisc.parent), &qdisc.kind, |request| match &qdisc.options {
        Options::Taprio(taprio) => {
            Taprio { schedule: taprio.newest().clone(), admin: None, ..taprio.clone() }.put(request, OPTIONS);
        }
        Options::Mqprio(mqprio) => mqprio.put(request, OPTIONS),
        Options::Etf(etf) => etf.put(request, OPTIONS),
        Options::Other(bytes) if bytes.is_empty() => {}
        Options::Other(bytes) => request.put(OPTIONS, bytes),
    })
}
