//! The title in a line of an outline: what is left without markup, labels and descriptions.

use super::control::without_control_tokens;
use super::parse::marker::{self, Kind};

/// Most words of a title: prompts ask for 2 to 5, and models write up to twice as many.
const MAX_TITLE_WORDS: usize = 12;
/// Most characters of a title: one line of a terminal, and few tokens in every branch.
pub(crate) const MAX_TITLE_CHARS: usize = 80;

/// Rounds of cleaning: each takes off one layer (`1. **Step 1:** "..."` has four), and what has
/// more is no title.
const MAX_LAYERS: usize = 8;

/// Words before a colon that announce a title instead of being one.
const ANNOUNCERS: [&str; 5] = ["title", "heading", "topic", "headline", "main point"];

const QUOTES: &[char] = &[
    '"', '“', '”', '„', '«', '»', '‹', '›', '「', '」', '『', '』', '\'', '‘', '’',
];
const MARKUP: &[char] = &['*', '_', '`', '#', '~'];
const ENDINGS: &[char] = &[
    '.', ',', ';', ':', '…', '。', '、', '，', '；', '：', '।', '-', '–', '—', '|',
];

/// The title in the rest of a line behind its marker; none when nothing of a title is left.
///
/// What it gives is clean already: cleaning it again changes nothing.
pub(crate) fn clean_title(rest: &str) -> Option<String> {
    let mut title = spaced(&without_control_tokens(&spaced(rest)));
    for _ in 0..MAX_LAYERS {
        let next = shorten(&peel(&title));
        if next == title {
            return title.chars().any(char::is_alphanumeric).then_some(title);
        }
        title = next;
    }
    None
}

/// One space between words, and no characters that a terminal would obey.
pub(crate) fn spaced(text: &str) -> String {
    let visible = |c: &char| !is_invisible(*c);
    let text: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(visible)
        .collect();
    text.split(' ')
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Control characters, and those that change the direction or the width of what stands around.
pub(crate) fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Without one layer of markup, label and description.
fn peel(line: &str) -> String {
    let line = line.trim();
    let line = ["[ ]", "[x]", "[X]"]
        .iter()
        .find_map(|tick| line.strip_prefix(tick))
        .unwrap_or(line)
        .trim();
    if let Some((inner, behind)) = emphasised(line) {
        // `**Step 1**: Title` emphasises the label alone.
        let is_label = marker::marker(inner).is_some_and(|found| found.rest.is_empty());
        let behind = behind.trim_start_matches(ENDINGS).trim();
        return if is_label && !behind.is_empty() {
            behind
        } else {
            inner
        }
        .to_owned();
    }
    if let Some(found) = marker::marker(line).filter(|found| found.kind != Kind::Nested) {
        return found.rest.to_owned();
    }
    let line = line.trim_matches(MARKUP).trim();
    let (line, _) = split_description(line);
    let line = line.trim_end_matches(ENDINGS).trim();
    unquoted(line).trim_matches(MARKUP).trim().to_owned()
}

/// The emphasised beginning of a line: `**Title**: what it is about`.
fn emphasised(line: &str) -> Option<(&str, &str)> {
    ["***", "**", "__", "*", "_"].iter().find_map(|sign| {
        let (inner, behind) = line.strip_prefix(sign)?.split_once(sign)?;
        let ends =
            behind.is_empty() || behind.starts_with([' ', ':', '.', ',', '-', '–', '—', '(', '：']);
        (ends && inner.chars().any(char::is_alphanumeric)).then_some((inner, behind))
    })
}

/// A title and what is said about it behind a colon, a dash or an open bracket.
fn split_description(line: &str) -> (&str, &str) {
    let colon = line.char_indices().find(|&(at, c)| {
        let behind = &line[at + c.len_utf8()..];
        c == '：' || (c == ':' && (behind.is_empty() || behind.starts_with(' ')))
    });
    if let Some((at, c)) = colon {
        let (before, behind) = (line[..at].trim(), line[at + c.len_utf8()..].trim());
        let announces = ANNOUNCERS.contains(&before.trim_matches(MARKUP).to_lowercase().as_str());
        if announces && !behind.is_empty() {
            return (behind, "");
        }
        if before.chars().any(char::is_alphanumeric) {
            return (before, behind);
        }
    }
    let cuts = [" - ", " – ", " — ", " -- ", " (", " → ", " => ", " | "];
    let cut = cuts.iter().filter_map(|cut| line.find(cut)).min();
    match cut {
        Some(at) if line[..at].chars().any(char::is_alphanumeric) => (&line[..at], &line[at..]),
        _ => (line, ""),
    }
}

/// Without quotes around all of it; a quoted word inside, and an apostrophe, stay.
fn unquoted(line: &str) -> &str {
    let inner = line.trim_matches(QUOTES);
    let quoted = line.starts_with(QUOTES) || (line.ends_with(QUOTES) && !inner.contains(QUOTES));
    if quoted && !inner.is_empty() {
        inner.trim()
    } else {
        line
    }
}

/// At most so many words and characters, and no second point behind the first.
fn shorten(title: &str) -> String {
    let mut words: Vec<&str> = title.split(' ').filter(|word| !word.is_empty()).collect();
    if let Some(at) = words
        .iter()
        .skip(1)
        .position(|word| marker::is_inline_number(word.trim_start_matches('*')))
    {
        words.truncate(at + 1);
    }
    if words.len() > MAX_TITLE_WORDS {
        let sentence = words
            .iter()
            .position(|word| word.ends_with(['.', '!', '?', ';']));
        let end = sentence
            .map_or(MAX_TITLE_WORDS, |at| at + 1)
            .min(MAX_TITLE_WORDS);
        words.truncate(end);
    }
    let mut short = String::new();
    let mut n_chars = 0;
    for word in words {
        n_chars += usize::from(!short.is_empty()) + word.chars().count();
        if n_chars > MAX_TITLE_CHARS {
            break;
        }
        if !short.is_empty() {
            short.push(' ');
        }
        short.push_str(word);
    }
    if short.is_empty() {
        // One word longer than any title, or a script without spaces.
        short = title.chars().take(MAX_TITLE_CHARS).collect();
    }
    short.trim_end_matches(ENDINGS).trim().to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_title_is_what_is_left_without_markup_labels_and_descriptions() {
        for (line, title) in [
            ("Gather your tools", "Gather your tools"),
            ("**Gather your tools**", "Gather your tools"),
            (
                "**Gather your tools:** a jack and a wrench",
                "Gather your tools",
            ),
            ("**Gather** - first of all", "Gather"),
            ("*Gather*: first", "Gather"),
            ("Gather: a jack, a wrench", "Gather"),
            ("Gather \u{2013} a jack", "Gather"),
            ("Gather (a jack)", "Gather"),
            ("Step 1: Gather", "Gather"),
            ("**Step 2 - Lift the car**", "Lift the car"),
            ("Title: Lift the car", "Lift the car"),
            ("\"Lift the car\"", "Lift the car"),
            ("“Lift the car”.", "Lift the car"),
            ("Don't stop", "Don't stop"),
            ("The drivers' seats'", "The drivers' seats'"),
            ("The 'big' one", "The 'big' one"),
            ("Mixing ratio 3:1", "Mixing ratio 3:1"),
            ("Why it matters?", "Why it matters?"),
            ("[ ] Lift", "Lift"),
            ("`cargo test` first", "cargo test` first"),
            ("准备工具：千斤顶", "准备工具"),
            ("E-mail and re-use", "E-mail and re-use"),
            ("Version 2.5 of it", "Version 2.5 of it"),
            ("Lift 2. Lower", "Lift"),
            ("3.5 mm jack", "3.5 mm jack"),
            ("<|im_start|>Lift</s> the car[/INST]", "Lift the car"),
            ("**<start_of_turn>Lift**: it", "Lift"),
            ("<start_of\u{200b}_turn> Lift", "Lift"),
        ] {
            assert_eq!(clean_title(line).as_deref(), Some(title), "{line}");
        }
        for nothing in [
            "",
            "  ",
            "---",
            "**",
            "...",
            "\u{7}\u{200b}",
            "<|im_start|>",
            "**</s>**",
            "<|im_start|>assistant",
        ] {
            assert_eq!(clean_title(nothing), None, "{nothing:?}");
        }
    }

    #[test]
    fn long_lines_become_short_titles() {
        let line = "First park the robot. Then open the door and look at all of the lights on it";
        assert_eq!(clean_title(line).unwrap(), "First park the robot");
        let title = clean_title(&"word ".repeat(50)).unwrap();
        assert_eq!(title.split(' ').count(), MAX_TITLE_WORDS);
        assert_eq!(
            clean_title(&"字".repeat(500)).unwrap().chars().count(),
            MAX_TITLE_CHARS
        );
    }
}
