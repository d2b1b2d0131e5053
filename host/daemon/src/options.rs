//! The command line of `temposd`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use tempos_dbus::Bus;

const EXAMPLES: &str = "\
Examples:
  temposd                                    run the node that /etc/tempos/node.toml describes
  temposd --check                            read everything, start nothing, print every mistake
  temposd --bus none --run ./run --state ./state --plugins ./plugins --wiring ./line.lua
                                             a node of one's own, without a bus
  temposd --strict-realtime                  refuse to start where real-time scheduling is not granted
  temposd --inspect libtempos_adapter_udp.so show what a plugin file says about itself

Signals:
  SIGTERM, SIGINT   drain within [node] drain_timeout, then end; a second one ends at once
  SIGHUP            read the wiring again and apply the difference

Exit codes, as sysexits.h has them:
  0 ended as asked, 64 wrong use, 71 the system refused, 73 a folder cannot be made,
  75 another daemon holds the folder, 77 not permitted, 78 a mistake in a file

Files:
  /etc/tempos/node.toml, /etc/tempos/node.d/*.toml, /etc/tempos/wiring.d/*.lua,
  /usr/lib/tempos/plugins/*.so, /var/lib/tempos/plugins/*.so, /var/lib/tempos, /run/tempos

See temposctl --help for talking to a running node.";

/// The TEMPOS daemon: carries events through plugins to functions and out again, each QoS level on a
/// lane of its own.
#[derive(Clone, Debug, Default, Parser)]
#[command(name = "temposd", version, after_help = EXAMPLES, max_term_width = 100)]
pub struct Options {
    /// The node file; its fragments lie in the folder of the same name that ends in .d.
    /// [default: /etc/tempos/node.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// A wiring script or a folder of them, instead of those of the node file; may be repeated.
    #[arg(long, value_name = "PATH")]
    pub wiring: Vec<PathBuf>,

    /// A plugin folder, instead of those of the node file; may be repeated.
    #[arg(long, value_name = "DIR")]
    pub plugins: Vec<PathBuf>,

    /// The bus: system, session, none, or an address such as unix:path=/tmp/bus.
    #[arg(long, value_name = "BUS")]
    pub bus: Option<Bus>,

    /// The folder for what outlives a restart.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,

    /// The folder for sockets, locks and private copies of plugins.
    #[arg(long, value_name = "DIR")]
    pub run: Option<PathBuf>,

    /// Check the node file, the plugins and the wiring, print every mistake, and end.
    #[arg(long)]
    pub check: bool,

    /// Refuse to start where real-time scheduling or locked memory is not granted.
    #[arg(long)]
    pub strict_realtime: bool,

    /// How much to log.
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<LogThreshold>,

    /// Show what a plugin file says about itself, without running any of it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["check", "probe"])]
    pub inspect: Option<PathBuf>,

    /// Measure what hops cost for so many milliseconds and end: what the daemon runs in a child.
    #[arg(long, value_name = "MS", hide = true, conflicts_with_all = ["check", "probe", "inspect"])]
    pub calibrate: Option<u64>,

    /// Load a plugin and end: what the daemon runs in a child before it loads a file itself.
    #[arg(long, value_name = "FILE", hide = true)]
    pub probe: Option<PathBuf>,
}

/// The words of `--log` and of `[log] level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogThreshold {
    /// What failed.
    Error,
    /// And what is not as it should be.
    Warning,
    /// And what an operator wants to know happened.
    Info,
    /// And what only developers want to know.
    Debug,
}

impl LogThreshold {
    /// Its word in the node file.
    pub fn word(self) -> &'static str {
        match self {
            LogThreshold::Error => "error",
            LogThreshold::Warning => "warning",
            LogThreshold::Info => "info",
            LogThreshold::Debug => "debug",
        }
    }
}
