//! From what is wanted to be in force to what the engine is told: scripts are run, generations are read, parts are
//! put into the whole.

use std::collections::HashMap;
use std::path::PathBuf;

use tempos_abi::host::LogLevel;
use tempos_control::{Command, Origin, Refusal, RefusalKind};
use tempos_lua::{Hooks, Known, Script, Source, Wiring, read_scripts};

use crate::generations::record::Body;
use crate::host_node::{HOOKS, HostNode, first_line};

/// What is wanted to be in force.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// The configured scripts.
    Files,
    /// A script or a folder of them.
    Path(PathBuf),
    /// A script's text.
    Text { chunk_name: String, lua: String },
    /// Commands that make a whole wiring.
    Commands(Vec<Command>),
    /// Commands that change the one in force.
    Part(Vec<Command>),
    /// That of a generation; `None`: of the one before.
    Generation(Option<u64>),
    /// That which was in force before a probe.
    Back(Body),
}

/// A wiring that is ready to be brought into force.
pub(crate) struct Ready {
    /// What the engine is told.
    pub commands: Vec<Command>,
    pub whole: bool,
    /// What is written down: the whole.
    pub body: Body,
    pub hooks: Option<Hooks>,
    /// The hooks that there are go on.
    pub keeps_hooks: bool,
}

impl HostNode {
    /// Reads what is wanted.
    pub(crate) fn ready(&self, wanted: Wanted) -> Result<Ready, Refusal> {
        let commands =
            |commands, whole, body| Ready { commands, whole, body, hooks: None, keeps_hooks: !whole };
        match wanted {
            Wanted::Files => self.evaluate(self.configured()),
            Wanted::Path(path) => self.evaluate(Source::Paths(vec![path])),
            Wanted::Text { chunk_name, lua } => self.evaluate(Source::Text { chunk_name, lua }),
            Wanted::Commands(all) => {
                let body = Body { commands: all.clone(), hooks: Vec::new() };
                Ok(commands(all, true, body))
            }
            Wanted::Part(part) => {
                let standing = self.standing();
                let merged = merged(&standing.body.commands, &part, &self.levels);
                let body = Body { commands: merged, hooks: standing.body.hooks.clone() };
                Ok(commands(part, false, body))
            }
            Wanted::Generation(number) => {
                let body = self.body_of(number)?;
                self.ready(Wanted::Back(body))
            }
            Wanted::Back(body) => {
                // A level that the node file does not have any more need not be taken out.
                let is_there = |command: &&Command| match command {
                    Command::RemoveLevel(name) => self.levels.contains(name),
                    _ => true,
                };
                let all = body.commands.iter().filter(is_there).cloned().collect();
                let hooks = self.hooks_of(&body);
                Ok(Ready { hooks, ..commands(all, true, body) })
            }
        }
    }

    /// The wiring of a generation, or of the one before the one in force.
    fn body_of(&self, number: Option<u64>) -> Result<Body, Refusal> {
        let mut standing = self.standing();
        let none = |sentence| Refusal::new(RefusalKind::NoSuchObject, sentence);
        let Some(number) = number else {
            if let Some(probe) = &standing.probe {
                return Ok(probe.back.clone());
            }
            let in_force = self.engine.generation();
            let before = standing
                .generations
                .before(in_force)
                .ok_or_else(|| none(format!("there is no generation before {in_force} to roll back to")))?;
            return standing.generations.read(before).map_err(none);
        };
        standing.generations.read(number).map_err(none)
    }

    /// The hooks that belong to a wiring; where their scripts do not run any more it goes without, and says so.
    fn hooks_of(&self, body: &Body) -> Option<Hooks> {
        if body.hooks.is_empty() {
            return None;
        }
        let scripts: Vec<Script> = body.hooks.iter().cloned().map(Script::from).collect();
        match self.run(&Source::Scripts(scripts)) {
            Ok(wiring) => wiring.hooks,
            Err(refusal) => {
                let sentence = format!("no hook is called: {}", first_line(&refusal.message));
                self.log.say(LogLevel::ERROR, HOOKS, &sentence);
                None
            }
        }
    }

    /// Runs scripts. The text that is run is the text that is kept.
    fn evaluate(&self, source: Source) -> Result<Ready, Refusal> {
        let source = match read_scripts(&source, &self.limits) {
            Ok(scripts) => Source::Scripts(scripts),
            // What cannot be read is told with the mistakes of the rest.
            Err(_) => source,
        };
        let Wiring { commands, hooks } = self.run(&source)?;
        let scripts = match source {
            Source::Scripts(scripts) if hooks.is_some() => scripts.into_iter().map(Into::into).collect(),
            _ => Vec::new(),
        };
        let body = Body { commands: commands.clone(), hooks: scripts };
        Ok(Ready { commands, whole: true, body, hooks, keeps_hooks: false })
    }

    fn run(&self, source: &Source) -> Result<Wiring, Refusal> {
        let known = Known { adapters: self.engine.adapters(), libraries: self.libraries.clone() };
        let printed = |origin: &Origin, line: &str| {
            self.log.say(LogLevel::INFO, "script", &format!("{origin}: {line}"));
        };
        tempos_lua::evaluate_wiring(source, &known, &self.limits, printed).map_err(Refusal::of_mistakes)
    }
}

/// The commands of a whole wiring after some more of them. `levels`: those that are there without any command.
fn merged(before: &[Command], more: &[Command], levels: &[String]) -> Vec<Command> {
    let mut all: Vec<Option<Command>> = before.iter().cloned().map(Some).collect();
    let mut places: HashMap<_, usize> =
        before.iter().enumerate().filter_map(|(at, command)| Some((object(command)?, at))).collect();
    for command in more {
        let is_kept = match command {
            Command::RemoveLevel(name) => levels.contains(name),
            Command::RemoveTopic(_) | Command::RemoveWorkflow(_) => false,
            _ => true,
        };
        let kept = is_kept.then(|| command.clone());
        let Some(object) = object(command) else { continue };
        let at = *places.entry(object).or_insert(all.len());
        match all.get_mut(at) {
            Some(place) => *place = kept,
            None => all.push(kept),
        }
    }
    all.into_iter().flatten().collect()
}

/// What a command speaks of.
fn object(command: &Command) -> Option<(&'static str, &str)> {
    Some(match command {
        Command::DeclareLevel(level) => ("level", &level.name),
        Command::RemoveLevel(name) => ("level", name),
        Command::DeclareTopic(topic) => ("topic", &topic.name),
        Command::RemoveTopic(name) => ("topic", name),
        Command::DeclareWorkflow(workflow) => ("workflow", &workflow.name),
        Command::RemoveWorkflow(name) => ("workflow", name),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempos_control::{LevelSpec, TopicSpec};

    fn topic(name: &str, rank: u8) -> Command {
        let topic = TopicSpec::named(name, &Origin::builtin());
        Command::DeclareTopic(TopicSpec { rank, ..topic })
    }

    fn level(name: &str) -> Command {
        Command::DeclareLevel(LevelSpec::named(name, &Origin::builtin()))
    }

    #[test]
    fn a_part_takes_the_place_of_what_it_speaks_of() {
        let levels = [String::from("control")];
        let before = [topic("a", 1), topic("b", 1), level("a")];
        let after = merged(&before, &[topic("a", 2), Command::RemoveTopic("b".into())], &levels);
        assert_eq!(after, [topic("a", 2), level("a")]);
        // A level of the node file is there again in the next whole wiring unless that takes it out.
        let gone = [Command::RemoveLevel("control".into()), Command::RemoveLevel("a".into())];
        let after = merged(&[level("control"), level("a")], &gone, &levels);
        assert_eq!(after, [Command::RemoveLevel("control".into())]);
        assert_eq!(merged(&after, &[level("control")], &levels), [level("control")]);
    }
}
