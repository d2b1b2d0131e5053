//! Properties: an object's state at one instant, as D-Bus values.

use std::collections::{BTreeMap, HashMap};

use tempos_control::ObjectState;
use tempos_control::object::Figure;
use zbus::zvariant::Value;

use crate::face::{Face, Property, Sort};

/// The value of one property. A figure that the node does not keep is zero or empty, so that the type of
/// a property never depends on the node.
pub fn value(state: &ObjectState, property: &Property) -> Value<'static> {
    match property.name {
        "State" => return Value::from(text(&state.condition.state)),
        "Reason" => return Value::from(text(&state.condition.reason)),
        "Since" => return Value::from(state.condition.since_us),
        _ => {}
    }
    let figure = state.figures.get(property.name);
    match property.sort {
        Sort::Text => Value::from(match figure {
            Some(Figure::Text(v)) => text(v),
            Some(Figure::Flag(v)) => v.to_string(),
            Some(Figure::Count(v)) => v.to_string(),
            _ => String::new(),
        }),
        Sort::Count => Value::from(match figure {
            Some(Figure::Count(v)) => *v,
            Some(Figure::Flag(v)) => u64::from(*v),
            _ => 0,
        }),
        Sort::Texts => Value::from(match figure {
            Some(Figure::Texts(v)) => v.iter().map(|t| text(t)).collect(),
            _ => Vec::<String>::new(),
        }),
        Sort::Counts => Value::from(match figure {
            Some(Figure::Counts(v)) => v.iter().map(|(k, v)| (text(k), *v)).collect(),
            _ => HashMap::<String, u64>::new(),
        }),
        Sort::Rows => Value::from(match figure {
            Some(Figure::Rows(v)) => {
                v.iter().map(|[a, b, c, d]| (text(a), text(b), text(c), text(d))).collect()
            }
            _ => Vec::<(String, String, String, String)>::new(),
        }),
        Sort::Latency => Value::from(match figure {
            Some(Figure::Latency(v)) => {
                v.iter().map(|(hop, [a, b, c, d])| (text(hop), (*a, *b, *c, *d))).collect()
            }
            _ => HashMap::<String, (u64, u64, u64, u64)>::new(),
        }),
    }
}

/// All properties of an object.
pub fn values(state: &ObjectState, face: &Face) -> BTreeMap<&'static str, Value<'static>> {
    face.properties.iter().map(|p| (p.name, value(state, p))).collect()
}

/// Some properties of an object.
pub fn some(state: &ObjectState, face: &Face, names: &[&str]) -> BTreeMap<&'static str, Value<'static>> {
    face.properties.iter().filter(|p| names.contains(&p.name)).map(|p| (p.name, value(state, p))).collect()
}

/// A text as D-Bus carries it: without NUL, which would make the whole message invalid.
pub fn text(text: &str) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face;
    use crate::path::KINDS;
    use tempos_control::{Condition, Figures, Kind};

    fn bare(kind: Kind, figures: Figures) -> ObjectState {
        let condition = Condition { state: "started".into(), reason: String::new(), since_us: 7 };
        ObjectState { kind, name: "x".into(), condition, figures }
    }

    #[test]
    fn a_property_has_its_type_whatever_the_node_keeps() {
        for kind in KINDS.into_iter().chain([Kind::Node]) {
            let face = face::of(kind);
            let wrong: Figures = face.properties.iter().map(|p| (p.name, Figure::Flag(true))).collect();
            for state in [bare(kind, Figures::new()), bare(kind, wrong)] {
                for property in face.properties {
                    let value = value(&state, property);
                    assert_eq!(
                        value.value_signature().to_string(),
                        property.sort.signature(),
                        "{}",
                        property.name
                    );
                }
            }
        }
    }

    #[test]
    fn a_text_with_a_nul_does_not_break_the_message() {
        assert_eq!(text("a\0b"), "a\u{fffd}b");
    }
}
