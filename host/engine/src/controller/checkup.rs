//! What the node asks of the system, gathered from its lanes for the preflight.

use tempos_abi::Options;
use tempos_control::{ChannelSpec, Finding};

use super::Controller;
use crate::plugin::{Plugin, options};
use crate::system::preflight::{self, BufferNeeds, LaneNeeds, Needs};

impl Controller {
    /// Looks at what the system grants to the lanes as they are wired now.
    pub(super) fn doctor(&self) -> Vec<Finding> {
        preflight::findings(&self.needs())
    }

    fn needs(&self) -> Needs {
        let mut needs = Needs { lock_memory: self.config.lock_memory, ..Needs::default() };
        for entry in self.lanes.iter().flatten() {
            let spec = &entry.lane.spec;
            needs.lanes.push(LaneNeeds {
                level: spec.name.clone(),
                scheduler: spec.scheduler.clone(),
                cpus: spec.cpus.clone(),
                socket_priority: spec.network.socket_priority.unwrap_or(0),
                is_locked: entry.lane.is_locked,
            });
            for source in entry.plan.sources.iter().flatten() {
                needs.channels += 1;
                larger(
                    &mut needs.receive_buffer,
                    wanted(&source.plugin, &source.spec, &source.name, "receive_buffer"),
                );
                if source.address.starts_with("unix") && needs.unix_channel.is_none() {
                    needs.unix_channel = Some(source.name.clone());
                }
            }
            for outlet in entry.plan.outlets.iter().flatten() {
                needs.channels += 1;
                larger(
                    &mut needs.send_buffer,
                    wanted(&outlet.plugin, &outlet.spec, &outlet.name, "send_buffer"),
                );
            }
        }
        needs
    }
}

/// The buffer that a channel asks for, also by its adapter's default.
fn wanted(plugin: &Plugin, spec: &ChannelSpec, channel: &str, key: &str) -> Option<BufferNeeds> {
    let options: Options = options::check(channel, &plugin.info.options, &spec.options).ok()?;
    let bytes = u64::try_from(options.integer(key)?).ok()?;
    Some(BufferNeeds { channel: channel.to_owned(), bytes })
}

fn larger(most: &mut Option<BufferNeeds>, one: Option<BufferNeeds>) {
    if let Some(one) = one
        && most.as_ref().is_none_or(|most| one.bytes > most.bytes)
    {
        *most = Some(one);
    }
}
