//! `check`: what an interface can do, what is missing, and how it is mended.

use serde_json::json;
use tempos_gates::{has_net_admin, mode_word};
use tempos_qdisc::{
    Entry, Etf, Link, Mode, Options, Queues, ROOT, Refusal, Schedule, Taprio, read, set_etf, set_taprio,
};

use crate::{Failing, NO_INPUT, Output};

const MEND_RIGHTS: &str = "run it as root; a node gets it by AmbientCapabilities=CAP_NET_ADMIN";
const MEND_KERNEL: &str = "boot a kernel that has it, such as Debian's";

/// One look.
struct Finding {
    check: &'static str,
    verdict: &'static str,
    found: String,
    mend: &'static str,
}

fn finding(check: &'static str, verdict: &'static str, found: String, mend: &'static str) -> Finding {
    Finding { check, verdict, found, mend }
}

pub fn run(output: &Output, name: &str) -> Result<u8, Failing> {
    let link = Link::find(name).map_err(|refusal| Failing(NO_INPUT, refusal.to_string()))?;
    let mut all = vec![rights(), state(&link), queues(&link), speed(&link), offload(&link)];
    all.extend(kernel());
    all.extend([standing(&link), tai()]);
    if output.json {
        let rows: Vec<_> = all
            .iter()
            .map(|f| json!({"check": f.check, "verdict": f.verdict, "finding": f.found, "mend": f.mend}))
            .collect();
        output.value(&rows.into());
    } else {
        for Finding { check, verdict, found, mend } in &all {
            output.line(&format!("{verdict:4}  {check:8}  {found}"));
            if !mend.is_empty() {
                output.line(&format!("      {:8}  mend: {mend}", ""));
            }
        }
    }
    Ok(u8::from(all.iter().any(|f| f.verdict == "bad")))
}

fn rights() -> Finding {
    if has_net_admin() {
        finding("rights", "good", "CAP_NET_ADMIN is here: gates can be set".into(), "")
    } else {
        finding("rights", "bad", "without CAP_NET_ADMIN no gates can be set".into(), MEND_RIGHTS)
    }
}

fn state(link: &Link) -> Finding {
    let name = &link.name;
    match (link.up, link.carrier) {
        (true, true) => finding("link", "good", format!("{name} is up"), ""),
        (true, false) => {
            finding("link", "poor", format!("{name} has no carrier"), "connect it, or bring up its other end")
        }
        (false, _) => finding("link", "poor", format!("{name} is switched off"), "ip link set NAME up"),
    }
}

fn queues(link: &Link) -> Finding {
    let queues = link.tx_queues;
    if queues < 2 {
        let found = format!("{} has 1 transmit queue: taprio needs two, and each class one", link.name);
        let mend = "take a multi-queue card, or `ethtool -L`; a veth is made with numtxqueues";
        return finding("queues", "bad", found, mend);
    }
    finding(
        "queues",
        "good",
        format!("{} has {queues} transmit queues: {queues} classes at most", link.name),
        "",
    )
}

fn speed(link: &Link) -> Finding {
    match link.speed_mbit() {
        Ok(Some(speed)) => finding("speed", "good", format!("{speed} Mbit/s"), ""),
        _ => finding(
            "speed",
            "poor",
            String::from("unknown: the kernel counts it as 10 Mbit/s, and keeps large frames back for long"),
            "connect it, or plan windows for 10 Mbit/s",
        ),
    }
}

fn offload(link: &Link) -> Finding {
    match link.hardware_time().map(|time| time.clock) {
        Ok(Some(clock)) => finding(
            "offload",
            "good",
            format!(
                "it has a clock (/dev/ptp{clock}): whether it takes gates or launch times is tried by the node"
            ),
            "",
        ),
        _ => finding(
            "offload",
            "poor",
            String::from(
                "it has no clock of its own: gates are the kernel's, some tens of microseconds sharp",
            ),
            "take a card with launch times or 802.1Qbv, such as Intel i210 or i225",
        ),
    }
}

/// Asks the loopback interface, which takes neither: the refusal tells whether the kernel knows the kind.
fn kernel() -> Vec<Finding> {
    if !has_net_admin() {
        return vec![finding(
            "kernel",
            "poor",
            String::from("whether it has taprio and etf is not known without CAP_NET_ADMIN"),
            MEND_RIGHTS,
        )];
    }
    let Ok(lo) = Link::find("lo") else { return Vec::new() };
    if !matches!(read(&lo), Ok(None)) && !matches!(read(&lo), Ok(Some(root)) if root.handle == 0) {
        return Vec::new();
    }
    let taprio = Taprio {
        map: [0; 16],
        queues: vec![Queues { count: 1, offset: 0 }],
        schedule: Schedule {
            entries: vec![Entry { gates: 1, interval_ns: 1_000_000 }],
            ..Schedule::default()
        },
        admin: None,
        mode: Mode::Software,
        max_sdu: Vec::new(),
    };
    let etf = Etf { delta_ns: 1, offload: true, ..Etf::default() };
    let knows = |kind: &'static str, use_of: &str, answer: Result<(), Refusal>| match answer {
        Err(refusal) if refusal.errno == libc::ENOENT => {
            finding(kind, "bad", format!("this kernel has no {kind}, which {use_of}"), MEND_KERNEL)
        }
        _ => finding(kind, "good", format!("this kernel has {kind}, which {use_of}"), ""),
    };
    vec![
        knows("taprio", "opens the gates", set_taprio(&lo, &taprio).map(drop)),
        knows("etf", "keeps launch times", set_etf(&lo, ROOT, &etf)),
    ]
}

fn standing(link: &Link) -> Finding {
    let text = match read(link) {
        Ok(Some(root)) => match &root.options {
            Options::Taprio(taprio) => format!("gates stand there now, mode {}", mode_word(taprio.mode)),
            _ => format!("{} stands there now; the node puts it back when it closes", root.kind),
        },
        Ok(None) => String::from("nothing stands there now"),
        Err(refusal) => return finding("root", "poor", refusal.to_string(), ""),
    };
    finding("root", "good", text, "")
}

fn tai() -> Finding {
    // SAFETY: all zeroes is a value of the struct, and asks for nothing to be changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the state is live for the call.
    unsafe { libc::adjtimex(&raw mut state) };
    match state.tai {
        0 => finding(
            "tai",
            "poor",
            String::from(
                "the kernel takes TAI for UTC (offset 0): launch times fail where another node knows better",
            ),
            "let ptp4l and phc2sys set it, or chrony with a leap-seconds file",
        ),
        offset => finding("tai", "good", format!("TAI is {offset} s ahead of UTC"), ""),
    }
}
