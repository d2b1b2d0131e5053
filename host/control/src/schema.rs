//! Every key that a wiring script may use: one table, from which the key check, the editor stubs and
//! the manual are made, so that they cannot drift apart.

mod kind;

pub use kind::{Constructor, Key, KeyKind};

use crate::Delivery;
use crate::workflow::RETRY_OUTCOMES;

const fn key(name: &'static str, kind: KeyKind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, required: false, default, help }
}

const fn required(name: &'static str, kind: KeyKind, help: &'static str) -> Key {
    Key { name, kind, required: true, default: "", help }
}

const REQUEST: Key = key(
    "request",
    KeyKind::Table("topic.request"),
    "",
    "What is asked for in figures; where qos is left out, the controller chooses the level.",
);
const ALLOW: Key =
    key("allow", KeyKind::Table("topic.allow"), "", "What the controller may choose for the request.");
const ON_UNMET: Key = key(
    "on_unmet",
    KeyKind::Word(&["refuse", "degrade"]),
    "\"refuse\"",
    "What happens where the request cannot be met: the wiring is refused, or the best is given and shown.",
);

/// All constructors.
pub const CONSTRUCTORS: &[Constructor] = &[
    Constructor {
        name: "qos",
        help: "Declares a QoS level: a lane with its own threads, queue and marks on the network.",
        open: false,
        keys: &[
            key(
                "rank",
                KeyKind::Integer { min: 0, max: 255 },
                "100",
                "A higher rank is served before a lower one (strict 200, best-effort 50).",
            ),
            key(
                "scheduler",
                KeyKind::Word(&["other", "rr", "fifo", "deadline"]),
                "\"other\"",
                "How the system schedules the lane's threads.",
            ),
            key(
                "priority",
                KeyKind::Integer { min: 1, max: 99 },
                "",
                "Real-time priority of the queue worker (rr, fifo).",
            ),
            key(
                "function_priority",
                KeyKind::Integer { min: 1, max: 99 },
                "",
                "Real-time priority of the function workers; one below the queue worker's.",
            ),
            key(
                "force",
                KeyKind::Flag,
                "false",
                "Allows priority 99, which belongs to the kernel's watchdogs.",
            ),
            key("nice", KeyKind::Integer { min: -20, max: 19 }, "0", "Nice value (other)."),
            key("runtime", KeyKind::Duration, "", "CPU time in each period (deadline)."),
            key("deadline", KeyKind::Duration, "", "Time within which the runtime is given (deadline)."),
            key("period", KeyKind::Duration, "", "The period (deadline)."),
            key("cpus", KeyKind::Integers, "{}", "CPUs that the lane's threads may run on; empty: all."),
            key("workers", KeyKind::Integer { min: 1, max: 64 }, "1", "Function workers of the lane."),
            key(
                "batch",
                KeyKind::Integer { min: 1, max: 128 },
                "32",
                "Most events moved by one call to a channel (strict: 1).",
            ),
            key(
                "linger",
                KeyKind::Duration,
                "",
                "How long a frame may wait for others so that they leave in one call; none: not at all.",
            ),
            key(
                "share",
                KeyKind::Integer { min: 0, max: 50 },
                "0",
                "Least CPU time of its threads whatever runs above them, in percent of a CPU (best-effort: 5).",
            ),
            key("rate", KeyKind::Table("qos.rate"), "", "How many events leave its queue in a second."),
            key("event_max", KeyKind::Size, "\"64KiB\"", "Largest event of this level."),
            key("queue", KeyKind::Table("qos.queue"), "", "The queue of the level."),
            key("network", KeyKind::Table("qos.network"), "", "What the adapters ask of the network."),
        ],
    },
    Constructor {
        name: "qos.queue",
        help: "The queue of a level.",
        open: true,
        keys: &[
            key("policy", KeyKind::Text, "\"fifo\"", "The queue policy plugin."),
            key("capacity", KeyKind::Integer { min: 1, max: 1_048_576 }, "4096", "Most events waiting."),
            key(
                "bytes",
                KeyKind::Size,
                "\"4MiB\"",
                "Most bytes of payload waiting; the size of the lane's event pool.",
            ),
            key(
                "full",
                KeyKind::Word(&["block", "drop-oldest", "drop-new"]),
                "\"drop-oldest\"",
                "What happens when it is full (strict: drop-new).",
            ),
            key("ttl", KeyKind::Duration, "", "Events older than this are dropped."),
        ],
    },
    Constructor {
        name: "qos.network",
        help: "What the adapters ask of the network for a level.",
        open: false,
        keys: &[
            key(
                "socket_priority",
                KeyKind::Integer { min: 0, max: 15 },
                "0",
                "SO_PRIORITY; above 6 needs CAP_NET_ADMIN.",
            ),
            key("dscp", KeyKind::Integer { min: 0, max: 63 }, "0", "Differentiated services code point."),
            key("pcp", KeyKind::Integer { min: 0, max: 7 }, "0", "VLAN priority code point."),
        ],
    },
    Constructor {
        name: "qos.rate",
        help: "How many events leave the queue of a level in a second.",
        open: false,
        keys: &[
            key(
                "min",
                KeyKind::Integer { min: 1, max: 100_000_000 },
                "",
                "Fewer than these while events wait degrade the level, with a sentence.",
            ),
            key(
                "max",
                KeyKind::Integer { min: 1, max: 100_000_000 },
                "",
                "More than these wait in the queue.",
            ),
        ],
    },
    Constructor {
        name: "topic",
        help: "Declares a topic: ingress channels, the queue of its level, egress channels.",
        open: false,
        keys: &[
            key("qos", KeyKind::Text, "\"best-effort\"", "The level of its events."),
            key("ingress", KeyKind::Channels, "{}", "Where its events come from."),
            key(
                "egress",
                KeyKind::Groups,
                "{}",
                "Where they go: subscription groups, or channels that each get every event.",
            ),
            key(
                "rank",
                KeyKind::Integer { min: 0, max: 255 },
                "128",
                "Its place among the topics of its lane (policy priority).",
            ),
            key(
                "weight",
                KeyKind::Integer { min: 1, max: 1000 },
                "1",
                "What it weighs among the topics of its lane (policy drr).",
            ),
            key(
                "share",
                KeyKind::Integer { min: 0, max: 100 },
                "0",
                "Least part of what its lane serves while it waits, in percent, whatever others weigh (policy drr).",
            ),
            key(
                "deadline",
                KeyKind::Duration,
                "",
                "An event that leaves later than this after its arrival is counted as late.",
            ),
            key("ttl", KeyKind::Duration, "", "Overrides the level's time to live."),
            key(
                "late",
                KeyKind::Word(&["pass", "drop"]),
                "\"pass\"",
                "What happens to an event that is late already when its turn comes.",
            ),
            key(
                "replies",
                KeyKind::Flag,
                "false",
                "Outputs of workflows come here whose event names this topic in its attribute reply-to.",
            ),
            REQUEST,
            ALLOW,
            ON_UNMET,
            key(
                "rules",
                KeyKind::Rules,
                "{}",
                "Levels by attributes, the first rule that matches: { match = { kind = \"alarm*\" }, qos = \"strict\" }.",
            ),
        ],
    },
    Constructor {
        name: "group",
        help: "A subscription group: one of its members gets each event. Members are the list part of the table.",
        open: false,
        keys: &[
            key(
                "pick",
                KeyKind::Word(&["round-robin", "least-loaded", "hash", "sticky"]),
                "\"round-robin\"",
                "How the member is chosen.",
            ),
            key(
                "stall",
                KeyKind::Duration,
                "\"1s\"",
                "How long a member may take nothing before the others get its events.",
            ),
        ],
    },
    Constructor {
        name: "channel",
        help: "A channel of an adapter: tempos.udp { … }, tempos.unix { … }, tempos.channel(\"ADAPTER\", { … }).",
        open: true,
        keys: &[
            key("name", KeyKind::Text, "", "Its name; TOPIC/in/N or TOPIC/GROUP/N by default."),
            key("qos", KeyKind::Text, "", "The level of this endpoint, where it is not the topic's."),
            key(
                "format",
                KeyKind::Word(&["raw", "event"]),
                "\"raw\"",
                "Whether frames are bare payloads or carry the event header.",
            ),
            key(
                "qos_max",
                KeyKind::Text,
                "",
                "Ingress: the highest level that its senders may ask for, by an attribute qos or by a rule.",
            ),
            key(
                "rate",
                KeyKind::Integer { min: 1, max: 100_000_000 },
                "",
                "Ingress: the most events in a second on the long run.",
            ),
            key(
                "producer_rate",
                KeyKind::Integer { min: 1, max: 100_000_000 },
                "",
                "Ingress: the most events in a second of each sender (address or connection); more are dropped.",
            ),
            key(
                "burst",
                KeyKind::Integer { min: 1, max: 1_048_576 },
                "",
                "Ingress: the most events at once after a pause; a hundredth of a second's by default.",
            ),
            key(
                "over_rate",
                KeyKind::Word(&["wait", "drop"]),
                "\"wait\"",
                "Ingress: whether what is over the rate is read later or dropped.",
            ),
            key(
                "in_flight",
                KeyKind::Integer { min: 1, max: 1_048_576 },
                "",
                "Ingress: the most of its events that the node holds at a time; more are read later.",
            ),
            key("event_max", KeyKind::Size, "", "Ingress: its largest event, where it is not the level's."),
            key(
                "duplicates",
                KeyKind::Word(&["pass", "drop"]),
                "\"pass\"",
                "Ingress: what happens to an event whose id was seen before from the same producer.",
            ),
            key(
                "order",
                KeyKind::Word(&["any", "newer"]),
                "\"any\"",
                "Ingress: newer drops an event that is not newer, by its id, than the last from its producer.",
            ),
        ],
    },
    Constructor {
        name: "workflow",
        help: "Declares a workflow: topic → function → topic.",
        open: false,
        keys: &[
            required("from", KeyKind::Text, "The topic whose events it works on."),
            key(
                "to",
                KeyKind::Targets,
                "",
                "The topic that its output goes to, or { BRANCH = TOPIC }: the function names the branch; `default` is for outputs that name none.",
            ),
            key(
                "reply",
                KeyKind::Flag,
                "false",
                "Its output goes to the topic that the event names in its attribute reply-to, else to `to`.",
            ),
            key(
                "group",
                KeyKind::Text,
                "",
                "The subscription group that it is a member of; one of its own by default.",
            ),
            required("call", KeyKind::Table("workflow.call"), "The function."),
            REQUEST,
            ALLOW,
            ON_UNMET,
        ],
    },
    Constructor {
        name: "topic.request",
        help: "What a topic or a workflow asks of its quality, in figures. A workflow's hold from the way in of its topic to the way out of the last one.",
        open: false,
        keys: &[
            key("latency_p99", KeyKind::Duration, "", "99 of 100 events are through within this."),
            key("jitter", KeyKind::Duration, "", "How much longer the slowest may take than the fastest."),
            key(
                "rate",
                KeyKind::Rate,
                "",
                "The most events that come, `\"1000/s\"`; what is granted holds up to it.",
            ),
            key("loss", KeyKind::Share, "", "The share of events that may be lost; 0: none."),
            key("delivery", KeyKind::Word(Delivery::WORDS), "", "What is to hold of an event on its way."),
        ],
    },
    Constructor {
        name: "topic.allow",
        help: "What the controller may choose for a request; an empty list allows everything.",
        open: false,
        keys: &[
            key("levels", KeyKind::Texts, "{}", "Levels."),
            key(
                "policies",
                KeyKind::Texts,
                "{}",
                "Queue policies, and with them the levels that have one of them.",
            ),
            key(
                "methods",
                KeyKind::Texts,
                "{}",
                "Invocation methods that the functions on the way may have.",
            ),
            key(
                "settings",
                KeyKind::Flag,
                "false",
                "Whether settings of channels may be changed that their peers notice, such as acknowledge.",
            ),
        ],
    },
    Constructor {
        name: "workflow.call",
        help: "A function and how it is invoked.",
        open: true,
        keys: &[
            required("method", KeyKind::Text, "The invocation method plugin: dlf, …"),
            required("file", KeyKind::Text, "The function's file; relative to the script."),
            key("warm", KeyKind::Integer { min: 0, max: 1024 }, "1", "Instances kept ready."),
            key(
                "warm_max",
                KeyKind::Integer { min: 1, max: 1024 },
                "",
                "Most instances kept ready; as many as may run at once by default.",
            ),
            key(
                "idle",
                KeyKind::Duration,
                "",
                "How long an instance above `warm` may have nothing to do before it is let go; with warm = 0 the last one too.",
            ),
            key(
                "recycle",
                KeyKind::Integer { min: 1, max: 4_294_967_295 },
                "",
                "Events after which an instance is replaced by a fresh one.",
            ),
            key(
                "deadline",
                KeyKind::Duration,
                "",
                "The function is stopped or reported late after this long; sooner where its event has less time left.",
            ),
            key(
                "memory",
                KeyKind::Size,
                "",
                "Most memory of an instance, where the method can hold it to that.",
            ),
            key("output_max", KeyKind::Size, "\"64KiB\"", "Largest output."),
            key(
                "concurrency",
                KeyKind::Integer { min: 1, max: 64 },
                "1",
                "Events that it may work on at once; 1 keeps their order.",
            ),
            key(
                "inline",
                KeyKind::Flag,
                "false",
                "Runs on the queue worker itself: for a function that is short and never waits.",
            ),
            key(
                "retry",
                KeyKind::Table("workflow.call.retry"),
                "",
                "Events that are tried again where the function failed.",
            ),
            key(
                "canary",
                KeyKind::Table("workflow.call.canary"),
                "",
                "Other code for a share of the events, beside the function's own.",
            ),
        ],
    },
    Constructor {
        name: "workflow.call.retry",
        help: "Which events are tried again. It ends with the event's deadline, and later events wait where their order is kept.",
        open: false,
        keys: &[
            key("times", KeyKind::Integer { min: 1, max: 16 }, "1", "How often an event is tried again."),
            key(
                "backoff",
                KeyKind::Duration,
                "\"10ms\"",
                "The pause before the first time; each following one is twice as long.",
            ),
            key(
                "outcomes",
                KeyKind::Words(RETRY_OUTCOMES),
                "",
                "Outcomes that are tried again; failed, crashed and not-started where neither they nor codes are given.",
            ),
            key(
                "codes",
                KeyKind::Integers,
                "{}",
                "Codes of the function's own that are tried again, 1 to 255.",
            ),
        ],
    },
    Constructor {
        name: "workflow.call.canary",
        help: "Other code for a share of the events. Leave it out to go back; make its file the call's to promote it.",
        open: false,
        keys: &[
            required("file", KeyKind::Text, "Its file; relative to the script."),
            key(
                "share",
                KeyKind::Integer { min: 0, max: 100 },
                "10",
                "Percent of the events that it gets; their ids decide which.",
            ),
        ],
    },
    Constructor {
        name: "on",
        help: "Calls a function when something happens: `tempos.on(\"EVENT\", { … }, function(e) … end)`; the table may be left out.",
        open: false,
        keys: &[
            key("name", KeyKind::Text, "", "Only what happens to the object of this name."),
            key(
                "hold",
                KeyKind::Duration,
                "\"1s\"",
                "Least time between two calls for one object; without a further one for so long it is over.",
            ),
        ],
    },
];

/// The constructor of that name.
pub fn constructor(name: &str) -> Option<&'static Constructor> {
    CONSTRUCTORS.iter().find(|c| c.name == name)
}
