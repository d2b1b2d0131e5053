//! A client of one node that keeps its connection: for tests that give many orders.

#![allow(dead_code, reason = "each test uses another part of it")]

use std::collections::HashMap;

use tempos_tests::Node;
use tempos_tests::node::{BUS_NAME, ROOT};
use zbus::zvariant::{DynamicDeserialize, DynamicType, OwnedValue, Value};

/// A refusal: the last word of its D-Bus name, and its sentence. A connection that broke has no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused(pub String, pub String);

/// The client.
pub struct Client {
    runtime: tokio::runtime::Runtime,
    connection: zbus::Connection,
}

/// A generation: what the node tells of it by name.
pub type Row = HashMap<String, OwnedValue>;

impl Client {
    /// Connects to the node's own socket.
    pub fn of(node: &Node) -> Client {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let address = format!("unix:path={}", node.peer_socket().display());
        let connection = runtime
            .block_on(async { zbus::connection::Builder::address(address.as_str())?.build().await })
            .expect("the node listens");
        Client { runtime, connection }
    }

    /// Calls a method of the node.
    pub fn call<B, R>(&self, method: &str, body: &B) -> Result<R, Refused>
    where
        B: serde_like::Body,
        R: for<'d> DynamicDeserialize<'d>,
    {
        self.on("org.tempos.Host1.Node", method, body)
    }

    fn on<B, R>(&self, interface: &str, method: &str, body: &B) -> Result<R, Refused>
    where
        B: serde_like::Body,
        R: for<'d> DynamicDeserialize<'d>,
    {
        let call = self.connection.call_method(Some(BUS_NAME), ROOT, Some(interface), method, body);
        match self.runtime.block_on(call) {
            Ok(answer) => Ok(answer.body().deserialize().expect("the answer that was announced")),
            Err(zbus::Error::MethodError(name, sentence, _)) => {
                let name = name.rsplit('.').next().unwrap_or_default().to_owned();
                Err(Refused(name, sentence.unwrap_or_default()))
            }
            Err(other) => Err(Refused(String::new(), other.to_string())),
        }
    }

    /// Applies a script on terms; the generation.
    pub fn apply(&self, lua: &str, terms: &[(&str, Value<'_>)]) -> Result<u64, Refused> {
        let terms: HashMap<&str, &Value<'_>> = terms.iter().map(|(key, value)| (*key, value)).collect();
        self.call::<_, (String, u64)>("ApplyTextWith", &("call", lua, terms))
            .map(|(_, generation)| generation)
    }

    /// Rolls back; 0: to the one before.
    pub fn rollback(&self, to: u64) -> Result<u64, Refused> {
        let terms: HashMap<&str, Value<'_>> = HashMap::new();
        self.call::<_, (String, u64)>("Rollback", &(to, terms)).map(|(_, generation)| generation)
    }

    /// The generation in force.
    pub fn generation(&self) -> Result<u64, Refused> {
        let value: OwnedValue =
            self.on("org.freedesktop.DBus.Properties", "Get", &("org.tempos.Host1.Node", "Generation"))?;
        Ok(u64::try_from(value).expect("a number"))
    }

    /// All generations, the oldest first.
    pub fn generations(&self) -> Vec<Row> {
        self.call("Generations", &()).expect("anybody may ask")
    }
}

/// A text of a row.
pub fn text(row: &Row, key: &str) -> String {
    row.get(key).and_then(|value| <&str>::try_from(value).ok()).unwrap_or_default().to_owned()
}

/// A number of a row.
pub fn number(row: &Row, key: &str) -> u64 {
    row.get(key).and_then(|value| u64::try_from(value).ok()).unwrap_or(0)
}

mod serde_like {
    use super::DynamicType;

    /// What a call may carry.
    pub trait Body: zbus::export::serde::Serialize + DynamicType {}
    impl<T: zbus::export::serde::Serialize + DynamicType> Body for T {}
}
