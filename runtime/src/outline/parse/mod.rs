//! Reads an outline from what a model writes, while it is being written or at once.
//!
//! Lines are taken one by one. Each line with a marker goes to the list of its marker's sort and
//! indentation; the list that is an outline is chosen in the end. So a preamble, nested points and
//! chatter behind the list need no rules of their own. A thought before all that is not read; one
//! without its opening tag is known by its end only, and a list in it that is full or has chatter
//! behind it closes the parser before. Memory is bounded by [`MAX_LISTS`] lists of
//! at most the wanted points, and time is linear in the bytes.

mod line;
pub(crate) mod marker;

use std::mem;

use self::line::{inline_points, is_headline, leading_marker, visible};
use self::marker::{Kind, Marker, letter_ordinal};
use super::points::{Outline, OutlineLimits, Point, title_key};
use super::thoughts::Thoughts;
use super::title::clean_title;

/// Most bytes of a line that are read: a title has 80 characters, of 4 bytes at most, and its
/// marker and markup some more. The rest is description.
const MAX_LINE_BYTES: usize = 512;
/// A line so long is no line of a list any more: the model has begun to write the answer.
const ENDLESS_LINE_BYTES: usize = 2048;
/// Most bytes of an outline: as many points as there may be, with a long description each.
const MAX_BYTES: usize = 16 << 10;
/// Most lists of different markers or indentation that are kept: further ones are deep down.
const MAX_LISTS: usize = 8;
/// Columns by which markers of one list may differ: ` 9.` and `10.` end in the same column.
const INDENT_TOLERANCE: usize = 1;

/// Why there is no outline: the answer is then written plainly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAnOutline {
    /// Nothing that can be seen was written.
    #[error("the model wrote no outline")]
    Empty,
    /// Text without any list.
    #[error("no list of points was found in what the model wrote for an outline")]
    NoList,
    /// A list that is too short, duplicates not counted.
    #[error("the outline has {found} points of at least {wanted}")]
    TooFew {
        /// Different points.
        found: usize,
        /// The least that are worth it.
        wanted: usize,
    },
    /// A line without end before enough points.
    #[error("a line of the outline has more than {ENDLESS_LINE_BYTES} bytes")]
    EndlessLine,
    /// Too much text before enough points.
    #[error("the outline has more than {MAX_BYTES} bytes")]
    TooLong,
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
pub struct OutlineParser {
    limits: OutlineLimits,
    /// The line that is being written, as far as it is read.
    line: String,
    n_line_bytes: usize,
    n_bytes: usize,
    thoughts: Thoughts,
    lists: Vec<List>,
    has_text: bool,
    after_blank: bool,
    closed: bool,
    broken: Option<NotAnOutline>,
}

/// The points of one sort of marker at one depth.
#[derive(Clone, Debug)]
struct List {
    kind: Kind,
    indent: usize,
    last_ordinal: u32,
    points: Vec<Point>,
    keys: Vec<String>,
}

/// The outline in a whole text.
///
/// # Errors
/// The reason why it holds none.
///
/// ```
/// use jupiter::outline::{OutlineLimits, parse};
/// let text = "Sure!\n1. **Lift the car**: use a jack\n2) Take off the wheel\n3 - Mount the new one";
/// let outline = parse(text, OutlineLimits::default())?;
/// assert_eq!(outline.render(), "1. Lift the car\n2. Take off the wheel\n3. Mount the new one");
/// # Ok::<(), jupiter::outline::NotAnOutline>(())
/// ```
pub fn parse(text: &str, limits: OutlineLimits) -> Result<Outline, NotAnOutline> {
    let mut parser = OutlineParser::new(limits);
    parser.push(text);
    parser.finish()
}

impl OutlineParser {
    /// A parser that has read nothing.
    pub fn new(limits: OutlineLimits) -> Self {
        Self {
            limits,
            line: String::new(),
            n_line_bytes: 0,
            n_bytes: 0,
            thoughts: Thoughts::default(),
            lists: Vec::new(),
            has_text: false,
            after_blank: false,
            closed: false,
            broken: None,
        }
    }

    /// Reads the next piece; where it is cut changes nothing.
    pub fn push(&mut self, piece: &str) -> Progress {
        for c in piece.chars() {
            if self.closed {
                return Progress::Closed;
            }
            self.push_char(c);
        }
        if self.closed {
            Progress::Closed
        } else {
            Progress::Open
        }
    }

    /// The text was cut off here, as at the most tokens it may have: the line that is not finished
    /// is no point, and no more is read.
    pub fn cut(&mut self) {
        if self.closed {
            return;
        }
        self.line.push_str(&self.thoughts.finish());
        let (_, text) = visible(&mem::take(&mut self.line));
        self.has_text |= !text.is_empty();
        self.close(None);
    }

    /// The points that are certain so far, for a view that shows them as they come. They begin anew
    /// where a thought without its opening tag ends.
    pub fn points(&self) -> &[Point] {
        self.chosen().map_or(&[], |list| &list.points)
    }

    /// The outline; of a text that was cut off after [`OutlineParser::cut`].
    ///
    /// # Errors
    /// The reason why there is none.
    pub fn finish(mut self) -> Result<Outline, NotAnOutline> {
        let held = self.thoughts.finish();
        self.read(&held);
        if !self.closed {
            self.end_line();
        }
        let wanted = self.limits.min_points.max(1);
        let found = self.chosen().map_or(0, |list| list.points.len());
        if found >= wanted {
            let points = self
                .chosen()
                .map(|list| list.points.clone())
                .unwrap_or_default();
            return Ok(Outline { points });
        }
        Err(match self.broken {
            Some(broken) => broken,
            None if found > 0 => NotAnOutline::TooFew { found, wanted },
            None if self.has_text => NotAnOutline::NoList,
            None => NotAnOutline::Empty,
        })
    }

    fn push_char(&mut self, c: char) {
        self.n_bytes += c.len_utf8();
        if self.n_bytes > MAX_BYTES {
            return self.close(Some(NotAnOutline::TooLong));
        }
        let mut text = String::new();
        if self.thoughts.push(c, &mut text) {
            self.forget();
        }
        self.read(&text);
    }

    /// All that was read so far was a thought.
    fn forget(&mut self) {
        self.line.clear();
        self.n_line_bytes = 0;
        self.lists.clear();
        self.has_text = false;
        self.after_blank = false;
    }

    fn read(&mut self, text: &str) {
        for c in text.chars() {
            if !self.closed {
                self.read_char(c);
            }
        }
    }

    fn read_char(&mut self, c: char) {
        if matches!(
            c,
            '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' | '\u{b}' | '\u{c}'
        ) {
            return self.end_line();
        }
        self.n_line_bytes += c.len_utf8();
        if self.line.len() + c.len_utf8() <= MAX_LINE_BYTES {
            self.line.push(c);
        }
        if self.n_line_bytes > ENDLESS_LINE_BYTES {
            self.end_line();
            self.close(Some(NotAnOutline::EndlessLine));
        }
    }

    fn close(&mut self, broken: Option<NotAnOutline>) {
        self.closed = true;
        self.broken = self.broken.take().or(broken);
    }

    fn end_line(&mut self) {
        let line = mem::take(&mut self.line);
        self.n_line_bytes = 0;
        let (indent, text) = visible(&line);
        if text.is_empty() {
            self.after_blank = true;
            return;
        }
        self.has_text = true;
        let mut has_point = false;
        for part in inline_points(&text) {
            if let Some(found) = leading_marker(part) {
                has_point = true;
                self.add(found, indent);
            }
        }
        // Behind a blank line, words at the margin end a list that is long enough.
        let is_chatter = !has_point && self.after_blank && indent == 0 && !is_headline(&text);
        if is_chatter
            && self
                .chosen()
                .is_some_and(|list| list.points.len() >= self.limits.min_points)
        {
            self.close(None);
        }
        self.after_blank = false;
    }

    /// Puts a point into the list of its marker.
    fn add(&mut self, found: Marker<'_>, indent: usize) {
        let found = self.resolve(found, indent);
        let known = self
            .lists
            .iter()
            .position(|list| list.takes(found.kind, indent));
        let at = match known {
            Some(at) => at,
            None if self.lists.len() < MAX_LISTS && found.kind != Kind::Nested => {
                self.lists.push(List::new(found.kind, indent));
                self.lists.len() - 1
            }
            None => return,
        };
        let (min, max) = (self.limits.min_points, self.limits.max_points.max(1));
        let is_chosen = self.chosen_at() == Some(at);
        let list = &mut self.lists[at];
        // A list that begins anew behind a complete one is another list. A `1.` behind a `1.` is
        // how Markdown lets a list be numbered.
        let restarts =
            found.ordinal > 0 && found.ordinal <= list.last_ordinal && list.last_ordinal > 1;
        if restarts && list.points.len() >= min {
            if is_chosen {
                self.close(None);
            }
            return;
        }
        list.last_ordinal = found.ordinal;
        let Some(title) = clean_title(found.rest) else {
            return;
        };
        let key = title_key(&title);
        if !list.keys.contains(&key) && list.points.len() < max {
            list.keys.push(key);
            list.points.push(Point { title });
        }
        if is_chosen && self.lists[at].points.len() >= max {
            self.close(None);
        }
    }

    /// Roman or letter: `i.` behind `h.`, and `v.` without a `iv.`, are letters.
    fn resolve<'a>(&self, found: Marker<'a>, indent: usize) -> Marker<'a> {
        if found.kind != Kind::Roman {
            return found;
        }
        let follows = |kind: Kind, ordinal: u32| {
            let mut lists = self.lists.iter().filter(|list| list.takes(kind, indent));
            lists.any(|list| list.last_ordinal + 1 == ordinal)
        };
        // One letter whose Roman value is known: 1, 5 and 10 are i, v and x.
        let letter = match found.ordinal {
            1 => letter_ordinal('i'),
            5 => letter_ordinal('v'),
            10 => letter_ordinal('x'),
            _ => return found,
        };
        if follows(Kind::Letter, letter) && !follows(Kind::Roman, found.ordinal) {
            return Marker {
                kind: Kind::Letter,
                ordinal: letter,
                ..found
            };
        }
        found
    }

    fn chosen(&self) -> Option<&List> {
        self.chosen_at().map(|at| &self.lists[at])
    }

    /// The list that is the outline: the outermost, of these the first. One point alone before a
    /// list of more is part of the preamble.
    fn chosen_at(&self) -> Option<usize> {
        let lists = || {
            self.lists
                .iter()
                .enumerate()
                .filter(|(_, list)| !list.points.is_empty())
        };
        let longer = |list: &List| list.points.len() > 1;
        let outermost = lists()
            .filter(|(_, list)| longer(list))
            .min_by_key(|(at, list)| (list.indent, *at));
        outermost.or_else(|| lists().next()).map(|(at, _)| at)
    }
}

impl List {
    fn new(kind: Kind, indent: usize) -> Self {
        Self {
            kind,
            indent,
            last_ordinal: 0,
            points: Vec::new(),
            keys: Vec::new(),
        }
    }

    fn takes(&self, kind: Kind, indent: usize) -> bool {
        self.kind == kind && self.indent.abs_diff(indent) <= INDENT_TOLERANCE
    }
}

#[cfg(test)]
mod tests;
