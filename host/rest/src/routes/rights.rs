//! The verbs and who may call them. A handler that takes `May<VERB>` runs only for those, and before any byte of the
//! request's body is read.

use std::marker::PhantomData;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::access::{Caller, Right};
use crate::problem::Problem;
use crate::shared::Shared;

/// Something that a caller may or may not do.
pub trait Verb: Send + 'static {
    /// Its word, which the other doors have too.
    const NAME: &'static str;
    /// Who may.
    const RIGHT: Right;
}

macro_rules! verbs {
    ($($name:ident $right:ident $help:literal;)*) => {$(
        #[doc = $help]
        pub struct $name;

        impl Verb for $name {
            const NAME: &'static str = stringify!($name);
            const RIGHT: Right = Right::$right;
        }
    )*};
}

verbs! {
    Get Read "To look at the node.";
    Apply Change "To change the wiring, or to plan a change.";
    Rollback Change "To bring an earlier wiring back.";
    Confirm Change "To keep a wiring that is on probe.";
    Reload Change "To read the configured wiring again.";
    Drain Change "To drain the node.";
    Publish Change "To put an event into a topic.";
    Calibrate Change "To measure what hops cost.";
    Prewarm Change "To make instances of a function ready.";
    LoadPlugin Own "To load code from outside the plugin folders.";
    Doctor Read "To look at what the system grants.";
}

/// The caller, who may.
pub struct May<V> {
    /// Who calls.
    pub caller: Caller,
    verb: PhantomData<V>,
}

impl<V: Verb> FromRequestParts<Arc<Shared>> for May<V> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Problem> {
        let Some(caller) = parts.extensions.get::<Caller>() else {
            return Err(Problem::unauthenticated("it is not known who calls"));
        };
        if let Err(sentence) = shared.house.decide(caller, V::RIGHT, V::NAME) {
            shared.turned_away(&caller.who(), V::NAME, &sentence);
            return Err(Problem::not_authorized(sentence));
        }
        Ok(May { caller: caller.clone(), verb: PhantomData })
    }
}
