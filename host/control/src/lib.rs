//! The orders that one may give a node, and its answers: plain data.
//!
//! Every door (Lua, D-Bus, the node file) only translates into these types, so that each rule is
//! checked once and every door gives the same answer to the same mistake.
//! This room does no I/O, knows no plugin, and decides nothing by who is calling.

pub mod command;
mod exact;
pub mod generation;
pub mod grant;
pub mod level;
pub mod mistake;
pub mod names;
pub mod node;
pub mod notice;
pub mod object;
pub mod request;
pub mod schema;
pub mod topic;
pub mod units;
pub mod value;
pub mod who;
pub mod workflow;

pub use command::{Command, Finding, Order, Reply, Verdict};
pub use generation::{Generation, Keeping, Terms};
pub use grant::{Answer, Grade, Grant, HopGrant};
pub use level::{FullQueue, LevelSpec, NetworkMarks, QueueSettings, RateBounds, Scheduler};
pub use mistake::{Mistake, Origin, Refusal, RefusalKind};
pub use node::Node;
pub use notice::Notice;
pub use object::{Condition, Figure, Figures, Kind, ObjectState};
pub use request::{Allowed, Delivery, OnUnmet, QosRequest, Rate};
pub use topic::{
    ChannelSpec, EndpointSpec, EventFormat, GroupSpec, LevelRule, Matcher, OverRate, Pick, TopicSpec,
};
pub use value::Value;
pub use who::Who;
pub use workflow::{CallSpec, CanarySpec, RetrySpec, WorkflowSpec};
