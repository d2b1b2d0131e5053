//! D-Bus values as JSON.

use serde_json::{Map, Number, Value as Json};
use zbus::zvariant::Value;

/// The JSON of a value. Numbers stay numbers, texts texts; what JSON has no word for is its text.
pub fn of(value: &Value<'_>) -> Json {
    match value {
        Value::Bool(v) => Json::Bool(*v),
        Value::U8(v) => Json::from(*v),
        Value::I16(v) => Json::from(*v),
        Value::U16(v) => Json::from(*v),
        Value::I32(v) => Json::from(*v),
        Value::U32(v) => Json::from(*v),
        Value::I64(v) => Json::from(*v),
        Value::U64(v) => Json::from(*v),
        Value::F64(v) => Number::from_f64(*v).map_or(Json::Null, Json::Number),
        Value::Str(v) => Json::from(v.as_str()),
        Value::ObjectPath(v) => Json::from(v.as_str()),
        Value::Value(v) => of(v),
        Value::Array(items) => items.iter().map(of).collect(),
        Value::Structure(fields) => fields.fields().iter().map(of).collect(),
        Value::Dict(entries) => {
            let entries = entries.iter().map(|(key, value)| {
                let key = match of(key) {
                    Json::String(key) => key,
                    other => other.to_string(),
                };
                (key, of(value))
            });
            Json::Object(entries.collect::<Map<_, _>>())
        }
        other => Json::from(format!("{other:?}")),
    }
}
