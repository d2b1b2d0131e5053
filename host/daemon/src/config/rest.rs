//! `[rest]`: where the REST door is, and who comes in over TCP.

use std::collections::BTreeMap;
use std::fmt;

use tempos_control::{Mistake, Origin};
use tempos_rest::Tcp;

use super::reader::Setting;

/// `[rest]`.
#[derive(Clone)]
pub struct RestSettings {
    /// Whether there is a Unix socket for it in the run folder.
    pub socket: bool,
    /// The way in over TCP.
    pub tcp: Tcp,
    /// Where each key stood, the last time that it was set.
    places: BTreeMap<&'static str, Origin>,
}

impl Default for RestSettings {
    fn default() -> Self {
        RestSettings { socket: true, tcp: Tcp::default(), places: BTreeMap::new() }
    }
}

impl fmt::Debug for RestSettings {
    /// What is set, not where.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestSettings").field("socket", &self.socket).field("tcp", &self.tcp).finish()
    }
}

impl RestSettings {
    /// Takes over a key of one file.
    pub(crate) fn set(&mut self, key: &'static str, setting: Setting, place: Origin) {
        self.places.insert(key, place);
        let path = |setting| match setting {
            Setting::Paths(paths) => paths.into_iter().next(),
            _ => None,
        };
        match (key, setting) {
            ("socket", Setting::Flag(flag)) => self.socket = flag,
            ("listen", Setting::Address(address)) => self.tcp.listen = Some(address),
            ("tokens", setting) => self.tcp.tokens = path(setting),
            ("certificate", setting) => self.tcp.certificate = path(setting),
            ("key", setting) => self.tcp.key = path(setting),
            ("authority", setting) => self.tcp.authority = path(setting),
            (key, setting) => unreachable!("[rest] {key} is in the table of keys, {setting:?} has no place"),
        }
    }

    /// What is wrong between the keys, once all files are read.
    pub(crate) fn check(&self, mistakes: &mut Vec<Mistake>) {
        for (key, sentence) in self.tcp.mistakes() {
            let place = self.places.get(key).cloned().unwrap_or_else(|| Origin::new("node.toml", 0));
            mistakes.push(Mistake::new(&place, format!("[rest] {key}: {sentence}")));
        }
    }
}
