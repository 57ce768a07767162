//! The text of one branch, mended as it comes: without the number and title that stand above it
//! already, without thoughts and the next point, with at most one blank line between paragraphs and
//! a final full stop. Fenced code stays as it is, and one that is left open is closed.
//!
//! Works character by character, so that where the pieces are cut changes nothing.

mod fence;
mod head;

use self::fence::{Fence, LineHead};
use self::head::{Head, Heading};
use super::parse::marker::{self, Kind};
use super::thoughts::{self, Thoughts};
use super::title::is_invisible;

/// Most bytes of a line that are held back to see whether it is the next point or begins code.
const MAX_LINE_HEAD_BYTES: usize = 24;
/// Most line breaks between two lines: one blank line.
const MAX_BREAKS: usize = 2;

/// Why a branch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BranchEnd {
    /// The model ended it.
    Stop,
    /// Its budget was used up, or it could not go on: the text may break off.
    Cut,
}

/// Mends the text of one branch.
///
/// A thought (`<think> ... </think>`) before the text is dropped. One without its opening tag is
/// known by its end only: it is dropped as long as nothing of it was given.
#[derive(Clone, Debug)]
pub struct Mender {
    heading: Heading,
    thoughts: Thoughts,
    state: State,
    /// What may be no text: the head of the branch, or the beginning of a line.
    held: String,
    /// Space that is written when something follows.
    gap: Gap,
    /// `,`, `;` or `:` that is written when something follows.
    pending: Option<char>,
    last: Option<char>,
    /// Whether the line was begun by its title, which was taken off: signs left of it go too.
    titled: bool,
    /// Whether a list of its own began with `1.`: then `2.` is not the next point.
    has_list: bool,
    /// The block of code that is open, or that this line opens.
    fence: Option<Fence>,
    after_return: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    LineStart,
    Text,
    /// At the beginning of a line of code, and behind that.
    CodeStart,
    Code,
    Over,
}

/// Line breaks, and the spaces behind them.
#[derive(Clone, Debug, Default)]
struct Gap {
    n_breaks: usize,
    spaces: String,
}

impl Mender {
    /// For the point of this number, from 1, and title.
    pub fn new(number: usize, title: &str) -> Self {
        Self {
            heading: Heading::new(u32::try_from(number).unwrap_or(u32::MAX), title),
            thoughts: Thoughts::default(),
            state: State::Head,
            held: String::new(),
            gap: Gap::default(),
            pending: None,
            last: None,
            titled: false,
            has_list: false,
            fence: None,
            after_return: false,
        }
    }

    /// Takes the next piece; gives what is certain.
    pub fn push(&mut self, piece: &str) -> String {
        let mut out = String::new();
        for c in piece.chars() {
            let mut text = String::new();
            if self.thoughts.push(c, &mut text) {
                self.end_thought(&mut out);
            }
            self.push_text(&text, &mut out);
        }
        out
    }

    /// The rest, when no more text comes. What comes behind it is dropped.
    pub fn finish(&mut self, end: BranchEnd) -> String {
        let mut out = String::new();
        let text = self.thoughts.finish();
        self.push_text(&text, &mut out);
        if self.state == State::Head {
            self.head(true, &mut out);
        }
        if self.state == State::LineStart {
            self.line_start(true, &mut out);
        }
        if self.state == State::CodeStart && self.ends_code() {
            self.end_code(&mut out);
        }
        let is_cut = end == BranchEnd::Cut && self.state != State::Over;
        if let Some(fence) = self.fence.take() {
            self.close(&fence, &mut out);
            out.push_str(if is_cut { "\n…" } else { "" });
        } else if let Some(last) = self.last {
            out.push_str(final_stop(last, self.pending.take(), is_cut));
        }
        self.state = State::Over;
        out
    }

    /// Whether the model has begun the next point: nothing more of its text is given.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// All that came was a thought; or its end alone, which is text where text was given before.
    fn end_thought(&mut self, out: &mut String) {
        if self.last.is_some() {
            return self.push_text(thoughts::CLOSING, out);
        }
        if self.state != State::Over {
            self.state = State::Head;
            self.held.clear();
            self.gap = Gap::default();
            self.titled = false;
            self.has_list = false;
        }
    }

    fn push_text(&mut self, text: &str, out: &mut String) {
        for c in text.chars() {
            let is_break = c == '\n' || c == '\r';
            let is_second = c == '\n' && self.after_return;
            self.after_return = c == '\r';
            if is_break && !is_second {
                self.push_char('\n', out);
            } else if !is_break && (!is_invisible(c) || c == '\t') {
                self.push_char(c, out);
            }
        }
    }

    fn push_char(&mut self, c: char, out: &mut String) {
        match self.state {
            State::Over => {}
            State::Text => self.text(c, out),
            State::CodeStart => self.code_start(c, out),
            State::Code => self.code(c, out),
            State::LineStart if c == '\n' => {
                self.line_start(true, out);
                if self.state != State::Over {
                    self.end_line(out);
                }
            }
            State::LineStart if self.held.is_empty() && c.is_whitespace() => {
                self.gap.spaces.push(c);
            }
            State::LineStart if self.held.is_empty() && self.titled && is_left_of_title(c) => {}
            State::LineStart => {
                self.held.push(c);
                self.line_start(false, out);
            }
            State::Head => {
                self.held.push(c);
                self.head(false, out);
            }
        }
    }

    /// Leaves the head when it is known, and goes on with what of it is text.
    fn head(&mut self, is_end: bool, out: &mut String) {
        let from = match self.heading.find(&self.held, is_end) {
            Head::Open => return,
            Head::Begins(from) => from,
            Head::Titled(from) => {
                self.titled = true;
                from
            }
        };
        self.state = State::LineStart;
        let text = std::mem::take(&mut self.held).split_off(from);
        text.chars().for_each(|c| self.push_char(c, out));
    }

    /// A line that begins as the next point ends the branch, and one with a fence begins code.
    fn line_start(&mut self, is_end: bool, out: &mut String) {
        let is_open = !is_end && self.held.len() < MAX_LINE_HEAD_BYTES;
        let line = self.held.trim_start_matches(['*', '#', ' ']);
        let is_number = |c: char| c.is_ascii_digit() || matches!(c, '.' | ')' | ':' | '(');
        if is_open && line.chars().all(is_number) {
            return;
        }
        // Behind the title on its line stands a sentence.
        let is_first = self.last.is_none() && self.gap.n_breaks == 0;
        let number = marker::marker(line).filter(|found| found.kind == Kind::Number && !is_first);
        match number.map(|found| found.ordinal) {
            Some(1) => self.has_list = true,
            Some(ordinal) if self.heading.is_next(ordinal) && !self.has_list => {
                self.state = State::Over;
                self.held.clear();
                return;
            }
            _ => {}
        }
        match LineHead::of(&self.gap.spaces, &self.held) {
            LineHead::Open if is_open => return,
            LineHead::Open | LineHead::Other => {}
            LineHead::Fence(fence) => {
                if self.last.is_none() {
                    // It is none behind the title on one line.
                    out.push('\n');
                    out.push_str(&self.gap.spaces);
                }
                self.fence = Some(fence);
            }
        }
        self.state = State::Text;
        let held = std::mem::take(&mut self.held);
        held.chars().for_each(|c| self.text(c, out));
    }

    fn text(&mut self, c: char, out: &mut String) {
        if c == '\n' {
            return self.end_line(out);
        }
        if self.fence.as_mut().is_some_and(|fence| !fence.reads(c)) {
            self.fence = None;
        }
        if c.is_whitespace() {
            self.gap.spaces.push(c);
        } else {
            self.write(c, out);
        }
    }

    fn end_line(&mut self, out: &mut String) {
        self.titled = false;
        self.gap.spaces.clear();
        if self.fence.is_some() {
            out.extend(self.pending.take());
            out.push('\n');
            self.state = State::CodeStart;
        } else {
            self.gap.n_breaks = MAX_BREAKS.min(self.gap.n_breaks + 1);
            self.state = State::LineStart;
        }
    }

    fn write(&mut self, c: char, out: &mut String) {
        out.extend(self.pending.take());
        let gap = std::mem::take(&mut self.gap);
        if self.last.is_some() {
            (0..gap.n_breaks).for_each(|_| out.push('\n'));
            out.push_str(&gap.spaces);
        }
        self.last = Some(c);
        if matches!(c, ',' | ';' | ':') {
            self.pending = Some(c);
        } else {
            out.push(c);
        }
    }

    fn code_start(&mut self, c: char, out: &mut String) {
        if c == '\n' && self.ends_code() {
            self.end_code(out);
            return self.end_line(out);
        }
        self.held.push(c);
        let fence = self.fence.as_ref();
        if c == '\n' || !fence.is_some_and(|fence| fence.may_be_closed_by(&self.held)) {
            self.state = State::Code;
            let held = std::mem::take(&mut self.held);
            held.chars().for_each(|c| self.code(c, out));
        }
    }

    fn code(&mut self, c: char, out: &mut String) {
        out.push(c);
        if c == '\n' {
            self.state = State::CodeStart;
        }
    }

    fn ends_code(&self) -> bool {
        let fence = self.fence.as_ref();
        fence.is_some_and(|fence| fence.is_closed_by(&self.held))
    }

    /// Writes the line that closes a block of code.
    fn end_code(&mut self, out: &mut String) {
        out.push_str(std::mem::take(&mut self.held).trim_end());
        self.last = self.fence.take().map(|fence| fence.sign());
        self.state = State::Text;
    }

    /// Closes a block of code that was left open; what was begun of its end is written anew.
    fn close(&mut self, fence: &Fence, out: &mut String) {
        out.extend(self.pending.take());
        self.held.clear();
        if self.state != State::CodeStart {
            out.push('\n');
        }
        out.push_str(&fence.closing());
    }
}

fn is_left_of_title(c: char) -> bool {
    matches!(
        c,
        ':' | '：' | ',' | ';' | '.' | '!' | '?' | '-' | '–' | '—' | ')' | '*' | '_' | '”'
    )
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
