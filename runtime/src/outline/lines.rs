//! An outline as lines: the grammar under which a model writes it, and how it is read meanwhile.
//!
//! The grammar leaves nothing to be parsed: numbered lines of few words, without markup, at most as
//! many as there may be points, then the end. A line that uses up its words was cut by the grammar,
//! and one that says what an earlier one says begins a loop: both end the outline.

use std::fmt::Write;

use super::points::{Outline, OutlineLimits, Point, title_key};

/// Most words of a title. Models that outline write 2 to 5; where the grammar has to cut, the model
/// writes sentences.
const MAX_WORDS: usize = 8;
/// Most characters of a word, and of a title in a script without spaces.
const MAX_WORD_CHARS: usize = 24;
/// What no title holds (GBNF, within brackets): space, punctuation that ends a title, markup, and
/// what control tokens are written with.
const NO_TITLE: &str = r#" \n\r\t.,:;*_#`~()<>|{}\[\]"\\。，、：；"#;

/// Why there is no outline: the answer is then written plainly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOutline {
    /// A list that is too short, duplicates not counted.
    #[error("the outline has {found} points of at least {wanted}")]
    TooFew {
        /// Different points.
        found: usize,
        /// The least that are worth it.
        wanted: usize,
    },
    /// A title without end before enough points.
    #[error("the model writes sentences instead of an outline")]
    Sentences,
}

/// Whether more of the outline is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Points may follow.
    Open,
    /// The outline is complete, or will never be one: what follows is not read.
    Closed,
}

/// Reads the outline of one answer.
#[derive(Clone, Debug)]
pub struct OutlineReader {
    limits: OutlineLimits,
    /// The line that is being written.
    line: String,
    points: Vec<Point>,
    closed: bool,
    has_sentences: bool,
}

/// Numbered lines, each title between `mark`s, up to `max_points`; the text `begun` is there already.
///
/// `begun` is a beginning of `1. ` and the mark.
pub(super) fn grammar(mark: &str, max_points: usize, begun: &str) -> String {
    let first = format!("1. {mark}");
    let rest = first.strip_prefix(begun).unwrap_or(&first);
    let mut text = format!("root ::= \"{rest}\" line1\n");
    for n in 1..=max_points {
        let next = match n < max_points {
            true => format!(" (\"\\n{}. {mark}\" line{})?", n + 1, n + 1),
            false => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "line{n} ::= title \"{mark}\"{next}");
    }
    let more = MAX_WORDS - 1;
    text + &format!(
        "title ::= word (\" \" word){{0,{more}}}\nword ::= [^{NO_TITLE}]{{1,{MAX_WORD_CHARS}}}\n"
    )
}

impl OutlineReader {
    /// A reader of an outline that begins with `begun`.
    pub fn new(limits: OutlineLimits, begun: &str) -> Self {
        Self {
            limits,
            line: begun.to_owned(),
            points: Vec::new(),
            closed: false,
            has_sentences: false,
        }
    }

    /// Reads the next piece; where it is cut changes nothing.
    pub fn push(&mut self, piece: &str) -> Progress {
        for c in piece.chars() {
            match c {
                _ if self.closed => break,
                '\n' => self.end_line(),
                c => self.line.push(c),
            }
        }
        match self.closed {
            true => Progress::Closed,
            false => Progress::Open,
        }
    }

    /// The points that are certain so far.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// The outline; of a text that was cut off (`is_cut`), the line that is not finished is no point.
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn finish(mut self, is_cut: bool) -> Result<Outline, NotAnOutline> {
        if !self.closed && !is_cut {
            self.end_line();
        }
        let (found, wanted) = (self.points.len(), self.limits.min_points.max(1));
        match found >= wanted {
            true => Ok(Outline {
                points: self.points,
            }),
            false if self.has_sentences => Err(NotAnOutline::Sentences),
            false => Err(NotAnOutline::TooFew { found, wanted }),
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        let title = line.trim_start_matches(|c: char| c.is_ascii_digit());
        let title = title.trim_matches(|c: char| c.is_whitespace() || matches!(c, '.' | '*'));
        self.has_sentences = title.split(' ').count() >= MAX_WORDS;
        let key = title_key(title);
        let is_known = |point: &Point| title_key(&point.title) == key;
        if self.has_sentences || key.is_empty() || self.points.iter().any(is_known) {
            self.closed = true;
            return;
        }
        self.points.push(Point {
            title: title.to_owned(),
        });
        self.closed = self.points.len() >= self.limits.max_points.max(1);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str, begun: &str) -> Result<Vec<String>, NotAnOutline> {
        let limits = OutlineLimits {
            min_points: 3,
            max_points: 4,
        };
        let mut whole = OutlineReader::new(limits, begun);
        whole.push(text);
        let mut pieces = OutlineReader::new(limits, begun);
        for c in text.chars() {
            pieces.push(c.encode_utf8(&mut [0; 4]));
        }
        assert_eq!(whole.points(), pieces.points(), "{text}");
        let titles = |outline: Outline| outline.points.into_iter().map(|p| p.title).collect();
        whole.finish(false).map(titles)
    }

    #[test]
    fn lines_become_points_up_to_the_limit() {
        let plain = read("1. Lift it\n2. Take it off\n3. Mount it", "");
        assert_eq!(plain.unwrap(), ["Lift it", "Take it off", "Mount it"]);
        let bold = read("A**\n2. **B**\n3. **C**\n4. **D**\n5. **E**", "1. **");
        assert_eq!(bold.unwrap(), ["A", "B", "C", "D"]);
    }

    #[test]
    fn a_line_that_comes_again_ends_the_outline() {
        let looped = read("1. One\n2. Two\n3. Three\n4. The two!\n5. Five", "");
        assert_eq!(looped.unwrap(), ["One", "Two", "Three"]);
        let (found, wanted) = (2, 3);
        let few = read("1. One\n2. Two\n3. one\n4. Four", "");
        assert_eq!(few, Err(NotAnOutline::TooFew { found, wanted }));
        let found = 1;
        assert_eq!(
            read("1. One", ""),
            Err(NotAnOutline::TooFew { found, wanted })
        );
    }

    #[test]
    fn sentences_are_no_outline() {
        let mut reader = OutlineReader::new(OutlineLimits::default(), "1. **");
        assert_eq!(
            reader.push("One two three four five six seven eight**"),
            Progress::Open
        );
        assert_eq!(reader.push("\n"), Progress::Closed);
        assert_eq!(reader.finish(false), Err(NotAnOutline::Sentences));
    }

    #[test]
    fn what_is_cut_off_is_no_point() {
        let mut reader = OutlineReader::new(OutlineLimits::default(), "");
        reader.push("1. One\n2. Two\n3. Three\n4. Fo");
        assert_eq!(reader.finish(true).unwrap().points.len(), 3);
    }
}
