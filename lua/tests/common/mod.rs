//! What the tests of this room share: one text in, commands or sentences out.
#![allow(dead_code)]

use tempos_control::{Command, LevelSpec, TopicSpec, WorkflowSpec};
use tempos_lua::{Known, Limits, Source, evaluate};

/// The node of the tests has these adapters.
pub fn known() -> Known {
    Known { adapters: vec!["udp".into(), "unix".into()], libraries: Vec::new() }
}

/// Evaluates a text that is named `wiring.lua`.
pub fn run(lua: &str) -> Result<Vec<Command>, Vec<String>> {
    run_with(lua, &Limits::default())
}

/// The same with other limits.
pub fn run_with(lua: &str, limits: &Limits) -> Result<Vec<Command>, Vec<String>> {
    let source = Source::Text { chunk_name: "wiring.lua".into(), lua: lua.into() };
    evaluate(&source, &known(), limits)
        .map_err(|mistakes| mistakes.iter().map(|mistake| mistake.to_string()).collect())
}

/// The commands of a text without mistakes.
pub fn good(lua: &str) -> Vec<Command> {
    run(lua).unwrap_or_else(|mistakes| panic!("{}", mistakes.join("\n")))
}

/// The sentences of a text with mistakes.
pub fn bad(lua: &str) -> Vec<String> {
    run(lua).expect_err("this text must be refused")
}

/// The topics among the commands.
pub fn topics(commands: &[Command]) -> Vec<&TopicSpec> {
    commands.iter().filter_map(|c| if let Command::DeclareTopic(t) = c { Some(t) } else { None }).collect()
}

/// The levels among the commands.
pub fn levels(commands: &[Command]) -> Vec<&LevelSpec> {
    commands.iter().filter_map(|c| if let Command::DeclareLevel(l) = c { Some(l) } else { None }).collect()
}

/// The workflows among the commands.
pub fn workflows(commands: &[Command]) -> Vec<&WorkflowSpec> {
    commands.iter().filter_map(|c| if let Command::DeclareWorkflow(w) = c { Some(w) } else { None }).collect()
}
