//! `key=value` as the host would hand it over: checked against the option table, with units resolved.

use tempos_abi::{Descriptor, OptionKind, OptionSpec, OptionValue, Options};

/// The defaults of the table, and what was written over them.
///
/// # Errors
/// One sentence: which option is wrong, and what would be right.
pub fn read(descriptor: &Descriptor, written: &[String]) -> Result<Options, String> {
    let mut options = Options::new();
    for row in descriptor.options.iter().filter(|row| !row.default.is_empty()) {
        options.set(&row.key, value(row, &row.default)?);
    }
    for text in written {
        let (key, text) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
        let row = descriptor.options.iter().find(|row| row.key == key).ok_or_else(|| {
            let known: Vec<&str> = descriptor.options.iter().map(|row| row.key.as_str()).collect();
            format!("option {key:?} is not in the table; known: {}", known.join(", "))
        })?;
        options.set(key, value(row, text)?);
    }
    Ok(options)
}

/// A value as its row says.
///
/// # Errors
/// One sentence: what would be right.
pub fn value(row: &OptionSpec, text: &str) -> Result<OptionValue, String> {
    let wrong = || format!("{} = {text:?} is not {}", row.key, row.kind.word());
    let integer = |number: Option<i64>| number.map(OptionValue::Integer).ok_or_else(wrong);
    match row.kind {
        OptionKind::FLAG => text.parse().map(OptionValue::Flag).map_err(|_| wrong()),
        OptionKind::INTEGER => integer(text.parse().ok()),
        OptionKind::NUMBER => text.parse().map(OptionValue::Number).map_err(|_| wrong()),
        OptionKind::DURATION => {
            integer(quantity(text, &[("ns", 1), ("us", 1000), ("ms", 1_000_000), ("s", 1_000_000_000)]))
        }
        OptionKind::SIZE => {
            integer(quantity(text, &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)]))
        }
        OptionKind::TEXTS => Ok(OptionValue::Texts(text.split(',').map(Into::into).collect())),
        OptionKind::TEXT | OptionKind::PATH => {
            if row.words.is_empty() || row.words.split('|').any(|word| word == text) {
                Ok(OptionValue::Text(text.into()))
            } else {
                Err(format!("{} = {text:?} is none of {}", row.key, row.words))
            }
        }
        _ => Err(wrong()),
    }
}

fn quantity(text: &str, units: &[(&str, i64)]) -> Option<i64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(split);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    number.parse::<i64>().ok()?.checked_mul(factor)
}

/// Values that no user means, one set of options for each: of the wrong kind, out of range, not a text.
pub fn garbage(descriptor: &Descriptor, sane: &Options) -> Vec<(String, Options)> {
    let values = || {
        let long = "x".repeat(5000);
        let texts = ["", "\0", "\u{1F980}", "-1", "../../..", "256.256.256.256:70000", &long];
        let texts = texts.iter().map(|text| OptionValue::Text((*text).into())).collect::<Vec<_>>();
        let numbers = [i64::MIN, -1, 0, 1, i64::MAX].map(OptionValue::Integer);
        texts.into_iter().chain(numbers).chain([
            OptionValue::Flag(true),
            OptionValue::Number(f64::NAN),
            OptionValue::Texts(Vec::new().into()),
        ])
    };
    let mut sets = vec![(String::from("no options"), Options::new())];
    for row in descriptor.options.iter() {
        for value in values() {
            let mut options = sane.clone();
            options.set(&row.key, value.clone());
            let shown = format!("{value:?}");
            sets.push((format!("{} = {}", row.key, shown.chars().take(40).collect::<String>()), options));
        }
    }
    sets
}
