//! `temposctl`: looks at a TEMPOS node and gives it orders, over D-Bus alone.
//!
//! It knows the names of the bus and nothing of the node's insides: what it can do, any D-Bus client can.

mod args;
mod calibrate;
mod client;
mod doctor;
mod events;
mod exit;
mod explain;
mod figures;
mod generations;
mod json;
mod kit;
mod latency;
mod lists;
mod new;
mod object;
mod output;
mod programs;
mod status;
mod table;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, NewVerb, PluginVerb, Verb};
use client::Client;
use exit::{Failing, USAGE};
use output::Output;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers, not errors.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let mut output = Output::new(args.json);
    let result = run(&args, &mut output).and_then(|code| {
        output.flush()?;
        Ok(code)
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failing) => {
            failing.tell();
            ExitCode::from(failing.code)
        }
    }
}

fn run(args: &Args, output: &mut Output) -> Result<u8, Failing> {
    match &args.verb {
        Verb::Completions { shell } => return programs::completions(*shell, output),
        Verb::New { verb: NewVerb::Function(function) } => return new::function(function, output),
        Verb::Plugins { verb: Some(PluginVerb::Test { file, options }) } => {
            return Err(programs::test(file, options));
        }
        Verb::Plugins { verb: Some(PluginVerb::Inspect { file }) } => return Err(programs::inspect(file)),
        Verb::Tsn { verb } => return Err(programs::tsn(verb, output)),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failing::system(format!("no runtime: {e}")))?;
    runtime.block_on(async {
        let client = Client::connect(args.bus.as_deref(), args.timeout).await?;
        match &args.verb {
            Verb::Status => status::status(&client, output).await,
            Verb::Plan { path } => wiring::plan(&client, output, path).await,
            Verb::Apply { path, terms } => wiring::apply(&client, output, path, terms).await,
            Verb::Generations => generations::list(&client, output).await,
            Verb::Rollback { generation, terms } => {
                generations::rollback(&client, output, *generation, terms).await
            }
            Verb::Confirm { generation } => generations::confirm(&client, output, *generation).await,
            Verb::Check { path } => wiring::check(&client, output, path).await,
            Verb::Reload => wiring::reload(&client, output).await,
            Verb::Drain { limit } => wiring::drain(&client, output, *limit).await,
            Verb::Plugins { .. } => lists::plugins(&client, output).await,
            Verb::Topics => lists::topics(&client, output).await,
            Verb::Workflows => lists::workflows(&client, output).await,
            Verb::Warm { workflow, instances } => wiring::warm(&client, output, workflow, *instances).await,
            Verb::Levels => lists::levels(&client, output).await,
            Verb::Channels => lists::channels(&client, output).await,
            Verb::Pub(publish) => events::publish(&client, output, publish).await,
            Verb::Sub(subscribe) => events::subscribe(&client, output, subscribe).await,
            Verb::Latency { topic } => latency::latency(&client, output, topic.as_deref()).await,
            Verb::Explain { name } => explain::explain(&client, output, name).await,
            Verb::Calibrate { time, show } => calibrate::calibrate(&client, output, *time, *show).await,
            Verb::Doctor => doctor::doctor(&client, output).await,
            // Answered above, without a node.
            Verb::New { .. } | Verb::Tsn { .. } | Verb::Completions { .. } => Ok(0),
        }
    })
}
