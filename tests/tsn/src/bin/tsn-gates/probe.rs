//! What `tempos-qdisc` promises, tried out on an interface with two transmit queues or more and a kernel with
//! taprio, mqprio and etf. Every check is a line `ok NAME` or `FAILED NAME: why`.

use std::time::{Duration, Instant};

use tempos_qdisc::{
    Change, Entry, Etf, Link, LinkMonitor, Mode, Mqprio, Options, Qdisc, Saved, Taprio, delete_root, read,
    read_all, restore, save, set_etf, set_mqprio, set_taprio,
};
use tempos_tsn_rig::say;

use crate::two_classes;

/// How long a schedule with a base time that has passed may take to come into force: a cycle, and some.
const IN_FORCE: Duration = Duration::from_millis(50);

fn halves() -> Taprio {
    let half = |gates| Entry { gates, interval_ns: 500_000 };
    Taprio { max_sdu: vec![1000, 1400], ..two_classes(0, 0, vec![half(1), half(2)]) }
}

type Check = fn(&Link) -> Result<(), String>;

/// `false`: something failed.
pub fn run(link: &Link) -> Result<bool, String> {
    let checks: [(&str, Check); 7] = [
        ("qdisc-link", what_the_link_is),
        ("qdisc-reads-back", reads_back),
        ("qdisc-etf", etf_beneath),
        ("qdisc-restores-mqprio", restores_mqprio),
        ("qdisc-restores-gates", restores_gates),
        ("qdisc-refusals", refusals),
        ("qdisc-tells", tells),
    ];
    let mut all = true;
    for (name, check) in checks {
        let clean = delete_root(link).map_err(text);
        match clean.and_then(|()| check(link)) {
            Ok(()) => say(format_args!("ok {name}")),
            Err(why) => {
                say(format_args!("FAILED {name}: {why}"));
                all = false;
            }
        }
    }
    delete_root(link).map_err(text)?;
    Ok(all)
}

fn text(refusal: tempos_qdisc::Refusal) -> String {
    refusal.to_string()
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, is: &T, wanted: &T) -> Result<(), String> {
    if is == wanted { Ok(()) } else { Err(format!("{what} is {is:?} instead of {wanted:?}")) }
}

fn what_the_link_is(link: &Link) -> Result<(), String> {
    same("kind", &link.kind.as_deref(), &Some("veth"))?;
    same("up and carrier", &(link.up, link.carrier), &(true, true))?;
    same("tx queues", &link.tx_queues, &4)?;
    same("tx queues in use", &link.tx_queues_in_use().map_err(text)?.in_use, &4)?;
    same("speed", &link.speed_mbit().map_err(text)?, &Some(10_000))?;
    let time = link.hardware_time().map_err(text)?;
    same("clock and software stamps", &(time.clock, time.software_stamps_sent), &(None, true))
}

fn root_taprio(link: &Link) -> Result<Taprio, String> {
    match read(link).map_err(text)? {
        Some(Qdisc { options: Options::Taprio(taprio), .. }) => Ok(taprio),
        other => Err(format!("the root is {other:?} instead of taprio")),
    }
}

fn reads_back(link: &Link) -> Result<(), String> {
    let wanted = halves();
    let handle = set_taprio(link, &wanted).map_err(text)?;
    same("the newest schedule", root_taprio(link)?.newest(), &wanted.schedule)?;
    std::thread::sleep(IN_FORCE);
    // All of it, and nothing that is yet to follow.
    same("what is in force", &root_taprio(link)?, &wanted)?;
    let again = set_taprio(link, &wanted).map_err(text)?;
    same("the number after setting it again", &again, &handle)
}

fn etf_at(link: &Link, parent: u32) -> Result<Option<Etf>, String> {
    let found = read_all(link).map_err(text)?.into_iter().find(|qdisc| qdisc.parent == parent);
    Ok(found.and_then(|qdisc| if let Options::Etf(etf) = qdisc.options { Some(etf) } else { None }))
}

fn etf_beneath(link: &Link) -> Result<(), String> {
    let root = set_taprio(link, &halves()).map_err(text)?;
    // The second time it is there already.
    for delta_ns in [50_000, 70_000] {
        let etf = Etf { delta_ns, skip_sock_check: true, ..Etf::default() };
        set_etf(link, root | 1, &etf).map_err(text)?;
        same("etf", &etf_at(link, root | 1)?, &Some(etf))?;
    }
    set_taprio(link, &halves()).map_err(text)?;
    same("etf after the schedule was set again", &etf_at(link, root | 1)?.is_some(), &true)
}

/// What somebody has set: the queues' default children have a number where the root has one, but count alike.
fn set_by_hand(saved: &Saved) -> Vec<(String, u32, Options)> {
    let mut all: Vec<_> =
        saved.disciplines.iter().map(|q| (q.kind.clone(), q.parent, q.options.clone())).collect();
    all.sort_by_key(|(_, parent, _)| *parent);
    all
}

fn goes_and_comes_back(link: &Link, other: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let before = save(link).map_err(text)?;
    other()?;
    restore(link, &before).map_err(text)?;
    std::thread::sleep(IN_FORCE);
    let after = save(link).map_err(text)?;
    same("what was restored", &set_by_hand(&after), &set_by_hand(&before))
}

fn restores_mqprio(link: &Link) -> Result<(), String> {
    let empty = save(link).map_err(text)?;
    same("what is saved of a default", &empty, &Saved::default())?;
    let taprio = halves();
    let mqprio = Mqprio { map: taprio.map, queues: taprio.queues, hardware: false };
    set_mqprio(link, &mqprio).map_err(text)?;
    let root = set_mqprio(link, &mqprio).map_err(text)?;
    set_etf(link, root | 1, &Etf { delta_ns: 100_000, ..Etf::default() }).map_err(text)?;
    // Each of them would take the other's classes with it.
    goes_and_comes_back(link, || {
        set_taprio(link, &halves()).map_err(text)?;
        std::thread::sleep(IN_FORCE);
        same("gates in place of mqprio", &root_taprio(link)?, &halves())
    })?;
    match read(link).map_err(text)? {
        Some(Qdisc { options: Options::Mqprio(now), .. }) => same("mqprio", &now, &mqprio)?,
        other => return Err(format!("the root is {other:?} instead of mqprio")),
    }
    restore(link, &empty).map_err(text)?;
    same("the default again", &save(link).map_err(text)?, &empty)
}

fn restores_gates(link: &Link) -> Result<(), String> {
    let root = set_taprio(link, &halves()).map_err(text)?;
    set_etf(link, root | 1, &Etf { delta_ns: 50_000, ..Etf::default() }).map_err(text)?;
    set_taprio(link, &halves()).map_err(text)?;
    std::thread::sleep(IN_FORCE);
    goes_and_comes_back(link, || delete_root(link).map_err(text))
}

fn refusals(link: &Link) -> Result<(), String> {
    let refused = |link: &Link, taprio: &Taprio, words: &str| match set_taprio(link, taprio) {
        Ok(_) => Err(format!("the kernel took what it should refuse for {words:?}")),
        Err(refusal) => {
            say(&refusal);
            let said = refusal.words.as_deref().unwrap_or_default();
            if refusal.errno != 0 && said.contains(words) { Ok(()) } else { Err(refusal.to_string()) }
        }
    };
    let offload = Taprio { mode: Mode::FullOffload, max_sdu: Vec::new(), ..halves() };
    refused(link, &offload, "PTP clock")?;
    let loopback = Link::find("lo").map_err(text)?;
    refused(&loopback, &halves(), "Multi-queue device is required")?;
    let mut beyond = halves();
    beyond.queues[1].offset = 9;
    refused(link, &beyond, "queue")?;
    // Shorter than the shortest frame: seen once the kernel knows the speed, which is after the first setting.
    set_taprio(link, &halves()).map_err(text)?;
    let mut short = halves();
    short.schedule.entries[0].interval_ns = 1;
    refused(link, &short, "Invalid interval for schedule entry")
}

fn tells(link: &Link) -> Result<(), String> {
    let mut monitor = LinkMonitor::new().map_err(|error| error.to_string())?;
    set_taprio(link, &halves()).map_err(text)?;
    delete_root(link).map_err(text)?;
    let (mut set, mut deleted) = (false, false);
    let end = Instant::now() + Duration::from_secs(5);
    while !(set && deleted) && Instant::now() < end {
        match monitor.next_change().map_err(|error| error.to_string())? {
            Some(Change::Qdisc { index, qdisc }) if index == link.index => set |= qdisc.kind == "taprio",
            Some(Change::QdiscGone { index, qdisc }) if index == link.index => {
                deleted |= set && qdisc.kind == "taprio";
            }
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    same("what was told of setting and deleting", &(set, deleted), &(true, true))
}
