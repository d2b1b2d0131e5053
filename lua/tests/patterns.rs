//! The pattern functions of the sandbox answer as those of the Lua library do.

mod common;

use mlua::Lua;
use tempos_control::Origin;
use tempos_lua::{Limits, Source, evaluate_logged};

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
        (self.next() % bound as u64) as usize
    }

    fn text(&mut self, pieces: &[&str], most: usize) -> String {
        (0..self.below(most + 1)).map(|_| pieces[self.below(pieces.len())]).collect()
    }
}

const SUBJECT: &[&str] = &["a", "b", "A", "1", " ", "-", "(", ")", "é", "\\0", ".", "]", "%%"];
const PATTERN: &[&str] = &[
    "a", "b", ".", "%a", "%d", "%s", "%W", "%%", "*", "+", "-", "?", "(", ")", "()", "^", "$", "[ab]",
    "[^a-c]", "[%a1]", "[]]", "[", "]", "%b()", "%f[%a]", "%1", "%", "é", "[a-]", "[%", "%f",
];
const REPLACEMENT: &[&str] = &["x", "%0", "%1", "%2", "%%", "%", "é"];

/// Runs each line of results through the library and through the sandbox.
fn compare(calls: &[String]) {
    // Errors are compared by their sentence, without place and argument numbering.
    let script = format!(
        "local function show(ok, ...)\n\
           local t = table.pack(...)\n\
           for i = 1, t.n do t[i] = math.type(t[i]) == 'integer' and '#' .. t[i] or tostring(t[i]) end\n\
           local line = tostring(ok) .. '|' .. table.concat(t, '|')\n\
           if not ok then line = line:gsub('^false|[^|]-:%d+: ', 'false|') end\n\
           print((line:gsub('[^\\32-\\126]', function(c) return ('\\\\x%02x'):format(c:byte()) end)))\n\
         end\n\
         local function all(...) local t = {{}} for a, b, c in ... do t[#t + 1] = tostring(a) .. ',' .. tostring(b) .. ',' .. tostring(c) if #t > 99 then break end end return table.concat(t, ';') end\n\
         {}",
        calls.join("\n")
    );
    let library = Lua::new();
    let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = lines.clone();
    let print = library.create_function(move |_, line: String| {
        sink.lock().expect("the lock").push(line);
        Ok(())
    });
    library.globals().set("print", print.expect("a function")).expect("a global");
    library.load(&script).set_name("@wiring.lua").exec().expect("the library runs it");
    let expected = lines.lock().expect("the lock").clone();

    let source = Source::Text { chunk_name: "wiring.lua".into(), lua: script };
    let mut got = Vec::new();
    let limits = Limits { time: std::time::Duration::from_secs(60), ..Limits::default() };
    let log = |_: &Origin, line: &str| got.push(line.to_owned());
    evaluate_logged(&source, &common::known(), &limits, log).expect("the sandbox runs it");
    assert_eq!(got.len(), calls.len());
    for ((got, expected), call) in got.iter().zip(&expected).zip(calls) {
        // Stricter on purpose: the library lets "(" pass where `gsub` never asks for the capture.
        let stricter = got == "false|unfinished capture" && call.contains("gsub");
        assert!(stricter || got == expected, "{call}\n got {got}\nthen {expected}");
    }
}

#[test]
fn known_cases_agree() {
    let calls: Vec<String> = [
        "string.find('key = value', '(%w+)%s*=%s*(%w+)')",
        "string.find('a.b', '.', 2, true)",
        "string.find('abc', 'b', -1)",
        "string.find('abc', '', 4)",
        "string.find('abc', '', 5)",
        "string.find('', '')",
        "string.find(12345, 34)",
        "string.match('  trim  ', '^%s*(.-)%s*$')",
        "string.match('2026-11-23', '(%d+)-(%d+)-(%d+)')",
        "string.match('x', '()x()')",
        "string.gsub('hello world', 'o', '0', 1)",
        "string.gsub('hello world', '%w+', '%0 %0')",
        "string.gsub('abc', '', '-')",
        "string.gsub('abc', '^a', 'x')",
        "string.gsub('$name is $age', '%$(%w+)', { name = 'Ada', age = 36 })",
        "string.gsub('abc', '%w', function(c) if c == 'b' then return c:upper() end end)",
        "string.gsub('abc', 'b', function() return {} end)",
        "string.gsub('abc', '(b)()', '%2%1')",
        "string.gsub('abc', 'b', 'x', 0)",
        "string.find('THE (quick) fox', '%f[%a]%a+%f[%A]', 2)",
        "string.find('x', ('(x)'):rep(33))",
        "string.find(('a'):rep(300), ('a?'):rep(250) .. 'b')",
        "string.find('abc', '[a')",
        "string.find('abc', '%')",
        "string.find('abc', '(a')",
        "string.find('abc', 'a)')",
        "string.find('abc', '%1')",
        "string.find('abc', '%b')",
        "string.find('abc', '%f')",
    ]
    .iter()
    .map(|call| {
        let (function, arguments) = call.split_once('(').expect("a call");
        format!("show(pcall({function}, {}", arguments) + ")"
    })
    .collect();
    compare(&calls);
}

#[test]
fn twelve_thousand_random_patterns_agree() {
    let mut random = Random(0x7e3b_0a11);
    for _ in 0..15 {
        let calls: Vec<String> = (0..800)
            .map(|_| {
                let subject = random.text(SUBJECT, 10);
                let pattern = random.text(PATTERN, 6);
                let init = random.below(16) as i64 - 4;
                match random.below(5) {
                    0 => format!("show(pcall(string.find, '{subject}', '{pattern}', {init}))"),
                    1 => format!("show(pcall(string.match, '{subject}', '{pattern}', {init}))"),
                    2 => format!("show(pcall(function() return all(string.gmatch('{subject}', '{pattern}', {init})) end))"),
                    3 => {
                        let replacement = random.text(REPLACEMENT, 3);
                        format!("show(pcall(string.gsub, '{subject}', '{pattern}', '{replacement}'))")
                    }
                    _ => format!("show(pcall(string.gsub, '{subject}', '{pattern}', string.upper, {}))", random.below(4)),
                }
            })
            .collect();
        compare(&calls);
    }
}
