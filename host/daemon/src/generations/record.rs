//! One generation as it is written down: what is known of it, and the whole wiring as the commands that make it.
//!
//! A file has three lines: the format with the lengths and checksums of the two others, the head, the body. What
//! was cut off, altered or written by a newer version is told apart before anything of it is believed.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempos_control::{Command, Who};
use tempos_lua::Script;

/// The format that this version writes and reads.
pub const FORMAT: u64 = 1;
/// What a file begins with.
const MAGIC: &str = "tempos generation ";
/// The longest first line.
const FIRST_LINE_MAX: usize = 256;
/// The longest report and the longest description of an order that are kept, in bytes.
const REPORT_BYTES_MAX: usize = 4096;
const WHAT_BYTES_MAX: usize = 512;

/// What is known of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// When it came into force, microseconds since the epoch.
    pub at_us: u64,
    /// Who gave it.
    pub who: Who,
    /// What was ordered.
    pub what: String,
    /// What changed with it.
    pub report: String,
    /// It is the configured scripts' wiring, and not one that was given by call.
    pub is_from_files: bool,
    /// What the configured scripts were like at that time.
    pub scripts: String,
}

impl Head {
    /// The same with texts of bounded length.
    pub fn bounded(mut self) -> Self {
        cut(&mut self.report, REPORT_BYTES_MAX);
        cut(&mut self.what, WHAT_BYTES_MAX);
        self
    }
}

/// A wiring: everything that it takes to bring it back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Body {
    /// The commands that make it, on top of the levels of the node file.
    pub commands: Vec<Command>,
    /// The scripts whose hooks belong to it; none where it has no hooks.
    pub hooks: Vec<HookScript>,
}

/// A script that declares hooks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookScript {
    name: String,
    folder: Option<String>,
    text: Text,
}

/// A text as it was, also where it is no UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl From<Script> for HookScript {
    fn from(script: Script) -> Self {
        HookScript {
            name: script.name,
            folder: script.folder.map(|folder| folder.to_string_lossy().into_owned()),
            text: match String::from_utf8(script.text) {
                Ok(text) => Text::Utf8(text),
                Err(bytes) => Text::Bytes(bytes.into_bytes()),
            },
        }
    }
}

impl From<HookScript> for Script {
    fn from(script: HookScript) -> Self {
        let text = match script.text {
            Text::Utf8(text) => text.into_bytes(),
            Text::Bytes(bytes) => bytes,
        };
        Script { name: script.name, folder: script.folder.map(Into::into), text }
    }
}

impl Body {
    /// Whether the two are one wiring, wherever its parts were declared.
    pub fn is_same(&self, other: &Body) -> bool {
        let bare = |body: &Body| {
            let mut value = serde_json::to_value(&body.commands).unwrap_or_default();
            strip_origins(&mut value);
            value
        };
        self == other || (self.hooks == other.hooks && bare(self) == bare(other))
    }
}

fn strip_origins(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(parts) => {
            parts.remove("origin");
            parts.values_mut().for_each(strip_origins);
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(strip_origins),
        _ => {}
    }
}

/// Why a file is of no use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

fn broken(why: &str) -> Unreadable {
    Unreadable(format!("it is damaged: {why}"))
}

/// Writes a generation down.
///
/// # Errors
/// It cannot be written down; this is a fault of the node.
pub fn encode(head: &Head, body: &Body) -> Result<Vec<u8>, String> {
    let head = serde_json::to_vec(head).map_err(|error| error.to_string())?;
    let body = serde_json::to_vec(body).map_err(|error| error.to_string())?;
    let first = format!("{MAGIC}{FORMAT} {} {} {} {}\n", head.len(), sum(&head), body.len(), sum(&body));
    let mut bytes = Vec::with_capacity(first.len() + head.len() + body.len() + 2);
    for part in [first.as_bytes(), &head, b"\n", &body, b"\n"] {
        bytes.extend_from_slice(part);
    }
    Ok(bytes)
}

/// The first line, taken apart.
struct Shape {
    head_at: usize,
    head_len: usize,
    head_sum: String,
    body_len: usize,
    body_sum: String,
}

impl Shape {
    fn body_at(&self) -> usize {
        self.head_at + self.head_len + 1
    }

    fn len(&self) -> usize {
        self.body_at() + self.body_len + 1
    }

    fn of(bytes: &[u8]) -> Result<Shape, Unreadable> {
        let end = bytes.iter().take(FIRST_LINE_MAX).position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| broken("it has no first line"))?;
        let first = std::str::from_utf8(&bytes[..end]).map_err(|_| broken("its first line is no text"))?;
        let rest =
            first.strip_prefix(MAGIC).ok_or_else(|| broken("it does not begin as a generation does"))?;
        let mut words = rest.split(' ');
        let format: u64 = number(words.next())?;
        if format > FORMAT {
            return Err(Unreadable(format!(
                "it is of format {format}, which a newer version wrote; this one reads format {FORMAT}"
            )));
        }
        if format == 0 {
            return Err(broken("there is no format 0"));
        }
        let mut word = || words.next().ok_or_else(|| broken("its first line is cut off"));
        let (head_len, head_sum, body_len, body_sum) = (word()?, word()?, word()?, word()?);
        let (head_len, body_len): (usize, usize) = (number(Some(head_len))?, number(Some(body_len))?);
        // Neither can be longer than memory is; the sums below must not overflow.
        if head_len > usize::MAX / 8 || body_len > usize::MAX / 8 {
            return Err(broken("its lengths are none"));
        }
        let (head_sum, body_sum) = (head_sum.to_owned(), body_sum.to_owned());
        Ok(Shape { head_at: end + 1, head_len, head_sum, body_len, body_sum })
    }
}

fn number<T: std::str::FromStr>(word: Option<&str>) -> Result<T, Unreadable> {
    word.and_then(|word| word.parse().ok())
        .ok_or_else(|| broken("its first line holds no number where one is due"))
}

/// Reads what is known of a generation from the beginning of its file, which is `file_len` long. The body is not
/// looked at.
///
/// # Errors
/// Why the file is of no use.
pub fn decode_head(bytes: &[u8], file_len: u64) -> Result<Head, Unreadable> {
    let shape = Shape::of(bytes)?;
    if shape.len() as u64 != file_len {
        return Err(broken(&format!("it has {file_len} bytes of {}", shape.len())));
    }
    let head = bytes.get(shape.head_at..shape.head_at + shape.head_len);
    part(head, &shape.head_sum, "head")
}

/// How many bytes from the beginning of a file [`decode_head`] needs.
///
/// # Errors
/// Why the file is of no use.
pub fn head_end(bytes: &[u8]) -> Result<usize, Unreadable> {
    Shape::of(bytes).map(|shape| shape.body_at())
}

/// Reads a whole file.
///
/// # Errors
/// Why it is of no use.
pub fn decode(bytes: &[u8]) -> Result<(Head, Body), Unreadable> {
    let head = decode_head(bytes, bytes.len() as u64)?;
    let shape = Shape::of(bytes)?;
    let body = part(bytes.get(shape.body_at()..shape.body_at() + shape.body_len), &shape.body_sum, "body")?;
    Ok((head, body))
}

fn part<T: for<'de> Deserialize<'de>>(
    bytes: Option<&[u8]>,
    wanted: &str,
    what: &str,
) -> Result<T, Unreadable> {
    let bytes = bytes.ok_or_else(|| broken(&format!("its {what} is cut off")))?;
    if sum(bytes) != wanted {
        return Err(broken(&format!("its {what} does not have its checksum")));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| Unreadable(format!("its {what} is whole but not what this version writes: {error}")))
}

/// The checksum of a part.
pub fn sum(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A checksum as a text.
pub fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Cuts a text at a line's end where it can.
fn cut(text: &mut String, bytes_max: usize) {
    if text.len() <= bytes_max {
        return;
    }
    let mut end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    if let Some(line) = text[..end].rfind('\n').filter(|line| *line > bytes_max / 2) {
        end = line;
    }
    let more = text[end..].lines().filter(|line| !line.is_empty()).count();
    text.truncate(end);
    text.push_str(&format!("\n… and {more} more lines"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempos_control::{Origin, TopicSpec, Value};

    fn head() -> Head {
        Head {
            number: 7,
            at_us: 1_700_000_000_000_000,
            who: Who { user: Some(1000), ..Who::at("socket") },
            what: "apply /w.lua".into(),
            report: "+ topic \"a\" is new".into(),
            is_from_files: false,
            scripts: sum(b""),
        }
    }

    fn body(name: &str) -> Body {
        let mut topic = TopicSpec::named(name, &Origin::new("w.lua", 1));
        topic.rank = 3;
        let hooks = vec![Script { name: "w.lua".into(), folder: None, text: b"-- \xff".to_vec() }.into()];
        Body { commands: vec![Command::DeclareTopic(topic)], hooks }
    }

    #[test]
    fn what_is_written_comes_back_exactly() {
        let (head, body) = (head(), body("a"));
        let bytes = encode(&head, &body).unwrap();
        assert_eq!(decode(&bytes).unwrap(), (head.clone(), body));
        let end = head_end(&bytes[..FIRST_LINE_MAX]).unwrap();
        assert_eq!(decode_head(&bytes[..end], bytes.len() as u64).unwrap(), head);
        for number in [0.1, 1e300, f64::INFINITY, -0.0, f64::MIN_POSITIVE, 1.0 / 3.0] {
            let text = serde_json::to_string(&Value::Number(number)).unwrap();
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), Value::Number(number), "{text}");
        }
    }

    #[test]
    fn the_place_of_a_declaration_makes_no_other_wiring() {
        let mut moved = body("a");
        if let Command::DeclareTopic(topic) = &mut moved.commands[0] {
            topic.origin = Origin::new("elsewhere.lua", 9);
        }
        assert!(moved != body("a") && moved.is_same(&body("a")));
        assert!(!body("b").is_same(&body("a")));
    }

    #[test]
    fn whatever_is_cut_off_or_altered_is_noticed() {
        let bytes = encode(&head(), &body("a")).unwrap();
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_err(), "{len} bytes were taken for the whole");
            assert!(decode_head(&bytes[..len], len as u64).is_err());
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut altered = bytes.clone();
                altered[at] ^= 1 << bit;
                // The last byte of a part is a line's end that nobody reads.
                let is_end = altered[at] != b'\n' && bytes[at] == b'\n' && at + 1 == bytes.len();
                let between = head_end(&bytes).unwrap() - 1;
                if !is_end && at != between {
                    assert!(decode(&altered).is_err(), "bit {bit} of byte {at}");
                }
            }
        }
    }

    #[test]
    fn a_newer_format_is_named_and_a_foreign_file_is_none() {
        let bytes = encode(&head(), &body("a")).unwrap();
        let newer = String::from_utf8_lossy(&bytes).replacen("generation 1 ", "generation 2 ", 1);
        let why = decode(newer.as_bytes()).unwrap_err().0;
        assert_eq!(why, "it is of format 2, which a newer version wrote; this one reads format 1");
        for garbage in [
            &b""[..],
            b"\n",
            b"tempos generation 18446744073709551616 1 a 1 b\n",
            b"tempos generation 1 18446744073709551615 a 18446744073709551615 b\n",
        ] {
            assert!(decode(garbage).is_err());
        }
    }

    /// What a script with a bit of everything declares.
    fn everything() -> Body {
        let lua = "tempos.qos 'mid' { rank = 120, scheduler = 'rr', priority = 20, cpus = { 0 }, rate = { max = 9 },\n\
             queue = { policy = 'drr', capacity = 64, full = 'block', ttl = '1s' }, network = { dscp = 8 } }\n\
             tempos.topic 'a' { qos = 'mid', rules = { { match = { kind = 'x*', n = { min = 1, max = 2 } }, qos = 'strict' } },\n\
             ingress = { tempos.udp { bind = '127.0.0.1:0', qos_max = 'strict', rate = 7, over_rate = 'drop' } },\n\
             egress = { tempos.group 'g' { tempos.udp { to = '127.0.0.1:1' }, pick = 'hash' } },\n\
             request = { latency_p99 = '5ms', rate = '10/s', loss = 0.001 }, on_unmet = 'degrade' }\n\
             tempos.workflow 'w' { from = 'a', group = 'g', call = { method = 'wasm', file = '/w.wasm', memory = '1MiB',\n\
             retry = { times = 2 }, canary = { file = '/c.wasm', share = 5 } } }\n\
             tempos.on('overload', function(e) end)\n";
        let source = tempos_lua::Source::Text { chunk_name: "w.lua".into(), lua: lua.into() };
        let known = tempos_lua::Known { adapters: vec!["udp".into()], libraries: Vec::new() };
        let scripts = tempos_lua::read_scripts(&source, &tempos_lua::Limits::default()).expect("a script");
        let wiring = tempos_lua::evaluate_wiring(&source, &known, &tempos_lua::Limits::default(), |_, _| {});
        let wiring = wiring.unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        Body { commands: wiring.commands, hooks: scripts.into_iter().map(Into::into).collect() }
    }

    #[test]
    fn a_file_of_this_format_is_read_for_good() {
        let body = everything();
        let written = encode(&head(), &body).unwrap();
        assert_eq!(decode(&written).unwrap().1, body, "a wiring with everything comes back exactly");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/generations/format-1.generation");
        if std::env::var_os("TEMPOS_BLESS_FORMAT").is_some() {
            std::fs::write(path, &written).unwrap();
        }
        // As version 0.1 of the node has written it.
        let (head, old) = decode(&std::fs::read(path).unwrap()).unwrap_or_else(|why| {
            panic!(
                "{}: a field that was added to a declaration needs #[serde(default)], or the format a new number",
                why.0
            )
        });
        assert_eq!((head.number, old.commands.len(), old.hooks.len()), (7, 3, 1));
        assert!(old == body, "a wiring of that version means something else now");
    }

    #[test]
    fn long_texts_are_cut_at_a_line() {
        let mut report: String = (0..1000).map(|n| format!("+ topic \"{n}\" is new\n")).collect();
        cut(&mut report, REPORT_BYTES_MAX);
        assert!(report.len() < REPORT_BYTES_MAX + 64, "{}", report.len());
        assert!(report.ends_with(" more lines") && report.contains("is new\n… and 8"), "{report}");
        let mut word = "é".repeat(1000);
        cut(&mut word, WHAT_BYTES_MAX);
        assert!(word.starts_with('é') && word.len() < WHAT_BYTES_MAX + 64);
    }
}
