//! Before a request reaches a resource: is it meant for this node, who makes it, and not too often?

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tempos_control::Who;

use crate::access::Caller;
use crate::limits::{REQUESTS_PER_SECOND, STRANGERS_PER_SECOND};
use crate::page;
use crate::places::Taker;
use crate::problem::Problem;
use crate::shared::{Shared, lock};
use crate::tokens::Tokens;

/// Who is at the other end of a connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// A process of this machine.
    Local(Caller),
    /// An address; where certificates are asked for, one that showed one.
    Remote(IpAddr),
}

/// What the gate knows.
pub struct Gate {
    /// The shared part of the door.
    pub shared: Arc<Shared>,
    /// The tokens, where there are any.
    pub tokens: Option<Tokens>,
}

/// Lets a request through with the caller that it is of, or refuses it.
pub async fn pass(State(gate): State<Arc<Gate>>, mut request: Request, next: Next) -> Response {
    let mut response = match gate.admit(&request) {
        Ok(caller) => {
            if let Some(caller) = caller {
                request.extensions_mut().insert(caller);
            }
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

impl Gate {
    fn admit(&self, request: &Request) -> Result<Option<Caller>, Problem> {
        let Some(peer) = request.extensions().get::<Peer>() else {
            return Err(Problem::internal("it is not known who is at the other end"));
        };
        let headers = request.headers();
        let (stranger, identified) = match peer {
            Peer::Local(caller) => (Taker::from(caller), Ok(caller.clone())),
            Peer::Remote(from) => (Taker::Address(*from), self.identify(*from, headers)),
        };
        let (who, known) = match &identified {
            Ok(caller) => (Taker::from(caller), true),
            Err(_) => (stranger, false),
        };
        if !lock(&self.shared.rates).take(&who, known, Instant::now()) {
            let most = if known { REQUESTS_PER_SECOND } else { STRANGERS_PER_SECOND };
            return Err(Problem::too_fast(format!("more than {most} requests in a second: wait a second")));
        }
        let host = host(request)?;
        if matches!(peer, Peer::Local(_)) && !is_local(&host) {
            return Err(Problem::new(
                StatusCode::MISDIRECTED_REQUEST,
                "Misdirected",
                format!("{host:?} is not this node: over the Unix socket the host is \"localhost\""),
            ));
        }
        same_origin(headers, &host)?;
        match identified {
            Ok(caller) => Ok(Some(caller)),
            // The page holds nothing of the node: it asks for a token itself.
            Err(_) if page::is_part(request.uri().path()) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    fn identify(&self, from: IpAddr, headers: &HeaderMap) -> Result<Caller, Problem> {
        // The door is only opened to addresses with tokens, certificates or both.
        let Some(tokens) = &self.tokens else { return Ok(Caller::Certificate { from }) };
        let Some(sent) = headers.get(header::AUTHORIZATION) else {
            return Err(Problem::unauthenticated(
                "a token is needed: send the field \"Authorization: Bearer TOKEN\"",
            ));
        };
        let sent = sent.as_bytes();
        let Some(token) = sent
            .split_at_checked(7)
            .and_then(|(scheme, rest)| scheme.eq_ignore_ascii_case(b"bearer ").then_some(rest.trim_ascii()))
        else {
            return Err(Problem::unauthenticated(
                "the field Authorization is not of the form \"Bearer TOKEN\"",
            ));
        };
        match tokens.find(token) {
            Ok(Some((name, scope))) => Ok(Caller::Token { name, scope, from }),
            Ok(None) => {
                let sentence = "this token is not known here";
                let who = Who { name: Some(from.to_string()), ..Who::at("rest") };
                self.shared.turned_away(&who, "a request", sentence);
                Err(Problem::unauthenticated(sentence))
            }
            Err(_) => Err(Problem::unauthenticated(
                "no token is known at the moment: the token file holds mistakes, `temposd --check` lists them",
            )),
        }
    }
}

/// The host that a request names.
fn host(request: &Request) -> Result<String, Problem> {
    if let Some(authority) = request.uri().authority() {
        return Ok(authority.to_string());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next().map(HeaderValue::to_str), hosts.next()) {
        (Some(Ok(host)), None) => Ok(host.to_owned()),
        _ => Err(Problem::arguments("a request names its host once, in the field Host")),
    }
}

/// Whether a host can only be this machine: a page of somewhere else whose name was made to point here has its own.
fn is_local(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A browser says for which page it asks: pages of other places may not.
fn same_origin(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    let foreign = |from: &str| {
        Err(Problem::new(
            StatusCode::FORBIDDEN,
            "CrossOrigin",
            format!("a page of {from} may not speak to this node"),
        ))
    };
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let own = origin.split_once("://").is_some_and(|(_, place)| place.eq_ignore_ascii_case(host));
        if !own {
            return foreign(&format!("{origin:?}"));
        }
    }
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => foreign("another place"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_local() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:80", "[::1]:8080", "127.1.2.3"] {
            assert!(is_local(host), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example:80", "10.0.0.1", "[::2]"] {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn pages_of_other_places_are_refused() {
        let with = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(name.parse().expect("a name"), HeaderValue::from_static(value))])
        };
        assert!(same_origin(&HeaderMap::new(), "localhost").is_ok());
        assert!(same_origin(&with("origin", "http://localhost:8080"), "localhost:8080").is_ok());
        assert!(same_origin(&with("sec-fetch-site", "none"), "localhost").is_ok());
        for (name, value) in [
            ("origin", "null"),
            ("origin", "http://evil.example"),
            ("origin", "http://localhost:1"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert!(same_origin(&with(name, value), "localhost:8080").is_err(), "{value}");
        }
    }
}
