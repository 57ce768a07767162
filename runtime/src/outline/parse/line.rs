//! One line of an outline: where it begins, and the points in it.

use super::marker::{self, Marker, is_inline_number};
use crate::outline::title::{is_invisible, spaced};

/// Columns of a tab.
const TAB_COLUMNS: usize = 4;

/// The column where a line begins, and its visible text without quote signs.
pub(super) fn visible(line: &str) -> (usize, String) {
    let mut indent = 0;
    let mut start = line.len();
    for (at, c) in line.char_indices() {
        match c {
            '\t' => indent += TAB_COLUMNS,
            '>' => indent = 0,
            c if c.is_whitespace() => indent += 1,
            c if is_invisible(c) => {}
            _ => {
                start = at;
                break;
            }
        }
    }
    // After a quote sign one space belongs to the sign.
    let quoted = line[..start].contains('>');
    let text = spaced(&line[start..]);
    (indent.saturating_sub(usize::from(quoted)), text)
}

/// The marker of a line, also behind the sign of a headline or of emphasis.
pub(super) fn leading_marker(part: &str) -> Option<Marker<'_>> {
    let part = part.trim();
    let part = part.trim_start_matches('#').trim_start();
    let inner = part.trim_start_matches("**").trim_start_matches("__");
    marker::marker(inner).or_else(|| marker::marker(part))
}

/// A line of a headline or a label in emphasis, which separates groups of points.
pub(super) fn is_headline(text: &str) -> bool {
    text.starts_with(['#', '*', '_', '`', '=']) || text.ends_with([':', '：'])
}

/// The points of a line that holds several: `1. One 2. Two 3. Three`, also behind a preamble.
pub(super) fn inline_points(line: &str) -> Vec<&str> {
    let mut cuts = Vec::new();
    let mut expected = leading_marker(line).map_or(1, |found| found.ordinal + 1);
    let mut at = 0;
    for word in line.split(' ') {
        let number = word.trim_start_matches('*');
        let is_next =
            is_inline_number(number) && number[..number.len() - 1].parse() == Ok(expected);
        if at > 0 && is_next {
            cuts.push(at);
            expected += 1;
        }
        at += word.len() + 1;
    }
    // In a sentence a single number is only a number.
    if leading_marker(line).is_none() && cuts.len() < 2 {
        cuts.clear();
    }
    cuts.push(line.len());
    let starts = std::iter::once(0).chain(cuts.clone());
    starts
        .zip(cuts)
        .map(|(from, to)| &line[from..to])
        .filter(|part| !part.is_empty())
        .collect()
}
