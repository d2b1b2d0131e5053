//! Why a call was not answered: a D-Bus error name and one sentence that says all, since `busctl` prints
//! nothing but the sentence.

use tempos_control::{Refusal, RefusalKind};

use crate::limits::SENTENCE_BYTES;

/// A refused call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The name of the error.
    pub name: &'static str,
    /// The sentence.
    pub sentence: String,
}

impl Failure {
    /// A failure of that name.
    pub fn new(name: &'static str, sentence: impl Into<String>) -> Self {
        Failure { name, sentence: bounded(sentence.into()) }
    }

    /// The arguments are not what the method takes.
    pub fn arguments(sentence: impl Into<String>) -> Self {
        Failure::new("org.freedesktop.DBus.Error.InvalidArgs", sentence)
    }

    /// There is no such object.
    pub fn no_object(path: &str) -> Self {
        Failure::new("org.freedesktop.DBus.Error.UnknownObject", format!("there is no object at {path}"))
    }

    /// The caller may not do that.
    pub fn not_authorized(sentence: impl Into<String>) -> Self {
        Failure::new("org.tempos.Host1.Error.NotAuthorized", sentence)
    }

    /// A bound is reached.
    pub fn overloaded(sentence: impl Into<String>) -> Self {
        Failure::new("org.tempos.Host1.Error.Overloaded", sentence)
    }

    /// Something that should not happen did.
    pub fn internal(sentence: impl Into<String>) -> Self {
        Failure::new("org.freedesktop.DBus.Error.Failed", sentence)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let name = match refusal.kind {
            RefusalKind::InvalidWiring => "org.tempos.Host1.Error.InvalidWiring",
            RefusalKind::NoSuchObject => "org.tempos.Host1.Error.NoSuchObject",
            RefusalKind::QosNotGrantable => "org.tempos.Host1.Error.QosNotGrantable",
            RefusalKind::PluginRejected => "org.tempos.Host1.Error.PluginRejected",
            RefusalKind::Overloaded => "org.tempos.Host1.Error.Overloaded",
            RefusalKind::NotAuthorized => "org.tempos.Host1.Error.NotAuthorized",
            RefusalKind::ShuttingDown => "org.tempos.Host1.Error.ShuttingDown",
            RefusalKind::OutOfDate => "org.tempos.Host1.Error.OutOfDate",
            RefusalKind::System => "org.tempos.Host1.Error.System",
            _ => "org.freedesktop.DBus.Error.Failed",
        };
        Failure::new(name, refusal.message)
    }
}

impl From<zbus::Error> for Failure {
    fn from(error: zbus::Error) -> Self {
        Failure::internal(format!("the answer could not be written: {error}"))
    }
}

/// The sentence without NUL and of bounded length.
fn bounded(sentence: String) -> String {
    let mut sentence = if sentence.contains('\0') { sentence.replace('\0', "\u{fffd}") } else { sentence };
    if sentence.len() > SENTENCE_BYTES {
        let cut = (0..=SENTENCE_BYTES).rev().find(|at| sentence.is_char_boundary(*at)).unwrap_or(0);
        sentence.truncate(cut);
        sentence.push('…');
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_bounded_and_can_be_sent() {
        let failure = Failure::arguments(format!("a\0b{}", "é".repeat(SENTENCE_BYTES)));
        assert!(failure.sentence.len() <= SENTENCE_BYTES + 4 && !failure.sentence.contains('\0'));
    }
}
