//! Joins those who send through an interface's gates, and passes on what becomes of these.

use tempos_abi::adapter::ChannelSpec;
use tempos_abi::counters::Incident;
use tempos_abi::export::tell_channel;
use tempos_abi::host::ChannelState;
use tempos_gates::{Gates, News, Want};
use tempos_tsn::Schedule;

use crate::config::Config;

const PLUGIN: &str = "tsn";

/// Joins for a channel; the gates are set where nobody has set them.
///
/// # Errors
/// One sentence: why the schedule cannot be kept.
pub fn join(
    interface: &str,
    schedule: &Schedule,
    class: u8,
    config: &Config,
    spec: &ChannelSpec,
) -> Result<Gates, String> {
    let name = spec.name.to_string();
    // What was said of a channel of this name before is over.
    tell_channel(PLUGIN, &name, ChannelState::WORKS, "");
    let (counters, channel) = (spec.counters.clone(), name.clone());
    let hear = move |news: &News| {
        if let Some(incident) = incident(news).filter(|_| news.counts) {
            counters.incident(incident).add(1);
        }
        let state = if news.works { ChannelState::WORKS } else { ChannelState::DEGRADED };
        tell_channel(PLUGIN, &channel, state, &news.sentence);
    };
    // Without a file the schedule is the channel's own.
    let source = if config.source.is_empty() { format!("channel {name}") } else { config.source.clone() };
    let want = Want {
        name,
        source,
        schedule: schedule.clone(),
        class,
        lead_ns: config.launch_lead_ns,
        patient: !config.refuse,
        clock: config.clock.clone(),
        hear: Box::new(hear),
    };
    tempos_gates::join(interface, want)
}

fn incident(news: &News) -> Option<Incident> {
    match news.incident {
        tempos_gates::Incident::LinkReturned => Some(Incident::LINK_RETURNED),
        tempos_gates::Incident::ChildGrafted => Some(Incident::CHILD_GRAFTED),
        tempos_gates::Incident::RootLost => Some(Incident::GATES_LOST),
        tempos_gates::Incident::ClockStepped => Some(Incident::CLOCK_STEPPED),
        tempos_gates::Incident::Silent => Some(Incident::GATE_SILENT),
        tempos_gates::Incident::ClockLost => Some(Incident::CLOCK_LOST),
        tempos_gates::Incident::LinkLost
        | tempos_gates::Incident::Refused
        | tempos_gates::Incident::Followed
        | tempos_gates::Incident::ClockCounts => None,
    }
}
