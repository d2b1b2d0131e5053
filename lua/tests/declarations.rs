//! What a correct script declares comes out as the commands it means, defaults and places included.

mod common;

use common::{good, levels, topics, workflows};
use tempos_control::level::{BEST_EFFORT, STRICT};
use tempos_control::{EventFormat, FullQueue, Pick, Scheduler, Value};

const PRESS: &str = r#"
tempos.qos "burst" { scheduler = "rr", priority = 40, queue = { policy = "edf", capacity = 4096, full = "drop-oldest", quantum = 3 } }

tempos.topic "press/vibration" {
  qos     = "strict",
  ingress = { tempos.udp { bind = "127.0.0.1:5501", peers = { "a", "b" } } },
  egress  = {
    tempos.group "operators" {
      tempos.unix { path = "/run/press.sock", format = "event" },
      tempos.unix { path = "/run/spare.sock", name = "spare", qos = "burst" },
      pick = "least-loaded",
    },
    tempos.channel("zenoh", { key = "press", depth = 1.5, reliable = true }),
  },
  deadline = "2ms", ttl = "1s", rank = 200, weight = 7,
}
tempos.topic "press/alarms" {}

tempos.workflow "detect" {
  from = "press/vibration", to = "press/alarms",
  call = { method = "dlf", file = "/opt/detect.so", warm = 2, deadline = "2ms", memory = "16MiB", keep = "open" },
}
"#;

#[test]
fn the_example_of_the_design_becomes_its_commands() {
    let commands = good(PRESS);
    let level = levels(&commands)[0];
    assert_eq!((level.name.as_str(), level.rank), ("burst", 100));
    assert_eq!(level.scheduler, Scheduler::RoundRobin { priority: 40 });
    assert_eq!(level.function_priority, None);
    assert_eq!((level.queue.policy.as_str(), level.queue.full), ("edf", FullQueue::DropOldest));
    assert_eq!(level.queue.options, [("quantum".to_string(), Value::Integer(3))]);

    let topics = topics(&commands);
    let vibration = topics[0];
    assert_eq!((vibration.qos.as_str(), vibration.rank, vibration.weight), (STRICT, 200, 7));
    assert_eq!((vibration.deadline_ns, vibration.time_to_live_ns), (Some(2_000_000), Some(1_000_000_000)));
    let ingress = &vibration.ingress[0];
    assert_eq!((ingress.name.as_str(), ingress.adapter.as_str()), ("press/vibration/in/1", "udp"));
    let peers = Value::List(vec!["a".into(), "b".into()]);
    assert_eq!(
        ingress.options,
        [("bind".to_string(), "127.0.0.1:5501".into()), ("peers".to_string(), peers)]
    );
    let [operators, second] = &vibration.egress[..] else { panic!("two groups") };
    assert_eq!((operators.name.as_str(), operators.pick), ("operators", Pick::LeastLoaded));
    assert_eq!(operators.members[0].name, "press/vibration/operators/1");
    assert_eq!(operators.members[0].format, EventFormat::Event);
    assert_eq!(
        (operators.members[1].name.as_str(), operators.members[1].qos.as_deref()),
        ("spare", Some("burst"))
    );
    assert_eq!((second.name.as_str(), second.members[0].name.as_str()), ("2", "press/vibration/2/1"));
    assert_eq!(second.members[0].options[0], ("depth".to_string(), Value::Number(1.5)));
    assert_eq!(topics[1].qos, BEST_EFFORT);

    let workflow = workflows(&commands)[0];
    assert_eq!((workflow.from.as_str(), workflow.to.as_deref()), ("press/vibration", Some("press/alarms")));
    assert_eq!((workflow.call.method.as_str(), workflow.call.file.as_str()), ("dlf", "/opt/detect.so"));
    assert_eq!((workflow.call.warm, workflow.call.memory_bytes), (2, Some(16 << 20)));
    assert_eq!(workflow.call.options, [("keep".to_string(), "open".into())]);
}

#[test]
fn a_workflow_says_where_to_how_often_and_with_what_else() {
    let commands = good(
        r#"
        tempos.topic "raw" {}
        tempos.topic "alarms" {}
        tempos.topic "rest" {}
        tempos.workflow "w" { from = "raw", to = { alarm = "alarms", default = "rest" },
          call = { method = "dlf", file = "/f.so", warm = 0, warm_max = 8, idle = "2s", recycle = 1000,
            retry = { times = 3, backoff = "5ms", codes = { 7, 255 }, outcomes = { "killed" } },
            canary = { file = "/g.so", share = 25 } } }
        tempos.workflow "v" { from = "raw", call = { method = "dlf", file = "/f.so", retry = {}, canary = { file = "/g.so" } } }
        "#,
    );
    let workflows = workflows(&commands);
    let (first, second) = (workflows[0], workflows[1]);
    assert_eq!(first.to.as_deref(), Some("rest"));
    assert_eq!(first.branches, [("alarm".into(), "alarms".into()), ("default".into(), "rest".into())]);
    let call = &first.call;
    assert_eq!(
        (call.warm, call.warm_max, call.idle_ns, call.recycle_after),
        (0, Some(8), Some(2_000_000_000), Some(1000))
    );
    let retry = call.retry.as_ref().expect("a retry");
    assert_eq!((retry.times, retry.backoff_ns, &retry.codes[..]), (3, 5_000_000, &[7, 255][..]));
    assert_eq!(retry.outcomes, ["killed"]);
    let canary = call.canary.as_ref().expect("a canary");
    assert_eq!((canary.file.as_str(), canary.share_percent), ("/g.so", 25));
    let retry = second.call.retry.as_ref().expect("a retry");
    assert_eq!((retry.times, retry.backoff_ns), (1, 10_000_000));
    assert_eq!(retry.outcomes, ["failed", "crashed", "not-started"]);
    assert_eq!(second.call.canary.as_ref().map(|canary| canary.share_percent), Some(10));
    assert_eq!(second.branches, []);
}

#[test]
fn every_spec_knows_its_line() {
    let commands = good(PRESS);
    assert_eq!(levels(&commands)[0].origin.to_string(), "wiring.lua:2");
    let vibration = topics(&commands)[0];
    assert_eq!(vibration.origin.line, 4);
    assert_eq!(vibration.ingress[0].origin.line, 6);
    assert_eq!(vibration.egress[0].origin.line, 8);
    assert_eq!(vibration.egress[0].members[1].origin.line, 10);
    assert_eq!(workflows(&commands)[0].origin.line, 19);
}

#[test]
fn the_presets_are_the_base_of_their_own_declarations() {
    let commands = good(
        r#"
        tempos.qos "strict" { priority = 60 }
        tempos.qos "best-effort" { nice = 5, network = { dscp = 8 } }
        tempos.qos "bulk" { scheduler = "deadline", runtime = "1ms", deadline = "5ms", period = "10ms", cpus = { 1 } }
        "#,
    );
    let levels = levels(&commands);
    assert_eq!((levels[0].rank, levels[0].batch, levels[0].function_priority), (200, 1, None));
    assert_eq!(levels[0].scheduler, Scheduler::Fifo { priority: 60 });
    assert_eq!(levels[0].queue.full, FullQueue::DropNew);
    assert_eq!((levels[1].rank, levels[1].network.dscp), (50, Some(8)));
    assert_eq!(levels[1].scheduler, Scheduler::Other { nice: 5 });
    assert_eq!(
        levels[2].scheduler,
        Scheduler::Deadline { runtime_ns: 1_000_000, deadline_ns: 5_000_000, period_ns: 10_000_000 }
    );
    assert_eq!(levels[2].cpus, [1]);
    let kept = good(r#"tempos.qos "strict" { scheduler = "rr" }"#);
    let kept = common::levels(&kept)[0];
    assert_eq!(
        (&kept.scheduler, kept.function_priority),
        (&Scheduler::RoundRobin { priority: 45 }, Some(40))
    );
}

#[test]
fn a_script_may_build_its_wiring_with_the_whole_of_lua() {
    let commands = good(
        r#"
        local tempos = require "tempos"
        local function sensor(n, port)
          tempos.topic(("sensor/%02d"):format(n)) { ingress = { tempos.udp { bind = "[::1]:" .. port } } }
        end
        for n = 1, 3 do sensor(n, 6000 + n) end
        tempos.topic("both", { rank = 45.0 })
        "#,
    );
    let topics = topics(&commands);
    assert_eq!(topics.len(), 4);
    assert_eq!(topics[2].name, "sensor/03");
    assert_eq!(topics[2].ingress[0].options, [("bind".to_string(), "[::1]:6003".into())]);
    assert_eq!((topics[3].name.as_str(), topics[3].rank), ("both", 45));
}

#[test]
fn ten_thousand_topics_fit_into_the_default_limits() {
    let commands = good(
        r#"
        for n = 1, 10000 do
          tempos.topic("t/" .. n) {
            ingress = { tempos.udp { bind = "127.0.0.1:" .. n } },
            egress = { tempos.group "g" { tempos.unix { path = "/run/" .. n } } },
          }
        end
        "#,
    );
    assert_eq!(commands.len(), 10_000);
}

#[test]
fn an_empty_text_declares_nothing() {
    assert_eq!(good(""), []);
    assert_eq!(good("\u{feff}#!/usr/bin/lua\n-- nothing\n"), []);
}

#[test]
fn the_same_script_is_the_same_wiring_each_time() {
    let lua = "tempos.qos 'mid' { rank = 9, queue = { policy = 'drr', quantum = 1, other = 2, third = 3 } }\n\
               tempos.topic 'a' { rules = { { match = { a = 'x', b = 'y', c = 'z', d = 'u', e = 'v', f = 'w' },\n\
               qos = 'strict' } }, ingress = { tempos.udp { bind = 'x', a = 1, b = 2, c = 3, d = 4 } } }\n\
               tempos.workflow 'w' { from = 'a', to = { x = 'a', y = 'a', z = 'a' },\n\
               call = { method = 'wasm', file = '/w.wasm', a = 1, b = 2, c = 3 } }";
    let first = good(lua);
    // Each run has tables with another seed.
    for _ in 0..20 {
        assert_eq!(good(lua), first);
    }
}
