use std::time::{Duration, Instant};

use tempos_abi::adapter::{Adapter, Channel, ChannelSpec, Direction};
use tempos_abi::event::{RxSlot, TxFrame};
use tempos_abi::std_types::RArc;
use tempos_abi::{LaneQos, OptionValue, Options, PluginError, QosGrant, QosLevel};

use crate::channel::{Tsn, TsnChannel};
use crate::config::Config;

fn spec(direction: Direction, options: &[(&str, OptionValue)]) -> ChannelSpec {
    let mut table = Options::new();
    options.iter().for_each(|(key, value)| table.set(key, value.clone()));
    ChannelSpec {
        name: "x".into(),
        direction,
        qos: LaneQos::unmarked(QosLevel::STRICT),
        event_bytes_max: 2048,
        batch_max: 16,
        options: table,
        inherited_descriptor: -1,
        counters: RArc::default(),
        reserved: [0; 4],
    }
}

fn text(text: &str) -> OptionValue {
    OptionValue::Text(text.into())
}

fn texts(texts: &[&str]) -> OptionValue {
    OptionValue::Texts(texts.iter().map(|text| (*text).into()).collect())
}

fn open(direction: Direction, options: &[(&str, OptionValue)]) -> Result<TsnChannel, PluginError> {
    Tsn.open(&spec(direction, options))
}

fn ethernet<'a>(ethertype: &str) -> Vec<(&'a str, OptionValue)> {
    vec![
        ("interface", text("lo")),
        ("ethertype", text(ethertype)),
        ("destination", text("00:00:00:00:00:00")),
    ]
}

fn scheduled<'a>(ethertype: &str) -> Vec<(&'a str, OptionValue)> {
    let mut options = ethernet(ethertype);
    options.push(("cycle", OptionValue::Integer(1_000_000)));
    options.push(("link_mbit", OptionValue::Integer(1000)));
    options.push(("priorities", texts(&["6=1"])));
    options.push(("windows", texts(&["1:500us", "0:500us"])));
    options
}

fn receive(channel: &mut TsnChannel, want: usize) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    let until = Instant::now() + Duration::from_secs(10);
    while got.len() < want && Instant::now() < until {
        let (mut frame, mut notes) = ([0; 2048], [0; 64]);
        let mut slots = [RxSlot::new(&mut frame, &mut notes)];
        match channel.recv_batch(&mut slots) {
            Ok(n) => got.extend(slots[..n].iter().map(|slot| slot.frame().to_vec())),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    got
}

#[test]
fn wrong_options_are_refused_with_one_sentence() {
    let with = |key: &'static str, value: OptionValue| {
        let mut options = scheduled("0x88B5");
        options.retain(|(known, _)| *known != key);
        options.push((key, value));
        options
    };
    for (options, sentence) in [
        (vec![], "Ethernet frames need interface = \"NAME\"; `ip link` lists them"),
        (
            vec![("interface", text("lo"))],
            "an egress channel needs destination = \"MAC\", such as \"02:00:00:00:00:01\"",
        ),
        (
            with("destination", text("02:00")),
            "destination = \"02:00\" is not a MAC address, such as \"02:00:00:00:00:01\"",
        ),
        (
            with("ethertype", text("0x0100")),
            "ethertype = \"0x0100\" is not within 0x0600 to 0xFFFF, such as \"0x88B5\"",
        ),
        (with("hop", text("second")), "hop needs schedule = \"FILE\", which names the hops"),
        (with("slot", OptionValue::Integer(1_000)), "slot needs launch = true"),
        (
            with("windows", texts(&["1:500us", "0:400us"])),
            "the windows last 900us together, 100us too short for the cycle of 1ms; a window without classes fills a \
             gap",
        ),
        (
            with("windows", texts(&["1-500us"])),
            "windows: \"1-500us\" is not CLASSES:LENGTH, such as \"1:500us\"",
        ),
        (with("ptp4l", text("run/ptp4l")), "ptp4l = \"run/ptp4l\" is not a full path"),
        (
            with("ptp_hold", OptionValue::Integer(1)),
            "options that begin with ptp_ need ptp4l = \"PATH\", such as \"/var/run/ptp4l\"",
        ),
        (with("ptp_port", OptionValue::Integer(0)), "ptp_port = 0 is not within 1 to 65534"),
        (
            with("ptp_silence_max", OptionValue::Integer(1_000)),
            "ptp_silence_max = 1000ns is not within 200ms to 60s",
        ),
        (
            [&ethernet("0x88B5")[..], &[("ptp4l", text("/run/ptp4l"))]].concat(),
            "ptp4l needs a schedule, which rests on its clock: schedule = \"FILE\", or cycle and windows",
        ),
        (
            with("priorities", texts(&["6=3"])),
            "priority 6 is mapped to class 3, which has no window: its frames would wait for ever; open its gate in \
             a window, or map it to a class that has one",
        ),
    ] {
        let error = open(Direction::EGRESS, &options).map(|_| ()).expect_err(sentence);
        assert_eq!(error.message.as_str(), format!("tsn channel \"x\": {sentence}"));
    }
}

#[test]
fn frames_arrive_whole_and_none_of_another_ethertype() {
    let mut ingress = open(Direction::INGRESS, &ethernet("0x88B6")[..2]).expect("opens");
    let mut egress = open(Direction::EGRESS, &ethernet("0x88B6")).expect("opens");
    let mut other = open(Direction::EGRESS, &ethernet("0x9001")).expect("opens");
    let payloads: Vec<Vec<u8>> = (0..40u8).map(|n| vec![n; usize::from(n) * 40]).collect();
    let frames: Vec<_> = payloads.iter().map(|p| TxFrame::payload(p, QosLevel::STRICT)).collect();
    other.send_batch(&frames[..1]).expect("sends");
    assert_eq!(egress.send_batch(&frames).expect("sends"), 40);
    assert_eq!(receive(&mut ingress, 40), payloads);
}

#[test]
fn an_interface_with_one_queue_degrades_or_refuses() {
    let mut options = scheduled("0x88B5");
    let mut egress = open(Direction::EGRESS, &options).expect("degrades");
    let qos = LaneQos { socket_priority: 6, ..LaneQos::unmarked(QosLevel::STRICT) };
    let grant = egress.set_qos(&qos).expect("answers");
    assert_eq!(grant.grade, QosGrant::PRIORITISED);
    assert!(
        grant.reason.starts_with("SO_PRIORITY 6; mode none, degraded to SO_PRIORITY: "),
        "{}",
        grant.reason
    );
    assert_eq!(socket2::SockRef::from(&egress.socket).priority().expect("asked"), 6);
    options.push(("on_unmet", text("refuse")));
    let error = open(Direction::EGRESS, &options).map(|_| ()).expect_err("refused").message.into_string();
    assert!(error.starts_with("tsn channel \"x\": the schedule cannot be kept: "), "{error}");
    assert!(error.contains("lo has 1 transmit queue and") || error.contains("CAP_NET_ADMIN"), "{error}");
}

#[test]
fn a_frame_longer_than_its_window_takes_is_given_up() {
    let mut egress = open(Direction::EGRESS, &scheduled("0x88B5")).expect("degrades");
    let error = egress.send_batch(&[TxFrame::payload(&[0; 1500], QosLevel::STRICT)]).expect_err("too long");
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    assert_eq!(egress.send_batch(&[TxFrame::payload(&[0; 1498], QosLevel::STRICT)]).expect("fits"), 1);
}

#[test]
fn a_hop_of_a_plan_has_its_own_start_and_an_unknown_one_is_named() {
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/tsn/plan.toml");
    let of = |hop: &str| {
        let mut options = ethernet("0x88B5");
        options.push(("schedule", text(plan)));
        options.push(("hop", text(hop)));
        Config::read(&spec(Direction::EGRESS, &options))
    };
    let base = |hop: &str| of(hop).expect("it is a hop").schedule.map(|schedule| schedule.base_ns);
    assert_eq!((base("trigger-queue"), base("queue-invoker")), (Some(0), Some(263_336)));
    let error = of("third").expect_err("there is none").message.into_string();
    let sentence = "hop = \"third\" is none of its hops: \"trigger-queue\", \"queue-invoker\"";
    assert!(error.ends_with(sentence), "{error}");
}
