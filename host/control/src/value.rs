//! A value of a plugin's option, as a door received it: still without its unit resolved.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a user wrote for an option of an adapter, a queue policy or an invocation method.
///
/// Durations and sizes stay text here ("2ms", "16MiB"): the option table of the plugin says which
/// unit is meant, and only the engine has read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Value {
    /// `true` or `false`.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// A number with a fraction.
    Number(#[serde(with = "crate::exact::number")] f64),
    /// A text, which may carry a unit.
    Text(String),
    /// A list, of values of one kind.
    List(Vec<Value>),
}

impl fmt::Display for Value {
    /// The value as a user would write it in a wiring script.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Flag(v) => write!(f, "{v}"),
            Value::Integer(v) => write!(f, "{v}"),
            Value::Number(v) => write!(f, "{v}"),
            Value::Text(v) => write!(f, "{v:?}"),
            Value::List(items) => {
                f.write_str("{ ")?;
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{item}")?;
                }
                f.write_str(" }")
            }
        }
    }
}

impl From<&str> for Value {
    fn from(v: &str) -> Self {
        Value::Text(v.to_owned())
    }
}
