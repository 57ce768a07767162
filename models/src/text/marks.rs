//! Messages whose characters can be told from those of the template that they are put into.
//!
//! What a template does with a message (trim it, repeat it, leave it out, join it with another) is
//! its own affair. So characters are marked before it sees them: written as others that nobody
//! uses. Whatever it writes, a marked character is one of a message.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::ChatMessage;
use crate::error::{ModelError, Result};

/// Characters to write others as: planes that Unicode has not assigned, so that nothing is known
/// of them (no case, no white space) that a template could change or look for.
const FREE: std::ops::Range<u32> = 0x4_0000..0xE_0000;

/// Which characters stand for which.
pub(super) struct Marks {
    free: Box<dyn Iterator<Item = char>>,
    marked: HashMap<char, char>,
    plain: HashMap<char, char>,
}

impl Marks {
    /// None so far; characters that `texts` have are not taken.
    pub(super) fn beside<'a>(texts: impl Iterator<Item = &'a str>) -> Self {
        let is_candidate = |c: &char| FREE.contains(&u32::from(*c));
        let taken: HashSet<char> = texts.flat_map(str::chars).filter(is_candidate).collect();
        let free = FREE.filter_map(char::from_u32);
        Self {
            free: Box::new(free.filter(move |c| !taken.contains(c))),
            marked: HashMap::new(),
            plain: HashMap::new(),
        }
    }

    /// `message` with the characters in `spans` of its content marked, which are in order; and
    /// those at which a C string ends.
    ///
    /// # Errors
    /// When no character is free.
    pub(super) fn mark(
        &mut self,
        message: &ChatMessage,
        spans: &[Range<usize>],
    ) -> Result<ChatMessage> {
        let mut spans = spans.iter().peekable();
        let mut content = String::with_capacity(message.content.len());
        for (at, c) in message.content.char_indices() {
            while spans.next_if(|span| span.end <= at).is_some() {}
            let is_marked = c == '\0' || spans.peek().is_some_and(|span| span.start <= at);
            content.push(if is_marked { self.mark_char(c)? } else { c });
        }
        let role = message.role.clone();
        Ok(ChatMessage { role, content })
    }

    fn mark_char(&mut self, c: char) -> Result<char> {
        if let Some(&marked) = self.marked.get(&c) {
            return Ok(marked);
        }
        let marked = self.free.next().ok_or_else(|| ModelError::BadInput {
            what: "the messages use every character that Unicode leaves free: shorten them"
                .to_owned(),
        })?;
        self.marked.insert(c, marked);
        self.plain.insert(marked, c);
        Ok(marked)
    }

    /// What a template made of marked messages, in the characters that were meant.
    pub(super) fn read(&self, rendered: &str) -> Rendered {
        let mut read = Rendered {
            text: String::with_capacity(rendered.len()),
            plain: Vec::new(),
        };
        for c in rendered.chars() {
            let start = read.text.len();
            let Some(&meant) = self.plain.get(&c) else {
                read.text.push(c);
                continue;
            };
            read.text.push(meant);
            let end = read.text.len();
            match read.plain.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None => read.plain.push(start..end),
            }
        }
        read
    }
}

/// What a template wrote.
pub(super) struct Rendered {
    pub(super) text: String,
    /// Bytes that are of messages, in order, and are no control tokens whatever they look like.
    pub(super) plain: Vec<Range<usize>>,
}
