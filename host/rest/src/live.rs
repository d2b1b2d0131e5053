//! What is told as it happens: the node's notices, and its figures once in a second while somebody watches.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tempos_control::{Kind, Node, Notice};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::{MissedTickBehavior, interval};

use crate::limits::{LIVE, LIVE_OBJECTS, NOTICES_WAITING};
use crate::object;

/// A notice: its name, which is that of the D-Bus signal, and its data in JSON.
pub type Told = (&'static str, Arc<str>);

/// The two sources of live streams.
pub struct Live {
    notices: broadcast::Sender<Told>,
    figures: watch::Sender<Arc<str>>,
    watched: Notify,
}

impl Default for Live {
    fn default() -> Self {
        Live {
            notices: broadcast::Sender::new(NOTICES_WAITING),
            figures: watch::Sender::new(Arc::from("")),
            watched: Notify::new(),
        }
    }
}

impl Live {
    /// The notices from now on.
    pub fn notices(&self) -> broadcast::Receiver<Told> {
        self.notices.subscribe()
    }

    /// The figures: what was read last, marked as seen, and each next one.
    pub fn figures(&self) -> watch::Receiver<Arc<str>> {
        let receiver = self.figures.subscribe();
        self.watched.notify_one();
        receiver
    }

    /// Takes a notice of the node.
    fn tell(&self, notice: &Notice) {
        if self.notices.receiver_count() > 0
            && let Some((name, data)) = said(notice)
        {
            // Nobody left to hear it is no fault.
            let _ = self.notices.send((name, data.to_string().into()));
        }
    }
}

/// Carries the notices of the node, whose channel blocks, until the door is gone: looks for that
/// every few seconds, for a node at rest is not to be woken.
///
/// # Errors
/// No thread could be started.
pub fn carry(
    notices: Receiver<Notice>,
    shared: std::sync::Weak<crate::shared::Shared>,
) -> std::io::Result<()> {
    let carry = move || {
        while let Some(shared) = shared.upgrade() {
            match notices.recv_timeout(Duration::from_secs(5)) {
                Ok(notice) => shared.live.tell(&notice),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    std::thread::Builder::new().name("rest-notices".into()).spawn(carry).map(|_| ())
}

/// Reads the figures while somebody watches: once for all of them.
pub async fn read(shared: Arc<crate::shared::Shared>) {
    let mut ticks = interval(LIVE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if shared.live.figures.receiver_count() == 0 {
            shared.live.watched.notified().await;
        }
        // A node that is too busy to be read is shown again when it is not.
        if let Ok(figures) = shared.walk(figures).await {
            shared.live.figures.send_replace(figures.to_string().into());
        }
        ticks.tick().await;
    }
}

/// The node with its objects, at most so many of each kind.
fn figures(node: &dyn Node) -> Value {
    let mut all = Map::new();
    let mut left_out = Map::new();
    if let Some(state) = node.observe(Kind::Node, "") {
        all.insert("Node".into(), object::json(&state).into());
    }
    for (key, kind) in [
        ("Levels", Kind::QosLevel),
        ("Topics", Kind::Topic),
        ("Workflows", Kind::Workflow),
        ("Channels", Kind::Channel),
        ("Plugins", Kind::Plugin),
        ("Adapters", Kind::Adapter),
    ] {
        let names = node.names(kind);
        left_out.insert(key.into(), json!(names.len().saturating_sub(LIVE_OBJECTS)));
        let shown = names.iter().take(LIVE_OBJECTS).filter_map(|name| node.observe(kind, name));
        all.insert(key.into(), shown.map(|state| Value::from(object::json(&state))).collect());
    }
    all.insert("LeftOut".into(), left_out.into());
    all.into()
}

/// The words for a notice, as the D-Bus signals have them.
fn said(notice: &Notice) -> Option<(&'static str, Value)> {
    Some(match notice {
        Notice::WiringApplied { generation, report } => {
            ("WiringApplied", json!({"Generation": generation, "Report": report}))
        }
        Notice::WiringRejected { report } => ("WiringRejected", json!({"Report": report})),
        Notice::PluginStateChanged { name, state, report } => {
            ("PluginStateChanged", json!({"Name": name, "State": state, "Report": report}))
        }
        Notice::DeadlineMissed { topic, event_id, late_ns } => {
            ("DeadlineMissed", json!({"Topic": topic, "EventId": event_id.to_string(), "LateNs": late_ns}))
        }
        Notice::EventsDropped { topic, reason, count } => {
            ("EventsDropped", json!({"Topic": topic, "Reason": reason, "Count": count}))
        }
        Notice::FunctionFailed { workflow, event_id, error } => {
            ("FunctionFailed", json!({"Workflow": workflow, "EventId": event_id.to_string(), "Error": error}))
        }
        Notice::ClockChanged { clock, granted, reason } => {
            ("ClockChanged", json!({"Clock": clock, "Granted": granted, "Reason": reason}))
        }
        Notice::ObjectsChanged => ("ObjectsChanged", json!({})),
        Notice::StateChanged { kind, name } => ("StateChanged", json!({"Kind": kind.word(), "Name": name})),
        // A notice that this door has no word for.
        _ => return None,
    })
}
