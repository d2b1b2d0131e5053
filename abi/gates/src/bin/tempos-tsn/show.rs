//! `show`: what stands on an interface, and its gates as a picture.

use serde_json::{Value, json};
use tempos_gates::{mode_word, schedule_of};
use tempos_qdisc::{Link, Options, Qdisc, read_all, show_handle};
use tempos_tsn::show_duration;

use crate::{Failing, NO_INPUT, Output};

const HEAD_BYTES: u32 = 14;

pub fn run(output: &Output, name: &str) -> Result<u8, Failing> {
    let link = Link::find(name).map_err(|refusal| Failing(NO_INPUT, refusal.to_string()))?;
    let speed = link.speed_mbit().ok().flatten();
    let all = read_all(&link).map_err(Failing::system)?;
    if output.json {
        let disciplines: Vec<Value> = all.iter().map(value).collect();
        output.value(&json!({
            "name": link.name, "up": link.up, "carrier": link.carrier, "tx_queues": link.tx_queues,
            "mtu_bytes": link.mtu_bytes, "speed_mbit": speed, "disciplines": disciplines,
        }));
        return Ok(0);
    }
    let state = match (link.up, link.carrier) {
        (true, true) => "up",
        (true, false) => "up, without carrier",
        (false, _) => "switched off",
    };
    let speed_text = speed.map_or_else(|| String::from("speed unknown"), |speed| format!("{speed} Mbit/s"));
    output.line(&format!(
        "{}: {state}, {speed_text}, {} transmit queues, largest payload {} bytes",
        link.name, link.tx_queues, link.mtu_bytes
    ));
    for qdisc in &all {
        let counters = &qdisc.counters;
        output.line(&format!(
            "  {} {} at {}{}: {} frames sent, {} wait, {} dropped",
            qdisc.kind,
            show_handle(qdisc.handle),
            show_handle(qdisc.parent),
            what(qdisc),
            counters.sent_frames,
            counters.queued_frames,
            counters.dropped_frames
        ));
        if let Options::Taprio(taprio) = &qdisc.options {
            // The kernel counts a speed that it does not know as 10 Mbit/s.
            let schedule = schedule_of(taprio, speed.unwrap_or(10), link.mtu_bytes + HEAD_BYTES);
            tempos_tsn::draw(&schedule, output.width()).lines().for_each(|line| output.line(line));
        }
    }
    Ok(0)
}

fn what(qdisc: &Qdisc) -> String {
    match &qdisc.options {
        Options::Taprio(taprio) => {
            let follows = if taprio.admin.is_some() { ", which starts at its base time" } else { "" };
            format!(" (mode {}{follows})", mode_word(taprio.mode))
        }
        Options::Etf(etf) => {
            let offload = if etf.offload { ", offload" } else { "" };
            format!(" ({} before the launch time{offload})", show_duration(u64::from(etf.delta_ns)))
        }
        Options::Mqprio(mqprio) => format!(" ({} classes)", mqprio.queues.len()),
        Options::Other(_) => String::new(),
    }
}

fn value(qdisc: &Qdisc) -> Value {
    let mut value = json!({
        "kind": qdisc.kind, "handle": show_handle(qdisc.handle), "parent": show_handle(qdisc.parent),
        "sent_frames": qdisc.counters.sent_frames, "queued_frames": qdisc.counters.queued_frames,
        "dropped_frames": qdisc.counters.dropped_frames,
    });
    match &qdisc.options {
        Options::Taprio(taprio) => {
            let standing = taprio.newest();
            let gates: Vec<Value> = standing
                .entries
                .iter()
                .map(|entry| json!({"gates": entry.gates, "ns": entry.interval_ns}))
                .collect();
            value["mode"] = mode_word(taprio.mode).into();
            value["priorities"] = taprio.map.to_vec().into();
            value["cycle_ns"] = standing.cycle_ns.into();
            value["base_ns"] = standing.base_time_ns.into();
            value["gates"] = gates.into();
        }
        Options::Etf(etf) => {
            value["delta_ns"] = etf.delta_ns.into();
            value["offload"] = etf.offload.into();
        }
        Options::Mqprio(_) | Options::Other(_) => {}
    }
    value
}
