//! The few words of a bus that clients expect, on the peer socket: with them `busctl`, `gdbus` and every
//! library that says `Hello` work without a bus daemon.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use zbus::zvariant::Value;
use zbus::{MatchRule, Message};

use crate::call::{Call, check_arguments, find, unreadable};
use crate::face::{Face, INTROSPECTABLE, Method, PEER, Right};
use crate::failure::Failure;
use crate::introspect;
use crate::limits::MATCH_RULES;
use crate::link::{OWN_PEER_NAME, Peer};
use crate::shared::lock;

/// The name of a bus.
pub const NAME: &str = "org.freedesktop.DBus";
/// Its object.
pub const PATH: &str = "/org/freedesktop/DBus";

const fn method(
    name: &'static str,
    takes: &'static [(&'static str, &'static str)],
    returns: &'static [(&'static str, &'static str)],
) -> Method {
    Method { name, takes, returns, right: Right::Anyone }
}

static BUS: Face = Face {
    name: NAME,
    methods: &[
        method("Hello", &[], &[("unique_name", "s")]),
        method("AddMatch", &[("rule", "s")], &[]),
        method("RemoveMatch", &[("rule", "s")], &[]),
        method("ListNames", &[], &[("names", "as")]),
        method("ListActivatableNames", &[], &[("names", "as")]),
        method("NameHasOwner", &[("name", "s")], &[("has_owner", "b")]),
        method("GetNameOwner", &[("name", "s")], &[("unique_name", "s")]),
        method("StartServiceByName", &[("name", "s"), ("flags", "u")], &[("result", "u")]),
        method("GetConnectionUnixUser", &[("name", "s")], &[("uid", "u")]),
        method("GetConnectionUnixProcessID", &[("name", "s")], &[("pid", "u")]),
        method("GetConnectionCredentials", &[("name", "s")], &[("credentials", "a{sv}")]),
        method("GetId", &[], &[("id", "s")]),
    ],
    properties: &[],
    signals: &[],
};

static MONITORING: Face = Face {
    name: "org.freedesktop.DBus.Monitoring",
    methods: &[method("BecomeMonitor", &[("rules", "as"), ("flags", "u")], &[])],
    properties: &[],
    signals: &[],
};

/// Answers a call to the bus that is not there.
pub async fn answer(call: &Call<'_>, interface: Option<&str>, member: &str) -> Result<Message, Failure> {
    let Some(peer) = call.link.peer() else {
        return Err(Failure::internal("a bus answers for itself"));
    };
    let faces = [&BUS, &MONITORING, &INTROSPECTABLE, &PEER];
    let (face, method) = find(&faces, interface, member, PATH)?;
    check_arguments(call.message, face, method)?;
    let body = call.message.body();
    let own_name = || -> Result<(), Failure> {
        let name: String = match method.name {
            "StartServiceByName" => body.deserialize::<(String, u32)>().map_err(unreadable)?.0,
            _ => body.deserialize().map_err(unreadable)?,
        };
        known(&name, peer).map(|_| ())
    };
    match method.name {
        "Hello" => {
            if peer.greeted.swap(true, Ordering::AcqRel) {
                return Err(Failure::internal("Hello was said already"));
            }
            call.reply(&peer.name.as_str())
        }
        "AddMatch" | "RemoveMatch" => {
            let rule: String = body.deserialize().map_err(unreadable)?;
            match_rule(peer, &rule, method.name == "AddMatch")?;
            call.reply(&())
        }
        "BecomeMonitor" => {
            // All that can be watched here is what the node says: a monitor sees all of it.
            match_rule(peer, "", true)?;
            // A monitor shows nothing before it has lost its name, as it does on a bus.
            let lost =
                Message::signal(PATH, NAME, "NameLost")?.sender(NAME)?.destination(peer.name.as_str())?;
            call.link.signal(lost.build(&peer.name.as_str())?).await;
            call.reply(&())
        }
        "ListNames" => call.reply(&[NAME, crate::NAME, OWN_PEER_NAME, peer.name.as_str()].as_slice()),
        "ListActivatableNames" => call.reply(&[NAME].as_slice()),
        "NameHasOwner" => call.reply(&own_name().is_ok()),
        "GetNameOwner" => {
            let name: String = body.deserialize().map_err(unreadable)?;
            call.reply(&known(&name, peer)?)
        }
        "StartServiceByName" => {
            own_name()?;
            // DBUS_START_REPLY_ALREADY_RUNNING
            call.reply(&2u32)
        }
        "GetConnectionUnixUser" => {
            own_name()?;
            call.reply(&call.shared.house.own_uid)
        }
        "GetConnectionUnixProcessID" => {
            own_name()?;
            call.reply(&std::process::id())
        }
        "GetConnectionCredentials" => {
            own_name()?;
            call.reply(&HashMap::from([
                ("UnixUserID", Value::from(call.shared.house.own_uid)),
                ("ProcessID", Value::from(std::process::id())),
            ]))
        }
        "GetId" => call.reply(&call.link.connection.server_guid().as_str()),
        "Introspect" => call.reply(&introspect::xml(&faces, &[])),
        _ => call.reply(&()),
    }
}

/// The unique name of whoever has this name.
fn known<'a>(name: &str, peer: &'a Peer) -> Result<&'a str, Failure> {
    match name {
        crate::NAME | OWN_PEER_NAME => Ok(OWN_PEER_NAME),
        NAME => Ok(NAME),
        name if name == peer.name => Ok(&peer.name),
        _ => Err(Failure::new(
            "org.freedesktop.DBus.Error.NameHasNoOwner",
            format!("{name:?} is not here: this is the socket of {} alone", crate::NAME),
        )),
    }
}

fn match_rule(peer: &Peer, text: &str, add: bool) -> Result<(), Failure> {
    let rule = if text.is_empty() {
        MatchRule::builder().build()
    } else {
        MatchRule::try_from(text)
            .map_err(|e| {
                Failure::new(
                    "org.freedesktop.DBus.Error.MatchRuleInvalid",
                    format!("{text:?} is not a match rule: {e}"),
                )
            })?
            .into_owned()
    };
    let mut rules = lock(&peer.rules);
    if add {
        if rules.len() >= MATCH_RULES {
            return Err(Failure::new(
                "org.freedesktop.DBus.Error.LimitsExceeded",
                format!("a connection may have {MATCH_RULES} match rules"),
            ));
        }
        rules.push(rule);
        return Ok(());
    }
    match rules.iter().position(|r| *r == rule) {
        Some(at) => {
            rules.swap_remove(at);
            Ok(())
        }
        None => Err(Failure::new(
            "org.freedesktop.DBus.Error.MatchRuleNotFound",
            format!("there is no rule {text:?}"),
        )),
    }
}
