//! The interfaces, as data: from these tables come the introspection, the check of arguments and the
//! properties, so that none of the three can say something else than the others.

use tempos_control::Kind;

/// Who may call a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Everyone who reaches the door.
    Anyone,
    /// root, the daemon's own user, and the members of its group.
    Operator,
    /// root and the daemon's own user.
    Owner,
}

/// An argument: its name and its signature.
pub type Argument = (&'static str, &'static str);

/// A method.
#[derive(Debug)]
pub struct Method {
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub takes: &'static [Argument],
    /// What it returns.
    pub returns: &'static [Argument],
    /// Who may call it.
    pub right: Right,
}

/// When a property says that it changed (`EmitsChangedSignal` of the D-Bus specification).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// At once, with the new value.
    Told,
    /// Never: it is read when wanted. Counters would otherwise signal with every event.
    Untold,
    /// It does not change.
    Never,
}

/// The sort of a property's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    /// `s`
    Text,
    /// `t`
    Count,
    /// `as`
    Texts,
    /// `a{st}`
    Counts,
    /// `a{s(tttt)}`: p50, p99, p99.9 and max by hop.
    Latency,
    /// `a(ssss)`: rows of four texts.
    Rows,
}

impl Sort {
    /// The signature.
    pub fn signature(self) -> &'static str {
        match self {
            Sort::Text => "s",
            Sort::Count => "t",
            Sort::Texts => "as",
            Sort::Counts => "a{st}",
            Sort::Latency => "a{s(tttt)}",
            Sort::Rows => "a(ssss)",
        }
    }
}

/// A property, read-only as all are.
#[derive(Debug)]
pub struct Property {
    /// Its name, which is the key of the node's figure.
    pub name: &'static str,
    /// Its sort.
    pub sort: Sort,
    /// When it tells of a change.
    pub changes: Changes,
}

/// A signal.
#[derive(Debug)]
pub struct Signal {
    /// Its name.
    pub name: &'static str,
    /// What it carries.
    pub carries: &'static [Argument],
}

/// An interface.
#[derive(Debug)]
pub struct Face {
    /// Its name.
    pub name: &'static str,
    /// Its methods.
    pub methods: &'static [Method],
    /// Its properties.
    pub properties: &'static [Property],
    /// Its signals.
    pub signals: &'static [Signal],
}

impl Face {
    /// The property of that name.
    pub fn property(&self, name: &str) -> Option<&'static Property> {
        self.properties.iter().find(|p| p.name == name)
    }
}

const fn reads(name: &'static str, takes: &'static [Argument], returns: &'static [Argument]) -> Method {
    Method { name, takes, returns, right: Right::Anyone }
}

const fn orders(name: &'static str, takes: &'static [Argument], returns: &'static [Argument]) -> Method {
    Method { name, takes, returns, right: Right::Operator }
}

const fn told(name: &'static str, sort: Sort) -> Property {
    Property { name, sort, changes: Changes::Told }
}

const fn untold(name: &'static str, sort: Sort) -> Property {
    Property { name, sort, changes: Changes::Untold }
}

const fn fixed(name: &'static str, sort: Sort) -> Property {
    Property { name, sort, changes: Changes::Never }
}

const fn signal(name: &'static str, carries: &'static [Argument]) -> Signal {
    Signal { name, carries }
}

use Sort::{Count, Counts, Latency, Rows, Text, Texts};

/// What every object has.
const STATE: Property = told("State", Text);
const REASON: Property = told("Reason", Text);
const SINCE: Property = told("Since", Count);

/// The names of those three.
pub const CONDITION: [&str; 3] = ["State", "Reason", "Since"];

/// The node's own properties that tell of a change, beside the three.
pub const NODE_TOLD: [&str; 3] = ["Degraded", "Generation", "DrainReport"];

/// What a change on terms answers.
const CHANGED: &[Argument] = &[("report", "s"), ("generation", "t")];

/// `org.tempos.Host1.Node`
pub static NODE: Face = Face {
    name: "org.tempos.Host1.Node",
    methods: &[
        orders("Apply", &[("path", "s")], &[("report", "s")]),
        orders("ApplyText", &[("chunk_name", "s"), ("lua", "s")], &[("report", "s")]),
        orders("Plan", &[("path", "s")], &[("report", "s")]),
        orders("ApplyWith", &[("path", "s"), ("terms", "a{sv}")], CHANGED),
        orders("ApplyTextWith", &[("chunk_name", "s"), ("lua", "s"), ("terms", "a{sv}")], CHANGED),
        orders("Rollback", &[("generation", "t"), ("terms", "a{sv}")], CHANGED),
        orders("Confirm", &[("generation", "t")], &[]),
        reads("Generations", &[], &[("generations", "aa{sv}")]),
        orders("Reload", &[], &[]),
        orders("Drain", &[("timeout_ms", "u")], &[]),
        orders(
            "Publish",
            &[("topic", "s"), ("attributes", "a{sv}"), ("payload", "ay")],
            &[("event_id", "t")],
        ),
        orders(
            "Request",
            &[("topic", "s"), ("attributes", "a{sv}"), ("payload", "ay"), ("timeout_ms", "u")],
            &[("reply", "ay")],
        ),
        orders("Subscribe", &[("topic", "s")], &[("socket", "h")]),
        Method { name: "LoadPlugin", takes: &[("path", "s")], returns: &[], right: Right::Owner },
        orders("Prewarm", &[("workflow", "s"), ("instances", "u")], &[]),
        reads("Doctor", &[], &[("findings", "a(ssss)")]),
        orders("Calibrate", &[("time_ms", "u")], &[]),
    ],
    properties: &[
        STATE,
        REASON,
        SINCE,
        fixed("Version", Text),
        fixed("NodeId", Text),
        told("Generation", Count),
        fixed("StartedAt", Count),
        told("Degraded", Texts),
        untold("ResidentKiB", Count),
        untold("LockedKiB", Count),
        untold("AbandonedThreads", Count),
        told("DrainReport", Text),
        untold("Calibration", Text),
        untold("Calibrating", Text),
        untold("CalibrationPercent", Count),
        untold("CalibrationFailure", Text),
        untold("CalibrationLeftOut", Texts),
        untold("CostsNs", Latency),
    ],
    signals: &[
        signal("WiringApplied", &[("generation", "t"), ("report", "s")]),
        signal("WiringRejected", &[("report", "s")]),
        signal("PluginStateChanged", &[("name", "s"), ("state", "s"), ("report", "s")]),
        signal("DeadlineMissed", &[("topic", "s"), ("event_id", "t"), ("late_ns", "t")]),
        signal("EventsDropped", &[("topic", "s"), ("reason", "s"), ("count", "t")]),
        signal("FunctionFailed", &[("workflow", "s"), ("event_id", "t"), ("error", "s")]),
    ],
};

static QOS_LEVEL: Face = Face {
    name: "org.tempos.Host1.QosLevel",
    methods: &[],
    properties: &[
        STATE,
        REASON,
        SINCE,
        untold("Rank", Count),
        untold("Scheduler", Text),
        untold("Cpus", Text),
        untold("Granted", Text),
        untold("Threads", Texts),
        untold("Policy", Text),
        untold("SharePercent", Count),
        untold("CapacityEvents", Count),
        untold("CapacityBytes", Count),
        untold("Queued", Count),
        untold("QueuedBytes", Count),
        untold("EventsIn", Count),
        untold("EventsOut", Count),
        untold("EventsLate", Count),
        untold("EventsDropped", Counts),
        untold("LatencyNs", Latency),
        untold("MinorFaults", Count),
        untold("MajorFaults", Count),
        untold("CpuNs", Count),
    ],
    signals: &[],
};

static PLUGIN: Face = Face {
    name: "org.tempos.Host1.Plugin",
    methods: &[],
    properties: &[
        STATE,
        REASON,
        SINCE,
        untold("PluginKind", Text),
        untold("Version", Text),
        untold("AbiVersion", Text),
        untold("Path", Text),
        untold("Sha256", Text),
        untold("Summary", Text),
        untold("Options", Texts),
        untold("Generations", Count),
        untold("ResidentKiB", Count),
    ],
    signals: &[],
};

static ADAPTER: Face = Face {
    name: "org.tempos.Host1.Adapter",
    methods: &[],
    properties: &[
        STATE,
        REASON,
        SINCE,
        untold("Plugin", Text),
        untold("Capabilities", Texts),
        untold("Channels", Count),
    ],
    signals: &[],
};

static CHANNEL: Face = Face {
    name: "org.tempos.Host1.Channel",
    methods: &[],
    properties: &[
        STATE,
        REASON,
        SINCE,
        untold("Topic", Text),
        untold("Group", Text),
        untold("Adapter", Text),
        untold("Direction", Text),
        untold("Level", Text),
        untold("Address", Text),
        untold("FramesReceived", Count),
        untold("FramesSent", Count),
        untold("BytesReceived", Count),
        untold("BytesSent", Count),
        untold("SendErrors", Count),
        untold("KernelDropped", Count),
        untold("Malformed", Count),
        untold("Pending", Count),
        untold("Unsettled", Count),
        untold("Connections", Count),
        untold("Refused", Count),
        untold("Capped", Count),
        untold("Incidents", Counts),
    ],
    signals: &[],
};

static TOPIC: Face = Face {
    name: "org.tempos.Host1.Topic",
    methods: &[],
    properties: &[
        STATE,
        REASON,
        SINCE,
        untold("Level", Text),
        untold("Ingress", Texts),
        untold("Egress", Texts),
        untold("EventsIn", Count),
        untold("EventsOut", Count),
        untold("EventsLate", Count),
        untold("EventsDropped", Counts),
        untold("EventsCrossed", Count),
        untold("EventsRerouted", Count),
        untold("Queued", Count),
        untold("LatencyNs", Latency),
        untold("Requested", Text),
        untold("Granted", Text),
        untold("Grant", Rows),
        untold("MeasuredP99Ns", Counts),
    ],
    signals: &[],
};

static WORKFLOW: Face = Face {
    name: "org.tempos.Host1.Workflow",
    methods: &[],
    properties: &[
        STATE,
        REASON,
        SINCE,
        untold("From", Text),
        untold("To", Text),
        untold("Branches", Texts),
        untold("Method", Text),
        untold("File", Text),
        untold("Group", Text),
        untold("EventsIn", Count),
        untold("EventsDone", Count),
        untold("Failures", Counts),
        untold("Retries", Count),
        untold("Busy", Count),
        untold("Warm", Count),
        untold("InstancesStarted", Count),
        untold("InstancesCrashed", Count),
        untold("Canary", Text),
        untold("CanaryShare", Count),
        untold("CanaryDone", Count),
        untold("CanaryFailures", Counts),
        untold("LatencyNs", Latency),
        untold("Requested", Text),
        untold("Granted", Text),
        untold("Grant", Rows),
        untold("MeasuredP99Ns", Counts),
    ],
    signals: &[],
};

/// The node's own interface of a kind.
pub fn of(kind: Kind) -> &'static Face {
    match kind {
        Kind::QosLevel => &QOS_LEVEL,
        Kind::Plugin => &PLUGIN,
        Kind::Adapter => &ADAPTER,
        Kind::Channel => &CHANNEL,
        Kind::Topic => &TOPIC,
        Kind::Workflow => &WORKFLOW,
        _ => &NODE,
    }
}

/// `org.freedesktop.DBus.Properties`
pub static PROPERTIES: Face = Face {
    name: "org.freedesktop.DBus.Properties",
    methods: &[
        reads("Get", &[("interface_name", "s"), ("property_name", "s")], &[("value", "v")]),
        reads("GetAll", &[("interface_name", "s")], &[("properties", "a{sv}")]),
        reads("Set", &[("interface_name", "s"), ("property_name", "s"), ("value", "v")], &[]),
    ],
    properties: &[],
    signals: &[signal(
        "PropertiesChanged",
        &[("interface_name", "s"), ("changed_properties", "a{sv}"), ("invalidated_properties", "as")],
    )],
};

/// `org.freedesktop.DBus.Introspectable`
pub static INTROSPECTABLE: Face = Face {
    name: "org.freedesktop.DBus.Introspectable",
    methods: &[reads("Introspect", &[], &[("xml_data", "s")])],
    properties: &[],
    signals: &[],
};

/// `org.freedesktop.DBus.Peer`
pub static PEER: Face = Face {
    name: "org.freedesktop.DBus.Peer",
    methods: &[reads("Ping", &[], &[]), reads("GetMachineId", &[], &[("machine_uuid", "s")])],
    properties: &[],
    signals: &[],
};

/// `org.freedesktop.DBus.ObjectManager`
pub static OBJECT_MANAGER: Face = Face {
    name: "org.freedesktop.DBus.ObjectManager",
    methods: &[reads("GetManagedObjects", &[], &[("objects", "a{oa{sa{sv}}}")])],
    properties: &[],
    signals: &[
        signal("InterfacesAdded", &[("object", "o"), ("interfaces_and_properties", "a{sa{sv}}")]),
        signal("InterfacesRemoved", &[("object", "o"), ("interfaces", "as")]),
    ],
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::KINDS;

    #[test]
    fn every_object_has_state_reason_and_since() {
        for kind in KINDS.into_iter().chain([Kind::Node]) {
            for name in CONDITION {
                let property = of(kind).property(name).unwrap_or_else(|| panic!("{kind:?} lacks {name}"));
                assert_eq!(property.changes, Changes::Told);
            }
        }
    }

    #[test]
    fn what_tells_of_a_change_is_what_the_herald_sends() {
        let told: Vec<_> =
            NODE.properties.iter().filter(|p| p.changes == Changes::Told).map(|p| p.name).collect();
        let sent: Vec<_> = CONDITION.into_iter().chain(NODE_TOLD).collect();
        assert!(told.iter().all(|name| sent.contains(name)) && told.len() == sent.len(), "{told:?} {sent:?}");
        for kind in KINDS {
            assert_eq!(of(kind).properties.iter().filter(|p| p.changes == Changes::Told).count(), 3);
        }
    }
}
