//! How an answer is judged without a judge: by the words it must hold.

use crate::command;

/// What the last answer of an example must hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Check {
    /// A numbered outline with these titles.
    Outline {
        /// Titles in their order, without numbers.
        titles: Vec<String>,
    },
    /// The text of one point of an outline and of no other.
    Expansion {
        /// The heart of the point's text.
        key: String,
        /// The hearts of the topic's other points.
        others: Vec<String>,
    },
    /// One line of JSON with these actions.
    Command {
        /// The array of actions.
        actions: serde_json::Value,
    },
    /// A text in which all of these words occur.
    Facts {
        /// Pieces of text to be found word for word.
        keys: Vec<String>,
    },
    /// Exactly this text.
    Text {
        /// The text.
        text: String,
    },
}

/// The verdict of [`Check::score`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Score {
    /// The form is right: see [`Check::score`].
    pub valid: bool,
    /// How many things had to be there.
    pub due: u32,
    /// How many of them are there.
    pub found: u32,
    /// How many things are there that must not be.
    pub foreign: u32,
}

impl Score {
    /// Valid, complete, and with nothing foreign.
    pub fn is_perfect(&self) -> bool {
        self.valid && self.found == self.due && self.foreign == 0
    }
}

impl Check {
    /// Judges an answer; spaces around it do not count.
    ///
    /// | check | valid | found | foreign |
    /// |---|---|---|---|
    /// | Outline | lines `1. Title`, `2. Title`, ... and nothing else | titles, wherever they stand | lines with another title |
    /// | Expansion | one paragraph | the key (due is 1) | other points' keys |
    /// | Command | one line that [`command::parse`] takes | right actions at their places | actions given that are not |
    /// | Facts | one paragraph | keys | always 0 |
    /// | Text | not empty | the same text (due is 1) | always 0 |
    pub fn score(&self, answer: &str) -> Score {
        let answer = answer.trim();
        let paragraph = !answer.is_empty() && !answer.contains('\n');
        let holds = |key: &&String| answer.contains(key.as_str());
        match self {
            Check::Outline { titles } => score_outline(titles, answer),
            Check::Expansion { key, others } => Score {
                valid: paragraph,
                due: 1,
                found: u32::from(holds(&key)),
                foreign: count(others.iter().filter(holds)),
            },
            Check::Command { actions } => score_command(actions, answer),
            Check::Facts { keys } => Score {
                valid: paragraph,
                due: count(keys.iter()),
                found: count(keys.iter().filter(holds)),
                foreign: 0,
            },
            Check::Text { text } => Score {
                valid: !answer.is_empty(),
                due: 1,
                found: u32::from(answer == text),
                foreign: 0,
            },
        }
    }
}

fn score_outline(titles: &[String], answer: &str) -> Score {
    let mut valid = true;
    let mut given = Vec::new();
    for (index, line) in answer.lines().enumerate() {
        let title = line.strip_prefix(&format!("{}. ", index + 1));
        valid &= title.is_some_and(|title| !title.trim().is_empty());
        // A wrong number costs the form, not the title.
        let bare = line.split_once(". ").map_or(line, |(_, title)| title);
        given.push(title.unwrap_or(bare).trim());
    }
    Score {
        valid: valid && !given.is_empty(),
        due: count(titles.iter()),
        found: count(
            titles
                .iter()
                .filter(|title| given.contains(&title.as_str())),
        ),
        foreign: count(
            given
                .iter()
                .filter(|given| !titles.iter().any(|t| t == *given)),
        ),
    }
}

fn score_command(actions: &serde_json::Value, answer: &str) -> Score {
    let due = actions.as_array().map_or(&[][..], Vec::as_slice);
    let given = command::parse(answer);
    let values: Vec<_> = given
        .iter()
        .flatten()
        .filter_map(|action| serde_json::to_value(action).ok())
        .collect();
    let found = count(due.iter().zip(&values).filter(|(due, given)| due == given));
    Score {
        valid: given.is_ok(),
        due: count(due.iter()),
        found,
        foreign: count(values.iter()) - found,
    }
}

fn count(items: impl Iterator) -> u32 {
    u32::try_from(items.count()).unwrap_or(u32::MAX)
}
