//! Who gives an order, as far as the door that took it knows. Nothing is decided by it here: doors have done that.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who gives an order, and through which door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The door: `socket`, `bus`, `rest`, `files`, `signal`, `hook`, or `node` for the node itself.
    pub door: String,
    /// The user, where the door knows it.
    pub user: Option<u32>,
    /// The process, where the door knows it.
    pub process: Option<u32>,
    /// What else names the caller: a token's name, a certificate's subject, a bus name.
    pub name: Option<String>,
}

impl Who {
    /// Somebody of whom only the door is known.
    pub fn at(door: &str) -> Self {
        Who { door: door.to_owned(), user: None, process: None, name: None }
    }
}

impl fmt::Display for Who {
    /// `user 1000, process 4242, socket`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(user) = self.user {
            write!(f, "user {user}, ")?;
        }
        if let Some(process) = self.process {
            write!(f, "process {process}, ")?;
        }
        if let Some(name) = &self.name {
            write!(f, "{name:?}, ")?;
        }
        f.write_str(&self.door)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_named_by_what_is_known() {
        assert_eq!(Who::at("files").to_string(), "files");
        let who = Who { user: Some(1000), process: Some(7), ..Who::at("socket") };
        assert_eq!(who.to_string(), "user 1000, process 7, socket");
        let named = Who { name: Some("ci".into()), ..Who::at("rest") };
        assert_eq!(named.to_string(), "\"ci\", rest");
    }
}
