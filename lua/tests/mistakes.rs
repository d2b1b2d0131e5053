//! Each mistake has its sentence and its line, and all of a run come at once.

mod common;

use common::bad;

/// One text, one sentence, letter by letter.
#[track_caller]
fn one(lua: &str, sentence: &str) {
    assert_eq!(bad(lua), [sentence], "\n{lua}");
}

#[test]
fn keys_and_values_are_checked() {
    one(
        "\n\ntempos.topic \"a\" { qso = 'strict' }",
        r#"wiring.lua:3: topic "a": unknown key "qso" (did you mean "qos"?)"#,
    );
    one(
        "tempos.topic 'a' { egress = { tempos.group 'g' { colour = 1 } } }",
        r#"wiring.lua:1: group "g": unknown key "colour"; known: pick, stall"#,
    );
    one(
        "tempos.topic 'a' { rank = 300 }",
        r#"wiring.lua:1: topic "a": rank is 300, it must be a whole number from 0 to 255"#,
    );
    one(
        "tempos.topic 'a' { rank = 1.5 }",
        r#"wiring.lua:1: topic "a": rank is 1.5, it must be a whole number from 0 to 255"#,
    );
    one("tempos.topic 'a' { qos = 5 }", r#"wiring.lua:1: topic "a": qos is 5, it must be a text"#);
    one(
        "tempos.topic 'a' { deadline = 5 }",
        r#"wiring.lua:1: topic "a": deadline is 5, it must be a duration with its unit, such as "2ms""#,
    );
    one(
        "tempos.topic 'a' { ttl = '5 parsecs' }",
        r#"wiring.lua:1: topic "a": ttl: "5 parsecs" is not a duration with its unit, such as "250us", "2ms" or "1s""#,
    );
    one("tempos.topic 'a' { ttl = '0ms' }", r#"wiring.lua:1: topic "a": ttl is zero, it must be more"#);
    one(
        "tempos.topic 'a' { 'strict' }",
        r#"wiring.lua:1: topic "a": entry 1 ("strict") has no key; write KEY = VALUE"#,
    );
    one("tempos.topic 'a' { [true] = 1 }", r#"wiring.lua:1: topic "a": true is not a key; keys are texts"#);
    one(
        "tempos.qos 'a' { queue = { full = 'drop-odlest' } }",
        r#"wiring.lua:1: qos "a": queue: full is "drop-odlest", it must be one of block, drop-oldest, drop-new (did you mean "drop-oldest"?)"#,
    );
    one("tempos.qos 'a' { queue = 7 }", r#"wiring.lua:1: qos "a": queue is 7, it must be a table { … }"#);
    one(
        "tempos.qos 'a' { force = 'yes' }",
        r#"wiring.lua:1: qos "a": force is "yes", it must be true or false"#,
    );
    one(
        "tempos.qos 'a' { cpus = { 0, 'x' } }",
        r#"wiring.lua:1: qos "a": cpus is { "x", 0 }, it must be a list of whole numbers, such as { 0, 1 }"#,
    );
    one(
        "tempos.topic 'a' { qos = 'st\\xffct' }",
        "wiring.lua:1: topic \"a\": qos is \"st\u{fffd}ct\", it must be a text in UTF-8",
    );
    one(
        "tempos.topic 'a' (setmetatable({}, { __index = { qos = 'strict' } }))",
        r#"wiring.lua:1: topic "a": its table has a metatable; only a plain table can be read"#,
    );
    one("tempos.topic 'a' (nil)", r#"wiring.lua:1: topic "a": it takes a table { … }, not nil"#);
}

#[test]
fn channels_and_groups_are_checked() {
    one(
        "tempos.topic 'a' { ingress = tempos.udp { bind = 'x' } }",
        r#"wiring.lua:1: topic "a": ingress is a channel or group, it must be a list of channels, such as { tempos.udp { … } }"#,
    );
    one(
        "tempos.topic 'a' { ingress = { tempos.udp { }, undeclared, tempos.udp { } } }",
        r#"wiring.lua:1: topic "a": ingress: entry 2 is nil, it must be a channel or a group"#,
    );
    one(
        "tempos.topic 'a' { ingress = { 'udp' } }",
        r#"wiring.lua:1: topic "a": ingress: entry 1 is "udp", it must be a channel or a group"#,
    );
    one(
        "tempos.topic 'a' { ingress = { tempos.group 'g' { } } }",
        r#"wiring.lua:1: topic "a": ingress holds the group "g", it must hold channels"#,
    );
    one(
        "tempos.topic 'a' { egress = { tempos.group 'g' { tempos.group 'h' { } } } }",
        r#"wiring.lua:1: group "g": a member is a group, it must be a channel"#,
    );
    one(
        "tempos.topic 'a' { ingress = { udp = 1 } }",
        r#"wiring.lua:1: topic "a": ingress: it is a list, the key "udp" does not belong there"#,
    );
    one(
        "tempos.topic 'a' { ingress = { tempos.udp { format = 'evnt' } } }",
        r#"wiring.lua:1: udp channel: format is "evnt", it must be one of raw, event (did you mean "event"?)"#,
    );
    one(
        "tempos.topic 'a' { ingress = { tempos.udp { peers = { 1, 'b' } } } }",
        r#"wiring.lua:1: udp channel: peers is { "b", 1 }, its entries must be of one kind"#,
    );
    one(
        "tempos.topic 'a' { ingress = { tempos.udp { size = 0/0 } } }",
        "wiring.lua:1: udp channel: size is NaN, it must be a text, a finite number, true or false, or a list of them",
    );
    one(
        "tempos.topic 'a' { ingress = { tempos.udp { peer = tempos.udp {} } } }",
        "wiring.lua:1: udp channel: peer is a channel or group, it must be a text, a finite number, true or false, or a list of them",
    );
    one(
        "tempos.topic 'a' { ingress = {\n tempos.upd { } } }",
        r#"wiring.lua:2: tempos.upd is neither a constructor nor an adapter that is loaded (did you mean "udp"?)"#,
    );
    one(
        "tempos.topik 'a' { }",
        r#"wiring.lua:1: tempos.topik is neither a constructor nor an adapter that is loaded (did you mean "topic"?)"#,
    );
}

#[test]
fn nothing_declared_is_left_out_in_silence() {
    one(
        "\ntempos.udp { bind = 'x' }",
        "wiring.lua:2: udp channel was built but is not used; put it into a topic's ingress or egress, or into a group",
    );
    one(
        "tempos.group 'g' { tempos.udp { bind = 'x' } }",
        r#"wiring.lua:1: group "g" was built but is not used; put it into a topic's egress"#,
    );
    one("\ntempos.topic 'a'", r#"wiring.lua:2: topic "a" has no table; write tempos.topic "a" { … }"#);
    one("local t = tempos.topic 'a'\nt {}\nt {}", r#"wiring.lua:1: topic "a": it was given a second table"#);
    one(
        "local c = tempos.udp {}\ntempos.topic 'a' { ingress = { c } }\ntempos.topic 'b' { ingress = { c } }",
        "wiring.lua:1: udp channel is used twice, at wiring.lua:2 and at wiring.lua:3",
    );
    one(
        "local g = tempos.group 'g' {}\ntempos.topic 'a' { egress = { g } }\ntempos.topic 'b' { egress = { g } }",
        r#"wiring.lua:1: group "g" is used twice, at wiring.lua:2 and at wiring.lua:3"#,
    );
}

#[test]
fn nothing_is_declared_twice() {
    one(
        "tempos.topic 'a' {}\n\ntempos.topic 'a' {}",
        r#"wiring.lua:3: topic "a" is declared twice, first at wiring.lua:1"#,
    );
    one(
        "tempos.qos 'a' {}\ntempos.qos 'a' {}",
        r#"wiring.lua:2: qos "a" is declared twice, first at wiring.lua:1"#,
    );
    one(
        "tempos.topic 'a' { egress = { tempos.group 'g' {},\n tempos.group 'g' {} } }",
        r#"wiring.lua:2: topic "a": group "g" is declared twice, first at wiring.lua:1"#,
    );
    one(
        "tempos.topic 'a' { ingress = { tempos.udp { name = 'c' } },\n egress = { tempos.unix { name = 'c' } } }",
        r#"wiring.lua:2: channel "c" is declared twice, first at wiring.lua:1"#,
    );
    one(
        "tempos.topic 'a' { ingress = { tempos.udp { } } }\ntempos.topic 'b' { ingress = { tempos.udp { name = 'a/in/1' } } }",
        r#"wiring.lua:2: channel "a/in/1" is declared twice, first at wiring.lua:1"#,
    );
}

#[test]
fn references_lead_somewhere() {
    one(
        "tempos.qos 'burst' {}\ntempos.topic 'a' { qos = 'brust' }",
        r#"wiring.lua:2: topic "a": qos names the unknown level "brust" (did you mean "burst"?)"#,
    );
    one(
        "tempos.topic 'a' { ingress = { tempos.udp { qos = 'gold' } } }",
        r#"wiring.lua:1: udp channel: qos names the unknown level "gold"; known: best-effort, strict"#,
    );
    let from = "tempos.topic 'press' {}\ntempos.workflow 'w' { from = 'perss', call = { method = 'dlf', file = '/f' } }";
    one(from, r#"wiring.lua:2: workflow "w": from names the unknown topic "perss" (did you mean "press"?)"#);
    let to = "tempos.topic 'press' {}\ntempos.workflow 'w' { from = 'press', to = 'x', call = { method = 'dlf', file = '/f' } }";
    one(to, r#"wiring.lua:2: workflow "w": to names the unknown topic "x"; known: press"#);
}

#[test]
fn workflows_need_a_function() {
    one(
        "tempos.topic 'a' {}\ntempos.workflow 'w' { from = 'a' }",
        r#"wiring.lua:2: workflow "w": key "call" is missing (the function)"#,
    );
    one(
        "tempos.topic 'a' {}\ntempos.workflow 'w' { call = { method = 'dlf', file = '/f' } }",
        r#"wiring.lua:2: workflow "w": key "from" is missing (the topic whose events it works on)"#,
    );
    one(
        "tempos.topic 'a' {}\ntempos.workflow 'w' { from = 'a', call = { method = 'dlf' } }",
        r#"wiring.lua:2: workflow "w": call: key "file" is missing (the function's file; relative to the script)"#,
    );
    one(
        "tempos.topic 'a' {}\ntempos.workflow 'w' { from = 'a', call = { method = 'dlf', file = 'f.so' } }",
        r#"wiring.lua:2: workflow "w": call: file "f.so" is relative, and this text has no folder; give its full path"#,
    );
    one(
        "tempos.topic 'a' {}\ntempos.workflow 'w' { from = 'a', call = { method = 'dlf', file = '/f', output_max = '5GiB' } }",
        r#"wiring.lua:2: workflow "w": call: output_max must be less than 4GiB"#,
    );
}

#[test]
fn calls_branches_retries_and_canaries_are_checked() {
    let call = |keys: &str| {
        format!(
            "tempos.topic 'a' {{}}\ntempos.workflow 'w' {{ from = 'a', call = {{ method = 'dlf', file = '/f', {keys} }} }}"
        )
    };
    let to = |to: &str| {
        format!(
            "tempos.topic 'a' {{}}\ntempos.workflow 'w' {{ from = 'a', to = {to}, call = {{ method = 'dlf', file = '/f' }} }}"
        )
    };
    for (lua, said) in [
        (
            call("warm = 3, warm_max = 2"),
            "call: warm_max is 2 and warm is 3: the most cannot be less than what is kept ready",
        ),
        (call("recycle = 0"), "call: recycle is 0, it must be a whole number from 1 to 4294967295"),
        (call("idle = 5"), "call: idle is 5, it must be a duration with its unit, such as \"2ms\""),
        (call("retry = { times = 17 }"), "call: retry: times is 17, it must be a whole number from 1 to 16"),
        (call("retry = { backoff = '2min' }"), "call: retry: backoff is longer than 1min"),
        (call("retry = { codes = { 0 } }"), "call: retry: codes holds 0, it must be 1 to 255"),
        (
            call("retry = { outcomes = { 'crahsed' } }"),
            "call: retry: outcomes: entry 1 is \"crahsed\", it must be one of failed, killed, crashed, over-memory, \
             bad-output, output-too-large, not-started (did you mean \"crashed\"?)",
        ),
        (
            call("inline = true, retry = {}"),
            "call: retry needs a function worker, and inline runs on the queue worker; leave one of them out",
        ),
        (
            call("canary = { share = 5 }"),
            "call: canary: key \"file\" is missing (its file; relative to the script)",
        ),
        (
            call("canary = { file = '/g', share = 101 }"),
            "call: canary: share is 101, it must be a whole number from 0 to 100",
        ),
        (to("{}"), "to must be a topic, or { BRANCH = TOPIC } with texts on both sides"),
        (to("{ 'a' }"), "to must be a topic, or { BRANCH = TOPIC } with texts on both sides"),
        (to("5"), "to is 5, it must be a topic, or a table { BRANCH = TOPIC }"),
        (to("{ x = 'b' }"), "to.x names the unknown topic \"b\" (did you mean \"a\"?)"),
        (to("{ ['x/'] = 'a' }"), "to: branch \"x/\": a name may not begin or end with white space or \"/\""),
    ] {
        one(&lua, &format!("wiring.lua:2: workflow \"w\": {said}"));
    }
}

#[test]
fn scheduler_keys_go_together() {
    let level = |keys: &str| format!("tempos.qos 'a' {{ {keys} }}");
    one(
        &level("priority = 5"),
        r#"wiring.lua:1: qos "a": priority goes with scheduler "rr" or "fifo" only, here it is "other""#,
    );
    one(
        &level("scheduler = 'fifo'"),
        r#"wiring.lua:1: qos "a": scheduler "fifo" needs a priority of 1 to 98"#,
    );
    one(
        &level("scheduler = 'rr', priority = 99"),
        r#"wiring.lua:1: qos "a": priority 99 belongs to the kernel's watchdogs; use 1 to 98, or set force = true"#,
    );
    assert!(common::run(&level("scheduler = 'rr', priority = 99, force = true")).is_ok());
    one(
        &level("scheduler = 'rr', priority = 20, function_priority = 30"),
        r#"wiring.lua:1: qos "a": function_priority is 30, it must be at most the queue worker's 20"#,
    );
    one(
        &level("scheduler = 'rr', priority = 20, nice = 3"),
        r#"wiring.lua:1: qos "a": nice goes with scheduler "other" only, here it is "rr""#,
    );
    one(
        &level("scheduler = 'deadline', runtime = '1ms'"),
        r#"wiring.lua:1: qos "a": scheduler "deadline" needs runtime, deadline and period"#,
    );
    one(
        &level("scheduler = 'deadline', runtime = '5ms', deadline = '2ms', period = '10ms'"),
        r#"wiring.lua:1: qos "a": scheduler "deadline" needs runtime <= deadline <= period"#,
    );
    one(
        &level("scheduler = 'deadline', runtime = '1us', deadline = '2ms', period = '10ms'"),
        r#"wiring.lua:1: qos "a": runtime is 1000 ns, the kernel takes 1024 ns or more"#,
    );
    one(&level("cpus = { 1, 1 }"), r#"wiring.lua:1: qos "a": cpus names CPU 1 twice"#);
    one(&level("cpus = { -1 }"), r#"wiring.lua:1: qos "a": cpus holds -1, a CPU is a number from 0 to 1023"#);
    one(
        &level("event_max = '8MiB'"),
        r#"wiring.lua:1: qos "a": event_max is 8388608 bytes, it must fit into the 4194304 bytes of its queue"#,
    );
    one(
        "for n = 1, 15 do\n tempos.qos('q' .. n) {}\nend",
        r#"wiring.lua:2: qos "q15": a node has at most 16 levels, strict and best-effort included"#,
    );
}

#[test]
fn names_are_checked() {
    one("tempos.topic '' {}", "wiring.lua:1: a topic needs a name of 1 to 255 bytes, this one is empty");
    one(
        "tempos.topic 'a/' {}",
        r#"wiring.lua:1: topic "a/": a name may not begin or end with white space or "/""#,
    );
    one(
        "tempos.topic(('x'):rep(256)) {}",
        "wiring.lua:1: the topic name has 256 bytes; at most 255 are allowed",
    );
    one(
        "tempos.topic {}",
        "wiring.lua:1: a topic begins with its name, not {}; write tempos.topic \"NAME\" { … }",
    );
    one("tempos.topic 'a\\nb' {}", r#"wiring.lua:1: topic "a\nb": a name may not hold control characters"#);
    assert!(common::run("tempos.topic(('x'):rep(255)) {}").is_ok());
}

#[test]
fn what_lua_refuses_is_one_sentence_with_its_line() {
    one("\ntempos.topic 'a' { rank = 1", "wiring.lua:2: '}' expected near <eof>");
    one("local x = = 1", "wiring.lua:1: unexpected symbol near '='");
    one("\n\nlocal x = nil + 1", "wiring.lua:3: attempt to perform arithmetic on a nil value");
    one(
        "temops.topic 'a' {}",
        "wiring.lua:1: attempt to index a nil value (global 'temops') (did you mean \"tempos\"?)",
    );
    one("error('the press is missing')", "wiring.lua:1: the press is missing");
    one("error('no place', 0)", "wiring.lua:1: no place");
    one("\nerror({ code = 3, 'x' })", "wiring.lua:2: it raised { \"x\", code = 3 }");
    one("error()", "wiring.lua:1: it raised nil");
    one("error('one\\ntwo')", "wiring.lua:1: one\\ntwo");
    one("local function f() error('deep') end\nf()", "wiring.lua:1: deep");
    one("assert(tempos.env('TEMPOS_IS_NOT_SET'), 'set it')", "wiring.lua:1: set it");
    one("\nxpcall(error)", "wiring.lua:2: attempt to call a nil value (local 'handler')");
    one("\ntable.insert(nil, 1)", "wiring.lua:2: bad argument #1 to 'insert' (table expected, got nil)");
    one("\nlocal s = ('x'):rep({})", "wiring.lua:2: bad argument #2 to 'rep' (number expected, got table)");
    one("\nlocal s = ('x'):find('[')", "wiring.lua:2: malformed pattern (missing ']')");
    one("tempos.x = 1", "wiring.lua:1: the module tempos cannot be changed");
    one(
        "local u = tempos.udp {}\nprint(u.bind)",
        "wiring.lua:2: attempt to index a userdata value (local 'u')",
    );
}

#[test]
fn all_mistakes_of_a_run_come_at_once() {
    let sentences = bad(r#"
        tempos.qos "burst" { scheduler = "rr", priority = 140, bach = 1 }
        tempos.topic "a" { qos = "brust", rank = "high" }
        tempos.upd { }
        tempos.topic { ingress = { tempos.udp { } } }
        tempos.topic "a" { ttl = "1" }
        tempos.workflow "w" { from = "b", call = { method = 3 } }
        "#);
    let lines: Vec<&str> = sentences.iter().filter_map(|s| s.split(": ").next()).collect();
    let expected =
        ["2", "2", "3", "3", "4", "5", "6", "6", "7", "7", "7"].map(|line| format!("wiring.lua:{line}"));
    assert_eq!(lines, expected, "{}", sentences.join("\n"));
}

#[test]
fn a_script_that_stops_half_way_still_tells_what_was_wrong_before() {
    let sentences = bad("tempos.topic 'a' { qso = 1 }\nlocal c = tempos.udp {}\nnothing()\n");
    assert_eq!(
        sentences,
        [
            r#"wiring.lua:1: topic "a": unknown key "qso" (did you mean "qos"?)"#,
            "wiring.lua:3: attempt to call a nil value (global 'nothing')",
        ]
    );
}

#[test]
fn the_number_of_sentences_is_bounded() {
    let sentences = bad("for n = 1, 1000 do tempos.topic('t' .. n) { qso = 1 } end");
    assert_eq!(sentences.len(), 101);
    assert_eq!(sentences[100], "wiring.lua: and 900 more mistakes");
}
