//! Adapters: what goes in at one channel comes out at another, and nothing is left behind.

use tempos_abi::adapter::{AdapterAbility, AdapterBox, Capabilities, Direction};
use tempos_abi::attributes::Attributes;
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::module::PluginModuleRef;
use tempos_abi::std_types::{ROption, RResult, RSlice, RSliceMut};
use tempos_abi::{Descriptor, LaneQos, QosGrant, QosLevel};

use super::is_one_sentence;
use super::road::{BATCH, Case, Opener, Road, receive};
use crate::report::Report;
use crate::resources::{self, descriptors};
use crate::{Settings, options};

const EVENT_BYTES: u32 = 2048;
const ROUNDS: usize = 50;

/// Runs the suite.
pub fn check(report: &mut Report, module: &PluginModuleRef, descriptor: &Descriptor, settings: &Settings) {
    let ROption::RSome(factory) = module.adapter() else { return };
    let adapter = match factory() {
        RResult::ROk(adapter) => adapter,
        RResult::RErr(error) => {
            return report.failed("its factory makes an adapter", error.message.into_string());
        }
    };
    report.passed("its factory makes an adapter");
    let ability = adapter.ability();
    report.judge(
        "its ability makes sense",
        match ability {
            _ if ability.frame_bytes_max == 0 => {
                Err(String::from("frame_bytes_max is 0: nothing can be carried"))
            }
            _ if ability.grade_max > QosGrant::GUARANTEED => {
                Err(format!("grade_max {} is not a grade", ability.grade_max))
            }
            _ => Ok(()),
        },
    );
    bad_options(report, &adapter, descriptor);
    let cases = cases(descriptor, settings);
    if cases.is_empty() {
        let how = "say with --ingress KEY=VALUE and --egress KEY=VALUE how to open both ends";
        report.skipped("frames go from channel to channel", how);
    }
    for case in cases {
        for (promise, found) in round_trips(&adapter, descriptor, &case, &ability, settings) {
            let promise =
                if case.name.is_empty() { promise.into() } else { format!("{}: {promise}", case.name) };
            report.judge(promise, found);
        }
    }
}

/// What was asked for, or what is known of the adapters of this house.
fn cases(descriptor: &Descriptor, settings: &Settings) -> Vec<Case> {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let case = |name: &str, ingress: &[&str], egress: &[&str]| {
        let with = |own: &[&str]| settings.options.iter().cloned().chain(owned(own)).collect();
        Case { name: name.to_owned(), ingress: with(ingress), egress: with(egress) }
    };
    if !settings.ingress.is_empty() || !settings.egress.is_empty() {
        let with = |own: &[String]| settings.options.iter().chain(own).cloned().collect();
        let (ingress, egress) = (with(&settings.ingress), with(&settings.egress));
        return vec![Case { name: String::new(), ingress, egress }];
    }
    match descriptor.name.as_str() {
        "udp" | "tcp" => {
            let mut cases = vec![case("IPv4", &["bind=127.0.0.1:0"], &["to={address}"])];
            // Some machines have no IPv6.
            if std::net::UdpSocket::bind("[::1]:0").is_ok() {
                cases.push(case("IPv6", &["bind=[::1]:0"], &["to={address}"]));
            }
            if descriptor.name == "tcp" {
                let (bind, to) = ("bind=127.0.0.1:0", "to={address}");
                let acknowledge = "acknowledge=true";
                cases.push(case("acknowledge", &[bind, acknowledge], &[to, acknowledge]));
                cases.push(case("segment", &[bind], &[to, "segment=1KiB"]));
            }
            cases
        }
        "unix" => {
            let with = |name: &str, own: &[&str]| {
                let options = [&["path={folder}/s"], own].concat();
                case(name, &options, &options)
            };
            vec![
                with("datagram", &["type=datagram"]),
                with("seqpacket", &["type=seqpacket"]),
                with("acknowledge", &["type=seqpacket", "acknowledge=true"]),
            ]
        }
        "shm" => vec![case("", &["path={folder}/s"], &["connect={folder}/s"])],
        "tsn" => {
            let lo = "interface=lo";
            let mut cases =
                vec![case("UDP", &["over=udp", "bind=127.0.0.1:0"], &["over=udp", "to={address}"])];
            // Packet sockets need CAP_NET_RAW.
            if resources::packet_sockets() {
                cases.push(case("Ethernet", &[lo], &[lo, "destination=00:00:00:00:00:00"]));
            }
            cases
        }
        _ => Vec::new(),
    }
}

/// Whatever is written into the options: an open channel or one sentence, and no descriptor left.
fn bad_options(report: &mut Report, adapter: &AdapterBox, descriptor: &Descriptor) {
    let nothing = Case { name: String::new(), ingress: Vec::new(), egress: Vec::new() };
    let found = Opener::new(adapter, descriptor, &nothing, EVENT_BYTES).and_then(|opener| {
        let sane = options::read(descriptor, &[])?;
        let before = descriptors();
        for direction in [Direction::INGRESS, Direction::EGRESS, Direction(77)] {
            for (what, options) in options::garbage(descriptor, &sane) {
                match opener.open(direction, options, -1) {
                    Ok((mut channel, _)) => channel.close(0),
                    Err(error) => is_one_sentence(&error).map_err(|found| format!("with {what}: {found}"))?,
                }
            }
        }
        match descriptors() {
            after if after > before => Err(format!("{} descriptors were left open", after - before)),
            _ => Ok(()),
        }
    });
    report.judge("wrong options are refused with one sentence, without a panic or a leak", found);
}

type Found = (&'static str, Result<(), String>);

fn round_trips(
    adapter: &AdapterBox,
    descriptor: &Descriptor,
    case: &Case,
    ability: &AdapterAbility,
    settings: &Settings,
) -> Vec<Found> {
    let event_bytes = EVENT_BYTES.min(ability.frame_bytes_max);
    let on_road = |check: &dyn Fn(&mut Road, &Opener<'_>) -> Result<(), String>| {
        let opener = Opener::new(adapter, descriptor, case, event_bytes)?;
        let mut road = Road::open(&opener)?;
        check(&mut road, &opener)
    };
    let mut found: Vec<Found> = vec![
        ("both ends open and say where", on_road(&|road, _| addresses(road))),
        ("where nothing waits it says so at once", on_road(&|road, _| nothing_waits(road))),
        ("frames arrive whole and in order, one by one and in batches", on_road(&|road, _| in_order(road))),
        ("an empty frame is a frame", on_road(&|road, _| carried(road, &[b"", b"after"]))),
        (
            "its largest frame fits",
            on_road(&|road, opener| carried(road, &[&vec![7; opener.event_bytes_max as usize]])),
        ),
        (
            "a frame that is too large is marked or given up, and the next arrives",
            oversize(adapter, descriptor, case),
        ),
        (
            "the lane's marks are answered with a grade and a sentence",
            on_road(&|road, _| marks(road, ability)),
        ),
    ];
    if ability.capabilities.has(Capabilities::TAKE_OVER) {
        found.push(("a successor takes over with what is waiting", on_road(&take_over)));
    }
    if let Some(allocations) = settings.allocations {
        found.push(("sending and receiving allocate nothing", on_road(&|road, _| quiet(road, allocations))));
    }
    found.push(("100 openings leave no descriptor behind", leaks(adapter, descriptor, case, event_bytes)));
    found
}

fn addresses(road: &Road) -> Result<(), String> {
    for (end, channel) in [("ingress", &road.ingress), ("egress", &road.egress)] {
        let address = channel.address();
        if !address.contains("://") {
            return Err(format!("the {end} channel's address {:?} is not KIND://PLACE", address.as_str()));
        }
    }
    Ok(())
}

fn nothing_waits(road: &mut Road) -> Result<(), String> {
    for slots in [1, BATCH] {
        if road.receive(slots, &mut Vec::new())? {
            return Err(String::from("a frame arrived that nobody sent"));
        }
    }
    match road.is_readable(0) {
        Some(true) => Err(String::from("its descriptor is readable although nothing waits")),
        _ => Ok(()),
    }
}

fn carried(road: &mut Road, payloads: &[&[u8]]) -> Result<(), String> {
    let frames: Vec<_> = payloads.iter().map(|payload| TxFrame::payload(payload, QosLevel::STRICT)).collect();
    let got = road.carry(&frames, BATCH)?;
    if road.refused > 0 {
        return Err(format!("{} events were lost although their receiver is there", road.refused));
    }
    let lengths = |lengths: Vec<usize>| format!("{lengths:?}");
    if got.iter().map(|frame| &frame.bytes[..]).ne(payloads.iter().copied()) {
        let sent = lengths(payloads.iter().map(|payload| payload.len()).collect());
        let arrived = lengths(got.iter().map(|frame| frame.bytes.len()).collect());
        return Err(format!("frames of {sent} bytes were sent, frames of {arrived} bytes arrived"));
    }
    match got.iter().find(|frame| frame.flags != 0 || !Attributes::new(&frame.attributes).is_well_formed()) {
        Some(frame) => {
            Err(format!("flags {} or attributes {:?} are not right", frame.flags, frame.attributes))
        }
        None => Ok(()),
    }
}

fn in_order(road: &mut Road) -> Result<(), String> {
    for slots in [1, 3, BATCH] {
        let payloads: Vec<Vec<u8>> =
            (0..200u16).map(|n| n.to_be_bytes().repeat(1 + usize::from(n % 7))).collect();
        let mut frames: Vec<_> =
            payloads.iter().map(|p| TxFrame::payload(&p[2..], QosLevel::STRICT)).collect();
        frames
            .iter_mut()
            .zip(&payloads)
            .for_each(|(frame, payload)| frame.head = RSlice::from_slice(&payload[..2]));
        let got = road.carry(&frames, slots)?;
        if got.len() != payloads.len() {
            return Err(format!("of {} frames {} arrived ({slots} slots)", payloads.len(), got.len()));
        }
        if let Some(at) = (0..got.len()).find(|at| got[*at].bytes != payloads[*at]) {
            return Err(format!("frame {at} is not the one that was sent as number {at} ({slots} slots)"));
        }
    }
    carried(road, &[b"last"])?;
    road.egress.send_batch(RSlice::from_slice(&[TxFrame::payload(b"x", QosLevel::STRICT)]));
    match road.is_readable(5000) {
        Some(false) => Err(String::from("its descriptor is not readable although a frame waits")),
        _ => Ok(()),
    }
}

fn oversize(adapter: &AdapterBox, descriptor: &Descriptor, case: &Case) -> Result<(), String> {
    let opener = Opener::new(adapter, descriptor, case, 64)?;
    let mut road = Road::open(&opener)?;
    let large = [7u8; 100];
    let frames = [&large[..], b"next"].map(|payload| TxFrame::payload(payload, QosLevel::STRICT));
    // A channel may also refuse the frame where it is sent.
    let refused = match road.egress.send_batch(RSlice::from_slice(&frames[..1])) {
        code if code < 0 => true,
        _ => road.sent.send_errors.get() > 0,
    };
    let got = road.carry(&frames[1..], 4)?;
    let mut arrived = got;
    if !refused && arrived.len() < 2 {
        road.receive(4, &mut arrived)?;
    }
    match &arrived[..] {
        [next] if refused && next.bytes == b"next" => Ok(()),
        [cut, next]
            if cut.flags & RxSlot::TRUNCATED != 0 && cut.bytes.len() <= 64 && next.bytes == b"next" =>
        {
            Ok(())
        }
        other => {
            let seen: Vec<_> = other.iter().map(|frame| (frame.bytes.len(), frame.flags)).collect();
            Err(format!("(bytes, flags) of what arrived: {seen:?}; refused at the sender: {refused}"))
        }
    }
}

fn marks(road: &mut Road, ability: &AdapterAbility) -> Result<(), String> {
    let unmarked = LaneQos::unmarked(QosLevel::STRICT);
    let marked = LaneQos { rank: 200, pcp: 5, dscp: 46, socket_priority: 6, ..unmarked };
    for (end, channel) in [("ingress", &mut road.ingress), ("egress", &mut road.egress)] {
        for qos in [unmarked, marked] {
            match channel.set_qos(&qos) {
                RResult::RErr(error) => is_one_sentence(&error)?,
                RResult::ROk(grant) if grant.grade > ability.grade_max || grant.reason.trim().is_empty() => {
                    return Err(format!(
                        "{end}: grade {} (at most {}), reason {:?}",
                        grant.grade,
                        ability.grade_max,
                        grant.reason.as_str()
                    ));
                }
                RResult::ROk(_) => {}
            }
        }
    }
    carried(road, &[b"still open"])
}

fn take_over(road: &mut Road, opener: &Opener<'_>) -> Result<(), String> {
    carried(road, &[b"before"])?;
    let waiting = [TxFrame::payload(b"waiting", QosLevel::STRICT)];
    if road.egress.send_batch(RSlice::from_slice(&waiting)) != 1 {
        return Err(String::from("a frame could not be sent"));
    }
    let inherited = road.ingress.take_over();
    if inherited < 0 {
        return Err(String::from("it says that it can be taken over, and hands over nothing"));
    }
    let options = opener.options(Direction::INGRESS, "")?;
    let opened = opener.open(Direction::INGRESS, options, inherited);
    let (successor, _) = opened.map_err(|error| error.message.into_string())?;
    let mut predecessor = std::mem::replace(&mut road.ingress, successor);
    predecessor.close(0);
    drop(predecessor);
    let got = road.carry(&[TxFrame::payload(b"after", QosLevel::STRICT)], 4)?;
    let mut got: Vec<Vec<u8>> = got.into_iter().map(|frame| frame.bytes).collect();
    let mut rest = Vec::new();
    while got.len() + rest.len() < 2 && receive(&mut road.ingress, 4, 64, &mut rest)? {}
    got.extend(rest.into_iter().map(|frame| frame.bytes));
    if got == [b"waiting".to_vec(), b"after".to_vec()] {
        return Ok(());
    }
    Err(format!("the successor received {} of the 2 frames in order", got.len()))
}

fn quiet(road: &mut Road, allocations: fn() -> u64) -> Result<(), String> {
    let payload = [3u8; 100];
    let frames = [TxFrame::payload(&payload, QosLevel::STRICT); 4];
    let mut buffers = [([0u8; 256], [0u8; 256]); 4];
    let mut round = |frames: &[TxFrame<'_>]| {
        let before = allocations();
        let sent = road.egress.send_batch(RSlice::from_slice(frames));
        // What came back of earlier ones makes room for the next.
        let attended = road.attend();
        let sending = allocations() - before;
        road.is_readable(1000);
        let mut slots = buffers.each_mut().map(|(frame, notes)| RxSlot::new(frame, notes));
        let before = allocations();
        let mut received = 0;
        for _ in 0..frames.len() + 1 {
            received += road.ingress.recv_batch(RSliceMut::from_mut_slice(&mut slots)).max(0);
        }
        attended.map(|()| (sending, allocations() - before, sent, received))
    };
    round(&frames[..1])?;
    for _ in 0..ROUNDS {
        for part in [&frames[..1], &frames] {
            let (sending, receiving, sent, received) = round(part)?;
            if sending + receiving > 0 || sent != received {
                return Err(format!(
                    "{sent} frames were sent with {sending} allocations, {received} received with {receiving}"
                ));
            }
        }
    }
    Ok(())
}

fn leaks(adapter: &AdapterBox, descriptor: &Descriptor, case: &Case, event_bytes: u32) -> Result<(), String> {
    let once = |stray: bool| -> Result<(), String> {
        let opener = Opener::new(adapter, descriptor, case, event_bytes)?;
        let mut road = Road::open(&opener)?;
        carried(&mut road, &[b"x"])?;
        drop(road);
        if stray {
            // A descriptor of another kind is the channel's to close.
            let file = std::fs::File::open("/dev/null").map_err(|error| error.to_string())?;
            let inherited = std::os::fd::IntoRawFd::into_raw_fd(file);
            let opened = opener.open(Direction::INGRESS, opener.options(Direction::INGRESS, "")?, inherited);
            opened.map(|(mut channel, _)| channel.close(0)).map_err(|error| error.message.into_string())?;
        }
        Ok(())
    };
    once(false)?;
    let before = descriptors();
    for round in 0..100 {
        once(round % 10 == 0)?;
    }
    match descriptors() {
        after if after > before => {
            Err(format!("{} descriptors are open that were not before", after - before))
        }
        _ => Ok(()),
    }
}
