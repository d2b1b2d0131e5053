//! Tables: aligned columns under their headings.

use std::io;

use crate::output::{Mark, Output, tame};

/// A cell.
#[derive(Debug)]
pub struct Cell {
    text: String,
    mark: Mark,
    right: bool,
}

/// A text, aligned to the left.
pub fn text(text: impl AsRef<str>) -> Cell {
    Cell { text: tame(text.as_ref()), mark: Mark::Plain, right: false }
}

/// A figure, aligned to the right.
pub fn figure(text: impl AsRef<str>) -> Cell {
    Cell { right: true, ..self::text(text) }
}

/// A state in its colour.
pub fn state(state: &str) -> Cell {
    Cell { mark: Mark::of_state(state), ..text(state) }
}

/// Whether an object in that state should be looked at.
pub fn amiss(state: &str) -> bool {
    matches!(Mark::of_state(state), Mark::Bad) || state == "degraded"
}

impl Cell {
    /// The same, marked.
    pub fn marked(self, mark: Mark) -> Cell {
        Cell { mark, ..self }
    }
}

/// Prints a table. A column's heading stands where its cells do; trailing spaces are left out.
pub fn print(output: &mut Output, headings: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
    let width = |text: &str| text.chars().count();
    let widths: Vec<usize> = headings
        .iter()
        .enumerate()
        .map(|(i, heading)| {
            rows.iter().filter_map(|row| row.get(i)).map(|c| width(&c.text)).fold(width(heading), usize::max)
        })
        .collect();
    let head: Vec<Cell> = headings
        .iter()
        .enumerate()
        .map(|(i, heading)| {
            let right = rows.first().and_then(|row| row.get(i)).is_some_and(|cell| cell.right);
            Cell { text: (*heading).into(), mark: Mark::Bold, right }
        })
        .collect();
    for row in std::iter::once(&head).chain(rows) {
        let mut line = String::new();
        for (i, cell) in row.iter().enumerate() {
            let gap = " ".repeat(widths.get(i).copied().unwrap_or(0).saturating_sub(width(&cell.text)));
            let painted = output.paint(cell.mark, &cell.text);
            if i > 0 {
                line.push_str("  ");
            }
            if cell.right {
                line.push_str(&gap);
                line.push_str(&painted);
            } else {
                line.push_str(&painted);
                if i + 1 < row.len() {
                    line.push_str(&gap);
                }
            }
        }
        output.line(line.trim_end())?;
    }
    Ok(())
}
