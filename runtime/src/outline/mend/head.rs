//! The beginning of a branch: whether its number and title are repeated there.

use crate::outline::parse::marker::{self, Kind};

/// Most bytes that are held back to see whether a text begins with its title: the longest title
/// and what stands around it.
const MAX_HEAD_BYTES: usize = 512;
/// Most bytes of a label before a number, as of `Point 3:`.
const MAX_LABEL_BYTES: usize = 24;

/// What is known of the beginning of a branch.
pub(super) enum Head {
    /// More has to be seen.
    Open,
    /// The text begins at this byte.
    Begins(usize),
    /// It begins at this byte, behind its title and with what may be left around that.
    Titled(usize),
}

/// What a branch may repeat.
#[derive(Clone, Debug)]
pub(super) struct Heading {
    number: u32,
    /// Its letters and digits, in lower case.
    title: Vec<char>,
}

impl Heading {
    pub(super) fn new(number: u32, title: &str) -> Self {
        Self {
            number,
            title: letters(title).collect(),
        }
    }

    /// Whether a number is that of the next point.
    pub(super) fn is_next(&self, ordinal: u32) -> bool {
        ordinal == self.number.saturating_add(1)
    }

    /// Where the text begins behind the number and the title, if they are repeated.
    pub(super) fn find(&self, held: &str, is_end: bool) -> Head {
        let too_long = held.len() > MAX_HEAD_BYTES;
        let text = held.trim_start();
        let unmarked = text.trim_start_matches(['*', '#', '_', '"', '“', ' ']);
        if unmarked.is_empty() && !is_end && !too_long {
            return Head::Open;
        }
        // The number: digits and what follows are waited for.
        let label_ends = |c: char| c.is_alphanumeric() || c == ' ';
        let could_be_marker = unmarked
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | ')' | ':' | '(' | '-' | ' '));
        let could_be_label = unmarked.len() < MAX_LABEL_BYTES
            && unmarked.chars().all(label_ends)
            && is_label_prefix(unmarked);
        if (could_be_marker || could_be_label) && !is_end && !too_long && !text.contains('\n') {
            return Head::Open;
        }
        let own = marker::marker(unmarked)
            .filter(|found| found.kind == Kind::Number && found.ordinal == self.number);
        let at = |rest: &str| held.len() - rest.len();
        let untitled = own.map_or(at(text), |found| at(behind_number(text, found.rest)));
        let body = own.map_or(unmarked, |found| found.rest);
        let body = body.trim_start_matches(['*', '_', '"', '“', ' ']);
        // The language of a block of code may be the title, as of a point on Python.
        if body.starts_with("```") || body.starts_with("~~~") {
            return Head::Begins(untitled);
        }
        let title = match self.behind_title(body) {
            Some(rest) => ends_title(rest, is_end).map(|ends| ends.then_some(rest)),
            // As far as it goes, it may be the title.
            None if !is_end && self.may_become_title(body) => None,
            None => Some(None),
        };
        match title {
            Some(Some(rest)) => {
                Head::Titled(at(rest.trim_start_matches(['*', '_', '"', '”', ' '])))
            }
            None if !too_long => Head::Open,
            Some(None) | None => Head::Begins(untitled),
        }
    }

    /// What follows the title, letter by letter without case and punctuation.
    fn behind_title<'a>(&self, body: &'a str) -> Option<&'a str> {
        let mut title = self.title.iter().peekable();
        for (at, c) in body.char_indices() {
            if title.peek().is_none() {
                return Some(&body[at..]);
            }
            for lower in c.to_lowercase().filter(|c| c.is_alphanumeric()) {
                if title.next() != Some(&lower) {
                    return None;
                }
            }
        }
        title.peek().is_none().then_some("")
    }

    fn may_become_title(&self, body: &str) -> bool {
        let mut title = self.title.iter();
        letters(body).all(|c| title.next() == Some(&c))
    }
}

fn letters(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .flat_map(char::to_lowercase)
        .filter(|c| c.is_alphanumeric())
}

/// Whether a text may go on as `Point 3:` or `Step 3:`.
fn is_label_prefix(text: &str) -> bool {
    let lower = text.to_lowercase();
    ["point ", "step "]
        .iter()
        .any(|label| label.starts_with(&lower) || lower.starts_with(label))
}

/// What follows the branch's own number; an emphasis that was opened before it is closed behind it.
fn behind_number<'a>(text: &str, rest: &'a str) -> &'a str {
    let rest = rest.trim_start();
    let sign = ["**", "__"].into_iter().find(|sign| text.starts_with(sign));
    sign.and_then(|sign| rest.strip_prefix(sign))
        .unwrap_or(rest)
}

/// Whether what follows a title ends it, so that it stood there as a heading; none when more has
/// to be seen. A title that goes on is the beginning of a sentence.
fn ends_title(rest: &str, is_end: bool) -> Option<bool> {
    let mut chars = rest
        .chars()
        .skip_while(|c| matches!(c, ' ' | '*' | '_' | '"' | '”'));
    match (chars.next(), chars.next()) {
        (None, _) => is_end.then_some(true),
        (Some(':' | '：' | '\n' | '\r' | '—' | '–'), _) => Some(true),
        (Some('.' | '-' | '!' | '?'), None) => is_end.then_some(true),
        (Some('.' | '-' | '!' | '?'), Some(next)) => Some(next.is_whitespace() || next == '*'),
        (Some(_), _) => Some(rest.starts_with("**")),
    }
}
