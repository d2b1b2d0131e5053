//! The objects of the node: each read at the moment of asking.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::{Deserialize, Serialize};
use tempos_control::{Kind, ObjectState, names};
use utoipa::{IntoParams, ToSchema};

use super::rights::{Get, May};
use crate::body::{Name, query};
use crate::limits::LIST;
use crate::object::{Adapter, Channel, Level, Node, Plugin, Topic, Workflow};
use crate::problem::Problem;
use crate::shared::Shared;

/// Which of many objects are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// The most objects in the answer; 100 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
    /// Only objects whose names come after this one: `Next` of the answer before.
    after: Option<String>,
}

/// Some objects of a kind, in the order of their names.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub struct List<T: ToSchema> {
    /// The objects.
    items: Vec<T>,
    /// Where the next ones begin: the `after` of the next request. None where these are the last.
    #[schema(required)]
    next: Option<String>,
}

/// The node itself.
#[utoipa::path(get, path = "/v1/node", tag = "Objects", responses((status = 200, description = "It.", body = Node)))]
pub async fn node(State(shared): State<Arc<Shared>>, _: May<Get>) -> Result<Json<Node>, Problem> {
    one(&shared, Kind::Node, "node", "").await
}

macro_rules! objects {
    ($($list:ident $one:ident $kind:ident $type:ident $lists:literal $ones:literal $word:literal $all:literal $each:literal $example:literal;)*) => {$(
        #[doc = $all]
        #[utoipa::path(get, path = $lists, tag = "Objects", params(ListQuery),
            responses((status = 200, description = "Some of them.", body = List<$type>)))]
        pub async fn $list(State(shared): State<Arc<Shared>>, _: May<Get>, uri: Uri) -> Result<Json<List<$type>>, Problem> {
            some(&shared, Kind::$kind, &uri).await
        }

        #[doc = $each]
        #[utoipa::path(get, path = $ones, tag = "Objects",
            params(("name" = String, Path, description = "Its name, percent-encoded: `/` is `%2F`.", example = $example)),
            responses((status = 200, description = "It.", body = $type)))]
        pub async fn $one(State(shared): State<Arc<Shared>>, _: May<Get>, Name(name): Name) -> Result<Json<$type>, Problem> {
            one(&shared, Kind::$kind, $word, &name).await
        }
    )*};
}

objects! {
    levels level QosLevel Level "/v1/levels" "/v1/levels/{name}" "level" "The QoS levels." "One QoS level." "strict";
    topics topic Topic Topic "/v1/topics" "/v1/topics/{name}" "topic" "The topics, with what is granted to each." "One topic, with what is granted to it." "press";
    workflows workflow Workflow Workflow "/v1/workflows" "/v1/workflows/{name}" "workflow" "The workflows, with what is granted to each." "One workflow, with what is granted to it." "detect";
    channels channel Channel Channel "/v1/channels" "/v1/channels/{name}" "channel" "The open connections." "One open connection." "press/in/1";
    adapters adapter Adapter Adapter "/v1/adapters" "/v1/adapters/{name}" "adapter" "The technologies that channels can be opened with." "One such technology." "udp";
    plugins plugin Plugin Plugin "/v1/plugins" "/v1/plugins/{name}" "plugin" "The plugins." "One plugin." "fifo";
}

async fn one<T>(shared: &Shared, kind: Kind, word: &'static str, name: &str) -> Result<Json<T>, Problem>
where
    T: for<'a> From<&'a ObjectState>,
{
    if let Some(state) = shared.observe(kind, name).await? {
        return Ok(Json(T::from(&state)));
    }
    let known = shared.read(move |node| node.names(kind)).await?;
    let hint = names::hint(name, known.iter().map(String::as_str));
    Err(Problem::no_object(format!("there is no {word} {name:?}{hint}")))
}

async fn some<T>(shared: &Shared, kind: Kind, uri: &Uri) -> Result<Json<List<T>>, Problem>
where
    T: for<'a> From<&'a ObjectState> + ToSchema,
{
    let ListQuery { limit, after } = query(uri)?;
    let (most, usual) = LIST;
    let limit = limit.unwrap_or(usual);
    if !(1..=most).contains(&limit) {
        return Err(Problem::arguments(format!("the query: limit is {limit}; 1 to {most} are allowed")));
    }
    let (states, next) = shared
        .walk(move |node| {
            let names = node.names(kind);
            let start = after.map_or(0, |after| names.partition_point(|name| *name <= after));
            let wanted = &names[start..names.len().min(start + limit)];
            let next = (start + limit < names.len()).then(|| wanted.last().cloned()).flatten();
            let states: Vec<_> = wanted.iter().filter_map(|name| node.observe(kind, name)).collect();
            (states, next)
        })
        .await?;
    Ok(Json(List { items: states.iter().map(T::from).collect(), next }))
}
