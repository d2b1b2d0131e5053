//! `tempos-conformance FILE.so`: runs the suite of the plugin's kind and prints one line for each check.

mod allocations;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tempos_conformance::{Settings, run};

/// Runs the suite of a plugin's kind on its .so; ends with 0 where all is well, else with 1.
#[derive(Parser)]
#[command(version, after_help = "Example: tempos-conformance target/debug/libtempos_adapter_udp.so")]
struct Arguments {
    /// The plugin.
    file: PathBuf,
    /// An option for every channel, queue or function that is opened; ingress.KEY, egress.KEY and function
    /// are the same as the flags below.
    #[arg(long = "option", value_name = "KEY=VALUE")]
    options: Vec<String>,
    /// An option of the ingress channel of a round trip; {folder} is a folder of the run's own, {number} a
    /// number that no other case has.
    #[arg(long, value_name = "KEY=VALUE")]
    ingress: Vec<String>,
    /// The same for the egress channel; {address} is where the ingress channel is open.
    #[arg(long, value_name = "KEY=VALUE")]
    egress: Vec<String>,
    /// A function for an invocation method to run.
    #[arg(long, value_name = "FILE")]
    function: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

// Its output is what it is for.
#[allow(clippy::print_stdout)]
fn main() -> ExitCode {
    let Arguments { file, options, ingress, egress, function, json } = Arguments::parse();
    let allocations: Option<fn() -> u64> = Some(allocations::of_this_thread);
    let mut settings = Settings { ingress, egress, function, allocations, ..Settings::default() };
    options.into_iter().for_each(|option| settings.set(option));
    let report = run(&file, &settings);
    if json {
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        println!("{report}");
    }
    if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
