//! Garbage, from a fixed seed: the door keeps answering, and refuses with a sentence.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use tokio::time::timeout;
use zbus::zvariant::{Array, ObjectPath, Signature, Str, Structure, StructureBuilder, Value};

use crate::node::FakeNode;
use crate::scene::{Scene, Side};

/// A generator whose sequence depends on nothing but its seed (xorshift64*, Vigna 2016).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.roll() >> 33) as usize % bound
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn text(&mut self) -> String {
        let words = [
            "",
            "a",
            "/",
            "/etc/w",
            "press/alarms",
            "État",
            "\u{1}\u{7f}",
            "_2f",
            "../..",
            "🦀",
            "%s%n",
            "org.tempos",
        ];
        (0..self.below(4)).map(|_| self.pick(&words)).collect::<String>().repeat(1 + self.below(3) * 40)
    }

    fn value(&mut self, depth: usize) -> Value<'static> {
        match self.below(if depth == 0 { 12 } else { 16 }) {
            0 => Value::from(self.roll() as u8),
            1 => Value::from(self.roll().is_multiple_of(2)),
            2 => Value::from(self.roll() as i16),
            3 => Value::from(self.roll() as u16),
            4 => Value::from(self.roll() as i32),
            5 => Value::from(self.roll() as u32),
            6 => Value::from(self.roll() as i64),
            7 => Value::from(self.roll()),
            8 => Value::from(f64::from_bits(self.roll())),
            9 => Value::from(ObjectPath::try_from("/a/b").unwrap()),
            10 => Value::Signature(Signature::U32),
            11 => Value::Str(Str::from(self.text())),
            12 => Value::Value(Box::new(self.value(depth - 1))),
            13 => {
                let first = self.value(depth - 1);
                let mut array = Array::new(&first.value_signature().clone());
                for _ in 0..self.below(4) {
                    array.append(first.try_clone().unwrap()).unwrap();
                }
                Value::Array(array)
            }
            14 => {
                let entries = (0..self.below(4)).map(|_| (self.text(), self.value(depth - 1)));
                Value::from(entries.collect::<std::collections::HashMap<_, _>>())
            }
            _ => {
                let mut fields = StructureBuilder::new();
                for _ in 0..1 + self.below(3) {
                    fields.push_value(self.value(depth - 1));
                }
                Value::Structure(fields.build().unwrap())
            }
        }
    }
}

const ROOT: &str = "/org/tempos/Host1";
const NODE: &str = "org.tempos.Host1.Node";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const PATHS: [&str; 8] = [
    "/",
    ROOT,
    "/org/tempos/Host1/topic",
    "/org/tempos/Host1/topic/press_2falarms",
    "/org/tempos/Host1/topic/_",
    "/org/tempos/Host1/channel/_ff_00",
    BUS_PATH,
    "/nowhere",
];

/// Every method where it belongs, with the types that it takes.
const METHODS: [(&str, &str, &str, &str); 25] = [
    (ROOT, NODE, "Apply", "s"),
    (ROOT, NODE, "ApplyText", "ss"),
    (ROOT, NODE, "Plan", "s"),
    (ROOT, NODE, "Reload", ""),
    (ROOT, NODE, "Drain", "u"),
    (ROOT, NODE, "Publish", "sAB"),
    (ROOT, NODE, "Subscribe", "s"),
    (ROOT, NODE, "LoadPlugin", "s"),
    (ROOT, NODE, "Prewarm", "su"),
    (ROOT, NODE, "Doctor", ""),
    (ROOT, NODE, "Calibrate", "u"),
    (ROOT, PROPERTIES, "Get", "ss"),
    (ROOT, PROPERTIES, "GetAll", "s"),
    (ROOT, PROPERTIES, "Set", "ssv"),
    (ROOT, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", ""),
    (ROOT, "org.freedesktop.DBus.Introspectable", "Introspect", ""),
    (ROOT, "org.freedesktop.DBus.Peer", "Ping", ""),
    (BUS_PATH, BUS, "AddMatch", "s"),
    (BUS_PATH, BUS, "RemoveMatch", "s"),
    (BUS_PATH, BUS, "GetNameOwner", "s"),
    (BUS_PATH, BUS, "NameHasOwner", "s"),
    (BUS_PATH, BUS, "StartServiceByName", "su"),
    (BUS_PATH, BUS, "Hello", ""),
    (BUS_PATH, BUS, "GetConnectionCredentials", "s"),
    (ROOT, NODE, "Nothing", "s"),
];

/// A body of random values, of those types where `types` is given (`A`: attributes, `B`: bytes).
fn body(dice: &mut Dice, types: Option<&str>) -> Option<Structure<'static>> {
    let mut body = StructureBuilder::new();
    match types {
        Some("") => return None,
        Some(types) => {
            for kind in types.chars() {
                body.push_value(match kind {
                    's' => Value::from(dice.text()),
                    'u' => Value::from(dice.roll() as u32),
                    'v' => Value::Value(Box::new(dice.value(3))),
                    'A' => {
                        let entries = (0..dice.below(4)).map(|_| (dice.text(), dice.value(2)));
                        Value::from(entries.collect::<std::collections::HashMap<_, _>>())
                    }
                    _ => Value::from((0..dice.below(100)).map(|_| dice.roll() as u8).collect::<Vec<u8>>()),
                });
            }
        }
        None => {
            for _ in 0..1 + dice.below(4) {
                body.push_value(dice.value(3));
            }
        }
    }
    Some(body.build().unwrap())
}

fn peer_scene() -> Scene {
    Scene::with(FakeNode::new(), |_| None, |config| config.bus = tempos_dbus::Bus::None)
}

fn still_answers(scene: &Scene) {
    let shown = scene.busctl_says(Side::Peer, &["introspect", "org.tempos.Host1", "/org/tempos/Host1"]);
    assert!(shown.contains("press-7"), "{shown}");
}

#[test]
fn random_calls_are_answered_or_refused_with_one_sentence() {
    let scene = peer_scene();
    let client = scene.client(Side::Peer);
    let mut dice = Dice(0x7e3a_90c5_11d2_4b6f);
    let (mut answered, mut refused) = (0, 0);
    for round in 0..6000 {
        // A half goes where it belongs, a half of that with the right types.
        let (at, interface, member, types) = METHODS[dice.below(METHODS.len())];
        let aimed = dice.roll().is_multiple_of(2);
        let path = if aimed { at } else { dice.pick(&PATHS) };
        let interface = match dice.below(8) {
            0 => None,
            1 if !aimed => Some("org.example.None"),
            _ => Some(interface),
        };
        let typed = aimed && dice.roll().is_multiple_of(2);
        let body = body(&mut dice, typed.then_some(types));
        let call = async {
            let destination = Some("org.tempos.Host1");
            let limit = Duration::from_secs(60);
            match &body {
                Some(body) => {
                    timeout(limit, client.call_method(destination, path, interface, member, body)).await
                }
                None => timeout(limit, client.call_method(destination, path, interface, member, &())).await,
            }
        };
        match scene
            .runtime
            .block_on(call)
            .unwrap_or_else(|_| panic!("round {round}: no answer to {member} {body:?}"))
        {
            Ok(_) => answered += 1,
            Err(zbus::Error::MethodError(name, Some(sentence), _)) => {
                assert!(
                    !sentence.trim().is_empty() && !sentence.contains("panicked"),
                    "round {round}: {name}"
                );
                assert!(sentence.lines().count() <= 2, "round {round}: {sentence}");
                refused += 1;
            }
            Err(other) => panic!("round {round}: {member} {body:?}: {other}"),
        }
    }
    println!("{answered} answered, {refused} refused");
    assert!(answered > 500 && refused > 1000, "the dice roll both: {answered}, {refused}");
    still_answers(&scene);
}

/// A well-formed call to begin with.
fn call_bytes() -> Vec<u8> {
    let message = zbus::Message::method_call("/org/tempos/Host1", "Publish")
        .unwrap()
        .interface("org.tempos.Host1.Node")
        .unwrap()
        .build(&(
            "press/alarms",
            std::collections::HashMap::from([("a", Value::from(1u32))]),
            b"xyz".as_slice(),
        ))
        .unwrap();
    message.data().to_vec()
}

#[test]
fn random_bytes_harm_nobody_but_their_sender() {
    let scene = peer_scene();
    let path = scene.folder.0.join("control.sock");
    let uid: String = nix::unistd::geteuid().to_string().bytes().map(|b| format!("{b:02x}")).collect();
    let mut dice = Dice(0x2b99_2ddf_a232_49d7);
    let good = call_bytes();
    for round in 0..1500 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
        let mut bytes = match round % 10 {
            0 => Vec::new(),
            _ => format!("\0AUTH EXTERNAL {uid}\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n").into_bytes(),
        };
        if round % 3 == 0 {
            bytes.extend((0..dice.below(300)).map(|_| dice.roll() as u8));
        } else {
            // A good message with some of its bytes changed.
            let mut message = good.clone();
            for _ in 0..1 + dice.below(6) {
                let at = dice.below(message.len());
                message[at] = dice.roll() as u8;
            }
            bytes.extend(message);
        }
        let _ = stream.write_all(&bytes);
        let _ = stream.read(&mut [0; 512]);
        if round % 100 == 0 {
            drop(stream);
            still_answers(&scene);
        }
    }
    still_answers(&scene);
}
