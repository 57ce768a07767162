//! Whether a question suits an outline, in microseconds and without a model.
//!
//! A few phrases of each sort ([`phrases`]) are looked for in the first and the last sentences of the
//! question. What says that the answer is no list of points decides before what says that it is; where
//! nothing is found, the answer is written in one piece. So a question that suits may be missed, and
//! one that does not is hardly ever outlined: outlines help where points can be written without each
//! other; they harm code, mathematics and reasoning (Jupiter, on quality), and a short answer has
//! nothing to write side by side.

mod phrases;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::phrases::{LEAD_INS, ONE_PIECE, SIGNS, SUITING};

/// Bytes that are looked at, at the begin and at the end: what is asked stands there.
const MAX_BYTES: usize = 2 << 10;
/// Sentences that are looked at, at the end; at the begin it is one.
const LAST_SENTENCES: usize = 2;
/// Fewer words than this ask for something small, or point back.
const MIN_WORDS: usize = 4;

/// What sort of question it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Several things of a sort.
    List,
    /// The steps to something.
    HowTo,
    /// Two or more things side by side.
    Comparison,
    /// What one had better do.
    Advice,
    /// How something works, or all about it.
    Explanation,
    /// Why something happens.
    Causes,
    /// A fact, a text, code, a result, small talk, a command.
    OnePiece,
    /// No phrase was found.
    Unclear,
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How the answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// With an outline, its points side by side.
    Outline,
    /// In one piece.
    Plain,
}

/// What the rules say of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// How to answer.
    pub verdict: Verdict,
    /// What sort of question it is.
    pub class: Class,
    /// What decided: one line.
    pub reason: String,
}

/// Decides on the last turn of the user.
///
/// ```
/// use jupiter::outline::{Class, Verdict, decide};
/// let decision = decide("How do I change a flat tyre?");
/// assert_eq!((decision.verdict, decision.class), (Verdict::Outline, Class::HowTo));
/// assert_eq!(decision.reason, "the words \"how do i\"");
/// ```
pub fn decide(question: &str) -> Decision {
    let plain = |class, reason| Decision {
        verdict: Verdict::Plain,
        class,
        reason,
    };
    let text = edges(question).to_lowercase().replace(['\'', '’'], "");
    if let Some(sign) = SIGNS.iter().find(|sign| text.contains(*sign)) {
        return plain(Class::OnePiece, format!("the sign `{sign}`"));
    }
    if has_formula(&text) {
        return plain(Class::OnePiece, "a formula".to_owned());
    }
    let sentences = sentences(&text);
    let found = |phrases: &'static [&'static str]| {
        let all = phrases.iter().flat_map(|line| line.split('|'));
        let mut all = all.filter(|phrase| sentences.iter().any(|words| has(words, phrase)));
        all.next()
            .map(|phrase| format!("the words \"{}\"", phrase.trim_matches(['^', '$'])))
    };
    if let Some(reason) = found(ONE_PIECE) {
        return plain(Class::OnePiece, reason);
    }
    if sentences.iter().map(Vec::len).sum::<usize>() < MIN_WORDS {
        return plain(Class::OnePiece, "so few words".to_owned());
    }
    for &(class, phrases) in SUITING {
        if let Some(reason) = found(phrases) {
            let verdict = Verdict::Outline;
            return Decision {
                verdict,
                class,
                reason,
            };
        }
    }
    plain(Class::Unclear, "no rule knows such a question".to_owned())
}

/// The whole question, or of an endless one its begin and its end.
fn edges(question: &str) -> String {
    if question.len() <= 2 * MAX_BYTES {
        return question.to_owned();
    }
    let begin = &question[..question.floor_char_boundary(MAX_BYTES)];
    let end = &question[question.ceil_char_boundary(question.len() - MAX_BYTES)..];
    format!("{begin}\n{end}")
}

/// An operator between numbers, or a percentage.
fn has_formula(text: &str) -> bool {
    let tight: String = text.chars().filter(|c| *c != ' ').collect();
    let bytes = tight.as_bytes();
    let is_operator = |at: usize| matches!(bytes[at], b'+' | b'*' | b'/' | b'=' | b'^');
    (1..bytes.len()).any(|at| {
        let behind = bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
        (bytes[at - 1].is_ascii_digit() && (bytes[at] == b'%' || (is_operator(at) && behind)))
            || (bytes[at] == b'=' && behind)
    })
}

/// The words of the sentences that are looked at, without polite words at the begin.
fn sentences(text: &str) -> Vec<Vec<&str>> {
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '+' | '#' | '_');
    let split = text.split(['.', '!', '?', '\n', '¿', '¡', '？', '。']);
    let mut sentences: Vec<Vec<&str>> = split
        .map(|sentence| {
            let words = sentence.split(|c| !is_word(c));
            words.filter(|word| !word.is_empty()).collect()
        })
        .filter(|words: &Vec<&str>| !words.is_empty())
        .collect();
    let n = sentences.len();
    if n > 1 + LAST_SENTENCES {
        sentences.drain(1..n - LAST_SENTENCES);
    }
    for words in &mut sentences {
        while let Some(lead_in) = LEAD_INS.iter().find(|lead_in| begins(words, lead_in)) {
            words.drain(..lead_in.split(' ').count());
        }
    }
    sentences
}

/// Whether the words hold a phrase: `^` is the begin of the sentence, `$` its end.
fn has(words: &[&str], phrase: &str) -> bool {
    let inner = phrase.trim_matches(['^', '$']);
    let n = inner.split(' ').count();
    let last = words.len().saturating_sub(n);
    let from = if phrase.ends_with('$') { last } else { 0 };
    let to = if phrase.starts_with('^') { 0 } else { last };
    (from..=to).any(|at| begins(&words[at..], inner))
}

fn begins(words: &[&str], phrase: &str) -> bool {
    let mut words = words.iter();
    phrase.split(' ').all(|word| words.next() == Some(&word))
}

#[cfg(test)]
mod tests;
