//! The document that describes the door (OpenAPI 3.1): from the handlers, and what is true of all of them.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, RefOr, Response,
    ResponseBuilder,
};

use crate::problem::{PROBLEM_JSON, ProblemDetails};

const ABOUT: &str = "The node's objects, its wiring and its orders, with the words of org.tempos.Host1 on D-Bus. \
Over the Unix socket the kernel says who calls; over TCP a token does, or a certificate. \
Names in paths are percent-encoded. Whatever is refused is answered with a problem (RFC 9457).";

/// What may be answered to anything.
const ALWAYS: &[(&str, &str)] = &[
    ("400", "The request is not what is taken here."),
    ("401", "A token is needed, or this one is not known."),
    ("403", "The caller may not do that."),
    ("421", "The request is for another host."),
    ("429", "The caller makes more requests than he may."),
    ("500", "Something that should not happen did, or the system refused something."),
    ("503", "A bound of the node is reached; try again."),
];
/// And to what names an object, or orders something.
const NAMED: (&str, &str) = ("404", "No object has this name.");
/// And to orders.
const ORDERED: &[(&str, &str)] = &[
    ("409", "The node is draining, or the quality that is asked for cannot be granted."),
    ("422", "A wiring, an event or a plugin that is refused, with every mistake."),
];
/// And to what has a body.
const SENT: &[(&str, &str)] = &[
    ("408", "The body comes too slowly."),
    ("413", "The body is too large."),
    ("415", "The body is of a kind that is not taken here."),
];

/// The head of the document.
pub fn head() -> OpenApi {
    let info = InfoBuilder::new()
        .title("TEMPOS node")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(utoipa::openapi::License::new("Apache-2.0")));
    let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
    let components = ComponentsBuilder::new()
        .schema_from::<ProblemDetails<'_>>()
        .security_scheme("token", SecurityScheme::Http(bearer))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        // Over the Unix socket none is needed.
        .security(Some([SecurityRequirement::new("token", [""; 0]), SecurityRequirement::default()]))
        .build()
}

/// The whole document, in JSON.
pub fn finish(mut api: OpenApi) -> String {
    for (path, item) in &mut api.paths.paths {
        let named = path.contains('{');
        for operation in [&mut item.get, &mut item.put, &mut item.post].into_iter().flatten() {
            add(operation, ALWAYS);
        }
        if let Some(get) = &mut item.get
            && named
        {
            add(get, &[NAMED]);
        }
        for order in [&mut item.put, &mut item.post].into_iter().flatten() {
            add(order, ORDERED);
            add(order, &[NAMED]);
            if order.request_body.is_some() {
                add(order, SENT);
            }
        }
    }
    // What was built from Rust types can always be written.
    api.to_pretty_json().unwrap_or_default()
}

fn add(operation: &mut Operation, answers: &[(&str, &str)]) {
    for (status, description) in answers {
        operation
            .responses
            .responses
            .entry((*status).into())
            .or_insert_with(|| RefOr::T(problem(description)));
    }
}

fn problem(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
    ResponseBuilder::new().description(description).content(PROBLEM_JSON, content).build()
}
