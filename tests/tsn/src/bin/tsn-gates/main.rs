//! Sets, shows and deletes gates of an interface, tells what changes at it, and tries out on a real taprio what
//! `tempos-qdisc` promises.
//!
//! It knows `tempos-qdisc` and schedules of two classes; it refuses to know what travels through the gates.

mod dog;
mod probe;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use tempos_qdisc::{
    Change, Entry, Etf, Link, LinkMonitor, Mode, Queues, Schedule, Taprio, delete_root, read, read_all,
    set_etf, set_taprio, show_handle,
};
use tempos_tsn_rig::{Arguments, say, tai_ns};

const HELP: &str = "\
tsn-gates set    IFACE GATES:NS ... [--strict-class C] [--base-ns NS]   priority 7 in class C (0), the rest in 1
tsn-gates etf    IFACE QUEUE DELTA_NS                                   etf beneath a queue of the root, from 1
tsn-gates show   IFACE
tsn-gates delete IFACE
tsn-gates watch  IFACE SECONDS                                          tells what changes, and when (TAI)
tsn-gates dog    IFACE SECONDS                                            0: something leaves through both gates, 1: a gate is silent
tsn-gates probe  IFACE                                                  tries out everything, and says ok or FAILED";

/// The priority of strict traffic.
const STRICT_PRIORITY: usize = 7;

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(sentence) => {
            say(format_args!("tsn-gates: {sentence}"));
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<bool, String> {
    let mut arguments = Arguments::read(std::env::args().skip(1))?;
    let Ok(verb) = arguments.word("a verb") else { return Err(HELP.into()) };
    let link = Link::find(&arguments.word("IFACE")?).map_err(|refusal| refusal.to_string())?;
    let text = |refusal: tempos_qdisc::Refusal| refusal.to_string();
    match verb.as_str() {
        "set" => {
            let taprio = schedule(&mut arguments)?;
            arguments.done()?;
            say(format_args!("root {}", show_handle(set_taprio(&link, &taprio).map_err(text)?)));
        }
        "etf" => {
            let queue: u32 = arguments.word("QUEUE")?.parse().map_err(|_| "QUEUE is no number")?;
            let delta_ns = arguments.word("DELTA_NS")?.parse().map_err(|_| "DELTA_NS is no number")?;
            let root = read(&link).map_err(text)?.ok_or("there is no root")?;
            set_etf(&link, root.handle | queue, &Etf { delta_ns, ..Etf::default() }).map_err(text)?;
        }
        "show" => {
            for qdisc in read_all(&link).map_err(text)? {
                say(format_args!(
                    "{} {} at {}: {:?}; {:?}",
                    qdisc.kind,
                    show_handle(qdisc.handle),
                    show_handle(qdisc.parent),
                    qdisc.options,
                    qdisc.counters
                ));
            }
        }
        "delete" => delete_root(&link).map_err(text)?,
        "watch" => {
            let seconds: u64 = arguments.word("SECONDS")?.parse().map_err(|_| "SECONDS is no number")?;
            watch(&link, Duration::from_secs(seconds))?;
        }
        "dog" => {
            let seconds: u64 = arguments.word("SECONDS")?.parse().map_err(|_| "SECONDS is no number")?;
            return dog::run(&link, Duration::from_secs(seconds));
        }
        "probe" => return probe::run(&link),
        _ => return Err(HELP.into()),
    }
    Ok(true)
}

/// Two classes with a queue each.
pub fn two_classes(strict_class: u8, base_time_ns: i64, entries: Vec<Entry>) -> Taprio {
    let mut map = [1; 16];
    map[STRICT_PRIORITY] = strict_class;
    Taprio {
        map,
        queues: vec![Queues { count: 1, offset: 0 }, Queues { count: 1, offset: 1 }],
        schedule: Schedule {
            base_time_ns,
            cycle_ns: entries.iter().map(|entry| i64::from(entry.interval_ns)).sum(),
            extension_ns: 0,
            entries,
        },
        admin: None,
        mode: Mode::Software,
        max_sdu: Vec::new(),
    }
}

fn schedule(arguments: &mut Arguments) -> Result<Taprio, String> {
    let (class, base) = (arguments.or("strict-class", 0)?, arguments.or("base-ns", 0)?);
    let entry = |word: String| {
        let (gates, ns) = word.split_once(':')?;
        let gates = u32::from_str_radix(gates.trim_start_matches("0x"), 16).ok()?;
        Some(Entry { gates, interval_ns: ns.parse().ok()? })
    };
    let entries: Option<Vec<Entry>> = arguments.rest().into_iter().map(entry).collect();
    Ok(two_classes(class, base, entries.ok_or("an entry is GATES:NS, such as 1:500000")?))
}

fn watch(link: &Link, time: Duration) -> Result<(), String> {
    let mut monitor = LinkMonitor::new().map_err(|error| error.to_string())?;
    let end = Instant::now() + time;
    while Instant::now() < end {
        match monitor.next_change().map_err(|error| error.to_string())? {
            Some(Change::Link(now)) if now.index == link.index => {
                say(format_args!("{} link up={} carrier={}", tai_ns(), now.up, now.carrier));
            }
            Some(Change::LinkGone { index, .. }) if index == link.index => {
                say(format_args!("{} link gone", tai_ns()))
            }
            Some(Change::Qdisc { index, qdisc }) if index == link.index => {
                say(format_args!("{} set {} at {}", tai_ns(), qdisc.kind, show_handle(qdisc.parent)));
            }
            Some(Change::QdiscGone { index, qdisc }) if index == link.index => {
                say(format_args!("{} deleted {} at {}", tai_ns(), qdisc.kind, show_handle(qdisc.parent)));
            }
            Some(Change::Lost) => say("lost"),
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    }
    Ok(())
}
