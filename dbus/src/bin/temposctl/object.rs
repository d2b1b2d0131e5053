//! An object of the node as the bus shows it: its name and its properties.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value as Json};
use zbus::zvariant::{OwnedValue, Value};

use crate::json;

/// The properties of an interface.
pub type Properties = HashMap<String, OwnedValue>;

/// An object.
#[derive(Debug)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Its properties.
    pub properties: Properties,
}

impl Object {
    /// A text; empty where there is none.
    pub fn text(&self, property: &str) -> &str {
        self.properties.get(property).and_then(|v| v.downcast_ref::<&str>().ok()).unwrap_or_default()
    }

    /// A count; 0 where there is none.
    pub fn count(&self, property: &str) -> u64 {
        self.properties.get(property).and_then(|v| v.downcast_ref::<u64>().ok()).unwrap_or_default()
    }

    /// A list of texts.
    pub fn texts(&self, property: &str) -> Vec<String> {
        self.read(property).unwrap_or_default()
    }

    /// Counts by name.
    pub fn counts(&self, property: &str) -> BTreeMap<String, u64> {
        self.read::<HashMap<String, u64>>(property).unwrap_or_default().into_iter().collect()
    }

    /// p50, p99, p99.9 and max by hop, in nanoseconds.
    pub fn latency(&self) -> HashMap<String, (u64, u64, u64, u64)> {
        self.latency_of("LatencyNs")
    }

    /// The same of another property.
    pub fn latency_of(&self, property: &str) -> HashMap<String, (u64, u64, u64, u64)> {
        self.read(property).unwrap_or_default()
    }

    /// Rows of four texts.
    pub fn rows(&self, property: &str) -> Vec<(String, String, String, String)> {
        self.read(property).unwrap_or_default()
    }

    fn read<T>(&self, property: &str) -> Option<T>
    where
        T: TryFrom<OwnedValue>,
    {
        let value: &Value<'_> = self.properties.get(property)?;
        OwnedValue::try_from(value).ok().and_then(|v| T::try_from(v).ok())
    }

    /// All of it, the name first.
    pub fn json(&self) -> Json {
        let mut map = Map::new();
        map.insert("name".into(), Json::from(self.name.as_str()));
        map.extend(properties_json(&self.properties));
        Json::Object(map)
    }
}

/// Properties as JSON.
pub fn properties_json(properties: &Properties) -> Map<String, Json> {
    properties.iter().map(|(key, value)| (key.clone(), json::of(value))).collect()
}
