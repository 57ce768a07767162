//! Text of others on a terminal: what a terminal would act on is shown, not sent.
//!
//! A model's words, names in a file, of nodes and of devices may hold escape sequences, which clear
//! the screen, set its title or type for the person. A pipe gets all text as it is.

use std::borrow::Cow;
use std::fmt::Write;
use std::io::{self, IsTerminal};

/// `text` with what a terminal would act on as `\u{1b}`: control characters but line breaks and
/// tabs, and those that turn the direction of what follows.
pub fn shown(text: &str) -> Cow<'_, str> {
    replace(text, |c| c.escape_unicode().to_string())
}

/// The same for a line of JSON, which says the same thereafter.
pub fn shown_json(line: &str) -> Cow<'_, str> {
    replace(line, |c| format!("\\u{:04x}", u32::from(c)))
}

/// `text` as it is to be written to `stream`: [`shown()`] on a terminal.
pub fn text_for<'a>(stream: &impl IsTerminal, text: &'a str) -> Cow<'a, str> {
    match stream.is_terminal() {
        true => shown(text),
        false => Cow::Borrowed(text),
    }
}

/// Writes a line to stderr, where it may hold text of others.
pub fn tell(line: &str) {
    eprintln!("{}", text_for(&io::stderr(), line));
}

fn replace(text: &str, written: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(is_active) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let is_break = c == '\r' && rest.peek() == Some(&'\n');
        if is_active(c) && !is_break {
            // A String takes all that is written.
            let _ = out.write_str(&written(c));
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Whether a terminal acts on it, or shows what follows in another order.
fn is_active(c: char) -> bool {
    let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (c.is_control() && !matches!(c, '\n' | '\t'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_acts_on_is_shown() {
        for (text, expected) in [
            ("a\tb\nc\r\nd é 字 👉", "a\tb\nc\r\nd é 字 👉"),
            ("\x1b[2J\x1b]0;x\x07", r"\u{1b}[2J\u{1b}]0;x\u{7}"),
            ("100 %\r  1 %", r"100 %\u{d}  1 %"),
            ("\u{9b}31m\x7f\x08\0", r"\u{9b}31m\u{7f}\u{8}\u{0}"),
            ("\u{202e}gpj.exe", r"\u{202e}gpj.exe"),
        ] {
            assert_eq!(shown(text), expected);
        }
        assert!(matches!(shown("a\r\n".trim_end()), Cow::Borrowed(_)));
    }

    #[test]
    fn a_pipe_gets_the_text_as_it_is() {
        let (pipe, _) = io::pipe().unwrap();
        assert_eq!(
            text_for(&std::os::fd::OwnedFd::from(pipe), "\x1b[2J"),
            "\x1b[2J"
        );
    }

    proptest! {
        #[test]
        fn json_says_the_same(text in "(\\PC|[\u{0}-\u{20}\u{7f}-\u{9f}\u{202a}-\u{2069}]){0,20}") {
            let line = serde_json::to_string(&text).unwrap();
            let shown = shown_json(&line);
            prop_assert!(!shown.contains(is_active));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
