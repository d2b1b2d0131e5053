//! Who takes over from whom. Pure: names, versions and hashes in, a decision out.

use std::cmp::Ordering;

use semver::Version;
use tempos_abi::PluginKind;

/// What the decision looks at, of the file that appeared and of the plugin that runs.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The name, which is the same for both.
    pub name: &'a str,
    /// The version.
    pub version: &'a Version,
    /// What it is.
    pub kind: PluginKind,
    /// The hash of the content.
    pub sha256: &'a str,
}

/// What to do with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It runs already.
    Unchanged,
    /// It is to be loaded and takes over.
    Load,
    /// It is an older version than what runs: kept aside.
    Older,
    /// It calls itself the version that runs, but holds other content.
    Duplicate,
    /// A plugin of another kind runs under its name.
    OtherKind,
}

/// Decides on a file whose name is that of `running`. `explicit`: a user named the file, and may go back
/// to an older version.
pub fn decide(file: Identity<'_>, running: Option<Identity<'_>>, explicit: bool) -> Decision {
    let Some(running) = running else { return Decision::Load };
    if file.kind != running.kind {
        return Decision::OtherKind;
    }
    if file.sha256 == running.sha256 {
        return Decision::Unchanged;
    }
    // Build metadata does not count (semver.org, rule 10).
    match file.version.cmp_precedence(running.version) {
        Ordering::Greater => Decision::Load,
        Ordering::Equal => Decision::Duplicate,
        Ordering::Less if explicit => Decision::Load,
        Ordering::Less => Decision::Older,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_decide_and_content_tells_duplicates() {
        let version = |text: &str| Version::parse(text).expect("a version");
        let decide = |file: (&str, &str), running: (&str, &str), explicit| {
            let (file_version, running_version) = (version(file.0), version(running.0));
            let kind = PluginKind::QUEUE;
            let of = |version, sha256| Identity { name: "fifo", version, kind, sha256 };
            super::decide(of(&file_version, file.1), Some(of(&running_version, running.1)), explicit)
        };
        assert_eq!(decide(("0.2.0", "b"), ("0.1.0", "a"), false), Decision::Load);
        assert_eq!(decide(("0.10.0", "b"), ("0.9.0", "a"), false), Decision::Load);
        assert_eq!(decide(("1.0.0-rc.1", "b"), ("1.0.0", "a"), false), Decision::Older);
        assert_eq!(decide(("0.1.0", "b"), ("0.2.0", "a"), false), Decision::Older);
        assert_eq!(decide(("0.1.0", "b"), ("0.2.0", "a"), true), Decision::Load);
        assert_eq!(decide(("0.1.0", "b"), ("0.1.0", "a"), true), Decision::Duplicate);
        assert_eq!(decide(("0.1.0+build2", "b"), ("0.1.0+build1", "a"), false), Decision::Duplicate);
        assert_eq!(decide(("0.1.0", "a"), ("0.1.0", "a"), false), Decision::Unchanged);
    }

    #[test]
    fn a_name_keeps_its_kind() {
        let version = Version::new(1, 0, 0);
        let of = |kind, sha256| Identity { name: "x", version: &version, kind, sha256 };
        let running = Some(of(PluginKind::QUEUE, "a"));
        assert_eq!(decide(of(PluginKind::ADAPTER, "b"), running, true), Decision::OtherKind);
        assert_eq!(decide(of(PluginKind::ADAPTER, "b"), None, false), Decision::Load);
    }
}
