//! The terms of a change, as a call carries them: `a{sv}`.

use std::collections::BTreeMap;

use tempos_control::{Terms, names};
use zbus::zvariant::Value;

use crate::failure::Failure;

/// What a call may set.
const KEYS: [&str; 4] = ["until-restart", "probe-ms", "confirm", "if-generation"];

/// Reads them.
pub fn read(given: BTreeMap<String, Value<'_>>) -> Result<Terms, Failure> {
    let mut terms = Terms::default();
    for (key, value) in given {
        match (key.as_str(), &value) {
            ("until-restart", Value::Bool(flag)) => terms.until_restart = *flag,
            ("confirm", Value::Bool(flag)) => terms.confirm = *flag,
            ("probe-ms", value) => {
                let ms = number(&key, value)?;
                terms.probe_ns = Some(ms.saturating_mul(1_000_000));
            }
            ("if-generation", value) => terms.only_if = Some(number(&key, value)?),
            (key, _) if KEYS.contains(&key) => {
                return Err(Failure::arguments(format!("{key:?} is true or false, of the type b")));
            }
            (key, _) => {
                let hint = names::hint(key, KEYS);
                return Err(Failure::arguments(format!("there are no terms named {key:?}{hint}")));
            }
        }
    }
    Ok(terms)
}

fn number(key: &str, value: &Value<'_>) -> Result<u64, Failure> {
    let number = match value {
        Value::U64(number) => Some(*number),
        Value::U32(number) => Some(u64::from(*number)),
        Value::I64(number) => u64::try_from(*number).ok(),
        Value::I32(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    number.ok_or_else(|| {
        Failure::arguments(format!("{key:?} is a number that is not negative, such as t 1000"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, Value<'static>)]) -> Result<Terms, Failure> {
        read(pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect())
    }

    #[test]
    fn terms_are_read_and_what_is_none_is_said() {
        assert_eq!(of(&[]), Ok(Terms::default()));
        let all = of(&[
            ("until-restart", Value::Bool(true)),
            ("probe-ms", Value::U32(1500)),
            ("confirm", Value::Bool(true)),
            ("if-generation", Value::I32(4)),
        ]);
        let wanted =
            Terms { until_restart: true, probe_ns: Some(1_500_000_000), confirm: true, only_if: Some(4) };
        assert_eq!(all, Ok(wanted));
        for (key, value, said) in [
            ("probe_ms", Value::U32(1), "did you mean \"probe-ms\"?"),
            ("probe-ms", Value::I32(-1), "not negative"),
            ("confirm", Value::U32(1), "true or false"),
        ] {
            let sentence = of(&[(key, value)]).map_err(|failure| failure.sentence);
            assert!(sentence.as_ref().is_err_and(|sentence| sentence.contains(said)), "{sentence:?}");
        }
    }
}
