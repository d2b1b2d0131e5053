//! Tells what happens: the node's notices become D-Bus signals on every connection that wants them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tempos_control::{Kind, Notice};
use tokio::sync::mpsc;
use zbus::Message;
use zbus::zvariant::DynamicType;

use crate::call::{interfaces, object_path};
use crate::face::{self, CONDITION, NODE_TOLD, OBJECT_MANAGER, PROPERTIES};
use crate::limits::{ANNOUNCED_AT_ONCE, EVENT_SIGNALS_PER_SECOND, NOTICES_WAITING};
use crate::path::{self, KINDS, ROOT};
use crate::property::{self, text};
use crate::shared::Shared;

/// What the herald is told.
#[derive(Debug)]
pub enum Told {
    /// A notice of the node.
    Notice(Notice),
    /// Something changed at the door itself.
    Door,
}

/// Carries notices from the node's channel, which blocks, to the herald's; ends with either. The thread
/// looks twice a second whether the herald is still there.
///
/// # Errors
/// No thread could be started.
pub fn carry(notices: Receiver<Notice>, herald: mpsc::Sender<Told>) -> std::io::Result<()> {
    let carry = move || {
        while !herald.is_closed() {
            match notices.recv_timeout(Duration::from_millis(500)) {
                Ok(notice) => {
                    if herald.blocking_send(Told::Notice(notice)).is_err() {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    std::thread::Builder::new().name("dbus-notices".into()).spawn(carry).map(|_| ())
}

/// Tells until nobody is left to tell it anything.
pub async fn run(shared: Arc<Shared>, mut told: mpsc::Receiver<Told>) {
    let mut herald = Herald { known: BTreeMap::new(), budget: Budget::new(Instant::now()), shared };
    herald.known = herald.names().await;
    let mut batch = Vec::new();
    while told.recv_many(&mut batch, NOTICES_WAITING).await > 0 {
        let mut changed = HashSet::new();
        for told in batch.drain(..) {
            match told {
                // Many changes of one object are one signal, with the state as it is now.
                Told::Door => {
                    if changed.insert((Kind::Node, String::new())) {
                        herald.state_changed(Kind::Node, "").await;
                    }
                }
                Told::Notice(Notice::StateChanged { kind, name }) => {
                    let name = if kind == Kind::Node { String::new() } else { name };
                    if changed.insert((kind, name.clone())) {
                        herald.state_changed(kind, &name).await;
                    }
                }
                Told::Notice(Notice::ObjectsChanged) => {
                    // No object has this name: names are never empty below the root.
                    if changed.insert((Kind::Topic, String::new())) {
                        herald.objects_changed().await;
                    }
                }
                Told::Notice(notice) => herald.notice(notice).await,
            }
        }
    }
}

struct Herald {
    shared: Arc<Shared>,
    /// The objects that were announced.
    known: Names,
    budget: Budget,
}

type Names = BTreeMap<Kind, BTreeSet<String>>;

impl Herald {
    async fn names(&self) -> Names {
        let read = |node: &dyn tempos_control::Node| {
            KINDS.into_iter().map(|kind| (kind, node.names(kind).into_iter().collect())).collect()
        };
        self.shared.read(read).await.unwrap_or_default()
    }

    async fn notice(&mut self, notice: Notice) {
        let single_event = matches!(
            notice,
            Notice::DeadlineMissed { .. } | Notice::EventsDropped { .. } | Notice::FunctionFailed { .. }
        );
        if single_event && !self.budget.take(Instant::now()) {
            return;
        }
        match notice {
            Notice::WiringApplied { generation, report } => {
                self.node_signal("WiringApplied", &(generation, text(&report))).await;
                self.state_changed(Kind::Node, "").await;
            }
            Notice::WiringRejected { report } => self.node_signal("WiringRejected", &text(&report)).await,
            Notice::PluginStateChanged { name, state, report } => {
                self.node_signal("PluginStateChanged", &(text(&name), text(&state), text(&report))).await;
            }
            Notice::DeadlineMissed { topic, event_id, late_ns } => {
                self.node_signal("DeadlineMissed", &(text(&topic), event_id, late_ns)).await;
            }
            Notice::EventsDropped { topic, reason, count } => {
                self.node_signal("EventsDropped", &(text(&topic), text(&reason), count)).await;
            }
            Notice::FunctionFailed { workflow, event_id, error } => {
                self.node_signal("FunctionFailed", &(text(&workflow), event_id, text(&error))).await;
            }
            // A notice that this door has no signal for.
            _ => {}
        }
    }

    async fn state_changed(&self, kind: Kind, name: &str) {
        if !self.anyone_listens() {
            return;
        }
        let Ok(Some(state)) = self.shared.observe(kind, name).await else { return };
        let face = face::of(kind);
        let mut values = property::some(&state, face, &CONDITION);
        if kind == Kind::Node {
            values.extend(property::some(&state, face, &NODE_TOLD));
        }
        let body = (face.name, values, Vec::<&str>::new());
        self.signal(&path::of(kind, name), PROPERTIES.name, "PropertiesChanged", &body).await;
    }

    async fn objects_changed(&mut self) {
        let now = self.names().await;
        let before = std::mem::replace(&mut self.known, now.clone());
        if !self.anyone_listens() {
            return;
        }
        let nothing = BTreeSet::new();
        for kind in KINDS {
            let (before, now) = (before.get(&kind).unwrap_or(&nothing), now.get(&kind).unwrap_or(&nothing));
            for name in before.difference(now) {
                if let Ok(path) = object_path(kind, name) {
                    let body = (path, vec![face::of(kind).name]);
                    self.signal(ROOT, OBJECT_MANAGER.name, "InterfacesRemoved", &body).await;
                }
            }
            let added: Vec<&String> = now.difference(before).collect();
            for slice in added.chunks(ANNOUNCED_AT_ONCE) {
                self.announce(kind, slice.iter().map(|name| (*name).clone()).collect()).await;
            }
        }
    }

    async fn announce(&self, kind: Kind, names: Vec<String>) {
        let read = move |node: &dyn tempos_control::Node| -> Vec<_> {
            let objects = names
                .iter()
                .filter_map(|name| Some((object_path(kind, name).ok()?, interfaces(node, kind, name)?)));
            objects.collect()
        };
        for body in self.shared.read(read).await.unwrap_or_default() {
            self.signal(ROOT, OBJECT_MANAGER.name, "InterfacesAdded", &body).await;
        }
    }

    fn anyone_listens(&self) -> bool {
        self.shared.links().iter().any(|link| link.listens())
    }

    async fn node_signal<B: serde::Serialize + DynamicType>(&self, member: &str, body: &B) {
        self.signal(ROOT, face::NODE.name, member, body).await;
    }

    async fn signal<B: serde::Serialize + DynamicType>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) {
        let build = |sender: Option<&str>| -> zbus::Result<Message> {
            let mut builder = Message::signal(path, interface, member)?;
            if let Some(sender) = sender {
                builder = builder.sender(sender)?;
            }
            builder.build(body)
        };
        // One message for all peers; a bus gets one without a sender, which it writes itself.
        let mut built: [Option<Message>; 2] = [None, None];
        for link in self.shared.links() {
            if !link.listens() {
                continue;
            }
            let slot = &mut built[usize::from(link.peer().is_some())];
            if slot.is_none() {
                *slot = build(link.sender()).ok();
            }
            if let Some(message) = slot.as_ref().filter(|message| link.wants(message)) {
                link.signal(message.clone()).await;
            }
        }
    }
}

/// So many signals a second, and as many at once.
struct Budget {
    left: u32,
    filled: Instant,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Budget { left: EVENT_SIGNALS_PER_SECOND, filled: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        if now.duration_since(self.filled) >= Duration::from_secs(1) {
            *self = Budget::new(now);
        }
        let granted = self.left > 0;
        self.left = self.left.saturating_sub(1);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_single_events_is_bounded_by_the_second() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let granted = |budget: &mut Budget, at| (0..1000).filter(|_| budget.take(at)).count();
        assert_eq!(granted(&mut budget, start), EVENT_SIGNALS_PER_SECOND as usize);
        assert_eq!(granted(&mut budget, start + Duration::from_millis(900)), 0);
        assert_eq!(granted(&mut budget, start + Duration::from_secs(1)), EVENT_SIGNALS_PER_SECOND as usize);
    }
}
