//! What the scripts of one run have declared so far, and what was wrong with it.

use std::path::{Path, PathBuf};

use mlua::LightUserData;
use tempos_control::{ChannelSpec, LevelSpec, Mistake, Origin, Pick, TopicSpec, WorkflowSpec};

use crate::Limits;
use crate::hooks::Hook;
use crate::sentence::Chunks;

/// A channel that a script built; it counts once a topic or group holds it.
#[derive(Clone, Debug)]
pub(crate) struct ChannelDraft {
    /// What it will be; its name is empty where the script gave none.
    pub spec: ChannelSpec,
    /// Where it was put to use.
    pub used: Option<Origin>,
    /// Whether it stood in a place that was refused.
    pub refused: bool,
}

/// A group that a script built.
#[derive(Clone, Debug)]
pub(crate) struct GroupDraft {
    pub name: String,
    pub members: Vec<Token>,
    pub pick: Pick,
    pub stall_ns: u64,
    pub origin: Origin,
    pub used: Option<Origin>,
    /// Whether it stood in a place that was refused.
    pub refused: bool,
}

/// A topic, its channels and groups not yet put in.
#[derive(Debug)]
pub(crate) struct TopicDraft {
    pub spec: TopicSpec,
    pub ingress: Vec<Token>,
    pub egress: Vec<Token>,
}

/// A constructor that has its name and waits for its table.
#[derive(Debug)]
pub(crate) struct Pending {
    /// `topic`, `qos`, …, or the name of an adapter.
    pub kind: Kind,
    /// The name given.
    pub name: String,
    /// Where it stands.
    pub origin: Origin,
    /// The folder of its script, for relative files.
    pub folder: Option<PathBuf>,
    /// Whether the table came, or is not waited for.
    pub finished: bool,
    /// Whether its name was refused: then nothing is built.
    pub refused: bool,
}

/// What a two-part constructor declares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Qos,
    Topic,
    Group,
    Workflow,
    Channel,
}

impl Kind {
    /// Its name in the module and in sentences.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Qos => "qos",
            Kind::Topic => "topic",
            Kind::Group => "group",
            Kind::Workflow => "workflow",
            Kind::Channel => "channel",
        }
    }
}

/// What a script holds in its hand for a channel or a group: a light userdata, which costs no memory
/// and which no script can make by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Channel(usize),
    Group(usize),
    /// Stands for something whose mistake has been noted already.
    Wrong,
}

impl Token {
    /// The form in which Lua holds it. Never null: that is what the time-out raises.
    pub fn to_lua(self) -> LightUserData {
        let number = match self {
            Token::Channel(index) => (index << 2) | 1,
            Token::Group(index) => (index << 2) | 2,
            Token::Wrong => 3,
        };
        LightUserData(std::ptr::without_provenance_mut(number))
    }

    /// Back from Lua.
    pub fn from_lua(token: LightUserData) -> Token {
        let number = token.0.addr();
        match number & 3 {
            1 => Token::Channel(number >> 2),
            2 => Token::Group(number >> 2),
            _ => Token::Wrong,
        }
    }
}

/// Mistakes, bounded: what comes after the bound is only counted.
#[derive(Debug, Default)]
pub(crate) struct Mistakes {
    pub list: Vec<Mistake>,
    pub uncounted: usize,
    most: usize,
}

impl Mistakes {
    pub fn new(most: usize) -> Self {
        Mistakes { list: Vec::new(), uncounted: 0, most }
    }

    pub fn add(&mut self, mistake: Mistake) {
        if self.list.len() < self.most {
            self.list.push(mistake);
        } else {
            self.uncounted += 1;
        }
    }

    pub fn note(&mut self, origin: &Origin, sentence: impl Into<String>) {
        self.add(Mistake::new(origin, sentence));
    }

    pub fn is_full(&self) -> bool {
        self.list.len() >= self.most
    }
}

/// What a script may do now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// It declares the wiring.
    #[default]
    Declaring,
    /// A hook of it is called: it changes what was declared.
    Changing,
}

/// Everything that a run has gathered. Only the thread of the scripts touches it.
#[derive(Debug)]
pub(crate) struct Draft {
    pub limits: Limits,
    pub adapters: Vec<String>,
    pub libraries: Vec<PathBuf>,
    pub chunks: Chunks,
    pub levels: Vec<LevelSpec>,
    pub topics: Vec<TopicDraft>,
    pub workflows: Vec<WorkflowSpec>,
    pub channels: Vec<ChannelDraft>,
    pub groups: Vec<GroupDraft>,
    pub pending: Vec<Pending>,
    pub mistakes: Mistakes,
    pub tally: crate::source::Tally,
    /// The line at which the error that ended a script was raised.
    pub raised_at: Option<Origin>,
    /// What `print` said, bounded.
    pub printed: Vec<(Origin, String)>,
    /// Bytes of text taken over from the scripts: the memory bound holds for them too.
    pub text_bytes: usize,
    /// The folder of the script that runs.
    pub folder: Option<PathBuf>,
    /// What it may do.
    pub phase: Phase,
    /// The hooks, in the order of their functions.
    pub hooks: Vec<Hook>,
    declarations: usize,
    overfull: bool,
}

impl Draft {
    pub fn new(limits: Limits, adapters: Vec<String>, libraries: Vec<PathBuf>) -> Self {
        Draft {
            mistakes: Mistakes::new(limits.mistakes.max(1)),
            limits,
            adapters,
            libraries,
            chunks: Chunks::default(),
            levels: Vec::new(),
            topics: Vec::new(),
            workflows: Vec::new(),
            channels: Vec::new(),
            groups: Vec::new(),
            pending: Vec::new(),
            tally: crate::source::Tally::default(),
            raised_at: None,
            printed: Vec::new(),
            text_bytes: 0,
            folder: None,
            phase: Phase::Declaring,
            hooks: Vec::new(),
            declarations: 0,
            overfull: false,
        }
    }

    /// The draft that a hook of this run writes its changes to: the channels and groups that scripts hold in their
    /// hands stay good.
    pub fn for_hooks(&mut self) -> Draft {
        let mut next = Draft::new(self.limits.clone(), self.adapters.clone(), self.libraries.clone());
        next.channels.clone_from(&self.channels);
        next.groups.clone_from(&self.groups);
        next.chunks = std::mem::take(&mut self.chunks);
        next.hooks.clone_from(&self.hooks);
        next.phase = Phase::Changing;
        next
    }

    /// Counts one constructor call against the bounds of the run.
    ///
    /// A script may catch the error; the mistake stays, so that nothing is left out in silence.
    pub fn count_declaration(&mut self, origin: &Origin) -> Result<(), String> {
        self.declarations += 1;
        let counted = self.within_bounds();
        if let Err(sentence) = &counted
            && !std::mem::replace(&mut self.overfull, true)
        {
            self.mistakes.note(origin, sentence.as_str());
        }
        counted
    }

    fn within_bounds(&self) -> Result<(), String> {
        if self.declarations > self.limits.declarations {
            return Err(format!("the wiring has more than {} declarations", self.limits.declarations));
        }
        if self.text_bytes > self.limits.memory_bytes {
            let most = tempos_control::units::show_bytes(self.limits.memory_bytes as u64);
            return Err(format!("the texts of the wiring need more than {most}"));
        }
        Ok(())
    }

    /// Marks a channel or group that stood in a refused place: its own sentence would only be an echo.
    pub fn refuse(&mut self, token: Token) {
        match token {
            Token::Channel(at) => {
                if let Some(channel) = self.channels.get_mut(at) {
                    channel.refused = true;
                }
            }
            Token::Group(at) => {
                if let Some(group) = self.groups.get_mut(at) {
                    group.refused = true;
                }
            }
            Token::Wrong => {}
        }
    }

    /// Makes a function's file absolute.
    pub fn absolute(file: &str, folder: Option<&Path>) -> Result<String, String> {
        if file.is_empty() {
            return Err("file is empty, it must be the path of the function".into());
        }
        match folder {
            _ if Path::new(file).is_absolute() => Ok(file.to_owned()),
            Some(folder) => Ok(folder.join(file).to_string_lossy().into_owned()),
            None => {
                Err(format!("file {file:?} is relative, and this text has no folder; give its full path"))
            }
        }
    }
}
