//! A node for tests: remembers what it was told to do, and refuses what its arguments ask it to refuse.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex};

use socket2::{Domain, Socket, Type};
use tempos_abi::attributes::{ATTRIBUTES_BYTES_MAX, AttributeValue, AttributeWriter};
use tempos_abi::envelope::{ENVELOPE_BYTES_MAX, Envelope};
use tempos_abi::level::QosLevel;
use tempos_control::object::Figure;
use tempos_control::{
    Condition, Figures, Finding, Generation, Keeping, Kind, Mistake, Node, Notice, ObjectState, Order,
    Origin, Refusal, RefusalKind, Reply, Verdict, Who,
};

#[derive(Default)]
pub struct FakeNode {
    objects: Mutex<BTreeMap<(Kind, String), ObjectState>>,
    listeners: Mutex<Vec<SyncSender<Notice>>>,
    orders: Mutex<Vec<String>>,
    pub callers: Mutex<Vec<Who>>,
    pub turned_away: Mutex<Vec<String>>,
    subscribers: Mutex<Vec<Socket>>,
    held: Mutex<usize>,
    free: Condvar,
}

pub fn object(kind: Kind, name: &str, figures: &[(&'static str, Figure)]) -> ObjectState {
    ObjectState {
        kind,
        name: name.into(),
        condition: Condition {
            state: "started".into(),
            reason: format!("{} {name} runs", kind.word()),
            since_us: 1_700_000_000_000_000,
        },
        figures: figures.iter().cloned().collect::<Figures>(),
    }
}

fn text(text: &str) -> Figure {
    Figure::Text(text.into())
}

fn latency(scale: u64) -> Figure {
    let hops = [("arrival", 3), ("queue", 9), ("function", 20), ("egress", 6), ("total", 38)];
    Figure::Latency(
        hops.into_iter()
            .map(|(hop, us)| (hop.to_owned(), [us, us * 2, us * 3, us * 10].map(|us| us * 1000 * scale)))
            .collect(),
    )
}

impl FakeNode {
    /// A node with one of everything, two levels and two topics.
    pub fn new() -> Arc<Self> {
        let node = FakeNode::default();
        node.put(object(
            Kind::Node,
            "",
            &[
                ("Version", text("0.1.0")),
                ("NodeId", text("press-7")),
                ("Generation", Figure::Count(4)),
                ("StartedAt", Figure::Count(1_700_000_000_000_000)),
                ("Degraded", Figure::Texts(Vec::new())),
                ("ResidentKiB", Figure::Count(21_000)),
            ],
        ));
        for (name, rank, scheduler, scale) in
            [("best-effort", 50, "other 0", 100), ("strict", 200, "fifo 45", 1)]
        {
            node.put(object(
                Kind::QosLevel,
                name,
                &[
                    ("Rank", Figure::Count(rank)),
                    ("Scheduler", text(scheduler)),
                    ("EventsIn", Figure::Count(1_204_331)),
                    ("EventsDropped", Figure::Counts(BTreeMap::from([("queue-full".into(), 12)]))),
                    ("LatencyNs", latency(scale)),
                ],
            ));
        }
        node.put(object(Kind::Plugin, "udp", &[("PluginKind", text("adapter")), ("Version", text("1.2.0"))]));
        node.put(object(Kind::Adapter, "udp", &[("Plugin", text("udp")), ("Channels", Figure::Count(1))]));
        node.put(object(Kind::Channel, "press/vibration/in/1", &[("Adapter", text("udp"))]));
        node.put(object(
            Kind::Workflow,
            "detect",
            &[("From", text("press/vibration")), ("Method", text("dlf"))],
        ));
        for topic in ["press/vibration", "press/alarms"] {
            node.put(object(Kind::Topic, topic, &[("Level", text("strict")), ("LatencyNs", latency(1))]));
        }
        Arc::new(node)
    }

    pub fn put(&self, state: ObjectState) {
        self.objects.lock().unwrap().insert((state.kind, state.name.clone()), state);
    }

    pub fn change(&self, kind: Kind, name: &str, change: impl FnOnce(&mut ObjectState)) {
        change(self.objects.lock().unwrap().get_mut(&(kind, name.to_owned())).unwrap());
    }

    pub fn remove(&self, kind: Kind, name: &str) {
        self.objects.lock().unwrap().remove(&(kind, name.to_owned()));
    }

    pub fn tell(&self, notice: Notice) {
        self.listeners.lock().unwrap().retain(|listener| listener.send(notice.clone()).is_ok());
    }

    /// The orders since the last time.
    pub fn take_orders(&self) -> Vec<String> {
        std::mem::take(&mut self.orders.lock().unwrap())
    }

    /// Lets all that wait for it go on.
    pub fn release(&self) {
        *self.held.lock().unwrap() = usize::MAX;
        self.free.notify_all();
    }

    /// How many orders are being held.
    pub fn held(&self) -> usize {
        *self.held.lock().unwrap()
    }

    fn hold(&self) {
        let mut held = self.held.lock().unwrap();
        if *held != usize::MAX {
            *held += 1;
        }
        while *held != usize::MAX {
            held = self.free.wait(held).unwrap();
        }
    }

    fn publish(&self, topic: &str, payload: &[u8]) {
        let mut attributes = [0; ATTRIBUTES_BYTES_MAX];
        let mut writer = AttributeWriter::new(&mut attributes);
        writer.put("unit", AttributeValue::Text("mm/s²"));
        writer.put("camera", AttributeValue::Unsigned(2));
        let len = writer.len();
        let envelope = Envelope {
            event_id: 42,
            level: QosLevel::STRICT,
            source_time_ns: 1,
            deadline_ns: 0,
            topic,
            attributes: &attributes[..len],
            payload: b"",
        };
        let mut packet = [0; ENVELOPE_BYTES_MAX];
        let len = envelope.encode_head(&mut packet).unwrap();
        let mut packet = packet[..len].to_vec();
        packet.extend_from_slice(payload);
        self.subscribers.lock().unwrap().retain(|socket| socket.send(&packet).is_ok());
    }
}

impl Node for FakeNode {
    fn carry_out_for(&self, who: &Who, order: Order) -> Result<Reply, Refusal> {
        self.callers.lock().unwrap().push(who.clone());
        self.carry_out(order)
    }

    fn turned_away(&self, who: &Who, what: &str, why: &str) {
        self.turned_away.lock().unwrap().push(format!("{who}: {what}: {why}"));
    }

    fn carry_out(&self, order: Order) -> Result<Reply, Refusal> {
        let refuse = |kind, sentence: &str| Err(Refusal::new(kind, sentence));
        self.orders.lock().unwrap().push(format!("{order:?}"));
        match order {
            Order::ApplyPath { path, dry_run } => match path.file_name().and_then(|n| n.to_str()) {
                Some("mistakes.lua") => Err(Refusal::of_mistakes(vec![
                    Mistake::new(
                        &Origin::new("mistakes.lua", 9),
                        "unknown key \"qso\" (did you mean \"qos\"?)",
                    ),
                    Mistake::new(&Origin::new("mistakes.lua", 2), "unknown level \"gold\""),
                ])),
                Some("gold.lua") => {
                    refuse(RefusalKind::QosNotGrantable, "level gold: priority 90 is not granted")
                }
                _ => Ok(Reply::Report(if dry_run { "would add topic a" } else { "added topic a" }.into())),
            },
            Order::ApplyText { lua, .. } if lua.contains("panic") => panic!("as the test asked"),
            Order::ApplyText { chunk_name, .. } => {
                Ok(Reply::Report(format!("added topic from {chunk_name}")))
            }
            Order::Reload => Ok(Reply::Done),
            Order::Change { terms, .. } if terms.only_if.is_some_and(|wanted| wanted != 4) => {
                refuse(RefusalKind::OutOfDate, "it was meant for another generation, and 4 is in force")
            }
            Order::Change { order, .. } => {
                let Reply::Report(report) = self.carry_out(*order)? else {
                    return refuse(RefusalKind::System, "no report");
                };
                Ok(Reply::Applied { generation: 5, report })
            }
            Order::Rollback { to: Some(99) } => {
                refuse(RefusalKind::NoSuchObject, "there is no generation 99; those that are kept: 3, 4")
            }
            Order::Rollback { .. } => Ok(Reply::Report("- topic \"b\" goes".into())),
            Order::Confirm { .. } => refuse(RefusalKind::NoSuchObject, "no generation is on probe"),
            Order::Generations => Ok(Reply::Generations(vec![
                Generation {
                    number: 3,
                    at_us: 1_700_000_000_000_000,
                    who: Who::at("files"),
                    what: "start".into(),
                    report: "+ topic \"a\" is new\n+ topic \"b\" is new".into(),
                    keeping: Keeping::Kept,
                    is_in_force: false,
                    can_return: true,
                },
                Generation {
                    number: 4,
                    at_us: 1_700_000_001_000_000,
                    who: Who { user: Some(1000), process: Some(77), ..Who::at("socket") },
                    what: "apply /w.lua".into(),
                    report: "~ topic \"a\": level best-effort → strict".into(),
                    keeping: Keeping::UntilRestart,
                    is_in_force: true,
                    can_return: true,
                },
            ])),
            Order::Drain { timeout_ms } => {
                self.change(Kind::Node, "", |state| {
                    state.condition.state = "draining".into();
                    let report = format!("12 events finished, 0 dropped within {timeout_ms} ms");
                    state.figures.insert("DrainReport", Figure::Text(report));
                });
                Ok(Reply::Report("12 events finished".into()))
            }
            Order::Publish { topic, payload, .. } => match topic.as_str() {
                "held" => {
                    self.hold();
                    Ok(Reply::EventId(1))
                }
                "busy" => refuse(RefusalKind::Overloaded, "topic busy: its queue is full"),
                "late" => refuse(RefusalKind::ShuttingDown, "the node is draining"),
                "broken" => refuse(RefusalKind::System, "out of descriptors"),
                topic if self.observe(Kind::Topic, topic).is_some() => {
                    self.publish(topic, &payload);
                    Ok(Reply::EventId(42))
                }
                topic => refuse(RefusalKind::NoSuchObject, &format!("there is no topic {topic:?}")),
            },
            Order::Subscribe { topic } => {
                if self.observe(Kind::Topic, &topic).is_none() {
                    return refuse(RefusalKind::NoSuchObject, &format!("there is no topic {topic:?}"));
                }
                let (ours, theirs) = Socket::pair(Domain::UNIX, Type::SEQPACKET, None).unwrap();
                self.subscribers.lock().unwrap().push(ours);
                Ok(Reply::Subscription(OwnedFd::from(theirs)))
            }
            Order::LoadPlugin { path } if path.ends_with("bad.so") => {
                refuse(RefusalKind::PluginRejected, "bad.so: it has no root module")
            }
            Order::LoadPlugin { .. } | Order::Prewarm { .. } | Order::Calibrate { .. } => Ok(Reply::Done),
            Order::Doctor => Ok(Reply::Findings(vec![
                Finding {
                    check: "locked memory".into(),
                    verdict: Verdict::Good,
                    finding: "16 MiB are locked".into(),
                    mend: String::new(),
                },
                Finding {
                    check: "real-time scheduling".into(),
                    verdict: Verdict::Bad,
                    finding: "SCHED_FIFO is refused".into(),
                    mend: "give the daemon CAP_SYS_NICE".into(),
                },
            ])),
            other => refuse(RefusalKind::System, &format!("no test asks for {other:?}")),
        }
    }

    fn observe(&self, kind: Kind, name: &str) -> Option<ObjectState> {
        let name = if kind == Kind::Node { "" } else { name };
        self.objects.lock().unwrap().get(&(kind, name.to_owned())).cloned()
    }

    fn names(&self, kind: Kind) -> Vec<String> {
        self.objects
            .lock()
            .unwrap()
            .keys()
            .filter(|(k, _)| *k == kind)
            .map(|(_, name)| name.clone())
            .collect()
    }

    fn notices(&self) -> Receiver<Notice> {
        let (sender, receiver) = sync_channel(10_000);
        self.listeners.lock().unwrap().push(sender);
        receiver
    }
}
