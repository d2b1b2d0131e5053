//! The face that a node shows to its doors.

use std::sync::mpsc::Receiver;

use crate::{Kind, Notice, ObjectState, Order, Refusal, Reply, Who};

/// What a door may ask of a node. Calls block, for a bounded time: a door on an async runtime makes
/// them on a thread that may wait.
pub trait Node: Send + Sync + 'static {
    /// Carries out an order.
    ///
    /// # Errors
    /// The refusal; nothing changed.
    fn carry_out(&self, order: Order) -> Result<Reply, Refusal>;

    /// The same, with who gives it: a door that knows calls this, so that the node can keep account of changes.
    ///
    /// # Errors
    /// As [`carry_out`](Node::carry_out).
    fn carry_out_for(&self, who: &Who, order: Order) -> Result<Reply, Refusal> {
        let _ = who;
        self.carry_out(order)
    }

    /// A door has turned a caller away before any order: `what` was asked for, `why` it was not given.
    fn turned_away(&self, who: &Who, what: &str, why: &str) {
        let _ = (who, what, why);
    }

    /// The state of one object, or of the node itself (`Kind::Node`, any name), read now.
    fn observe(&self, kind: Kind, name: &str) -> Option<ObjectState>;

    /// The names of all objects of a kind, sorted.
    fn names(&self, kind: Kind) -> Vec<String>;

    /// What happens from now on. Bounded: a reader that does not keep up loses the newest notices.
    fn notices(&self) -> Receiver<Notice>;
}
