//! How people ask. Every sixth phrasing of a list is held out, so the order matters: adding at
//! the end is safe, moving is not.
//!
//! Places to fill: `{the}` and `{a}` a subject with its article, `{b}` another subject, `{q}` a
//! whole question (`{lq}` without its capital), `{ask}` a noun phrase, `{do}` a verb phrase,
//! `{when}` a clause, `{is}` what the robot does, `{thing}` and `{task}` something from outside, `{n}` a
//! number, `{word}` the number as a word, `{nth}` as an ordinal, `{title}` a title.

mod ability;
mod frame;
mod full;
mod outline;
mod outside;
mod then;

use crate::draw::{Draw, lower_first, upper_first};
use crate::held_out::Subset;
use crate::knowledge::Subject;

pub(crate) use ability::*;
pub(crate) use frame::*;
pub(crate) use full::*;
pub(crate) use outline::*;
pub(crate) use outside::*;
pub(crate) use then::*;

/// How often another name of the subject stands in a question, in a hundred.
const ALSO_PERCENT: usize = 25;
/// How often something stands before or behind a question, in a hundred.
const FRAME_PERCENT: usize = 20;

/// The template with its places filled and a capital at its start.
pub(crate) fn fill(template: &str, places: &[(&str, &str)]) -> String {
    let mut text = template.to_owned();
    for (place, value) in places {
        text = text.replace(place, value);
    }
    upper_first(&text)
}

/// The question as somebody puts it who says a word before, or has a reason, and types it as people do.
pub(crate) fn put(question: String, part: Subset, draw: &mut Draw) -> String {
    let mut text = question;
    if draw.chance(FRAME_PERCENT) {
        let opener = aside(OPENERS[part.free_phrasing(draw, OPENERS.len())], draw);
        text = format!("{opener}{}", lower_first(&text));
    }
    if draw.chance(FRAME_PERCENT / 2) {
        text += &aside(CLOSERS[part.free_phrasing(draw, CLOSERS.len())], draw);
    }
    draw.typed(upper_first(&text))
}

/// Whether a phrasing is the plain question with one of the openers before it.
pub(crate) fn is_framed(template: &str) -> bool {
    let mut openers = OPENERS.iter();
    openers.any(|opener| template.strip_prefix(opener) == Some("{lq}"))
}

/// What stands around a question, with somebody and something that he does in its places.
fn aside(template: &str, draw: &mut Draw) -> String {
    let mut text = template.to_owned();
    for (place, words) in [("{who}", PEOPLE), ("{doing}", DOING)] {
        if let Some(word) = draw.pick(words).filter(|_| text.contains(place)) {
            let opens = text.trim_start().starts_with(place);
            let word = if opens {
                upper_first(word)
            } else {
                (*word).to_owned()
            };
            text = text.replace(place, &word);
        }
    }
    text
}

/// How a question calls a subject.
pub(crate) struct Called<'a> {
    pub(crate) the: &'a str,
    pub(crate) a: String,
    usual: &'a str,
}

impl<'a> Called<'a> {
    /// By its usual name, or now and then by another one.
    pub(crate) fn draw(subject: &'a Subject, draw: &mut Draw) -> Called<'a> {
        let usual = subject.the.as_str();
        let is_also = draw.chance(ALSO_PERCENT);
        match draw.pick(&subject.also) {
            Some(also) if is_also => Called {
                the: also,
                a: indefinite(also),
                usual,
            },
            _ => Called {
                the: usual,
                a: subject.a(),
                usual,
            },
        }
    }

    /// A piece of a question with the name used here.
    pub(crate) fn rename(&self, text: &str) -> String {
        rename(text, self.usual, self.the)
    }
}

/// "the laser scanner" as "a laser scanner"; a name without an article stays.
fn indefinite(the: &str) -> String {
    let Some(name) = the.strip_prefix("the ") else {
        return the.to_owned();
    };
    let spelled = name
        .chars()
        .take_while(|c| c.is_alphabetic())
        .all(char::is_uppercase);
    let vowels = if spelled {
        "AEFHILMNORSX"
    } else {
        "AEIOUaeiou"
    };
    let article = if name.starts_with(|c| vowels.contains(c)) {
        "an"
    } else {
        "a"
    };
    format!("{article} {name}")
}

/// Replaces a name where it stands as whole words.
pub(crate) fn rename(text: &str, from: &str, to: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, after) = (&rest[..at], &rest[at + from.len()..]);
        let whole = !before.ends_with(char::is_alphanumeric)
            && !after.starts_with(|c: char| c.is_alphanumeric());
        result.push_str(before);
        result.push_str(if whole { to } else { from });
        rest = after;
    }
    result + rest
}

/// "three"; digits beyond the table.
pub(crate) fn number_word(n: usize) -> String {
    const WORDS: [&str; 9] = [
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight",
    ];
    WORDS
        .get(n)
        .map_or_else(|| n.to_string(), |word| (*word).to_owned())
}

/// "third"; digits beyond the table.
pub(crate) fn ordinal(n: usize) -> String {
    const WORDS: [&str; 9] = [
        "zeroth", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth",
    ];
    WORDS
        .get(n)
        .map_or_else(|| format!("{n}th"), |word| (*word).to_owned())
}
