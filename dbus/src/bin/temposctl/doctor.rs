//! `doctor`: what this system grants to real-time threads.

use serde_json::{Value as Json, json};

use crate::client::Client;
use crate::exit::Failing;
use crate::output::{Mark, Output, tame};
use crate::table::{self, Cell, text};

/// Between two columns, as [`table::print`] has it.
const GAP: usize = 2;
/// A column of sentences that is narrower than this is not worth wrapping.
const SENTENCE_WIDTH_MIN: usize = 40;

/// Check, verdict, finding, how to mend it.
type Row = (String, String, String, String);

/// Prints the findings; the exit code is 1 when one is bad.
pub async fn doctor(client: &Client, output: &mut Output) -> Result<u8, Failing> {
    let mut findings: Vec<Row> = client.call("Doctor", &()).await?;
    let bad = findings.iter().any(|(_, verdict, _, _)| verdict == "bad");
    if output.json {
        let list = findings.iter().map(|(check, verdict, finding, mend)| {
            json!({ "check": check, "verdict": verdict, "finding": finding, "mend": mend })
        });
        output.value(&list.collect::<Json>(), false)?;
        return Ok(u8::from(bad));
    }
    // The worst first; the node's own order within.
    let weight = |verdict: &str| ["bad", "poor", "good"].iter().position(|v| *v == verdict);
    findings.sort_by_key(|(_, verdict, _, _)| weight(verdict));
    let width = sentence_width(output, &findings);
    let rows: Vec<Vec<Cell>> = findings.iter().flat_map(|finding| rows(finding, width)).collect();
    table::print(output, &["VERDICT", "CHECK", "FOUND"], &rows)?;
    output.line("")?;
    let of = |wanted: &str| findings.iter().filter(|(_, verdict, _, _)| verdict == wanted).count();
    output.line(&format!("{} good, {} poor, {} bad", of("good"), of("poor"), of("bad")))?;
    Ok(u8::from(bad))
}

/// What the terminal leaves for the sentences; none in a pipe: there a sentence stays on one line.
fn sentence_width(output: &Output, findings: &[Row]) -> Option<usize> {
    let columns = usize::from(output.terminal_columns()?);
    let check = findings.iter().map(|(check, ..)| check.chars().count()).max().unwrap_or(0);
    let before = "VERDICT".len() + GAP + check + GAP;
    Some(columns.saturating_sub(before)).filter(|width| *width >= SENTENCE_WIDTH_MIN)
}

/// A finding, and below it how to mend it.
fn rows((check, verdict, finding, mend): &Row, width: Option<usize>) -> Vec<Vec<Cell>> {
    let mut head = (table::state(verdict), text(check).marked(Mark::Bold));
    let mut rows = Vec::new();
    let mend = (!mend.is_empty()).then(|| format!("→ {mend}"));
    for (sentence, indent) in std::iter::once((finding, "")).chain(mend.iter().map(|mend| (mend, "  "))) {
        for (at, line) in wrapped(&tame(sentence), width).into_iter().enumerate() {
            let line = if at > 0 { format!("{indent}{line}") } else { line };
            let (verdict, check) = std::mem::replace(&mut head, (text(""), text("")));
            rows.push(vec![verdict, check, text(line)]);
        }
    }
    rows
}

/// The lines of a sentence: none longer than `width`, unless one word is.
fn wrapped(sentence: &str, width: Option<usize>) -> Vec<String> {
    // Two of them may stand before a line that goes on.
    let width = width.map_or(usize::MAX, |width| width.saturating_sub(2));
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in sentence.split(' ') {
        let len = word.chars().count();
        if used > 0 && used + 1 + len > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += len;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_wrapped_at_words_and_lose_none() {
        let sentence = "SCHED_FIFO 45 is refused: the process lacks CAP_SYS_NICE";
        assert_eq!(wrapped(sentence, None), [sentence]);
        let lines = wrapped(sentence, Some(22));
        assert_eq!(lines, ["SCHED_FIFO 45 is", "refused: the process", "lacks CAP_SYS_NICE"]);
        assert_eq!(wrapped("a-word-longer-than-the-line b", Some(10)), ["a-word-longer-than-the-line", "b"]);
        assert_eq!(wrapped("", Some(10)), [""]);
    }
}
