//! `--outline auto`: whether a question suits an outline, in microseconds and without a model.
//!
//! A table of rules ([`rules`]) is matched against the sentences of the question. The rule of most
//! weight decides and names itself; where none applies, or the language is not known, the model
//! itself is to be asked ([`crate::outline::OutlinePrompts::ask_judgement`]). Outlines help where
//! points can be written without each other; they harm code, mathematics and reasoning (Jupiter,
//! on quality), and a short answer has nothing to write side by side.

mod pattern;
mod rules;
mod signs;
mod words;

use std::fmt;

use serde::{Deserialize, Serialize};

use self::rules::{compiled, length_rule};
use self::words::Text;

/// Most words of a question that only points back: a longer one says itself what it is about.
const MAX_FOLLOW_UP_WORDS: usize = 8;

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
    /// Programs and their errors.
    Code,
    /// Something to be computed or proved.
    Mathematics,
    /// One fact.
    Fact,
    /// An answer that is to be short.
    Brief,
    /// A puzzle, each thought of which needs the one before.
    Reasoning,
    /// Small talk.
    Chat,
    /// A text to be translated, summarised or changed.
    Rewriting,
    /// A poem, a story, a letter.
    Creative,
    /// Something to be done, not said.
    Command,
    /// It points back at an answer.
    FollowUp,
    /// Not English.
    Foreign,
    /// No rule knows it.
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
    /// The rules do not tell: ask the model, or write it plainly.
    Undecided,
}

/// What the rules say of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// How to answer.
    pub verdict: Verdict,
    /// What sort of question it is.
    pub class: Class,
    /// The rule that decided, and the words that it found: one line.
    pub reason: String,
}

impl Class {
    /// Whether questions of this sort suit an outline; none where the rules cannot tell.
    pub fn suits(self) -> Option<bool> {
        match self {
            Self::List
            | Self::HowTo
            | Self::Comparison
            | Self::Advice
            | Self::Explanation
            | Self::Causes => Some(true),
            Self::Foreign | Self::Unclear => None,
            _ => Some(false),
        }
    }
}

/// Decides on the last turn of the user.
///
/// ```
/// use jupiter::outline::{Class, Verdict, decide};
/// let decision = decide("How do I change a flat tyre?");
/// assert_eq!((decision.verdict, decision.class), (Verdict::Outline, Class::HowTo));
/// assert_eq!(decision.reason, "asks how to do something (\"how do i\")");
/// ```
pub fn decide(question: &str) -> Decision {
    let text = Text::new(question);
    if let Some(why) = signs::foreign(question, &text) {
        return decision(Class::Foreign, why.to_owned());
    }
    let mut best: Option<(u8, Class, String)> = None;
    let mut offer = |weight: u8, class: Class, reason: String| {
        if best.as_ref().is_none_or(|(known, ..)| weight > *known) {
            best = Some((weight, class, reason));
        }
    };
    for (weight, class, why) in signs::signs(question, &text) {
        offer(weight, class, why.to_owned());
    }
    for (rule, found) in compiled().matches(&text) {
        if rule.class == Class::FollowUp && text.words.len() > MAX_FOLLOW_UP_WORDS {
            continue;
        }
        offer(
            rule.weight,
            rule.class,
            format!("{} (\"{found}\")", rule.name),
        );
    }
    if let Some((weight, class, why)) = length_rule(&text) {
        offer(weight, class, why.to_owned());
    }
    match best {
        Some((_, class, reason)) => decision(class, reason),
        None => decision(Class::Unclear, "no rule knows such a question".to_owned()),
    }
}

fn decision(class: Class, reason: String) -> Decision {
    let verdict = match class.suits() {
        Some(true) => Verdict::Outline,
        Some(false) => Verdict::Plain,
        None => Verdict::Undecided,
    };
    Decision {
        verdict,
        class,
        reason,
    }
}

#[cfg(test)]
mod tests;
