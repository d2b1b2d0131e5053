//! Everything that the house is built from has a licence that deny.toml allows.

use std::collections::BTreeMap;

use spdx::{Expression, ParseMode};
use tempos_tests::built::source_root;
use tempos_tests::metadata::packages;

/// The allow list, and what single crates are allowed beyond it.
struct Policy {
    allow: Vec<String>,
    exceptions: BTreeMap<String, Vec<String>>,
}

impl Policy {
    fn read() -> Policy {
        let text = std::fs::read_to_string(source_root().join("deny.toml")).expect("deny.toml is there");
        let file: toml::Table = text.parse().expect("deny.toml is TOML");
        let texts = |value: &toml::Value| -> Vec<String> {
            let list = value.as_array().expect("a list of licences");
            list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let licences = &file["licenses"];
        let exceptions =
            licences.get("exceptions").and_then(toml::Value::as_array).cloned().unwrap_or_default();
        Policy {
            allow: texts(&licences["allow"]),
            exceptions: exceptions
                .iter()
                .map(|one| (one["crate"].as_str().expect("a crate").to_owned(), texts(&one["allow"])))
                .collect(),
        }
    }

    /// Why a package is not allowed; `None` where it is.
    fn objection(&self, name: &str, licence: Option<&str>) -> Option<String> {
        let Some(licence) = licence else { return Some(format!("{name} names no licence")) };
        // Some older crates write "MIT/Apache-2.0" for "MIT OR Apache-2.0".
        let mode = ParseMode { allow_slash_as_or_operator: true, ..ParseMode::STRICT };
        let expression = match Expression::parse_mode(licence, mode) {
            Ok(expression) => expression,
            Err(error) => return Some(format!("{name}: {licence:?} is no licence expression: {error}")),
        };
        let extra = self.exceptions.get(name);
        let allowed = |wanted: String| {
            self.allow.contains(&wanted) || extra.is_some_and(|extra| extra.contains(&wanted))
        };
        let granted = expression.evaluate(|requirement| allowed(requirement.to_string()));
        (!granted).then(|| format!("{name}: {licence:?} is not in the allow list of deny.toml"))
    }
}

#[test]
fn every_dependency_has_an_allowed_licence() {
    let policy = Policy::read();
    let packages = packages();
    assert!(packages.len() > 50, "cargo knows only {} packages", packages.len());
    let objections: Vec<String> =
        packages.values().filter_map(|p| policy.objection(&p.name, p.licence.as_deref())).collect();
    assert!(objections.is_empty(), "{}", objections.join("\n"));
    let unused: Vec<&String> =
        policy.exceptions.keys().filter(|name| !packages.values().any(|p| p.name == **name)).collect();
    assert!(unused.is_empty(), "exceptions for crates that are not used any more: {unused:?}");
}

#[test]
fn the_policy_tells_the_good_from_the_bad() {
    let policy = Policy::read();
    for good in ["MIT", "MIT/Apache-2.0", "GPL-3.0-only OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0"] {
        assert_eq!(policy.objection("x", Some(good)), None);
    }
    for bad in ["GPL-3.0-only", "MIT AND GPL-2.0-only", "MPL-2.0", "see file"] {
        assert!(policy.objection("x", Some(bad)).is_some(), "{bad}");
    }
    assert!(policy.objection("x", None).is_some());
    assert_eq!(policy.objection("generational-arena", Some("MPL-2.0")), None);
}
