//! A TEMPOS function: a line of measurements becomes a short summary.
//!
//! The payload is `cpu=12.5 irq=3` or flat JSON, `{"cpu":12.5,"irq":3}`; the output is
//! `values=2 least=irq:3 most=cpu:12.5 mean=7.75`. What says where an event comes from (`producer=`, `seq=`,
//! `t_ns=`) is no measurement: it goes on in front of the summary. It allocates nothing, so it may run on a
//! strict lane.

use std::fmt::Write;

use tempos_function::{Event, Failure, Output, tempos_function};

tempos_function!(summarise);

/// Names that tell which event this is.
const IDENTITY: [&str; 3] = ["producer", "seq", "t_ns"];

fn summarise(event: &Event<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
    let text = std::str::from_utf8(event.payload())
        .map_err(|_| Failure::new(1, "the payload is not a text; write cpu=12.5 irq=3"))?;
    let mut measurements = measurements(text);
    let first = measurements
        .next()
        .ok_or_else(|| Failure::new(2, "the payload holds no measurement; write cpu=12.5 irq=3"))?;
    let (mut least, mut most, mut sum, mut count) = (first, first, first.1, 1u32);
    for measurement in measurements {
        least = if measurement.1 < least.1 { measurement } else { least };
        most = if measurement.1 > most.1 { measurement } else { most };
        sum += measurement.1;
        count += 1;
    }
    let ((low, low_value), (high, high_value)) = (least, most);
    let mean = sum / f64::from(count);
    for (name, value) in pairs(text).filter(|(name, _)| IDENTITY.contains(name)) {
        let _ = write!(output, "{name}={value} ");
    }
    // An output that does not fit is the node's to report.
    let _ = write!(output, "values={count} least={low}:{low_value} most={high}:{high_value} mean={mean:.3}");
    Ok(())
}

/// The pairs of a name and a number; whatever else stands between them is passed over.
fn measurements(text: &str) -> impl Iterator<Item = (&str, f64)> {
    pairs(text).filter(|(name, _)| !IDENTITY.contains(name)).filter_map(|(name, value)| {
        let value: f64 = value.parse().ok()?;
        value.is_finite().then_some((name, value))
    })
}

/// The pairs of a name and a value.
fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split([' ', ',', '{', '}', '\n', '\t']).filter_map(|piece| {
        let (name, value) = piece.split_once(['=', ':'])?;
        Some((name.trim().trim_matches('"'), value.trim().trim_matches('"')))
    })
}

#[cfg(test)]
mod tests {
    use super::{measurements, pairs};

    #[test]
    fn both_ways_of_writing_are_read() {
        let expected = [("cpu", 12.5), ("irq", 3.0)];
        assert!(measurements("cpu=12.5 irq=3 name=press").eq(expected));
        assert!(measurements("{\"cpu\":12.5,\"irq\":3,\"name\":\"press\"}").eq(expected));
    }

    #[test]
    fn what_tells_events_apart_is_no_measurement() {
        let line = "producer=vitals seq=7 t_ns=99 cpu=12.5";
        assert!(measurements(line).eq([("cpu", 12.5)]));
        assert_eq!(pairs(line).next(), Some(("producer", "vitals")));
    }
}
