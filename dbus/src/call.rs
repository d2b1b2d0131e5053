//! One call: which object, interface and method it means, whether the caller may, and the answer.
//!
//! The objects are not registered anywhere: a path is taken apart and the node is asked. So 10,000 topics
//! cost nothing at start, nothing for each new connection, and can never differ from what the node has.

use std::collections::BTreeMap;
use std::sync::Arc;

use tempos_control::{Kind, Node, Who, names};
use zbus::Message;
use zbus::message::Flags;
use zbus::zvariant::{self, DynamicType, ObjectPath, Value};

use crate::access::polkit_action;
use crate::caller;
use crate::face::{self, Face, Method, Right};
use crate::failure::Failure;
use crate::introspect;
use crate::link::{Link, Side};
use crate::path::{self, KINDS, Place};
use crate::property;
use crate::shared::Shared;
use crate::{orders, stub};

/// A call that came in.
pub struct Call<'a> {
    /// The door.
    pub shared: &'a Arc<Shared>,
    /// The connection.
    pub link: &'a Arc<Link>,
    /// The message.
    pub message: &'a Message,
}

impl Call<'_> {
    /// The answer with that body.
    pub fn reply<B>(&self, body: &B) -> Result<Message, Failure>
    where
        B: serde::Serialize + DynamicType,
    {
        let header = self.message.header();
        let mut builder = Message::method_return(&header)?;
        if let Some(sender) = self.link.sender() {
            builder = builder.sender(sender)?;
        }
        Ok(builder.build(body)?)
    }
}

/// The message that refuses a call.
pub fn refusal(link: &Link, message: &Message, failure: &Failure) -> zbus::Result<Message> {
    let header = message.header();
    let mut builder = Message::error(&header, failure.name)?;
    if let Some(sender) = link.sender() {
        builder = builder.sender(sender)?;
    }
    builder.build(&failure.sentence.as_str())
}

/// Answers a call.
pub async fn answer(call: &Call<'_>) -> Result<Message, Failure> {
    let header = call.message.header();
    let path = header.path().map(|p| p.as_str()).unwrap_or_default();
    let interface = header.interface().map(|i| i.as_str());
    let member = header.member().map(|m| m.as_str()).unwrap_or_default();
    if call.link.peer().is_some() {
        let destination = header.destination().map(|d| d.as_str());
        if destination == Some(stub::NAME) || path == stub::PATH {
            return stub::answer(call, interface, member).await;
        }
        if let Some(other) = destination.filter(|d| ![crate::NAME, crate::link::OWN_PEER_NAME].contains(d)) {
            return Err(Failure::new(
                "org.freedesktop.DBus.Error.ServiceUnknown",
                format!("{other} is not here: this is the socket of {} alone", crate::NAME),
            ));
        }
    }
    if interface == Some(face::PEER.name) {
        // Peer is the same on every path, also where no object is (D-Bus specification).
        return answer_peer(call, member);
    }
    let place = path::place(path).ok_or_else(|| Failure::no_object(path))?;
    let faces = faces_of(&place);
    let (face, method) = find(&faces, interface, member, path)?;
    let who = if method.right == Right::Anyone { Who::at("bus") } else { authorize(call, method).await? };
    check_arguments(call.message, face, method)?;
    match face.name {
        name if name == face::NODE.name => orders::answer(call, method.name, who).await,
        name if name == face::PROPERTIES.name => answer_properties(call, &place, path, member).await,
        name if name == face::INTROSPECTABLE.name => answer_introspect(call, &place, &faces, path).await,
        name if name == face::OBJECT_MANAGER.name => answer_managed(call).await,
        _ => answer_peer(call, member),
    }
}

/// The interfaces of what stands at a place, its own first.
fn faces_of(place: &Place) -> Vec<&'static Face> {
    match place {
        Place::Above(_) | Place::Folder(_) => vec![&face::INTROSPECTABLE, &face::PEER],
        Place::Root => {
            vec![&face::NODE, &face::OBJECT_MANAGER, &face::PROPERTIES, &face::INTROSPECTABLE, &face::PEER]
        }
        Place::Object(kind, _) => {
            vec![face::of(*kind), &face::PROPERTIES, &face::INTROSPECTABLE, &face::PEER]
        }
    }
}

/// The method that a call means; a call may leave the interface out (D-Bus specification).
pub fn find(
    faces: &[&'static Face],
    interface: Option<&str>,
    member: &str,
    path: &str,
) -> Result<(&'static Face, &'static Method), Failure> {
    if let Some(name) = interface
        && !faces.iter().any(|f| f.name == name)
    {
        let hint = names::hint(name, faces.iter().map(|f| f.name));
        return Err(Failure::new(
            "org.freedesktop.DBus.Error.UnknownInterface",
            format!("{path} has no interface {name:?}{hint}"),
        ));
    }
    let considered = || faces.iter().copied().filter(|f| interface.is_none_or(|name| f.name == name));
    let found = considered().find_map(|f| f.methods.iter().find(|m| m.name == member).map(|m| (f, m)));
    found.ok_or_else(|| {
        let known: Vec<_> = considered().flat_map(|f| f.methods).map(|m| m.name).collect();
        Failure::new(
            "org.freedesktop.DBus.Error.UnknownMethod",
            format!("{path} has no method {member:?}{}", names::hint(member, known.iter().copied())),
        )
    })
}

/// Whether the caller may; on the system bus polkit may say yes where user and group say no. The answer is who it
/// is; that somebody was turned away, the node is told.
async fn authorize(call: &Call<'_>, method: &Method) -> Result<Who, Failure> {
    let house = &call.shared.house;
    let refused = |who: &Who, sentence: String| {
        call.shared.turned_away(who, method.name, &sentence);
        Err(Failure::not_authorized(sentence))
    };
    match &call.link.side {
        Side::Peer(peer) => {
            let who = peer.caller.who("socket", None);
            match house.decide(&peer.caller, method.right, method.name) {
                Ok(()) => Ok(who),
                Err(sentence) => refused(&who, sentence),
            }
        }
        Side::Bus { .. } => {
            let header = call.message.header();
            let Some(sender) = header.sender() else {
                return refused(&Who::at("bus"), String::from("the bus does not say who calls"));
            };
            let bus = &call.link.connection;
            let caller = match caller::of_bus(bus, sender).await {
                Ok(caller) => caller,
                Err(sentence) => return refused(&Who::at("bus"), sentence),
            };
            let who = caller.who("bus", Some(sender.as_str()));
            let Err(sentence) = house.decide(&caller, method.right, method.name) else { return Ok(who) };
            let interactive = call.message.primary_header().flags().contains(Flags::AllowInteractiveAuth);
            let action = polkit_action(method.name);
            if call.shared.polkit && caller::polkit_grants(bus, sender, &action, interactive).await {
                return Ok(who);
            }
            refused(&who, sentence)
        }
    }
}

/// Checks the signature, so that what follows reads arguments of the right types.
pub fn check_arguments(message: &Message, face: &Face, method: &Method) -> Result<(), Failure> {
    let right: String = method.takes.iter().map(|(_, signature)| *signature).collect();
    let given = message.header().signature().to_string_no_parens();
    if given == right {
        return Ok(());
    }
    let takes: Vec<_> = method.takes.iter().map(|(name, signature)| format!("{name}: {signature}")).collect();
    Err(Failure::arguments(format!(
        "{}.{} takes ({}), the call carries {given:?}",
        face.name,
        method.name,
        takes.join(", ")
    )))
}

/// A body that is not what its own signature says.
pub fn unreadable(error: zbus::Error) -> Failure {
    Failure::arguments(format!("the arguments are not readable: {error}"))
}

fn answer_peer(call: &Call<'_>, member: &str) -> Result<Message, Failure> {
    let (face, method) = find(&[&face::PEER], Some(face::PEER.name), member, "every object")?;
    check_arguments(call.message, face, method)?;
    if method.name == "Ping" {
        return call.reply(&());
    }
    let id = std::fs::read_to_string("/etc/machine-id")
        .or_else(|_| std::fs::read_to_string("/var/lib/dbus/machine-id"))
        .map_err(|e| Failure::internal(format!("this machine has no id in /etc/machine-id: {e}")))?;
    call.reply(&property::text(id.trim()))
}

async fn answer_introspect(
    call: &Call<'_>,
    place: &Place,
    faces: &[&Face],
    path: &str,
) -> Result<Message, Failure> {
    let children = match place {
        Place::Above(child) => vec![(*child).to_owned()],
        Place::Root => KINDS.into_iter().map(|kind| kind.word().to_owned()).collect(),
        Place::Folder(kind) => {
            let kind = *kind;
            call.shared
                .read(move |node| node.names(kind))
                .await?
                .iter()
                .map(|name| path::escape(name))
                .collect()
        }
        Place::Object(kind, name) => {
            call.shared.observe(*kind, name).await?.ok_or_else(|| Failure::no_object(path))?;
            Vec::new()
        }
    };
    call.reply(&introspect::xml(faces, &children))
}

async fn answer_properties(
    call: &Call<'_>,
    place: &Place,
    path: &str,
    member: &str,
) -> Result<Message, Failure> {
    let (kind, name) = match place {
        Place::Object(kind, name) => (*kind, name.as_str()),
        _ => (Kind::Node, ""),
    };
    let face = face::of(kind);
    let body = call.message.body();
    let (interface, wanted) = match member {
        "GetAll" => (body.deserialize::<String>().map_err(unreadable)?, None),
        "Get" => {
            let (interface, property) = body.deserialize::<(String, String)>().map_err(unreadable)?;
            (interface, Some(property))
        }
        _ => {
            let (interface, property, _) =
                body.deserialize::<(String, String, Value<'_>)>().map_err(unreadable)?;
            (interface, Some(property))
        }
    };
    let own = interface.is_empty() || interface == face.name;
    if !own && !faces_of(place).iter().any(|f| f.name == interface) {
        let hint = names::hint(&interface, [face.name]);
        return Err(Failure::new(
            "org.freedesktop.DBus.Error.UnknownInterface",
            format!("{path} has no interface {interface:?}{hint}"),
        ));
    }
    let property = match &wanted {
        None => None,
        Some(wanted) => Some(face.property(wanted).filter(|_| own).ok_or_else(|| {
            let hint = names::hint(wanted, face.properties.iter().map(|p| p.name));
            Failure::new(
                "org.freedesktop.DBus.Error.UnknownProperty",
                format!("{path} has no property {wanted:?}{hint}"),
            )
        })?),
    };
    if member == "Set" {
        return Err(Failure::new(
            "org.freedesktop.DBus.Error.PropertyReadOnly",
            format!("{} is read-only: a node is changed by its wiring", wanted.unwrap_or_default()),
        ));
    }
    let state = call.shared.observe(kind, name).await?.ok_or_else(|| Failure::no_object(path))?;
    match property {
        Some(property) => call.reply(&property::value(&state, property)),
        None if own => call.reply(&property::values(&state, face)),
        None => call.reply(&BTreeMap::<&str, Value<'_>>::new()),
    }
}

/// The interfaces and properties of an object, as `GetManagedObjects` and `InterfacesAdded` carry them.
pub type Interfaces = BTreeMap<&'static str, BTreeMap<&'static str, Value<'static>>>;

/// Reads an object with its interfaces.
pub fn interfaces(node: &dyn Node, kind: Kind, name: &str) -> Option<Interfaces> {
    let state = node.observe(kind, name)?;
    let face = face::of(kind);
    Some(BTreeMap::from([(face.name, property::values(&state, face))]))
}

/// An object's path for the wire.
pub fn object_path(kind: Kind, name: &str) -> Result<ObjectPath<'static>, zvariant::Error> {
    ObjectPath::try_from(path::of(kind, name))
}

async fn answer_managed(call: &Call<'_>) -> Result<Message, Failure> {
    let objects = call.shared.walk(|node| {
        let mut objects: Vec<(ObjectPath<'static>, Interfaces)> = Vec::new();
        for kind in KINDS {
            for name in node.names(kind) {
                if let (Some(interfaces), Ok(path)) =
                    (interfaces(node, kind, &name), object_path(kind, &name))
                {
                    objects.push((path, interfaces));
                }
            }
        }
        objects.into_iter().collect::<BTreeMap<_, _>>()
    });
    call.reply(&objects.await?)
}
