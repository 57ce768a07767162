//! What sort of answer a text is, by its words.

use std::str::FromStr;

use crate::{World, command, outside, unknown};

/// The sorts of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// Something that the knowledge tells.
    Answer,
    /// That the knowledge does not tell.
    Unknown,
    /// That the question lies outside the world.
    Refuse,
    /// Small talk, or a question back.
    Talk,
    /// A command that parses.
    Command,
}

impl FromStr for AnswerKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Ok(match name {
            "answer" => Self::Answer,
            "unknown" => Self::Unknown,
            "refuse" => Self::Refuse,
            "talk" => Self::Talk,
            "command" => Self::Command,
            _ => {
                return Err(format!(
                    "`{name}` is none of answer, unknown, refuse, talk and command"
                ));
            }
        })
    }
}

impl World {
    /// What sort of answer `text` is.
    pub fn kind_of(&self, text: &str) -> AnswerKind {
        let text = text.trim();
        if command::parse(text).is_ok() {
            AnswerKind::Command
        } else if text == outside::REFUSAL {
            AnswerKind::Refuse
        } else if text.starts_with(unknown::UNKNOWN) {
            AnswerKind::Unknown
        } else if text == unknown::WHICH || self.talks.iter().any(|talk| talk.reply == text) {
            AnswerKind::Talk
        } else {
            AnswerKind::Answer
        }
    }
}
