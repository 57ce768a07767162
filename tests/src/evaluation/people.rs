//! Questions in people's own words, from a file, and whether the answers to them are right.
//!
//! A line of the file: the question as it is typed, the kinds of answer that are right (`answer`,
//! `unknown`, `refuse`, `talk`, `command`, with `|` between them), and a regular expression for what a
//! right answer holds in any case of letters; a tab between each.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use jupiter::Client;
use jupiter_models::text::ChatMessage;
use jupiter_world::{AnswerKind, World};
use regex_lite::{Regex, RegexBuilder};

use super::answers::{PARALLEL, answer, greedy};

/// A question, and what is right.
#[derive(Clone, Debug)]
pub struct Question {
    /// As it is typed.
    pub text: String,
    kinds: Vec<AnswerKind>,
    holds: Regex,
}

/// How the questions of a file were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Questions asked.
    pub asked: u32,
    /// Right answers.
    pub right: u32,
    /// Commands where none was right: the robot would have moved.
    pub false_commands: u32,
    /// Question and answer, of those that are not right.
    pub misses: Vec<(String, String)>,
}

/// The questions of a file.
///
/// # Errors
/// Names the line that is none.
pub fn read(path: &Path) -> Result<Vec<Question>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().enumerate();
    lines
        .map(|(i, line)| {
            question(line).with_context(|| format!("{}, line {}", path.display(), i + 1))
        })
        .collect()
}

fn question(line: &str) -> Result<Question> {
    let parts: Vec<&str> = line.split('\t').collect();
    let [text, kinds, holds] = parts[..] else {
        anyhow::bail!(
            "{} columns, not question, kinds and what is held",
            parts.len()
        );
    };
    let kinds = kinds
        .split('|')
        .map(str::parse)
        .collect::<Result<_, String>>();
    let kinds = kinds.map_err(anyhow::Error::msg)?;
    let mut holds = RegexBuilder::new(holds);
    let holds = holds.case_insensitive(true).build()?;
    ensure!(!text.trim().is_empty(), "no question");
    Ok(Question {
        text: text.to_owned(),
        kinds,
        holds,
    })
}

impl Question {
    /// Small talk may be the answer to a question, where it holds what that must.
    fn is_right(&self, kind: AnswerKind, answer: &str) -> bool {
        let is_answer = kind == AnswerKind::Talk && self.kinds.contains(&AnswerKind::Answer);
        (is_answer || self.kinds.contains(&kind)) && self.holds.is_match(answer)
    }
}

/// Asks all of them, each by itself.
///
/// # Errors
/// When a request fails.
pub async fn judge(client: &Client, world: &World, questions: &[Question]) -> Result<Marks> {
    let answers = questions.iter().map(|question| async move {
        let messages = vec![ChatMessage::user(&question.text)];
        let (answer, _) = answer(client, messages, greedy()).await?;
        anyhow::Ok((question, answer))
    });
    let mut answers = futures::stream::iter(answers).buffered(PARALLEL as usize);
    let mut marks = Marks::default();
    while let Some((question, answer)) = answers.try_next().await? {
        let kind = world.kind_of(&answer);
        marks.asked += 1;
        if question.is_right(kind, &answer) {
            marks.right += 1;
        } else {
            let is_false = kind == AnswerKind::Command && !question.kinds.contains(&kind);
            marks.false_commands += u32::from(is_false);
            marks.misses.push((question.text.clone(), answer));
        }
    }
    Ok(marks)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_answer_is_right_by_its_kind_and_by_what_it_holds() {
        let asked = question("is it hot?\tanswer|unknown\tdegrees|not know").unwrap();
        assert!(asked.is_right(AnswerKind::Answer, "Up to 90 Degrees."));
        assert!(asked.is_right(AnswerKind::Unknown, "I do not know that about the lidar."));
        assert!(asked.is_right(AnswerKind::Talk, "What degrees?"));
        assert!(!asked.is_right(AnswerKind::Refuse, "degrees"));
        assert!(!asked.is_right(AnswerKind::Answer, "It is warm."));
        assert!(!asked.is_right(AnswerKind::Command, "{\"degrees\":90}"));
        for (line, why) in [
            ("is it hot?\tanswer", "2 columns"),
            ("is it hot?\tmaybe\t.", "maybe"),
            ("is it hot?\tanswer\t(", "group"),
            (" \tanswer\t.", "no question"),
        ] {
            let error = question(line).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn the_questions_of_the_world_can_be_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/world/questions.tsv");
        assert!(read(&path).unwrap().len() >= 100);
    }
}
