//! Plugins that come, change and go while the node runs.

use super::*;

impl Controller {
    /// The plugins of the folders changed: what they open is opened again with what is there now.
    pub(super) fn folders_changed(&mut self, change: FolderChange) {
        let mut events = Vec::new();
        for path in change.gone {
            events.extend(self.registry.file_gone(&path));
        }
        for path in change.appeared {
            match self.registry.load_file(&path, false) {
                Ok(event) => events.push(event),
                Err(refusal) => {
                    let name =
                        path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                    self.herald.tell(Notice::PluginStateChanged {
                        name,
                        state: "failed".into(),
                        report: refusal.message,
                    });
                }
            }
        }
        self.plugins_changed(events);
    }

    pub(crate) fn plugins_changed(&mut self, events: Vec<PluginEvent>) {
        self.tell_plugins(&events);
        let matters = events.iter().any(|event| {
            matches!(event, PluginEvent::Started(_) | PluginEvent::Replaced { .. } | PluginEvent::Draining(_))
        });
        if matters && !self.draining {
            let wiring = self.wiring.clone();
            match self.bring_into_force(wiring, Strictness::Part) {
                Ok(_) => {
                    self.model.degrade("lanes", None);
                }
                Err(refusal) => self.say(LogLevel::ERROR, "plugins", &refusal.message),
            }
            self.retire_plugins();
        }
        self.show();
        self.herald.tell(Notice::ObjectsChanged);
    }

    /// Old generations that nothing uses any more.
    pub(super) fn retire_plugins(&mut self) {
        let used: Vec<Arc<Plugin>> = self
            .lanes
            .iter()
            .flatten()
            .flat_map(|entry| {
                let sources = entry.plan.sources.iter().flatten().map(|s| Arc::clone(&s.plugin));
                let outlets = entry.plan.outlets.iter().flatten().map(|o| Arc::clone(&o.plugin));
                let calls = entry.plan.calls.iter().flatten();
                let calls = calls.flat_map(|call| call.functions().map(|one| Arc::clone(&one.plugin)));
                sources
                    .chain(outlets)
                    .chain(calls)
                    .chain([Arc::clone(&entry.queue_plugin)])
                    .collect::<Vec<_>>()
            })
            .collect();
        let draining = self.registry.draining();
        let mut changed = false;
        for plugin in draining {
            if !used.iter().any(|other| Arc::ptr_eq(other, &plugin)) {
                let events = self.registry.drained(&plugin);
                self.tell_plugins(&events);
                changed = true;
            }
        }
        if changed {
            self.show();
        }
    }
}
