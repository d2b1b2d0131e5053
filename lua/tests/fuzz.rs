//! Garbage in, sentences out: texts made from a seed, each answered and none of them fatal.
//!
//! 24,000 of them, or as many as `TEMPOS_FUZZ_INPUTS` says.

mod common;

use std::time::Duration;

use tempos_lua::{Limits, Source, abandoned, evaluate};

/// A small generator (xorshift64*), so that a failure can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

const SEEDS: &[&str] = &[
    "tempos.qos \"burst\" { scheduler = \"rr\", priority = 40, queue = { policy = \"edf\", capacity = 4096, full = \"drop-oldest\" } }",
    "tempos.topic \"a/b\" {\n qos = \"strict\",\n ingress = { tempos.udp { bind = \"127.0.0.1:5501\" } },\n egress = { tempos.group \"g\" { tempos.unix { path = \"/run/x\" }, pick = \"hash\" }, tempos.channel(\"zenoh\", { key = { 1, 2 } }) },\n deadline = \"2ms\" }",
    "tempos.topic 'a' {} tempos.workflow 'w' { from = 'a', call = { method = 'dlf', file = '/f.so', warm = 2, memory = '16MiB' } }",
    "for n = 1, 5 do local ok, e = pcall(tempos.topic, 't' .. n, { rank = n }) print(ok, e) end",
    "local t = setmetatable({}, { __index = function(t, k) return k end, __call = print }) t(t.x, #t, -1 // 1, ('x'):rep(3))",
    "local c = coroutine.wrap(function(...) for i = 1, 3 do coroutine.yield(i) end error({ code = 3 }) end) c() c() c() c()",
    "goto done do local x <close> = setmetatable({}, { __close = print }) end ::done:: return ('a=b'):gsub('(%w)=(%w)', '%2=%1')",
    "local m = require 'tempos' assert(m == tempos) error(tempos.env('HOME') or tempos.hostname(), 0)",
];

const TOKENS: &[&str] = &[
    "tempos",
    ".topic",
    ".qos",
    ".group",
    ".workflow",
    ".udp",
    ".unix",
    ".channel",
    ".nothing",
    ".env",
    "'a'",
    "\"b\"",
    "''",
    "{",
    "}",
    "{}",
    "(",
    ")",
    "[",
    "]",
    "=",
    "==",
    ",",
    ";",
    "..",
    "...",
    ".",
    ":",
    "::",
    "+",
    "-",
    "*",
    "//",
    "%",
    "^",
    "#",
    "<",
    ">=",
    "~",
    "&",
    "|",
    "<<",
    "1",
    "0",
    "-1",
    "1e308",
    "0x7fffffffffffffff",
    "0/0",
    "nil",
    "true",
    "false",
    "and",
    "or",
    "not",
    "if",
    "then",
    "else",
    "end",
    "for",
    "in",
    "do",
    "while",
    "repeat",
    "until",
    "function",
    "return",
    "local",
    "break",
    "goto",
    "x",
    "y",
    "qos",
    "ingress",
    "egress",
    "from",
    "to",
    "call",
    "pick",
    "rank",
    "strict",
    "pcall",
    "xpcall",
    "error",
    "setmetatable",
    "getmetatable",
    "pairs",
    "ipairs",
    "next",
    "select",
    "rawset",
    "string.rep",
    "string.find",
    "table.sort",
    "table.concat",
    "coroutine.wrap",
    "require",
    "print",
    "_G",
    "_ENV",
    "\n",
    " ",
    "--",
    "--[[",
    "]]",
    "[[",
    "<close>",
    "\\",
    "\u{0}",
    "\u{1b}",
    "é",
    "\u{2028}",
];

fn mutated(random: &mut Random) -> Vec<u8> {
    let mut bytes = SEEDS[random.below(SEEDS.len())].as_bytes().to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len());
        match random.below(5) {
            0 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            1 if !bytes.is_empty() => drop(bytes.remove(at)),
            2 => bytes.insert(at, random.next() as u8),
            3 => {
                let other = SEEDS[random.below(SEEDS.len())].as_bytes();
                let from = random.below(other.len());
                let length = random.below(other.len() - from);
                bytes.splice(at..at, other[from..from + length].iter().copied());
            }
            _ => {
                let token = TOKENS[random.below(TOKENS.len())];
                bytes.splice(at..at, token.bytes());
            }
        }
    }
    bytes
}

fn soup(random: &mut Random) -> Vec<u8> {
    let mut text = String::new();
    for _ in 0..random.below(40) {
        text.push_str(TOKENS[random.below(TOKENS.len())]);
        if random.below(3) > 0 {
            text.push(' ');
        }
    }
    text.into_bytes()
}

#[test]
fn every_text_is_answered() {
    let mut random = Random(0x0005_eed0_f7e1_3905);
    let limits = Limits { time: Duration::from_millis(20), memory_bytes: 8 << 20, ..Limits::default() };
    let known = common::known();
    let folder = std::env::temp_dir().join(format!("tempos-lua-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("fuzz.lua");
    let (mut good, mut bad) = (0, 0);
    let inputs = std::env::var("TEMPOS_FUZZ_INPUTS").ok().and_then(|n| n.parse().ok()).unwrap_or(24_000);
    for round in 0..inputs {
        let bytes = if round % 2 == 0 { mutated(&mut random) } else { soup(&mut random) };
        // Texts are UTF-8 by their type; what is not goes through a file now and then.
        let source = match String::from_utf8(bytes) {
            Ok(lua) => Source::Text { chunk_name: "fuzz".into(), lua },
            Err(error) if round % 16 == 0 => {
                std::fs::write(&file, error.as_bytes()).expect("a file");
                Source::Paths(vec![file.clone()])
            }
            Err(error) => {
                let lua = String::from_utf8_lossy(error.as_bytes()).into_owned();
                Source::Text { chunk_name: "fuzz".into(), lua }
            }
        };
        match evaluate(&source, &known, &limits) {
            Ok(_) => good += 1,
            Err(mistakes) => {
                bad += 1;
                assert!(!mistakes.is_empty(), "round {round}: {source:?}");
                for mistake in mistakes {
                    let sentence = &mistake.sentence;
                    let one_line = !sentence.contains(|c: char| c.is_control());
                    assert!(
                        !sentence.trim().is_empty() && one_line,
                        "round {round}: {mistake:?}\n{source:?}"
                    );
                    assert!(!sentence.contains("fault of TEMPOS"), "round {round}: {source:?}");
                }
            }
        }
    }
    let _ = std::fs::remove_dir_all(&folder);
    assert!(good > inputs / 200 && bad > inputs / 3, "the texts are of both kinds: {good} good, {bad} bad");
    assert_eq!(abandoned(), 0);
}

#[test]
fn tight_memory_is_no_reason_to_fall() {
    let lua = "local t = {} for n = 1, 3000 do t[n] = tempos.topic('t' .. n) { qso = ('x'):rep(n), ingress = { tempos.udp { bind = 'b' .. n } } } end";
    for kib in (1..400).step_by(7) {
        let limits = Limits { memory_bytes: kib << 10, time: Duration::from_secs(10), ..Limits::default() };
        let mistakes = common::run_with(lua, &limits).expect_err("there is a mistake in it");
        assert!(!mistakes.is_empty());
    }
}
