//! The table of rules. Weights: 9 what the asker says of the answer's form, 8 and 7 what nothing
//! else is asked in the words of, 6 the usual words of a sort, below what decides alone only.

mod plain;
mod short;
mod suiting;

use std::sync::OnceLock;

use super::Class;
use super::pattern::{Compiled, Rule};
use super::words::Text;

/// Words before a question that ask nothing.
const LEAD_INS: &[&str] = &[
    "please|kindly",
    "hey|hi|hello|ok|okay|so|well|also|and|but|now|then|robot|thanks|sorry|actually|say|oh|yes|no",
    "can|could|would|will you|u please|kindly|maybe?",
    "i want|need you to",
    "i would|d like you? to",
    "id like you? to",
    "i want|need|like to know",
    "i would like to know",
    "tell me please?",
    "do you know",
    "quick question",
    "i have a question",
    "help me to?",
    "i wonder",
    "id like to know",
    "go and",
    "would you",
];

const fn rule(
    name: &'static str,
    class: Class,
    weight: u8,
    patterns: &'static [&'static str],
) -> Rule {
    Rule {
        name,
        class,
        weight,
        patterns,
    }
}

/// In the order that decides between rules of one weight.
const TABLES: [&[Rule]; 3] = [plain::RULES, suiting::RULES, short::RULES];

/// The table, ready to be matched.
pub(super) fn compiled() -> &'static Compiled {
    static COMPILED: OnceLock<Compiled> = OnceLock::new();
    COMPILED.get_or_init(|| Compiled::new(&TABLES, LEAD_INS))
}

/// What the length alone tells, where no rule does.
pub(super) fn length_rule(text: &Text) -> Option<(u8, Class, &'static str)> {
    (1..=4).contains(&text.words.len()).then_some((
        1,
        Class::FollowUp,
        "is a few words that no rule knows",
    ))
}
