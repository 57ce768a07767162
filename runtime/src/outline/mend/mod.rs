//! The text of one branch, mended as it comes: without the number and title that stand above it
//! already, without the next point, with single spaces and a final full stop.
//!
//! Works character by character, so that where the pieces are cut changes nothing.

use super::parse::marker::{self, Kind};
use super::title::is_invisible;

/// Most bytes that are held back to see whether a text begins with its title: the longest title
/// and what stands around it.
const MAX_HEAD_BYTES: usize = 512;
/// Most bytes of a line that are held back to see whether it is the next point.
const MAX_LINE_HEAD_BYTES: usize = 24;

/// Why a branch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchEnd {
    /// The model ended it.
    Stop,
    /// Its budget was used up, or it could not go on: the text may break off.
    Cut,
}

/// Mends the text of one branch.
#[derive(Clone, Debug)]
pub struct Mender {
    number: u32,
    title: Vec<char>,
    state: State,
    /// What may be no text: the head of the branch, or the beginning of a line.
    held: String,
    /// Space that is written when something follows.
    gap: Gap,
    /// `,`, `;` or `:` that is written when something follows.
    pending: Option<char>,
    last: Option<char>,
    /// Whether its title was taken off: signs that are left of it go too.
    titled: bool,
    /// Whether a list of its own began with `1.`: then `2.` is not the next point.
    has_list: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    LineStart,
    Text,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Space,
    Line,
}

/// What is known of the beginning of a branch.
enum Head {
    /// More has to be seen.
    Open,
    /// The text begins at this byte.
    Begins(usize),
    /// It begins at this byte, behind its title and with what may be left around that.
    Titled(usize),
}

impl Mender {
    /// For the point of this number, from 1, and title.
    pub fn new(number: usize, title: &str) -> Self {
        Self {
            number: u32::try_from(number).unwrap_or(u32::MAX),
            title: letters(title).collect(),
            state: State::Head,
            held: String::new(),
            gap: Gap::None,
            pending: None,
            last: None,
            titled: false,
            has_list: false,
        }
    }

    /// Takes the next piece; gives what is certain.
    pub fn push(&mut self, piece: &str) -> String {
        let mut out = String::new();
        for c in piece.chars() {
            self.push_char(c, &mut out);
        }
        out
    }

    /// The rest, when no more text comes. What comes behind it is dropped.
    pub fn finish(&mut self, end: BranchEnd) -> String {
        let mut out = String::new();
        match self.state {
            State::Head => {
                let head = self.head(true);
                for c in self.begin(head).chars() {
                    self.write(c, &mut out);
                }
            }
            State::LineStart => self.line_start(true, &mut out),
            State::Text | State::Over => {}
        }
        let was_cut = self.state == State::Over;
        self.state = State::Over;
        if let Some(last) = self.last {
            let broken_off = end == BranchEnd::Cut && !was_cut;
            out.push_str(final_stop(last, self.pending.take(), broken_off));
        }
        out
    }

    /// Whether nothing of the text is worth showing so far.
    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    fn push_char(&mut self, c: char, out: &mut String) {
        if is_invisible(c) && !matches!(c, '\n' | '\r' | '\t') {
            return;
        }
        match self.state {
            State::Over => {}
            State::Text => self.text(c, out),
            State::LineStart => {
                self.held.push(c);
                self.line_start(false, out);
            }
            State::Head => {
                self.held.push(c);
                let head = self.head(false);
                for c in self.begin(head).chars() {
                    self.push_char(c, out);
                }
            }
        }
    }

    /// Leaves the head when it is known; gives what of it is text.
    fn begin(&mut self, head: Head) -> String {
        let from = match head {
            Head::Open => return String::new(),
            Head::Begins(from) => from,
            Head::Titled(from) => {
                self.titled = true;
                from
            }
        };
        self.state = State::Text;
        std::mem::take(&mut self.held).split_off(from)
    }

    fn text(&mut self, c: char, out: &mut String) {
        if matches!(c, '\n' | '\r') {
            self.gap = Gap::Line;
            self.state = State::LineStart;
        } else {
            self.write(c, out);
        }
    }

    fn write(&mut self, c: char, out: &mut String) {
        if c == '\n' || c == '\r' {
            self.gap = Gap::Line;
            return;
        }
        if c.is_whitespace() {
            self.gap = self.gap.max(Gap::Space);
            return;
        }
        let is_left = || {
            matches!(
                c,
                ':' | '：' | ',' | ';' | '.' | '!' | '?' | '-' | '–' | '—' | ')' | '*' | '_' | '”'
            )
        };
        if self.last.is_none() && self.titled && is_left() {
            self.gap = Gap::None;
            return;
        }
        out.extend(self.pending.take());
        match self.gap {
            _ if self.last.is_none() => {}
            Gap::None => {}
            Gap::Space => out.push(' '),
            Gap::Line => out.push('\n'),
        }
        self.gap = Gap::None;
        self.last = Some(c);
        if matches!(c, ',' | ';' | ':') {
            self.pending = Some(c);
        } else {
            out.push(c);
        }
    }

    /// A line that begins as the next point ends the branch.
    fn line_start(&mut self, is_end: bool, out: &mut String) {
        let line = self.held.trim_start().trim_start_matches(['*', '#', ' ']);
        let is_break = line.ends_with(['\n', '\r']);
        if line.is_empty() {
            if self.held.ends_with(['\n', '\r']) {
                self.held.clear();
            } else if self.held.len() > MAX_LINE_HEAD_BYTES {
                self.release(out);
            }
            return;
        }
        let may_be_number = line
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | ')' | ':' | '('));
        if may_be_number && !is_break && !is_end && line.len() < MAX_LINE_HEAD_BYTES {
            return;
        }
        let number = marker::marker(line).filter(|found| found.kind == Kind::Number);
        match number.map(|found| found.ordinal) {
            Some(1) => self.has_list = true,
            Some(ordinal) if ordinal == self.number.saturating_add(1) && !self.has_list => {
                self.state = State::Over;
                self.held.clear();
                return;
            }
            _ => {}
        }
        self.release(out);
    }

    /// Writes what was held back of a line.
    fn release(&mut self, out: &mut String) {
        self.state = State::Text;
        let held = std::mem::take(&mut self.held);
        held.chars().for_each(|c| self.text(c, out));
    }

    /// Where the text begins behind the number and the title, if they are repeated.
    fn head(&self, is_end: bool) -> Head {
        let too_long = self.held.len() > MAX_HEAD_BYTES;
        let text = self.held.trim_start();
        let unmarked = text.trim_start_matches(['*', '#', '_', '"', '“', ' ']);
        if unmarked.is_empty() && !is_end && !too_long {
            return Head::Open;
        }
        // The number: digits and what follows are waited for.
        let label_ends = |c: char| c.is_alphanumeric() || c == ' ';
        let could_be_marker = unmarked
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | ')' | ':' | '(' | '-' | ' '));
        let could_be_label = unmarked.len() < MAX_LINE_HEAD_BYTES
            && unmarked.chars().all(label_ends)
            && is_label_prefix(unmarked);
        if (could_be_marker || could_be_label) && !is_end && !too_long && !text.contains('\n') {
            return Head::Open;
        }
        let own = marker::marker(unmarked)
            .filter(|found| found.kind == Kind::Number && found.ordinal == self.number);
        let at = |rest: &str| self.held.len() - rest.len();
        let untitled = own.map_or(at(text), |found| at(behind_number(text, found.rest)));
        let body = own.map_or(unmarked, |found| found.rest);
        let body = body.trim_start_matches(['*', '_', '"', '“', ' ']);
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

/// What ends a text: nothing where a sentence ends, else a full stop of its script, or the sign
/// that it breaks off.
fn final_stop(last: char, pending: Option<char>, broken_off: bool) -> &'static str {
    let is_wide =
        matches!(last, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}');
    let goes_on = pending.is_some()
        || last.is_alphanumeric()
        || matches!(last, '\u{900}'..='\u{dff}' | '、' | '，');
    match last {
        _ if goes_on && broken_off => "…",
        _ if is_wide => "。",
        '\u{900}'..='\u{97f}' => "।",
        _ if goes_on || matches!(last, '%' | '°' | '€' | '$' | '-' | '–' | '—') => ".",
        // Quotes, brackets, code, emphasis and signs of all sorts end a text as they are.
        _ => "",
    }
}

#[cfg(test)]
mod tests;
