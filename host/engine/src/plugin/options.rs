//! Checks what users wrote for a plugin's options against its option table: every mistake at once, one
//! sentence each. What passes is handed to the plugin with units resolved and defaults filled in.

use tempos_abi::private::abi_stable::std_types::{RString, RVec};
use tempos_abi::{OptionKind, OptionValue, Options};
use tempos_control::{Value, names, units};

use super::info::OptionInfo;

/// Checks `given` against `table`. `subject` begins each sentence: `udp channel "x"`.
///
/// # Errors
/// All mistakes, in the order in which they were written; missing options last.
pub fn check(subject: &str, table: &[OptionInfo], given: &[(String, Value)]) -> Result<Options, Vec<String>> {
    let mut mistakes = Vec::new();
    let mut options = Options::new();
    for (at, (key, value)) in given.iter().enumerate() {
        let Some(option) = table.iter().find(|option| option.key == *key) else {
            let hint = names::hint(key, table.iter().map(|option| option.key.as_str()));
            mistakes.push(format!("{subject}: unknown option {key:?}{hint}"));
            continue;
        };
        if given[..at].iter().any(|(earlier, _)| earlier == key) {
            mistakes.push(format!("{subject}: option {key:?} is given twice"));
            continue;
        }
        match convert(option, value) {
            Ok(value) => options.set(key, value),
            Err(wrong) => mistakes.push(format!("{subject}: option {key:?}: {wrong}")),
        }
    }
    for option in table.iter().filter(|option| !given.iter().any(|(key, _)| *key == option.key)) {
        if option.required {
            mistakes.push(format!(
                "{subject}: option {:?} is missing; it takes {}",
                option.key,
                option.kind_words()
            ));
        } else if let Ok(Some(value)) = default_of(option) {
            options.set(&option.key, value);
        }
    }
    if mistakes.is_empty() { Ok(options) } else { Err(mistakes) }
}

/// The default, where there is one.
///
/// # Errors
/// The default does not fit its own row: a mistake of the plugin's author, found when it is loaded.
pub(crate) fn default_of(option: &OptionInfo) -> Result<Option<OptionValue>, String> {
    let text = option.default.as_str();
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is not {}", option.kind_words());
    let value = match option.kind {
        OptionKind::FLAG => Value::Flag(text.parse().map_err(|_| wrong())?),
        OptionKind::INTEGER => Value::Integer(text.parse().map_err(|_| wrong())?),
        OptionKind::NUMBER => Value::Number(text.parse().map_err(|_| wrong())?),
        OptionKind::TEXTS => Value::List(text.split(',').map(|item| Value::from(item.trim())).collect()),
        _ => Value::from(text),
    };
    convert(option, &value).map(Some)
}

fn convert(option: &OptionInfo, value: &Value) -> Result<OptionValue, String> {
    let wrong = || format!("{value} is not {}", option.kind_words());
    let whole = |amount: u64| {
        i64::try_from(amount).map(OptionValue::Integer).map_err(|_| format!("{value} is out of range"))
    };
    match (option.kind, value) {
        (OptionKind::FLAG, Value::Flag(flag)) => Ok(OptionValue::Flag(*flag)),
        (OptionKind::INTEGER, Value::Integer(number)) => Ok(OptionValue::Integer(*number)),
        // Scripts compute: 8 / 2 is 4.0 in Lua. Above 2^53 a float names no single whole number.
        (OptionKind::INTEGER, Value::Number(number)) if number.fract() == 0.0 && number.abs() <= 9e15 => {
            Ok(OptionValue::Integer(*number as i64))
        }
        (OptionKind::NUMBER, Value::Number(number)) if number.is_finite() => Ok(OptionValue::Number(*number)),
        (OptionKind::NUMBER, Value::Integer(number)) => Ok(OptionValue::Number(*number as f64)),
        (OptionKind::TEXT | OptionKind::PATH, Value::Text(text)) => {
            text_of(option, text).map(OptionValue::Text)
        }
        (OptionKind::TEXTS, Value::List(items)) => {
            let mut texts = RVec::with_capacity(items.len());
            for item in items {
                let Value::Text(text) = item else { return Err(wrong()) };
                texts.push(text_of(option, text)?);
            }
            Ok(OptionValue::Texts(texts))
        }
        (OptionKind::DURATION, Value::Text(text)) => whole(units::duration_ns(text)?),
        (OptionKind::SIZE, Value::Text(text)) => whole(units::size_bytes(text)?),
        _ => Err(wrong()),
    }
}

fn text_of(option: &OptionInfo, text: &str) -> Result<RString, String> {
    if text.contains('\0') {
        return Err(format!("{text:?} holds a NUL character"));
    }
    if option.kind == OptionKind::PATH && text.is_empty() {
        return Err(String::from("a path is not empty"));
    }
    if !option.words.is_empty() && !option.words.iter().any(|word| word == text) {
        let hint = names::hint(text, option.words.iter().map(String::as_str));
        return Err(format!("{text:?} is not {}{hint}", option.kind_words(), hint = near_only(&hint)));
    }
    Ok(RString::from(text))
}

/// The words are in the sentence already: of a hint only "did you mean" is wanted.
fn near_only(hint: &str) -> &str {
    if hint.starts_with(" (") { hint } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option(key: &str, kind: OptionKind, default: &str) -> OptionInfo {
        OptionInfo {
            key: key.to_owned(),
            kind,
            required: false,
            unit: String::new(),
            default: default.to_owned(),
            words: Vec::new(),
            help: String::new(),
        }
    }

    fn table() -> Vec<OptionInfo> {
        let mut bind = option("bind", OptionKind::TEXT, "");
        bind.required = true;
        let mut mode = option("mode", OptionKind::TEXT, "datagram");
        mode.words = vec![String::from("datagram"), String::from("seqpacket")];
        vec![
            bind,
            mode,
            option("buffer", OptionKind::SIZE, "64KiB"),
            option("linger", OptionKind::DURATION, ""),
            option("batch", OptionKind::INTEGER, "32"),
            option("share", OptionKind::NUMBER, ""),
            option("reuse", OptionKind::FLAG, "false"),
            option("groups", OptionKind::TEXTS, ""),
        ]
    }

    fn given(entries: &[(&str, Value)]) -> Vec<(String, Value)> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[test]
    fn units_are_resolved_and_defaults_filled_in() {
        let options = check(
            "udp channel \"x\"",
            &table(),
            &given(&[
                ("bind", Value::from("127.0.0.1:1")),
                ("linger", Value::from("2ms")),
                ("batch", Value::Number(8.0)),
                ("share", Value::Integer(2)),
                ("groups", Value::List(vec![Value::from("a"), Value::from("b")])),
            ]),
        )
        .expect("right");
        assert_eq!(options.text("bind"), Some("127.0.0.1:1"));
        assert_eq!(options.text("mode"), Some("datagram"));
        assert_eq!(options.integer("buffer"), Some(65_536));
        assert_eq!(options.integer("linger"), Some(2_000_000));
        assert_eq!(options.integer("batch"), Some(8));
        assert_eq!(options.get("share"), Some(&OptionValue::Number(2.0)));
        assert_eq!(options.texts("groups"), ["a", "b"]);
        assert!(!options.flag("reuse") && options.get("reuse").is_some());
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let mistakes = check(
            "udp channel \"x\"",
            &table(),
            &given(&[
                ("bnd", Value::from("127.0.0.1:1")),
                ("mode", Value::from("datagramm")),
                ("linger", Value::Integer(5)),
                ("buffer", Value::from("5 parsecs")),
                ("batch", Value::Number(1.5)),
                ("reuse", Value::from("yes")),
                ("reuse", Value::Flag(true)),
                ("groups", Value::from("a")),
                ("share", Value::Number(f64::NAN)),
            ]),
        )
        .expect_err("wrong");
        let expected = [
            r#"unknown option "bnd" (did you mean "bind"?)"#,
            r#"option "mode": "datagramm" is not one of datagram, seqpacket (did you mean "datagram"?)"#,
            r#"option "linger": 5 is not a duration such as "2ms""#,
            r#"option "buffer": "5 parsecs" is not a size with its unit"#,
            r#"option "batch": 1.5 is not a whole number"#,
            r#"option "reuse": "yes" is not true or false"#,
            r#"option "reuse" is given twice"#,
            r#"option "groups": "a" is not a list of texts"#,
            r#"option "share": NaN is not a number"#,
            r#"option "bind" is missing; it takes a text"#,
        ];
        assert_eq!(mistakes.len(), expected.len(), "{mistakes:#?}");
        for (mistake, expected) in mistakes.iter().zip(expected) {
            assert!(mistake.starts_with(&format!("udp channel \"x\": {expected}")), "{mistake}");
        }
    }

    #[test]
    fn a_default_that_does_not_fit_its_row_is_found() {
        assert!(default_of(&option("buffer", OptionKind::SIZE, "lots")).is_err());
        assert!(default_of(&option("batch", OptionKind::INTEGER, "1.5")).is_err());
    }
}
