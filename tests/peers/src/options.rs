//! What is to be run.

use std::path::PathBuf;

/// A scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// A strict flow of 1000 events a second, alone.
    Quiet,
    /// Beside three best-effort flows of 1000 a second (the paper's figure 4b).
    Three,
    /// Beside one best-effort flow as fast as its producer can send.
    Flood,
    /// The same, and both flows end in one consumer.
    Shared,
    /// The highest rate without loss.
    Rate,
    /// The flood, for a node that gets no real-time permission.
    Bare,
    /// Ten topics and ten thousand.
    Topics,
    /// Load, changes and dying members, and then the account.
    Soak,
}

impl Scene {
    const ALL: [(&'static str, Scene); 8] = [
        ("quiet", Scene::Quiet),
        ("three", Scene::Three),
        ("flood", Scene::Flood),
        ("shared", Scene::Shared),
        ("rate", Scene::Rate),
        ("ungranted", Scene::Bare),
        ("topics", Scene::Topics),
        ("soak", Scene::Soak),
    ];

    /// Its name.
    pub fn word(self) -> &'static str {
        Scene::ALL.iter().find(|(_, scene)| *scene == self).map_or("", |(word, _)| word)
    }
}

/// The options.
#[derive(Clone, Debug)]
pub struct Options {
    scenes: Vec<Scene>,
    systems: Vec<String>,
    /// Rounds of each system and scene.
    pub rounds: usize,
    /// Events of a round's strict flow.
    pub events: u64,
    /// How long a turn of the scene `rate` takes.
    pub turn_ms: u64,
    /// How long the soak takes.
    pub soak_s: u64,
    /// Where the programs and plugins of an earlier build of ours lie: the scene `rate` runs these too.
    pub before: Option<PathBuf>,
    /// Where a line for each of ours is added after the scene `rate`, and what it is called there.
    pub record: Option<(PathBuf, String)>,
    /// Prints JSON.
    pub json: bool,
}

const USAGE: &str = "usage: [--quick] [--scene NAME]... [--system NAME]... [--rounds N] [--events N] [--soak SECONDS] \
    [--before FOLDER] [--record FILE NAME] [--json]";

impl Options {
    /// Reads the arguments.
    ///
    /// # Errors
    /// One sentence.
    pub fn read(arguments: &[String]) -> Result<Options, String> {
        let mut options = Options {
            scenes: Vec::new(),
            systems: Vec::new(),
            rounds: 5,
            events: 4000,
            turn_ms: 1500,
            soak_s: 600,
            before: None,
            record: None,
            json: false,
        };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("{argument} needs a value; {USAGE}"));
            match argument.as_str() {
                "--quick" => {
                    (options.rounds, options.events, options.turn_ms, options.soak_s) = (2, 1500, 800, 15);
                }
                "--scene" => {
                    let name = value()?;
                    let known = Scene::ALL.iter().find(|(word, _)| word == name);
                    options
                        .scenes
                        .push(known.ok_or_else(|| format!("there is no scene {name:?}; {USAGE}"))?.1);
                }
                "--system" => options.systems.push(value()?.clone()),
                "--rounds" => options.rounds = number(value()?)? as usize,
                "--events" => options.events = number(value()?)?,
                "--soak" => options.soak_s = number(value()?)?,
                "--before" => options.before = Some(PathBuf::from(value()?)),
                "--record" => {
                    let file = PathBuf::from(value()?);
                    options.record = Some((file, value()?.clone()));
                }
                "--json" => options.json = true,
                _ => return Err(format!("{argument} is not known; {USAGE}")),
            }
        }
        Ok(options)
    }

    /// Whether a scene is to be run; all are where none is named.
    pub fn wants(&self, scene: Scene) -> bool {
        self.scenes.is_empty() || self.scenes.contains(&scene)
    }

    /// Whether a system takes part; all do where none is named.
    pub fn has(&self, system: &str) -> bool {
        self.systems.is_empty() || self.systems.iter().any(|name| name == system)
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("{text:?} is not a number above 0"))
}
