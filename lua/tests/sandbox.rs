//! Whatever a script does, it ends, it reaches nothing outside, and the next one runs as if it had not been.

mod common;

use common::{bad, good, run, run_with};
use tempos_lua::Limits;

const CIRCLES: &str = "stopped: the script ran for 100 ms without declaring anything";

/// The script is stopped, and a good one still runs after it.
#[track_caller]
fn stops(lua: &str, sentence: &str) {
    let sentences = bad(lua);
    assert!(sentences.len() == 1 && sentences[0].ends_with(sentence), "{sentences:?}\n{lua}");
    assert_eq!(good("tempos.topic 'after' {}").len(), 1);
}

#[test]
fn loops_end_whatever_surrounds_them() {
    for lua in [
        "while true do end",
        "repeat until false",
        "::again:: goto again",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "xpcall(error, function() while true do end end)",
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
        "while true do local c = coroutine.wrap(function() coroutine.yield() end); c(); c() end",
        "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end})\nwhile true do pcall(function() return t[1] end) end",
        "local t = setmetatable({}, {__eq = function() while true do end end})\nreturn t == setmetatable({}, getmetatable(t))",
        "local t = setmetatable({}, {__close = function() while true do end end})\nlocal c <close> = t\nwhile true do end",
        "local function close() local c <close> = setmetatable({}, {__close = close}); while true do end end close()",
        "local t = setmetatable({}, {__concat = function() while true do end end})\nreturn t .. t",
        "for _ in function() return 1 end do end",
        "for _ in pairs(setmetatable({}, {__pairs = function() return function() return 1 end end})) do end",
        "table.sort({3, 2, 1, 5, 4}, function() while true do end end)",
        "('x'):gsub('x', function() while true do end end)",
        "while true do pcall(string.rep, 'x', 1e6) end",
        "while true do pcall(error) end",
        "local co co = coroutine.wrap(function() while true do pcall(co) end end) co()",
        "local t = coroutine.create(function() local c <close> = setmetatable({}, {__close = function() while true do end end}); coroutine.yield() end)\ncoroutine.resume(t)\nwhile true do coroutine.close(t) end",
        "tostring(setmetatable({}, {__tostring = function() while true do end end}))",
        "print(setmetatable({}, {__tostring = function() while true do end end}))",
        "local s = {} for i = 1, 400 do s[i] = 'a' end return table.concat(s):find('.-.-.-.-.-b')",
        "while true do pcall(string.find, ('a'):rep(400), '.-.-.-.-.-b') end",
        "return ('a'):rep(400):gsub(('.-'):rep(20) .. 'b', '')",
        "for _ in ('a'):rep(400):gmatch(('a-'):rep(20) .. 'b') do end",
        "return ('a'):rep(400):match(('a*'):rep(20) .. 'b')",
    ] {
        stops(lua, CIRCLES);
    }
}

#[test]
fn a_loop_is_stopped_at_its_line() {
    assert_eq!(bad("local n = 0\n\nwhile true do n = n + 1 end"), [format!("wiring.lua:3: {CIRCLES}")]);
    assert_eq!(
        bad("local function spin()\n while true do end\nend\npcall(spin)"),
        [format!("wiring.lua:2: {CIRCLES}")]
    );
}

#[test]
fn declaring_without_end_is_bounded_too() {
    let limits = Limits { declarations: 1000, ..Limits::default() };
    let sentences = run_with("local n = 0 while true do n = n + 1 tempos.topic('t' .. n) {} end", &limits);
    assert_eq!(sentences, Err(vec!["wiring.lua:1: the wiring has more than 1000 declarations".into()]));
    let caught =
        run_with("local n = 0 while true do n = n + 1 pcall(tempos.topic, 't' .. n, {}) end", &limits);
    let full = "wiring.lua:1: the wiring has more than 1000 declarations".into();
    assert_eq!(
        caught,
        Err(vec![format!("wiring.lua:1: {CIRCLES}"), full]),
        "it is told though it was caught"
    );
    let limits = Limits { total: std::time::Duration::from_millis(300), ..Limits::default() };
    let lua = "while true do local t = tempos.channel('x', {}) end";
    let sentences = run_with(lua, &limits).expect_err("it must be stopped");
    assert!(sentences[0].ends_with("stopped: the scripts together have used their 300 ms"), "{sentences:?}");
}

#[test]
fn memory_is_bounded() {
    let most = "the script needs more than 64 MiB of memory";
    for lua in [
        "return ('x'):rep(1e9)",
        "local t = {} for n = 1, 1e9 do t[n] = n end",
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t = { t, ('x'):rep(1e5) } end",
        "local s = ('x'):rep(1e6) return (s:gsub('x', s))",
        "local t = {} for n = 1, 1e4 do t[n] = ('x'):rep(1e5) .. n end return table.concat(t)",
        "local t = {} for n = 1, 1e9 do t[n] = coroutine.create(print) end",
    ] {
        let sentences = bad(lua);
        // A slow machine reaches the bound of time before that of memory.
        let ended = sentences[0].ends_with(most) || sentences[0].ends_with(CIRCLES);
        assert!(sentences.len() == 1 && ended, "{sentences:?}\n{lua}");
        assert_eq!(good("tempos.topic 'after' {}").len(), 1);
    }
    stops("return ('x'):rep(1e9)", most);
    stops("return ('x'):rep(1 << 40)", most.get(..0).unwrap_or_default());
}

#[test]
fn memory_of_what_was_declared_is_bounded() {
    let list = "local l = {} for n = 1, 4096 do l[n] = ('x'):rep(60000, '') end local o = {} for n = 1, 4000 do o['k' .. n] = l end\n";
    let shared = list.replace("('x'):rep(60000, '')", "s").replacen(
        "local l",
        "local s = ('x'):rep(60000) local l",
        1,
    );
    let numbers = list.replace("('x'):rep(60000, '')", "n");
    for lua in [
        format!("{shared}tempos.topic 'a' {{ ingress = {{ tempos.udp(o) }} }}"),
        format!("{numbers}tempos.topic 'a' {{ ingress = {{ tempos.udp(o) }} }}"),
        format!("{numbers}tempos.topic 'a' (o)"),
        format!("{numbers}for n = 1, 1e5 do tempos.qos('q' .. n) {{ cpus = l }} end"),
        format!("{shared}for n = 1, 1e5 do tempos.udp {{ path = s }} end"),
        "local t = tempos.udp {} for d = 1, 6 do local u = {} for n = 1, 4096 do u[n] = t end t = u end tempos.topic 'a' { t }".into(),
        "local t = tempos.udp {} local u = {} for n = 1, 4096 do u[n] = t end for n = 1, 1e5 do tempos.topic('t' .. n) { ingress = u } end".into(),
    ] {
        let sentences = bad(&lua);
        assert!(sentences.iter().all(|sentence| !sentence.contains("stuck")), "{sentences:?}\n{lua}");
    }
    // Read from the kernel's account of this process: everything above took a bounded piece of it.
    let status = std::fs::read_to_string("/proc/self/status").expect("the status");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the peak");
    let kib: usize = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 2 << 20, "{kib} KiB at the most");
}

#[test]
fn recursion_is_bounded() {
    for lua in [
        "local function f() return 1 + f() end f()",
        "local t = setmetatable({}, {}) getmetatable(t).__index = function(t, k) return t[k] end return t.x",
        "local function f() pcall(f) f() end f()",
        "local function f() return coroutine.wrap(f)() end f()",
        "local function f(s) return (s:gsub('.', f)) end f('x')",
        "local function f() table.sort({1, 2}, f) end f()",
        "local function f() return tostring(setmetatable({}, {__tostring = f})) end f()",
        "local t = {} t.t = t error(t)",
        "local t = {} for n = 1, 1e5 do t = { t } end error(t)",
        "local t = setmetatable({}, {}) getmetatable(t).__index = t return t.x.y",
    ] {
        let sentences = bad(lua);
        assert_eq!(sentences.len(), 1, "{sentences:?}\n{lua}");
        assert_eq!(good("tempos.topic 'after' {}").len(), 1);
    }
    stops(
        "local function f() table.sort({1, 2}, f) end f()",
        "the script calls itself too deeply (stack overflow)",
    );
    for deep in [
        format!("return {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("return {}{}", "{".repeat(100_000), "}".repeat(100_000)),
        format!("{}{}", "do ".repeat(100_000), "end ".repeat(100_000)),
        format!("return {}1", "-".repeat(3).replace("---", "- - -").repeat(50_000)),
        format!("return {}1", "not ".repeat(100_000)),
        format!("local x = {}1", "1 .. ".repeat(100_000)),
        format!("x = {}", "function() return ".repeat(10_000)),
    ] {
        assert_eq!(bad(&deep).len(), 1);
    }
}

#[test]
fn what_the_library_loops_over_is_bounded() {
    let huge = "local t = setmetatable({}, {__len = function() return math.maxinteger - 1 end})\n";
    for (lua, sentence) in [
        ("table.insert(t, 1, 1)", "table.insert takes no table with a __len of its own"),
        ("table.remove(t, 1)", "table.remove takes no table with a __len of its own"),
        ("table.sort(t, rawequal)", "table.sort takes no table with a __len of its own"),
        ("table.concat(t)", "table.concat takes no table with a __len of its own"),
        ("table.unpack(t)", "table.unpack takes no table with a __len of its own"),
        ("table.move({}, 1, 1e15, 2)", "table.move takes at most 1000000 entries"),
        ("table.unpack({}, 1, 1e8)", "table.unpack takes at most 1000000 entries"),
        ("table.concat({}, '', 1, 1e15)", "table.concat takes at most 1000000 entries"),
    ] {
        let sentences = bad(&format!("{huge}{lua}"));
        assert_eq!(sentences, [format!("wiring.lua:2: {sentence}")]);
    }
    assert_eq!(good("assert((''):rep(1 << 60) == '')"), []);
    assert_eq!(good("assert(not ('a'):rep(1e6):find(('a'):rep(5e5) .. 'b', 1, true))"), []);
}

#[test]
fn nothing_outside_can_be_reached() {
    for name in ["os", "io", "debug", "package", "load", "loadfile", "dofile", "collectgarbage"] {
        let sentence = format!("wiring.lua:1: a wiring script has no {name:?}: it can only declare");
        for lua in [format!("local x = {name}"), format!("local x = _G[{name:?}]")] {
            assert_eq!(bad(&lua).join("\n"), sentence);
        }
    }
    for lua in [
        "assert(string.dump == nil)",
        "assert(getmetatable('') == false and getmetatable(_G) == false and getmetatable(tempos) == false)",
        "assert(not pcall(setmetatable, _G, {}))",
        "assert(rawget(_G, 'os') == nil)",
        "local ok, e = pcall(setmetatable, {}, {__gc = function() end}) assert(not ok and e:find('__gc'), e)",
        "for _, name in ipairs { 'native', 'environment', 'loaded' } do assert(_G[name] == nil) end",
    ] {
        assert_eq!(good(lua), []);
    }
    stops("\u{1b}Lua binary", "the script is compiled Lua; only its text can be read");
}

#[test]
fn catching_errors_works_as_in_lua() {
    for lua in [
        "local ok, e = pcall(error, { code = 3 }) assert(not ok and e.code == 3)",
        "local ok, e = pcall(error, 'x', 0) assert(not ok and e == 'x')",
        "assert(select('#', pcall(function() return 1, nil, nil end)) == 4)",
        "local ok, e = xpcall(error, function(e) return e .. '!' end, 'x', 0) assert(not ok and e == 'x!')",
        "local ok, a, b = xpcall(function(...) return ... end, print, 1, 2) assert(ok and a == 1 and b == 2)",
        "local c = coroutine.wrap(function() pcall(coroutine.yield, 7) return 8 end) assert(c() == 7 and c() == 8)",
        "local c = coroutine.create(function() error('x') end) local ok, e = coroutine.resume(c) assert(not ok and e:find('x'))",
        "local ok, e = pcall(function() error('x') end) assert(e == 'wiring.lua:1: x', e)",
        "local ok, e = pcall(function() error('x', 2) end) assert(not ok)",
    ] {
        assert_eq!(run(lua), Ok(Vec::new()), "{lua}");
    }
}
