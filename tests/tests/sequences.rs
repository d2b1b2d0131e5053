//! Random orders to a node that is killed again and again: it and a simple model of it agree at every step.
//!
//! `TEMPOS_ROUNDS=10000 cargo test -p tempos-tests --test sequences` runs the full number of sequences, and
//! `TEMPOS_SEED` repeats one run.

mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use client::{Client, Refused, number, text};
use tempos_tests::{Node, NodeSetup};

/// Topics and their levels.
type Wiring = BTreeMap<String, String>;

/// The scripts of the node: what it starts with, and what `Reload` brings back.
const SCRIPT: &str = "tempos.topic \"t0\" { qos = \"best-effort\" }\n";

/// xorshift64* (Vigna 2016): enough to choose orders by.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn wiring(&mut self) -> Wiring {
        let mut wiring = Wiring::new();
        for topic in 0..4 {
            let level = ["", "strict", "best-effort"][self.below(3) as usize];
            if !level.is_empty() {
                wiring.insert(format!("t{topic}"), level.to_owned());
            }
        }
        wiring
    }
}

fn lua(wiring: &Wiring) -> String {
    wiring.iter().map(|(topic, level)| format!("tempos.topic {topic:?} {{ qos = {level:?} }}\n")).collect()
}

/// What is ordered.
#[derive(Clone, Debug)]
enum Step {
    Apply(Wiring),
    UntilRestart(Wiring),
    OutOfDate(Wiring),
    Mistake(&'static str),
    Reload,
    Rollback(u64),
}

/// What the node should be like.
#[derive(Debug)]
struct Model {
    in_force: (u64, Wiring),
    /// What a restart brings back.
    lasting: (u64, Wiring),
    /// Every generation that there ever was.
    all: BTreeMap<u64, Wiring>,
}

impl Model {
    /// A wiring came into force under that number, which is new where the wiring is.
    fn takes(&mut self, number: u64, wiring: Wiring, lasts: bool) {
        if wiring == self.in_force.1 {
            assert_eq!(number, self.in_force.0, "the same wiring is the same generation");
        } else {
            let last = self.all.keys().next_back().copied().unwrap_or(0);
            assert!(number > last, "generation {number} comes after {last}");
            self.all.insert(number, wiring.clone());
            self.in_force = (number, wiring);
        }
        if lasts {
            self.lasting = self.in_force.clone();
        }
    }
}

struct Scene {
    node: Node,
    command: Command,
    client: Client,
    model: Model,
    random: Random,
    kills: u64,
}

impl Scene {
    fn new(seed: u64) -> Scene {
        let setup =
            NodeSetup::new().plugins(["queue-fifo"]).wiring(SCRIPT).node_file("[wiring]\nwatch = false");
        let command = setup.command();
        let node = setup.start();
        let client = Client::of(&node);
        let first = (1, Wiring::from([("t0".into(), "best-effort".into())]));
        let all = BTreeMap::from([first.clone()]);
        let model = Model { in_force: first.clone(), lasting: first, all };
        Scene { node, command, client, model, random: Random(seed), kills: 0 }
    }

    fn step(&mut self) -> Step {
        let wiring = self.random.wiring();
        match self.random.below(12) {
            0..5 => Step::Apply(wiring),
            5..7 => Step::UntilRestart(wiring),
            7 => Step::OutOfDate(wiring),
            8 => Step::Mistake(
                ["tempos.topic 'x' { qso = 1 }", "tempos.topic 'x' { qos = 'gold' }", "error('no')", "{"]
                    [self.random.below(4) as usize],
            ),
            9 => Step::Reload,
            _ => {
                let highest = self.model.all.keys().next_back().copied().unwrap_or(0);
                Step::Rollback(self.random.below(highest + 3))
            }
        }
    }

    /// Gives the order; `None` where nobody answered.
    fn give(&self, step: &Step) -> Option<Result<u64, Refused>> {
        let answer = match step {
            Step::Apply(wiring) => self.client.apply(&lua(wiring), &[]),
            Step::UntilRestart(wiring) => self.client.apply(&lua(wiring), &[("until-restart", true.into())]),
            Step::OutOfDate(wiring) => {
                let other = self.model.in_force.0 + 1;
                self.client.apply(&lua(wiring), &[("if-generation", other.into())])
            }
            Step::Mistake(lua) => self.client.apply(lua, &[]),
            Step::Reload => self.client.call::<_, ()>("Reload", &()).and_then(|()| self.client.generation()),
            Step::Rollback(to) => self.client.rollback(*to),
        };
        match answer {
            Err(Refused(name, _)) if name.is_empty() => None,
            answer => Some(answer),
        }
    }

    /// What the step brings into force, and whether it lasts; `None` where it is to be refused, with the error.
    fn wanted(&self, step: &Step) -> Result<(Wiring, bool), &'static str> {
        match step {
            Step::Apply(wiring) => Ok((wiring.clone(), true)),
            Step::UntilRestart(wiring) => Ok((wiring.clone(), false)),
            Step::OutOfDate(_) => Err("OutOfDate"),
            Step::Mistake(_) => Err("InvalidWiring"),
            Step::Reload => Ok((self.model.all[&1].clone(), true)),
            Step::Rollback(to) => {
                let rows = self.client.generations();
                let kept: BTreeSet<u64> = rows.iter().map(|row| number(row, "number")).collect();
                let target = match to {
                    0 => kept.range(..self.model.in_force.0).next_back(),
                    to => kept.get(to),
                };
                target.map(|target| (self.model.all[target].clone(), true)).ok_or("NoSuchObject")
            }
        }
    }

    fn order(&mut self) -> Step {
        let step = self.step();
        let wanted = self.wanted(&step);
        let answer = self.give(&step).unwrap_or_else(|| panic!("{step:?} was not answered"));
        match (answer, wanted) {
            (Ok(number), Ok((wiring, lasts))) => self.model.takes(number, wiring, lasts),
            (Err(Refused(name, _)), Err(wanted)) if name == wanted => {}
            (answer, wanted) => panic!("{step:?}: {answer:?}, and {wanted:?} was to come"),
        }
        step
    }

    /// Kills the node in the middle of an order, or after it, and starts it again.
    fn kill(&mut self) -> Step {
        self.kills += 1;
        let step = self.step();
        let wanted = self.wanted(&step);
        let pid = self.node.daemon().pid() as libc::pid_t;
        let pause = Duration::from_micros(self.random.below(20_000));
        let killer = std::thread::spawn(move || {
            std::thread::sleep(pause);
            // SAFETY: the process is a child that nobody has waited for yet.
            unsafe { libc::kill(pid, libc::SIGKILL) }
        });
        let answer = self.give(&step);
        assert_eq!(killer.join().ok(), Some(0));
        // What was acknowledged is done, what was not may be.
        let mut perhaps = None;
        match (answer, wanted) {
            (Some(Ok(number)), Ok((wiring, lasts))) => self.model.takes(number, wiring, lasts),
            (None, Ok((wiring, true))) => perhaps = Some(wiring),
            (None, Ok((_, false)) | Err(_)) => {}
            (Some(Err(Refused(name, _))), Err(wanted)) if name == wanted => {}
            (answer, wanted) => panic!("{step:?}: {answer:?}, and {wanted:?} was to come"),
        }
        self.node.daemon().wait_for_end();
        self.node.restart(&mut self.command);
        self.client = Client::of(&self.node);
        let generation = self.client.generation().expect("a number");
        let before = std::mem::replace(&mut self.model.in_force, self.model.lasting.clone());
        match perhaps {
            Some(wiring) if generation != self.model.lasting.0 => {
                if wiring == before.1 {
                    // What was to end with the node was given for good.
                    assert_eq!(generation, before.0);
                    self.model.in_force = before;
                    self.model.lasting = self.model.in_force.clone();
                } else {
                    self.model.in_force.1.clear();
                    self.model.in_force.0 = 0;
                    // An empty wiring is another one than none.
                    self.model.in_force.1.insert(String::from("none"), String::new());
                    self.model.takes(generation, wiring, true);
                }
            }
            _ => {}
        }
        step
    }

    /// The node is as the model says.
    fn agrees(&self, done: &[Step]) {
        let topics = self.node.ctl_json(["topics"]);
        let shown: Wiring = topics
            .as_array()
            .into_iter()
            .flatten()
            .map(|topic| {
                let text = |key: &str| topic[key].as_str().unwrap_or_default().to_owned();
                (text("name"), text("Level"))
            })
            .collect();
        let generation = self.client.generation().expect("a number");
        assert_eq!((generation, &shown), (self.model.in_force.0, &self.model.in_force.1), "after {done:?}");
        let rows = self.client.generations();
        assert!(rows.len() <= 48, "{} generations", rows.len());
        for row in &rows {
            let at = number(row, "number");
            assert!(self.model.all.contains_key(&at), "nobody made generation {at}: {row:?}");
            assert!(["kept", "until restart"].contains(&text(row, "keeping").as_str()), "{row:?}");
        }
    }
}

#[test]
fn the_node_and_a_simple_model_agree_whatever_is_ordered_and_whenever_it_is_killed() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let rounds = number("TEMPOS_ROUNDS").unwrap_or(200);
    let seed = number("TEMPOS_SEED").unwrap_or(0x7e3a_905d_11c2_4b6f);
    let mut scene = Scene::new(seed);
    let mut orders = 0;
    for round in 0..rounds {
        let mut done = Vec::new();
        for _ in 0..=scene.random.below(5) {
            done.push(scene.order());
        }
        if scene.random.below(8) == 0 {
            done.push(scene.kill());
        }
        orders += done.len();
        scene.agrees(&done);
        assert!(scene.node.daemon().runs(), "round {round}: {done:?}");
    }
    println!("{rounds} sequences, {orders} orders, killed {} times", scene.kills);
    assert!(scene.kills > rounds / 20, "it was to be killed more often than {} times", scene.kills);
}
