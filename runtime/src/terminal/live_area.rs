//! Lines at the end of a terminal that are written again in place.
//!
//! Gives the bytes to write and keeps no terminal itself. Between calls the cursor stands at the
//! begin of the last line, where what the terminal echoes (`^C`) does not wrap.

use std::fmt::Write as _;

use textwrap::core::display_width;

/// To the begin of the line.
const BEGIN: &str = "\r";
/// To the line above; nowhere from the top of the screen.
const UP: &str = "\x1b[A";
/// Clears the line.
const CLEAR_LINE: &str = "\x1b[2K";
/// Clears from the cursor to the end of the screen.
const CLEAR_REST: &str = "\x1b[J";
/// Lines that turn out wider than counted (fonts disagree about emoji) are cut, not wrapped: the
/// count of lines stays true.
const WRAP_OFF: &str = "\x1b[?7l";
/// As the terminal was.
const WRAP_ON: &str = "\x1b[?7h";

/// What is drawn now; nothing at first.
#[derive(Debug, Default)]
pub(super) struct LiveArea {
    lines: Vec<String>,
    width: usize,
}

impl LiveArea {
    /// Draws these lines over the former ones; they have to fit a terminal of `width` columns.
    /// Nothing where they stand there already.
    pub(super) fn redraw(&mut self, lines: Vec<String>, width: usize) -> String {
        if lines == self.lines && width == self.width {
            return String::new();
        }
        let leaves_rest = lines.len() < self.lines.len() || width < self.width;
        let to_top = to_top(&self.lines, width, leaves_rest);
        let mut out = format!("{WRAP_OFF}{to_top}");
        for (i, line) in lines.iter().enumerate() {
            let end = if i == 0 { "" } else { "\r\n" };
            let _ = write!(out, "{end}{CLEAR_LINE}{line}");
        }
        let _ = write!(out, "{BEGIN}{WRAP_ON}");
        *self = Self { lines, width };
        out
    }

    /// Removes all lines; the cursor stands where they began. `width` is that of the terminal, or
    /// none where it is not known any more.
    pub(super) fn erase(&mut self, width: Option<usize>) -> String {
        let Self {
            lines,
            width: drawn,
        } = std::mem::take(self);
        if lines.is_empty() {
            return String::new();
        }
        to_top(&lines, width.unwrap_or(drawn), true)
    }
}

/// From the begin of the last line to that of the first, clearing them if asked. A terminal that has
/// become narrower has broken the lines that were drawn; the cursor stays in the first part of the
/// last one.
fn to_top(lines: &[String], width: usize, clears: bool) -> String {
    let above = lines.split_last().map_or(lines, |(_, above)| above);
    let n_rows = |line: &String| display_width(line).div_ceil(width.max(1)).max(1);
    let n_above = above.iter().map(n_rows).sum();
    // Line by line: what is cleared of a whole screen at once, tmux keeps in its history.
    let (rest, up) = if clears {
        (CLEAR_REST, format!("{UP}{CLEAR_LINE}"))
    } else {
        ("", UP.to_owned())
    };
    format!("{BEGIN}{rest}{}", up.repeat(n_above))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|line| (*line).to_owned()).collect()
    }

    #[test]
    fn what_stands_there_already_is_not_written_again() {
        let mut area = LiveArea::default();
        assert!(area.redraw(lines(&["a", "b"]), 20).contains("b"));
        assert_eq!(area.redraw(lines(&["a", "b"]), 20), "");
        assert!(area.redraw(lines(&["a", "c"]), 20).contains(UP));
    }

    #[test]
    fn lines_that_a_narrower_terminal_has_broken_are_counted() {
        let mut area = LiveArea::default();
        area.redraw(lines(&["0123456789", "", "01234", "0123456789"]), 10);
        // Two rows, one and one; the cursor is at the begin of the last line.
        let n_above = 2 + 1 + 1;
        let expected = format!("\r\x1b[J{}", "\x1b[A\x1b[2K".repeat(n_above));
        assert_eq!(area.erase(Some(5)), expected);
        assert_eq!(area.erase(Some(5)), "");
    }
}
