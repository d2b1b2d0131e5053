//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;
use tempos_control::units;

use crate::kit::{Language, Method};

const ABOUT: &str = "Looks at a TEMPOS node and gives it orders.";
const MORE: &str = "\
EXIT CODES
  0   done
  1   doctor: something is bad
  3   status: the node runs degraded, or does not run
  64  wrong usage
  65  what was given is wrong: a wiring with mistakes, a refused plugin
  66  a file, topic or workflow that is not there
  69  no node answers
  70  a fault of the tool or the node
  71  the operating system refused
  75  the node is busy or slow, or another generation is in force: look and try again
  77  not allowed
  78  the requested QoS cannot be granted here

ENVIRONMENT
  TEMPOS_BUS  what --bus is where it is not given
  NO_COLOR    no colours, also on a terminal

Without either, the node's own socket /run/tempos/control.sock is used where it is, else the system bus.";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "temposctl", version, about = ABOUT, after_help = MORE, disable_help_subcommand = true)]
pub struct Args {
    /// Where the node is: system, session, or a D-Bus address such as unix:path=/run/tempos/control.sock
    #[arg(long, global = true, value_name = "BUS")]
    pub bus: Option<String>,

    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// How long to wait for an answer, such as 500ms or 2min
    #[arg(long, global = true, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,

    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show how the node is: its state, its lanes, what is amiss
    #[command(after_help = "EXAMPLES\n  temposctl status\n  temposctl status --json | jq .node.Degraded\n\n\
        The exit code is 0 when the node runs as asked, 3 when it is degraded.")]
    Status,

    /// Show what a wiring would change, and change nothing
    #[command(after_help = "EXAMPLES\n  temposctl plan /etc/tempos/wiring.d\n  temposctl plan press.lua")]
    Plan {
        /// A .lua file, or a folder of them read in name order as one wiring
        path: PathBuf,
    },

    /// Make a wiring the node's whole wiring; with a mistake in it, nothing changes
    #[command(
        after_help = "EXAMPLES\n  temposctl apply press.lua\n  sed s/strict/best-effort/ press.lua | temposctl apply -\n  \
        temposctl apply press.lua --probe 30s\n  temposctl apply press.lua --probe 5min --confirm && \
        temposctl confirm\n  temposctl apply press.lua --until-restart\n\n\
        It outlives a restart of the node, as long as the configured scripts are not edited."
    )]
    Apply {
        /// A .lua file, a folder of them, or - for a script on standard input
        path: PathBuf,
        /// The terms
        #[command(flatten)]
        terms: TermArgs,
    },

    /// List the wirings that were in force: when, by whom, and what changed
    #[command(
        after_help = "EXAMPLES\n  temposctl generations\n  temposctl generations --json | jq '.[-1].report'"
    )]
    Generations,

    /// Bring the wiring of an earlier generation back into force, as a new generation
    #[command(
        after_help = "EXAMPLES\n  temposctl rollback          to the one before\n  temposctl rollback 7"
    )]
    Rollback {
        /// Its number, as `temposctl generations` lists it; without it, the one before the one in force
        generation: Option<u64>,
        /// The terms
        #[command(flatten)]
        terms: TermArgs,
    },

    /// Say that the wiring on probe is to stay
    #[command(after_help = "EXAMPLES\n  temposctl confirm\n  temposctl confirm 8")]
    Confirm {
        /// Its number; without it, whichever is on probe
        generation: Option<u64>,
    },

    /// Say whether the node would take a wiring (without a node: temposd --check)
    #[command(after_help = "EXAMPLES\n  temposctl check press.lua && temposctl apply press.lua")]
    Check {
        /// A .lua file or a folder of them
        path: PathBuf,
    },

    /// Read the node's configured wiring again and apply what differs
    #[command(after_help = "EXAMPLES\n  temposctl reload")]
    Reload,

    /// Take no more events, finish those that are queued, and report the counts
    #[command(after_help = "EXAMPLES\n  temposctl drain\n  temposctl drain --limit 500ms")]
    Drain {
        /// How long to finish; what is left then is told in the report
        #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
        limit: Duration,
    },

    /// List the plugins; test or inspect a plugin file
    #[command(
        after_help = "EXAMPLES\n  temposctl plugins\n  temposctl plugins test target/release/libmine.so\n  \
        temposctl plugins inspect /usr/lib/tempos/plugins/libudp.so"
    )]
    Plugins {
        /// What to do with a plugin file; without it, the node's plugins are listed
        #[command(subcommand)]
        verb: Option<PluginVerb>,
    },

    /// List the topics with their events
    #[command(after_help = "EXAMPLES\n  temposctl topics\n  temposctl topics --json | jq -r '.[].name'")]
    Topics,

    /// List the workflows with what their functions did
    #[command(after_help = "EXAMPLES\n  temposctl workflows")]
    Workflows,

    /// Make instances of a workflow's function ready before its events come
    #[command(after_help = "EXAMPLES\n  temposctl warm detect 4")]
    Warm {
        /// The workflow
        workflow: String,
        /// How many
        instances: u32,
    },

    /// List the QoS levels: what each lane asked for and was granted
    #[command(after_help = "EXAMPLES\n  temposctl levels")]
    Levels,

    /// List the channels with their traffic
    #[command(after_help = "EXAMPLES\n  temposctl channels")]
    Channels,

    /// Publish an event
    #[command(after_help = "EXAMPLES\n  temposctl pub press/vibration '{\"g\":2.5}'\n  \
        temposctl pub press/image @frame.jpg --attribute camera=2\n  date | temposctl pub press/log -\n  \
        temposctl pub press/ask 'how warm?' --reply-to press/answers --timeout 2s")]
    Pub(Publish),

    /// Print the events of a topic as they come
    #[command(
        after_help = "EXAMPLES\n  temposctl sub press/alarms\n  temposctl sub press/vibration --json --count 10\n  \
        temposctl sub press/image --payload --count 1 > frame.jpg"
    )]
    Sub(Subscribe),

    /// Show where the time goes, hop by hop, for every QoS level or for one topic
    #[command(after_help = "EXAMPLES\n  temposctl latency\n  temposctl latency press/vibration")]
    Latency {
        /// A topic
        topic: Option<String>,
    },

    /// Show what a topic or a workflow gets for what it asks, hop by hop, and why
    #[command(
        after_help = "EXAMPLES\n  temposctl explain press/vibration\n\nThe exit code is 3 where it gets less than it asks."
    )]
    Explain {
        /// The topic or workflow
        name: String,
    },

    /// Measure on this node what its plugins and wake-ups cost, quiet and beside load; grants rest on it from then on
    #[command(
        after_help = "EXAMPLES\n  temposctl calibrate\n  temposctl calibrate --time 2min\n  temposctl calibrate --show\n\n\
        The node keeps it in its state folder. It goes on to serve meanwhile; half of the time every CPU is busy."
    )]
    Calibrate {
        /// About how long to measure, 1s to 10min
        #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
        time: Duration,
        /// Measure nothing, and show what was found the last time
        #[arg(long)]
        show: bool,
    },

    /// Say what this system grants to real-time threads, and how to mend what it does not
    #[command(
        after_help = "EXAMPLES\n  temposctl doctor\n\nThe exit code is 1 when something is bad: a level does not get \
        what it asked for."
    )]
    Doctor,

    /// Look at schedules of time-sensitive networks
    #[command(after_help = "EXAMPLES\n  temposctl tsn plan schedule.toml\n  temposctl tsn check eth0")]
    Tsn {
        /// What is to be looked at
        #[command(subcommand)]
        verb: TsnVerb,
    },

    /// Write a folder to start from
    New {
        /// What it is to hold
        #[command(subcommand)]
        verb: NewVerb,
    },

    /// Print a completion script for a shell
    #[command(
        after_help = "EXAMPLES\n  temposctl completions bash > /usr/share/bash-completion/completions/temposctl"
    )]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// On which terms a change is made.
#[derive(Debug, clap::Args)]
pub struct TermArgs {
    /// It ends with the node: a restart brings back what was in force before
    #[arg(long)]
    pub until_restart: bool,
    /// Roll it back where something of it fails within this time: a channel, a plugin, a workflow, what a level
    /// was granted. Waits for it, unless --confirm is given
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub probe: Option<Duration>,
    /// Roll it back as well where `temposctl confirm` is not called within that time
    #[arg(long, requires = "probe")]
    pub confirm: bool,
    /// Refuse it where another generation than this is in force
    #[arg(long, value_name = "GENERATION")]
    pub if_generation: Option<u64>,
}

/// What can be done with a plugin file.
#[derive(Debug, Subcommand)]
pub enum PluginVerb {
    /// List the node's plugins
    List,
    /// Run the conformance suite of its kind against a plugin file
    #[command(after_help = "EXAMPLES\n  temposctl plugins test libmine.so\n  \
        temposctl plugins test libmine.so --option bind=127.0.0.1:0")]
    Test {
        /// The plugin, a .so file
        file: PathBuf,
        /// An option that the plugin is opened with, KEY=VALUE; may be repeated
        #[arg(long = "option", value_name = "KEY=VALUE")]
        options: Vec<String>,
    },
    /// Read what a plugin file says of itself, without running any of its code
    #[command(after_help = "EXAMPLES\n  temposctl plugins inspect libmine.so")]
    Inspect {
        /// The plugin, a .so file
        file: PathBuf,
    },
}

/// What `new` writes.
#[derive(Debug, Subcommand)]
pub enum NewVerb {
    /// Write the folder of a function: sources, a test, a wiring that uses it
    #[command(after_help = "EXAMPLES\n  temposctl new function --lang rust --method dlf count-words\n  \
        temposctl new function --lang python count-words\n\nIt prints the commands that build, test and run it.")]
    Function(NewFunction),
}

/// `new function`
#[derive(Debug, clap::Args)]
pub struct NewFunction {
    /// The language
    #[arg(long, value_enum)]
    pub lang: Language,
    /// The invocation method; without it, the language's first one: rust and c dlf, python and javascript spawn,
    /// assemblyscript wasm
    #[arg(long, value_enum)]
    pub method: Option<Method>,
    /// The folder; its last part is the function's name
    pub name: PathBuf,
}

/// `pub`
#[derive(Debug, clap::Args)]
pub struct Publish {
    /// The topic
    pub topic: String,
    /// The payload itself, @FILE for a file's contents, or - for standard input
    #[arg(default_value = "", hide_default_value = true, allow_hyphen_values = true)]
    pub payload: String,
    /// An attribute, KEY=VALUE; may be repeated. true, false and whole numbers are sent as such
    #[arg(long = "attribute", short = 'a', value_name = "KEY=VALUE", value_parser = pair)]
    pub attributes: Vec<(String, String)>,
    /// Wait for the reply, which comes to this topic, as long as --timeout says, and print its payload instead
    /// of the event's id
    #[arg(long, value_name = "TOPIC")]
    pub reply_to: Option<String>,
}

/// `sub`
#[derive(Debug, clap::Args)]
pub struct Subscribe {
    /// The topic
    pub topic: String,
    /// End after so many events
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// Print the bare payloads and nothing else
    #[arg(long, conflicts_with = "json")]
    pub payload: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    units::duration_ns(text).map(Duration::from_nanos)
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("an attribute is KEY=VALUE, such as camera=2".into()),
    }
}

/// What can be done with schedules.
#[derive(Debug, Subcommand)]
pub enum TsnVerb {
    /// Check a schedule and draw it, with the hops that follow; asks no node
    #[command(after_help = "EXAMPLES\n  temposctl tsn plan schedule.toml")]
    Plan {
        /// The schedule, in TOML
        file: PathBuf,
    },
    /// Show the disciplines of an interface, and its gates as a picture; asks no node
    #[command(after_help = "EXAMPLES\n  temposctl tsn show eth0")]
    Show {
        /// The interface
        #[arg(value_name = "IFACE")]
        interface: OsString,
    },
    /// Look at what an interface can do, what is missing and how it is mended; asks no node
    #[command(after_help = "EXAMPLES\n  temposctl tsn check eth0\n\nEnds with 1 where something is bad.")]
    Check {
        /// The interface
        #[arg(value_name = "IFACE")]
        interface: OsString,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_every_verb_has_an_example() {
        let mut command = Args::command();
        command.build();
        command.clone().debug_assert();
        let mut verbs: Vec<_> = command.get_subcommands().collect();
        while let Some(verb) = verbs.pop() {
            verbs.extend(verb.get_subcommands());
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(
                help.contains("temposctl ") || ["list", "new"].contains(&verb.get_name()),
                "{} has no example",
                verb.get_name()
            );
        }
    }
}
