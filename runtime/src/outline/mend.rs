//! The text of one branch, mended as it comes: a paragraph, and what is listed, indented or fenced
//! below it. The line behind that is the next point already, or the end of the answer: there the
//! branch is over. So it is where a sentence comes that was said before.
//!
//! Works character by character, so that where the pieces are cut changes nothing.

use super::sentences::{Sentences, Told, ends_sentence};

/// The sign of a fenced block of code.
const FENCE: &str = "```";

/// What stands behind a number at the beginning of an outline.
const ANOTHER: &str = ". **";

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
    state: State,
    sentences: Sentences,
    /// The beginning of a line, as long as it is open what it is.
    held: String,
    /// Space that is written when something follows.
    gap: String,
    /// The line of code that is being written.
    code: String,
    /// The last character that was given and is no space.
    last: Option<char>,
    /// Whether the next sentence is to be the last one.
    hurries: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the beginning of the branch, or of a line.
    LineStart,
    Text,
    Code,
    Over,
}

impl Mender {
    /// For a point of an outline with these titles, which no sentence has to repeat.
    pub fn new(titles: impl IntoIterator<Item = String>) -> Self {
        Self {
            state: State::LineStart,
            sentences: Sentences::new(titles),
            held: String::new(),
            gap: String::new(),
            code: String::new(),
            last: None,
            hurries: false,
        }
    }

    /// Takes the next piece; gives what is certain.
    pub fn push(&mut self, piece: &str) -> String {
        let mut out = String::new();
        for c in piece.chars().filter(|c| !is_invisible(*c)) {
            match self.state {
                State::LineStart => self.line_start(c, &mut out),
                State::Text => self.text(c, &mut out),
                State::Code => self.code(c, &mut out),
                State::Over => break,
            }
        }
        out
    }

    /// The next end of a sentence ends the branch: little of its budget is left.
    pub fn hurry(&mut self) {
        self.hurries = true;
    }

    /// The rest, when no more text comes. What comes behind it is dropped.
    pub fn finish(&mut self, end: BranchEnd) -> String {
        let mut out = String::new();
        let is_cut = end == BranchEnd::Cut && self.state != State::Over;
        if self.state == State::Code {
            let is_closed = self.code.trim() == FENCE;
            let is_new_line = self.code.is_empty();
            out.push_str(match (is_closed, is_new_line) {
                (true, _) => "",
                (false, true) => FENCE,
                (false, false) => "\n```",
            });
            out.push_str(if is_cut && !is_closed { "\n…" } else { "" });
        } else if !is_cut && self.state == State::Text {
            // Of a sentence that broke off and may be an earlier one, nothing is missed.
            for c in self.sentences.finish().chars() {
                self.write(c, &mut out);
            }
        }
        if self.state == State::LineStart && self.last.is_none() && !is_cut {
            let held = std::mem::take(&mut self.held);
            held.trim().chars().for_each(|c| self.write(c, &mut out));
        }
        if self.state != State::Code {
            let stop = self.last.take().map(|last| final_stop(last, is_cut));
            out.push_str(stop.unwrap_or_default());
        }
        self.state = State::Over;
        out
    }

    /// Whether the text has come to its end: nothing more of it is given.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// A line that is listed, indented or fenced goes on; the first one does in any case.
    fn line_start(&mut self, c: char, out: &mut String) {
        self.held.push(c);
        let text = self.held.trim_start();
        if text.is_empty() {
            return;
        }
        let above = &self.held[..self.held.len() - text.len()];
        let indent = above.rsplit('\n').next().unwrap_or_default().to_owned();
        let is_run = |sign| text.chars().all(|c| c == sign);
        if is_run('`') && text.len() < FENCE.len() || matches!(text, "-" | "*" | "+") {
            return;
        }
        // The beginning of another outline is no text.
        let behind_number = text.trim_start_matches(|c: char| c.is_ascii_digit());
        let is_numbered = behind_number.len() < text.len();
        if is_numbered && behind_number.starts_with(ANOTHER) {
            self.state = State::Over;
            return;
        }
        if is_numbered && ANOTHER.starts_with(behind_number) {
            return;
        }
        let is_listed = ["- ", "* ", "+ ", "• ", "•"]
            .iter()
            .any(|sign| text.starts_with(sign));
        let is_fenced = text == FENCE;
        let is_first = self.last.is_none();
        if !is_first && !is_listed && !is_fenced && indent.is_empty() {
            self.state = State::Over;
            return;
        }
        let on_its_own = !is_first || is_fenced || (is_listed && above.contains('\n'));
        self.gap = if on_its_own {
            format!("\n{indent}")
        } else {
            String::new()
        };
        let text = text.to_owned();
        self.held.clear();
        if is_fenced {
            out.push_str(&std::mem::take(&mut self.gap));
            out.push_str(FENCE);
            self.last = Some('`');
            self.state = State::Code;
            self.code = "opening".to_owned();
            return;
        }
        self.state = State::Text;
        text.chars().for_each(|c| self.text(c, out));
    }

    fn text(&mut self, c: char, out: &mut String) {
        let is_over = c.is_whitespace() && self.hurries && self.last.is_some_and(ends_sentence);
        if is_over || self.state == State::Over {
            self.state = State::Over;
            return;
        }
        match self.sentences.push(c) {
            Told::Text(text) => text.chars().for_each(|c| self.write(c, out)),
            Told::Again => self.state = State::Over,
        }
        if c == '\n' && self.state != State::Over {
            self.gap.clear();
            self.state = State::LineStart;
        }
    }

    fn write(&mut self, c: char, out: &mut String) {
        if c.is_whitespace() {
            self.gap.push(c);
            return;
        }
        let gap = std::mem::take(&mut self.gap);
        out.push_str(if self.last.is_some() || gap.starts_with('\n') {
            &gap
        } else {
            ""
        });
        out.push(c);
        self.last = Some(c);
    }

    fn code(&mut self, c: char, out: &mut String) {
        if c != '\n' {
            self.code.push(c);
        } else if std::mem::take(&mut self.code).trim() == FENCE {
            self.state = State::LineStart;
            return;
        }
        out.push(c);
    }
}

/// Control characters but line breaks and tabs, and those that change the direction of what stands
/// around.
fn is_invisible(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What ends a text: nothing where a sentence ends, else a full stop of its script, or the sign
/// that it breaks off.
fn final_stop(last: char, is_cut: bool) -> &'static str {
    let is_wide =
        matches!(last, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}');
    let goes_on = last.is_alphanumeric()
        || matches!(last, '\u{900}'..='\u{dff}' | '、' | '，' | ',' | ';' | ':');
    match last {
        '\u{964}' | '\u{965}' => "",
        _ if goes_on && is_cut => "…",
        ',' | ';' | ':' => "…",
        _ if is_wide => "。",
        '\u{900}'..='\u{97f}' => "।",
        _ if goes_on || matches!(last, '%' | '°' | '€' | '$' | '-' | '–' | '—') => ".",
        // Quotes, brackets, code, emphasis and signs of all sorts end a text as they are.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mend(pieces: &[&str], end: BranchEnd) -> String {
        let titles = ["Drink water often".to_owned(), "Sleep".to_owned()];
        let mut mender = Mender::new(titles);
        let mut out: String = pieces.iter().map(|piece| mender.push(piece)).collect();
        out += &mender.finish(end);
        assert_eq!(mender.push("more") + &mender.finish(end), "");
        out
    }

    fn check(text: &str, expected: &str) {
        assert_eq!(mend(&[text], BranchEnd::Stop), expected, "{text:?}");
    }

    #[test]
    fn a_point_is_a_paragraph_and_what_is_listed_below_it() {
        check(" Drink  a lot. \n\n2. **Sleep**: Long.", "Drink  a lot.");
        check("Drink\n", "Drink.");
        check(
            "Drink:\n\n- tea\n- juice\n3. Sleep",
            "Drink:\n- tea\n- juice.",
        );
        check(
            "\n   - tea\n   - juice\n\nIn short",
            "\n   - tea\n   - juice.",
        );
        check("Tea.\n   More of it.\n**Next**", "Tea.\n   More of it.");
        check("\nTea.\n*Sleep*", "Tea.");
        check("", "");
        check(" \n ", "");
        check("1. FC Nürnberg", "1. FC Nürnberg.");
        check("1. **Sleep**: Long", "");
        check("5", "5.");
    }

    #[test]
    fn code_is_kept_and_closed() {
        check(
            "Run:\n```sh\n1. a\n\n  b\n```\nThen",
            "Run:\n```sh\n1. a\n\n  b\n```",
        );
        check("```\na", "\n```\na\n```");
        assert_eq!(
            mend(&["Run:\n```\na"], BranchEnd::Cut),
            "Run:\n```\na\n```\n…"
        );
        check("a ```b``` c", "a ```b``` c.");
    }

    #[test]
    fn repetition_ends_a_point() {
        check(
            "It is a known myth. No, it is. It is a known myth. So",
            "It is a known myth. No, it is.",
        );
        check("Drink water often", "");
        check("Drink water often and cold", "Drink water often and cold.");
        assert_eq!(
            mend(&["It is a known myth. It is a"], BranchEnd::Cut),
            "It is a known myth."
        );
    }

    #[test]
    fn texts_end() {
        for (text, expected) in [
            ("one,", "one,…"),
            ("喝水", "喝水。"),
            ("पानी", "पानी।"),
            ("(so)", "(so)"),
            ("5 %", "5 %."),
        ] {
            check(text, expected);
        }
        assert_eq!(mend(&["so it"], BranchEnd::Cut), "so it…");
        let mut mender = Mender::new([]);
        assert_eq!(mender.push("One and 3"), "One and 3");
        mender.hurry();
        assert_eq!(mender.push(".5 m. Two"), ".5 m.");
        assert!(mender.is_over());
    }

    proptest! {
        #[test]
        fn where_pieces_are_cut_changes_nothing(
            text in "([ab .\n\\-*`1]|```|Drink water often){0,30}",
            cut in 0usize..30,
        ) {
            let at = text.char_indices().nth(cut).map_or(text.len(), |(at, _)| at);
            for end in [BranchEnd::Stop, BranchEnd::Cut] {
                let (a, b) = text.split_at(at);
                prop_assert_eq!(mend(&[&text], end), mend(&[a, b], end));
            }
        }
    }
}
