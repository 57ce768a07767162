//! How a sentence is typed: in a hurry, clipped, with a slip of the fingers.

use crate::draw::{Draw, lower_first};

/// How often words are drawn together, the articles left out and a word misspelt, in a hundred.
const SHORT_PERCENT: usize = 30;
const CLIPPED_PERCENT: usize = 6;
const SLIP_PERCENT: usize = 7;

/// The fewest letters of a word that is misspelt.
const SLIP_LETTERS: usize = 6;

/// Long forms and what people type for them. Every form that begins a sentence is there with its
/// capital, too.
const SHORT: &[(&str, &str)] = &[
    ("What is", "What's"),
    ("what is", "what's"),
    ("What is", "Whats"),
    ("what is", "whats"),
    ("How is", "How's"),
    ("Where is", "Where's"),
    ("where is", "where's"),
    ("That is", "That's"),
    ("It is", "It's"),
    ("it is", "it's"),
    ("I am", "I'm"),
    ("I have to", "I've got to"),
    ("I would like", "I'd like"),
    ("I want to", "I wanna"),
    ("I will", "I'll"),
    ("do not", "don't"),
    ("do not", "dont"),
    ("does not", "doesn't"),
    ("does not", "doesnt"),
    ("did not", "didn't"),
    ("is not", "isn't"),
    ("are not", "aren't"),
    ("will not", "won't"),
    ("cannot", "can't"),
    ("can not", "can't"),
    ("cannot", "cant"),
    ("don't", "dont"),
    ("doesn't", "doesnt"),
    ("won't", "wont"),
    ("isn't", "isnt"),
    ("please", "pls"),
    ("Please", "Pls"),
    ("Could you", "Can you"),
    ("Wi-Fi", "wifi"),
    ("Wi-Fi", "WiFi"),
    ("metre", "meter"),
    ("colour", "color"),
    ("because", "cause"),
    ("going to", "gonna"),
    (" and ", " & "),
];

/// Keys beside each other, for fingers that slip.
const ROWS: [&str; 3] = ["qwertyuiop", "asdfghjkl", "zxcvbnm"];

impl Draw {
    /// A sentence as somebody types it.
    pub(crate) fn typed(&mut self, sentence: String) -> String {
        let mut text = sentence;
        if self.chance(SHORT_PERCENT) {
            text = self.shortened(text);
        }
        if self.chance(CLIPPED_PERCENT) {
            text = text.replace(" the ", " ");
        }
        if self.chance(SLIP_PERCENT) && !self.is_careful {
            text = self.slipped(&text);
        }
        let is_lower = self.weighted(&[62, 38]) == 1;
        if is_lower {
            text = lower_first(&text);
            if self.chance(25) {
                text = text.to_lowercase();
            }
        }
        match self.weighted(&[68, 26, 3, 3]) {
            1 => text.trim_end_matches(['.', '?', '!']).to_owned(),
            2 if text.ends_with('?') => text + "?",
            3 if text.ends_with('.') => text.trim_end_matches('.').to_owned() + "!",
            _ => text,
        }
    }

    /// Some of the long forms become short.
    fn shortened(&mut self, mut text: String) -> String {
        let forms: Vec<_> = SHORT
            .iter()
            .filter(|(long, _)| text.contains(long))
            .collect();
        for _ in 0..forms.len().min(2) {
            if let Some((long, short)) = self.pick(&forms) {
                text = text.replacen(long, short, 1);
            }
        }
        text
    }

    /// One word with a letter too few, too many, beside the right one, or behind the next.
    fn slipped(&mut self, text: &str) -> String {
        let is_long = |word: &&str| {
            word.len() >= SLIP_LETTERS && word.bytes().all(|b| b.is_ascii_lowercase())
        };
        let words: Vec<&str> = text.split([' ', '.', ',', '?', '!', '\n']).collect();
        let words: Vec<&str> = words.into_iter().filter(is_long).collect();
        let Some(&word) = self.pick(&words) else {
            return text.to_owned();
        };
        // The first letter stays: hands seldom get that wrong.
        let at = 1 + self.below(word.len() - 2);
        let (before, rest) = word.split_at(at);
        let (letter, after) = rest.split_at(1);
        let slipped = match self.below(4) {
            0 => format!("{before}{after}"),
            1 => format!("{before}{letter}{letter}{after}"),
            2 => format!("{before}{}{after}", self.neighbour(letter)),
            _ => {
                let (next, last) = after.split_at(1);
                format!("{before}{next}{letter}{last}")
            }
        };
        text.replacen(word, &slipped, 1)
    }

    fn neighbour(&mut self, letter: &str) -> String {
        let row = ROWS.iter().find(|row| row.contains(letter));
        let beside = row.and_then(|row| {
            let at = row.find(letter)?;
            let right = self.below(2) == 1;
            let at = if right { at + 1 } else { at.checked_sub(1)? };
            row.get(at..=at)
        });
        beside.unwrap_or(letter).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_changes_one_word_by_a_letter_and_keeps_the_others() {
        let text = "How do I change the battery of the smoke detector?";
        for seed in 0..500 {
            let slipped = Draw::new([seed, 0, 0, 0]).slipped(text);
            let words = slipped.split(' ').zip(text.split(' '));
            let n_other = words.filter(|(a, b)| a != b).count();
            assert!(n_other <= 1, "{slipped}");
            assert!(slipped.len().abs_diff(text.len()) <= 1, "{slipped}");
        }
    }
}
