//! Fenced blocks of code (CommonMark 0.31, section 4.5), as far as a line tells where they begin and
//! end. Also directly behind the marker of a list, and at any depth, as models write them.

/// Fewest signs of a fence.
const MIN_SIGNS: usize = 3;
/// Columns by which a fence may be deeper than the one that it closes; deeper, it is code.
const MAX_DEEPER: usize = 3;
/// Columns of a tab.
const TAB_COLUMNS: usize = 4;
/// Most digits of the marker of a list.
const MAX_DIGITS: usize = 9;

/// A block of code that is open, or an opening line that may become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fence {
    sign: char,
    n_signs: usize,
    /// What stands before it, as spaces.
    indent: String,
    /// Whether the opening line has had nothing but its signs.
    is_run: bool,
}

/// What the beginning of a line may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LineHead {
    /// More has to be seen.
    Open,
    /// No fence.
    Other,
    Fence(Fence),
}

impl LineHead {
    /// For a line as far as it has come: its leading space, and what follows.
    pub(super) fn of(indent: &str, line: &str) -> Self {
        let Some(content) = behind_list_marker(line) else {
            return Self::Open;
        };
        let Some(sign) = content.chars().next() else {
            return Self::Open;
        };
        let n_signs = content.chars().take_while(|c| *c == sign).count();
        let is_all = n_signs == content.chars().count();
        if !matches!(sign, '`' | '~') || (n_signs < MIN_SIGNS && !is_all) {
            return Self::Other;
        }
        if n_signs < MIN_SIGNS {
            return Self::Open;
        }
        let marker = &line[..line.len() - content.len()];
        let indent = indent.chars().chain(marker.chars().map(|_| ' ')).collect();
        Self::Fence(Fence {
            sign,
            n_signs: 0,
            indent,
            is_run: true,
        })
    }
}

impl Fence {
    /// Reads on in the opening line; false when it turns out to be none, as code within a line.
    pub(super) fn reads(&mut self, c: char) -> bool {
        let is_marker = self.n_signs == 0 && c != self.sign;
        if is_marker {
            return true;
        }
        if self.is_run && c == self.sign {
            self.n_signs += 1;
            return true;
        }
        self.is_run = false;
        !(c == '`' && self.sign == '`')
    }

    /// Whether a line, as far as it has come, may close the block.
    pub(super) fn may_be_closed_by(&self, line: &str) -> bool {
        let text = line.trim_start();
        let indent = columns(&line[..line.len() - text.len()]);
        let behind = text.trim_start_matches(self.sign);
        let n_signs = text.chars().count() - behind.chars().count();
        let is_long = n_signs >= self.n_signs || behind.is_empty();
        (text.is_empty() || indent <= columns(&self.indent) + MAX_DEEPER)
            && is_long
            && behind.trim().is_empty()
    }

    /// Whether a whole line closes the block.
    pub(super) fn is_closed_by(&self, line: &str) -> bool {
        let n_signs = line.trim().chars().filter(|c| *c == self.sign).count();
        self.may_be_closed_by(line) && n_signs >= self.n_signs
    }

    /// A line that closes the block.
    pub(super) fn closing(&self) -> String {
        let signs: String = std::iter::repeat_n(self.sign, self.n_signs).collect();
        format!("{}{signs}", self.indent)
    }

    /// The sign that it consists of.
    pub(super) fn sign(&self) -> char {
        self.sign
    }
}

fn columns(space: &str) -> usize {
    let width = |c| if c == '\t' { TAB_COLUMNS } else { 1 };
    space.chars().map(width).sum()
}

/// The line behind `- ` or `1. ` when it begins so; none when that has to be seen yet.
fn behind_list_marker(line: &str) -> Option<&str> {
    let n_digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let behind = if (1..=MAX_DIGITS).contains(&n_digits) {
        let behind = &line[n_digits..];
        if behind.is_empty() {
            return None;
        }
        behind.strip_prefix(['.', ')'])
    } else {
        line.strip_prefix(['-', '*', '+'])
    };
    match behind {
        None => Some(line),
        Some(rest) if rest.trim_start().is_empty() => None,
        Some(rest) if rest.starts_with(char::is_whitespace) => Some(rest.trim_start()),
        Some(_) => Some(line),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fence(line: &str) -> Option<Fence> {
        let LineHead::Fence(mut fence) = LineHead::of("", line) else {
            return None;
        };
        line.chars().all(|c| fence.reads(c)).then_some(fence)
    }

    #[test]
    fn fences_begin_blocks() {
        for (line, closing) in [
            ("```", "```"),
            ("`````rust", "`````"),
            ("~~~ a `b`", "~~~"),
            ("- ```", "  ```"),
            ("12.  ~~~~", "     ~~~~"),
        ] {
            assert_eq!(fence(line).unwrap().closing(), closing, "{line}");
        }
        for line in ["``x", "~~x~~", "```a```", "-```", "text ```", "1 ```"] {
            assert_eq!(fence(line), None, "{line}");
        }
        for line in ["", "`", "``", "~~", "-", "- ", "1", "1.", "1. ", "- ``"] {
            assert_eq!(LineHead::of("", line), LineHead::Open, "{line}");
        }
    }

    #[test]
    fn fences_of_the_same_sign_end_blocks() {
        let fence = fence("````").unwrap();
        for line in ["````", "   `````  "] {
            assert!(fence.is_closed_by(line), "{line}");
        }
        for line in ["", "   ", "```", "~~~~", "```` x", "    ````", "``` `"] {
            assert!(!fence.is_closed_by(line), "{line}");
        }
        for line in ["", "      ", " ``", "````  "] {
            assert!(fence.may_be_closed_by(line), "{line}");
        }
        for line in ["``` ", "x", "~", "    `"] {
            assert!(!fence.may_be_closed_by(line), "{line}");
        }
    }
}
