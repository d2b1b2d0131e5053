//! The manifest: what a plugin's file says of itself in its section `.tempos.plugin`, readable without
//! running any of its code. One line of JSON, filled up with spaces; unknown keys are for later versions.

use semver::Version;
use serde_json::{Map, Value};
use tempos_abi::{ABI_MINOR, PluginKind};

/// The major version of the interface that this host speaks.
pub const ABI_MAJOR: u32 = 1;
/// The largest manifest section, in bytes.
pub const MANIFEST_BYTES_MAX: usize = 4096;
/// The longest plugin name, in bytes: it becomes part of file names and object paths.
pub const NAME_BYTES_MAX: usize = 64;

/// What a plugin's file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its name: small letters, digits, `-` and `_`.
    pub name: String,
    /// Its own version.
    pub version: Version,
    /// What it is.
    pub kind: PluginKind,
    /// The minor version of interface 1 that it was built against.
    pub abi_minor: u32,
}

impl Manifest {
    /// Reads the section's bytes and checks that this host speaks the plugin's interface.
    ///
    /// # Errors
    /// One sentence about the file, such as "it was built for ABI 2.0, this host speaks 1.0".
    pub fn parse(bytes: &[u8]) -> Result<Manifest, String> {
        if bytes.len() > MANIFEST_BYTES_MAX {
            return Err(format!(
                "its manifest has {} bytes; at most {MANIFEST_BYTES_MAX} are allowed",
                bytes.len()
            ));
        }
        let text = std::str::from_utf8(bytes)
            .map_err(|_| {
                String::from("its manifest is not UTF-8 text; build it with tempos_abi::export_plugin!")
            })?
            .trim_matches(|c: char| c == '\0' || c.is_whitespace());
        let Ok(Value::Object(keys)) = serde_json::from_str::<Value>(text) else {
            return Err(String::from(
                "its manifest is not a JSON object; build it with tempos_abi::export_plugin!",
            ));
        };
        let name = checked_name(text_of(&keys, "name")?)?;
        let abi_minor = checked_abi(&name, text_of(&keys, "abi")?)?;
        let version = text_of(&keys, "version")?;
        let version = parse_version(version)
            .ok_or_else(|| format!("its version {version:?} is not MAJOR.MINOR.PATCH, such as \"1.0.0\""))?;
        let kind = match text_of(&keys, "kind")? {
            "adapter" => PluginKind::ADAPTER,
            "queue" => PluginKind::QUEUE,
            "invoker" => PluginKind::INVOKER,
            other => {
                return Err(format!("its kind {other:?} is none of \"adapter\", \"queue\" and \"invoker\""));
            }
        };
        Ok(Manifest { name, version, kind, abi_minor })
    }
}

/// Reads a version of at most 64 bytes.
pub fn parse_version(text: &str) -> Option<Version> {
    (text.len() <= 64).then(|| Version::parse(text).ok()).flatten()
}

fn text_of<'a>(keys: &'a Map<String, Value>, key: &str) -> Result<&'a str, String> {
    keys.get(key).and_then(Value::as_str).ok_or_else(|| {
        format!("its manifest lacks the text {key:?}; build it with tempos_abi::export_plugin!")
    })
}

fn checked_name(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(plain) {
        return Err(format!(
            "its name {name:?} is not 1 to {NAME_BYTES_MAX} small letters, digits, \"-\" and \"_\""
        ));
    }
    Ok(name.to_owned())
}

fn checked_abi(name: &str, abi: &str) -> Result<u32, String> {
    let number = |text: &str| text.parse::<u32>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let (major, minor) = abi
        .split_once('.')
        .and_then(|(major, minor)| Some((number(major)?, number(minor)?)))
        .ok_or_else(|| format!("its ABI {abi:?} is not MAJOR.MINOR, such as \"{ABI_MAJOR}.{ABI_MINOR}\""))?;
    if major != ABI_MAJOR {
        return Err(format!(
            "plugin {name} was built for ABI {major}.{minor}, this host speaks {ABI_MAJOR}.{ABI_MINOR}; build it against tempos-abi {ABI_MAJOR}"
        ));
    }
    if minor > ABI_MINOR {
        return Err(format!(
            "plugin {name} was built for ABI {major}.{minor}, this host speaks up to {ABI_MAJOR}.{ABI_MINOR}; update the host, or build it against tempos-abi {ABI_MAJOR}.{ABI_MINOR}"
        ));
    }
    Ok(minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_export_macros_manifest_is_read_back() {
        let bytes = tempos_abi::export::manifest("udp", "1.2.3", PluginKind::ADAPTER, ABI_MINOR);
        let read = Manifest::parse(&bytes).expect("its own writer's");
        assert_eq!((read.name.as_str(), read.version.to_string().as_str()), ("udp", "1.2.3"));
        assert_eq!((read.kind, read.abi_minor), (PluginKind::ADAPTER, ABI_MINOR));
    }

    #[test]
    fn each_mistake_has_its_sentence() {
        let with = |name: &str, version: &str, kind: &str, abi: &str| {
            let text = format!(r#"{{"name":"{name}","version":"{version}","kind":"{kind}","abi":"{abi}"}}"#);
            Manifest::parse(text.as_bytes()).expect_err("wrong")
        };
        let newest = format!("this host speaks up to {ABI_MAJOR}.{ABI_MINOR}");
        assert!(
            with("udp", "1.0.0", "adapter", "2.0").contains("was built for ABI 2.0, this host speaks 1.")
        );
        assert!(with("udp", "1.0.0", "adapter", "1.99").contains(&newest));
        assert!(with("udp", "1.0.0", "adapter", "+1.0").contains("is not MAJOR.MINOR"));
        assert!(with("../udp", "1.0.0", "adapter", "1.0").contains("small letters"));
        assert!(with("udp", "1", "adapter", "1.0").contains("is not MAJOR.MINOR.PATCH"));
        assert!(with("udp", "1.0.0", "toaster", "1.0").contains("\"toaster\""));
        assert!(Manifest::parse(b"{}").expect_err("empty").contains("lacks the text \"name\""));
        assert!(Manifest::parse(&[b' '; 5000]).expect_err("long").contains("5000 bytes"));
        assert!(Manifest::parse(&[0xff]).expect_err("bytes").contains("UTF-8"));
    }
}
