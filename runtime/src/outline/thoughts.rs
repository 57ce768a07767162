//! Takes off what a reasoning model thinks before it writes: `<think> ... </think>`, also without
//! the opening tag, which some chat templates have put into the prompt already.
//!
//! Works character by character, so that where the pieces are cut changes nothing.

use super::title::is_invisible;

/// Begins a thought.
pub(crate) const OPENING: &str = "<think>";
/// Ends it.
pub(crate) const CLOSING: &str = "</think>";

/// Reads one text.
#[derive(Clone, Debug, Default)]
pub(crate) struct Thoughts {
    state: State,
    /// What may become a tag.
    held: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing to be seen has come: a thought may begin.
    #[default]
    Before,
    Inside,
    Behind,
}

impl Thoughts {
    /// Reads the next character and adds what is certain to the text. True when a thought has just
    /// ended: then all that came before it belonged to it.
    pub(crate) fn push(&mut self, c: char, text: &mut String) -> bool {
        self.held.push(c);
        loop {
            if self.is_tag(CLOSING) {
                *self = Self::default();
                return true;
            }
            if self.state == State::Before && self.is_tag(OPENING) {
                self.state = State::Inside;
                self.held.clear();
                return false;
            }
            let may_open = self.state == State::Before && self.may_become(OPENING);
            if may_open || self.may_become(CLOSING) {
                return false;
            }
            // A tag may begin with the last character of what is none.
            let end = self.held.len() - usize::from(self.held.len() > 1 && c == '<');
            let behind = self.held.split_off(end);
            self.release(text);
            self.held = behind;
            if self.held.is_empty() {
                return false;
            }
        }
    }

    /// What was held back when no more text comes; nothing of a thought that has not ended.
    pub(crate) fn finish(&mut self) -> String {
        let mut text = String::new();
        self.release(&mut text);
        text
    }

    fn release(&mut self, text: &mut String) {
        let held = std::mem::take(&mut self.held);
        if self.state != State::Inside {
            text.push_str(&held);
        }
        let is_seen = |c: char| !c.is_whitespace() && !is_invisible(c);
        if self.state == State::Before && held.contains(is_seen) {
            self.state = State::Behind;
        }
    }

    fn is_tag(&self, tag: &str) -> bool {
        self.held.eq_ignore_ascii_case(tag)
    }

    fn may_become(&self, tag: &str) -> bool {
        let start = tag.get(..self.held.len());
        start.is_some_and(|start| self.is_tag(start))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left of a text.
    fn spoken(text: &str) -> String {
        let mut thoughts = Thoughts::default();
        let mut spoken = String::new();
        for c in text.chars() {
            let mut more = String::new();
            if thoughts.push(c, &mut more) {
                spoken.clear();
            }
            spoken.push_str(&more);
        }
        spoken + &thoughts.finish()
    }

    #[test]
    fn a_leading_thought_is_taken_off() {
        for text in [
            "<think>hm</think>Yes",
            "\n <think>\nhm < 3 <</think>Yes",
            "<Think>a <think> b</THINK>Yes",
            "So, well <b>.\n</think>Yes",
            "<think></think><think>hm</think>Yes",
        ] {
            assert_eq!(spoken(text), "Yes", "{text}");
        }
    }

    #[test]
    fn a_thought_that_never_ends_is_all_there_is() {
        assert_eq!(spoken("<think>1. Yes"), "");
        assert_eq!(spoken("<think>1. Yes</thin"), "");
        assert_eq!(spoken("<think>1.</think><think>Yes"), "");
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in [
            "",
            " ",
            "<",
            "<thin",
            "Yes <think> no",
            "<b>< </ </think >",
            "<<think>",
        ] {
            assert_eq!(spoken(text), text);
        }
    }
}
