//! Object paths: where an object stands below `/org/tempos/Host1`, and its name in that path.
//!
//! Names are escaped as systemd does (`bus_label_escape`): ASCII letters and digits stand for themselves,
//! every other byte, and a digit at the beginning, is `_` and two hexadecimal digits; an empty name is `_`.

use tempos_control::Kind;

/// The root object.
pub const ROOT: &str = "/org/tempos/Host1";

/// The kinds of objects below the root, in the order of their folders.
pub const KINDS: [Kind; 6] =
    [Kind::QosLevel, Kind::Plugin, Kind::Adapter, Kind::Channel, Kind::Topic, Kind::Workflow];

/// What a path of the tree stands for. Whether an object of that name exists is the node's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A folder above the root, with the one child that leads down to it.
    Above(&'static str),
    /// The root object: the node.
    Root,
    /// The folder of the objects of one kind.
    Folder(Kind),
    /// An object.
    Object(Kind, String),
}

/// Writes a name as one element of an object path.
pub fn escape(name: &str) -> String {
    if name.is_empty() {
        return "_".into();
    }
    let mut label = String::with_capacity(name.len() + 8);
    for (at, byte) in name.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            label.push(char::from(byte));
        } else {
            label.push('_');
            for nibble in [byte >> 4, byte & 15] {
                label.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
    }
    label
}

/// Reads a name back from its path element. `None` where no name is written so: one name, one path.
pub fn unescape(label: &str) -> Option<String> {
    if label == "_" {
        return Some(String::new());
    }
    let mut name = Vec::with_capacity(label.len());
    let mut rest = label.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'_' {
            let (digits, tail) = tail.split_at_checked(2)?;
            let hex = std::str::from_utf8(digits).ok()?;
            name.push(u8::from_str_radix(hex, 16).ok()?);
            rest = tail;
        } else {
            name.push(*first);
            rest = tail;
        }
    }
    let name = String::from_utf8(name).ok()?;
    (escape(&name) == label).then_some(name)
}

/// The path of an object.
pub fn of(kind: Kind, name: &str) -> String {
    match kind {
        Kind::Node => ROOT.into(),
        _ => format!("{ROOT}/{}/{}", kind.word(), escape(name)),
    }
}

/// What `path` stands for; `None` where nothing can be there.
pub fn place(path: &str) -> Option<Place> {
    match path {
        "/" => return Some(Place::Above("org")),
        "/org" => return Some(Place::Above("tempos")),
        "/org/tempos" => return Some(Place::Above("Host1")),
        ROOT => return Some(Place::Root),
        _ => {}
    }
    let below = path.strip_prefix(ROOT)?.strip_prefix('/')?;
    let (folder, label) = match below.split_once('/') {
        Some((folder, label)) => (folder, Some(label)),
        None => (below, None),
    };
    let kind = KINDS.into_iter().find(|kind| kind.word() == folder)?;
    match label {
        None => Some(Place::Folder(kind)),
        Some(label) => Some(Place::Object(kind, unescape(label)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_systemd_does() {
        assert_eq!(escape("press/vibration"), "press_2fvibration");
        assert_eq!(escape("best-effort"), "best_2deffort");
        assert_eq!(escape("9lives9"), "_39lives9");
        assert_eq!(escape("a_b"), "a_5fb");
        assert_eq!(escape(""), "_");
        assert_eq!(escape("é"), "_c3_a9");
    }

    #[test]
    fn every_name_comes_back_and_no_two_share_a_path() {
        let mut seen = std::collections::HashMap::new();
        for a in 0..=127u8 {
            for b in [None, Some(b'_'), Some(b'2'), Some(b'/')] {
                let name: String = std::iter::once(a).chain(b).map(char::from).collect();
                let label = escape(&name);
                assert!(label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_'), "{label}");
                assert_eq!(unescape(&label).as_deref(), Some(name.as_str()));
                assert_eq!(seen.insert(label, name), None);
            }
        }
    }

    #[test]
    fn a_label_that_no_name_has_is_refused() {
        for label in ["", "_2", "_2F", "_zz", "a_41", "_ff", "9", "a-b", "_+1"] {
            assert_eq!(unescape(label).filter(|name| !name.is_empty()), None, "{label}");
        }
    }

    #[test]
    fn paths_have_their_places() {
        assert_eq!(place("/org"), Some(Place::Above("tempos")));
        assert_eq!(place(ROOT), Some(Place::Root));
        assert_eq!(place("/org/tempos/Host1/qos"), Some(Place::Folder(Kind::QosLevel)));
        let path = of(Kind::Topic, "press/vibration");
        assert_eq!(path, "/org/tempos/Host1/topic/press_2fvibration");
        assert_eq!(place(&path), Some(Place::Object(Kind::Topic, "press/vibration".into())));
        for nowhere in
            ["/com", "/org/tempos/Host12", "/org/tempos/Host1/queue/a", "/org/tempos/Host1/topic/a/b"]
        {
            assert_eq!(place(nowhere), None, "{nowhere}");
        }
    }
}
