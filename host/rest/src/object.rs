//! The objects of a node as JSON: one table for each kind, from which come what is sent and its schema, so that the
//! two cannot say something else. The words are those of the other doors; `dbus/README.md` explains them.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tempos_control::{Figure, Kind, ObjectState};
use utoipa::openapi::schema::{
    AdditionalProperties, ArrayBuilder, KnownFormat, Object, ObjectBuilder, SchemaFormat, SchemaType, Type,
};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// The sort of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Text,
    Count,
    Texts,
    Counts,
    Latency,
    Rows,
}

use Sort::{Count, Counts, Latency, Rows, Text, Texts};

type Field = (&'static str, Sort);

const NODE: &[Field] = &[
    ("Version", Text),
    ("NodeId", Text),
    ("Generation", Count),
    ("StartedAt", Count),
    ("Degraded", Texts),
    ("ResidentKiB", Count),
    ("LockedKiB", Count),
    ("AbandonedThreads", Count),
    ("DrainReport", Text),
    ("Calibration", Text),
    ("Calibrating", Text),
    ("CalibrationPercent", Count),
    ("CalibrationFailure", Text),
    ("CalibrationLeftOut", Texts),
    ("CostsNs", Latency),
];

const LEVEL: &[Field] = &[
    ("Rank", Count),
    ("Scheduler", Text),
    ("Cpus", Text),
    ("Granted", Text),
    ("Threads", Texts),
    ("Policy", Text),
    ("SharePercent", Count),
    ("CapacityEvents", Count),
    ("CapacityBytes", Count),
    ("Queued", Count),
    ("QueuedBytes", Count),
    ("EventsIn", Count),
    ("EventsOut", Count),
    ("EventsLate", Count),
    ("EventsDropped", Counts),
    ("LatencyNs", Latency),
    ("MinorFaults", Count),
    ("MajorFaults", Count),
    ("CpuNs", Count),
];

const PLUGIN: &[Field] = &[
    ("PluginKind", Text),
    ("Version", Text),
    ("AbiVersion", Text),
    ("Path", Text),
    ("Sha256", Text),
    ("Summary", Text),
    ("Options", Texts),
    ("Generations", Count),
    ("ResidentKiB", Count),
];

const ADAPTER: &[Field] = &[("Plugin", Text), ("Capabilities", Texts), ("Channels", Count)];

const CHANNEL: &[Field] = &[
    ("Topic", Text),
    ("Group", Text),
    ("Adapter", Text),
    ("Direction", Text),
    ("Level", Text),
    ("Address", Text),
    ("FramesReceived", Count),
    ("FramesSent", Count),
    ("BytesReceived", Count),
    ("BytesSent", Count),
    ("SendErrors", Count),
    ("KernelDropped", Count),
    ("Malformed", Count),
    ("Pending", Count),
    ("Unsettled", Count),
    ("Connections", Count),
    ("Refused", Count),
    ("Capped", Count),
    ("Incidents", Counts),
];

const TOPIC: &[Field] = &[
    ("Level", Text),
    ("Ingress", Texts),
    ("Egress", Texts),
    ("EventsIn", Count),
    ("EventsOut", Count),
    ("EventsLate", Count),
    ("EventsDropped", Counts),
    ("EventsCrossed", Count),
    ("EventsRerouted", Count),
    ("Queued", Count),
    ("LatencyNs", Latency),
    ("Requested", Text),
    ("Granted", Text),
    ("Grant", Rows),
    ("MeasuredP99Ns", Counts),
];

const WORKFLOW: &[Field] = &[
    ("From", Text),
    ("To", Text),
    ("Branches", Texts),
    ("Method", Text),
    ("File", Text),
    ("Group", Text),
    ("EventsIn", Count),
    ("EventsDone", Count),
    ("Failures", Counts),
    ("Retries", Count),
    ("Busy", Count),
    ("Warm", Count),
    ("InstancesStarted", Count),
    ("InstancesCrashed", Count),
    ("Canary", Text),
    ("CanaryShare", Count),
    ("CanaryDone", Count),
    ("CanaryFailures", Counts),
    ("LatencyNs", Latency),
    ("Requested", Text),
    ("Granted", Text),
    ("Grant", Rows),
    ("MeasuredP99Ns", Counts),
];

fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::QosLevel => LEVEL,
        Kind::Plugin => PLUGIN,
        Kind::Adapter => ADAPTER,
        Kind::Channel => CHANNEL,
        Kind::Topic => TOPIC,
        Kind::Workflow => WORKFLOW,
        _ => NODE,
    }
}

/// The words of latencies and of the rows of a grant.
const QUANTILES: [&str; 4] = ["P50", "P99", "P999", "Max"];
const HOP: [&str; 4] = ["Hop", "Asked", "Granted", "Why"];

/// An object at one instant. What the node does not keep is zero or empty, so that what is there never depends
/// on the node.
pub fn json(state: &ObjectState) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("Name".into(), json!(state.name));
    object.insert("State".into(), json!(state.condition.state));
    object.insert("Reason".into(), json!(state.condition.reason));
    object.insert("Since".into(), json!(state.condition.since_us));
    for (name, sort) in fields(state.kind) {
        object.insert((*name).into(), value(*sort, state.figures.get(name)));
    }
    object
}

fn value(sort: Sort, figure: Option<&Figure>) -> Value {
    match (sort, figure) {
        (Text, Some(Figure::Text(v))) => json!(v),
        (Text, Some(Figure::Flag(v))) => json!(v.to_string()),
        (Text, Some(Figure::Count(v))) => json!(v.to_string()),
        (Text, _) => json!(""),
        (Count, Some(Figure::Count(v))) => json!(v),
        (Count, Some(Figure::Flag(v))) => json!(u64::from(*v)),
        (Count, _) => json!(0),
        (Texts, Some(Figure::Texts(v))) => json!(v),
        (Texts, _) => json!([]),
        (Counts, Some(Figure::Counts(v))) => json!(v),
        (Latency, Some(Figure::Latency(v))) => {
            v.iter().map(|(hop, figures)| (hop.clone(), named(&QUANTILES, figures))).collect()
        }
        (Counts | Latency, _) => json!({}),
        (Rows, Some(Figure::Rows(v))) => v.iter().map(|row| named(&HOP, row)).collect(),
        (Rows, _) => json!([]),
    }
}

fn named<T: Serialize>(names: &[&str; 4], values: &[T; 4]) -> Value {
    names.iter().zip(values).map(|(name, value)| ((*name).to_owned(), json!(value))).collect()
}

fn text(help: &str) -> Object {
    ObjectBuilder::new().schema_type(SchemaType::Type(Type::String)).description(Some(help)).build()
}

fn count(help: &str) -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Integer))
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
        .minimum(Some(0))
        .description(Some(help))
        .build()
}

fn each(schema: impl Into<RefOr<Schema>>) -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Object))
        .additional_properties(Some(AdditionalProperties::RefOr(schema.into())))
        .build()
}

fn all_of(names: &[&str; 4], schema: &Object) -> Object {
    let object = ObjectBuilder::new().schema_type(SchemaType::Type(Type::Object));
    let object = names.iter().fold(object, |o, name| o.property(*name, schema.clone()).required(*name));
    object.build()
}

fn schema_of_sort(sort: Sort) -> RefOr<Schema> {
    let (text, count) = (text(""), count(""));
    match sort {
        Text => text.into(),
        Count => count.into(),
        Texts => ArrayBuilder::new().items(text).build().into(),
        Counts => each(count).into(),
        Latency => each(all_of(&QUANTILES, &count)).into(),
        Rows => ArrayBuilder::new().items(all_of(&HOP, &text)).build().into(),
    }
}

fn schema(kind: Kind, help: &str) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::Object))
        .description(Some(help))
        .property("Name", text("Its name."))
        .required("Name")
        .property("State", text("One word: `started`, `failed`, `draining`, `granted`, `degraded`, …"))
        .required("State")
        .property("Reason", text("One sentence that says why."))
        .required("Reason")
        .property("Since", count("When it became so: microseconds since the epoch."))
        .required("Since");
    for (name, sort) in fields(kind) {
        object = object.property(*name, schema_of_sort(*sort)).required(*name);
    }
    object.build().into()
}

macro_rules! objects {
    ($($name:ident $kind:ident $help:literal;)*) => {$(
        #[doc = $help]
        #[derive(Clone, Debug, Serialize)]
        #[serde(transparent)]
        pub struct $name(Map<String, Value>);

        impl From<&ObjectState> for $name {
            fn from(state: &ObjectState) -> Self {
                $name(json(state))
            }
        }

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                schema(Kind::$kind, $help)
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                stringify!($name).into()
            }
        }
    )*};
}

objects! {
    Node Node "The node itself.";
    Level QosLevel "A QoS level: a lane of its own.";
    Plugin Plugin "A plugin's life.";
    Adapter Adapter "A technology that channels can be opened with.";
    Channel Channel "An open connection.";
    Topic Topic "A topic.";
    Workflow Workflow "A workflow.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempos_control::{Condition, Figures};

    #[test]
    fn what_is_sent_never_depends_on_what_the_node_keeps() {
        let kinds = [Kind::Node, Kind::QosLevel, Kind::Plugin, Kind::Channel, Kind::Topic, Kind::Workflow];
        for kind in kinds {
            let wrong: Figures = fields(kind).iter().map(|(name, _)| (*name, Figure::Flag(true))).collect();
            let shapes = [Figures::new(), wrong].map(|figures| {
                let condition = Condition { state: "x".into(), reason: String::new(), since_us: 7 };
                let object = json(&ObjectState { kind, name: "x".into(), condition, figures });
                object.into_iter().map(|(name, v)| (name, std::mem::discriminant(&v))).collect::<Vec<_>>()
            });
            assert_eq!(shapes[0], shapes[1]);
        }
    }

    #[test]
    fn latencies_and_grants_have_names() {
        let figure = Figure::Latency([(String::from("queue"), [1, 2, 3, 4])].into());
        assert_eq!(
            value(Latency, Some(&figure)),
            json!({"queue": {"P50": 1, "P99": 2, "P999": 3, "Max": 4}})
        );
        let figure = Figure::Rows(vec![["whole", "5ms", "3 ms", "it is"].map(String::from)]);
        let rows = json!([{"Hop": "whole", "Asked": "5ms", "Granted": "3 ms", "Why": "it is"}]);
        assert_eq!(value(Rows, Some(&figure)), rows);
    }
}
