//! How a model is asked for the outline of an answer, and then for each of its points
//! (Skeleton-of-Thought, section 2; the wording is our own).
//!
//! A conversation goes in and conversations come out. All expansions of an answer share the
//! question, the request for the outline and the outline itself; only the last turn differs, so
//! only that turn is computed for each branch.

mod template;

use jupiter_models::text::ChatMessage;

use self::template::Template;
use super::error::{OutlineError, Result};
use super::points::{Outline, OutlineLimits};

/// The templates as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPrompts {
    /// Takes the place of the question: `{question}`, and `{min}` and `{max}` points.
    pub outline: String,
    /// The turn behind the outline: `{n}`, and `{title}` and the `{count}` of points.
    pub expansion: String,
    /// Asks the model whether a question suits, to be answered by yes or no: `{question}`. None for
    /// a model that cannot judge.
    pub judgement: Option<String>,
}

/// The templates, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlinePrompts {
    outline: Template,
    expansion: Template,
    judgement: Option<Template>,
}

/// What the answer to a judgement may be (GBNF): one token in the vocabularies of most models.
pub const JUDGEMENT_GRAMMAR: &str = "root ::= \"yes\" | \"no\" | \"Yes\" | \"No\"";

/// The question comes first: what is computed for it serves the outline or the plain answer too.
const JUDGEMENT: &str = "{question}\n\nDo not answer yet. Would a good answer be a list of separate \
    points that can each be written without the others? Say yes or no.";

impl RawPrompts {
    /// For models that follow instructions.
    pub fn general() -> Self {
        Self {
            outline: "{question}\n\nDo not answer yet. Write only the outline of your answer: a \
                      numbered list of {min} to {max} points, each of 2 to 5 words. No sentences, \
                      no explanations, nothing before or behind the list."
                .into(),
            expansion: "Now write point {n} of {count}: {title}\nOnly this point, in one or two \
                        sentences. Do not repeat its title, and do not go on with another point."
                .into(),
            judgement: Some(JUDGEMENT.into()),
        }
    }

    /// For the default model, in the words that it was trained with. It was never taught to judge.
    pub fn default_model() -> Self {
        Self {
            outline: "{question}\nOutline only: numbered points of 2 to 5 words.".into(),
            expansion: "Write point {n}: {title}".into(),
            judgement: None,
        }
    }
}

impl OutlinePrompts {
    /// Checks the templates.
    ///
    /// # Errors
    /// An unknown placeholder, one that is missing, a lone brace.
    pub fn new(raw: &RawPrompts) -> Result<Self> {
        let question = ["question", "min", "max"];
        let judgement = raw
            .judgement
            .as_deref()
            .map(|source| Template::new("judgement", source, &question[..1], &["question"]));
        Ok(Self {
            outline: Template::new("outline", &raw.outline, &question, &["question"])?,
            expansion: Template::new(
                "expansion",
                &raw.expansion,
                &["n", "title", "count"],
                &["n"],
            )?,
            judgement: judgement.transpose()?,
        })
    }

    /// The conversation that asks for the outline: its last turn, the question, is put into the
    /// template.
    ///
    /// # Errors
    /// When the last turn is not the user's.
    pub fn ask_outline(
        &self,
        chat: &[ChatMessage],
        limits: OutlineLimits,
    ) -> Result<Vec<ChatMessage>> {
        let (min, max) = (limits.min_points.to_string(), limits.max_points.to_string());
        with_last_turn(chat, |question| {
            self.outline
                .fill(&[("question", question), ("min", &min), ("max", &max)])
        })
    }

    /// The conversation that asks whether the question suits; see [`JUDGEMENT_GRAMMAR`]. None where
    /// the model cannot judge.
    ///
    /// # Errors
    /// When the last turn is not the user's.
    pub fn ask_judgement(&self, chat: &[ChatMessage]) -> Result<Option<Vec<ChatMessage>>> {
        let ask = |judgement: &Template| {
            with_last_turn(chat, |question| judgement.fill(&[("question", question)]))
        };
        self.judgement.as_ref().map(ask).transpose()
    }

    /// The conversation up to the outline, which all points share. `written` is what the model
    /// wrote: it is quoted where it says just the outline, so that its cells can be used again.
    pub fn shared_prefix(
        &self,
        asked: &[ChatMessage],
        outline: &Outline,
        written: &str,
    ) -> Vec<ChatMessage> {
        let quoted = if outline.is_written_as(written) {
            written.trim_end().to_owned()
        } else {
            outline.render()
        };
        let mut chat = asked.to_vec();
        chat.push(ChatMessage::assistant(quoted));
        chat
    }

    /// The turn behind the shared prefix that asks for point `index`, from 0; none beyond the last.
    pub fn ask_point(&self, outline: &Outline, index: usize) -> Option<ChatMessage> {
        let point = outline.points.get(index)?;
        let (n, count) = ((index + 1).to_string(), outline.points.len().to_string());
        let places = [
            ("n", n.as_str()),
            ("title", &point.title),
            ("count", &count),
        ];
        Some(ChatMessage::user(self.expansion.fill(&places)))
    }

    /// The whole conversation of each point: the shared prefix and one turn.
    pub fn ask_points(&self, shared: &[ChatMessage], outline: &Outline) -> Vec<Vec<ChatMessage>> {
        let turns = (0..outline.points.len()).filter_map(|i| self.ask_point(outline, i));
        turns
            .map(|turn| {
                let mut chat = shared.to_vec();
                chat.push(turn);
                chat
            })
            .collect()
    }
}

fn with_last_turn(chat: &[ChatMessage], ask: impl Fn(&str) -> String) -> Result<Vec<ChatMessage>> {
    let (last, before) = chat.split_last().ok_or(OutlineError::NoQuestion)?;
    if last.role != "user" || last.content.trim().is_empty() {
        return Err(OutlineError::NoQuestion);
    }
    let mut asked = before.to_vec();
    asked.push(ChatMessage::user(ask(&last.content)));
    Ok(asked)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::outline::parse::parse;

    const WRITTEN: &str = "1. Lift the car\n2. Take off the wheel\n3. Mount the spare";

    fn outline() -> Outline {
        parse(WRITTEN, OutlineLimits::default()).unwrap()
    }

    #[test]
    fn the_default_model_is_asked_in_its_own_words() {
        let prompts = OutlinePrompts::new(&RawPrompts::default_model()).unwrap();
        let chat = [
            ChatMessage::user("Hi"),
            ChatMessage::assistant("Hello."),
            ChatMessage::user("How do I clean the lidar?"),
        ];
        let asked = prompts
            .ask_outline(&chat, OutlineLimits::default())
            .unwrap();
        assert_eq!(asked[..2], chat[..2]);
        assert_eq!(
            asked[2].content,
            "How do I clean the lidar?\nOutline only: numbered points of 2 to 5 words."
        );
        let shared = prompts.shared_prefix(&asked, &outline(), WRITTEN);
        assert_eq!(shared[3], ChatMessage::assistant(WRITTEN));
        let points = prompts.ask_points(&shared, &outline());
        assert_eq!(points.len(), 3);
        for (i, chat) in points.iter().enumerate() {
            assert_eq!(chat[..4], shared[..]);
            assert_eq!(
                chat[4].content,
                format!("Write point {}: {}", i + 1, outline().points[i].title)
            );
        }
        assert_eq!(prompts.ask_point(&outline(), 3), None);
    }

    #[test]
    fn what_counts_other_points_than_ours_is_not_quoted() {
        let prompts = OutlinePrompts::new(&RawPrompts::general()).unwrap();
        let asked = prompts
            .ask_outline(
                &[ChatMessage::user("{title} {x}?")],
                OutlineLimits::default(),
            )
            .unwrap();
        assert!(
            asked[0].content.starts_with("{title} {x}?\n\n")
                && asked[0].content.contains("3 to 10 points")
        );
        let written = "Sure!\n* **Lift the car**\n* Take off the wheel\n* Mount the spare";
        assert_eq!(parse(written, OutlineLimits::default()), Ok(outline()));
        assert_eq!(
            prompts.shared_prefix(&asked, &outline(), written)[1].content,
            WRITTEN
        );
    }

    #[test]
    fn templates_are_checked_in_one_line() {
        let raw = |outline: &str, expansion: &str| {
            let raw = RawPrompts {
                outline: outline.into(),
                expansion: expansion.into(),
                ..RawPrompts::general()
            };
            OutlinePrompts::new(&raw)
                .map(|_| ())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(
            raw("{question} {titel}", "{n}"),
            "template outline has an unknown placeholder {titel}: it may have {question}, {min}, {max}"
        );
        assert_eq!(
            raw("outline!", "{n}"),
            "template outline lacks the placeholder {question}: put it where it belongs"
        );
        assert_eq!(
            raw("{question}", "{title}"),
            "template expansion lacks the placeholder {n}: put it where it belongs"
        );
        assert_eq!(
            raw("{question} {", "{n}"),
            "template outline has a lone brace at byte 11: write {{ or }} for the sign"
        );
        assert_eq!(
            raw("{question} }", "{n}"),
            "template outline has a lone brace at byte 11: write {{ or }} for the sign"
        );
    }

    #[test]
    fn a_conversation_ends_with_a_question() {
        let prompts = OutlinePrompts::new(&RawPrompts::general()).unwrap();
        for chat in [
            vec![],
            vec![ChatMessage::assistant("x")],
            vec![ChatMessage::user(" ")],
        ] {
            assert_eq!(
                prompts.ask_outline(&chat, OutlineLimits::default()),
                Err(OutlineError::NoQuestion)
            );
        }
    }

    #[test]
    fn only_a_model_that_can_judge_is_asked_to() {
        let chat = [ChatMessage::user("Why?")];
        let general = OutlinePrompts::new(&RawPrompts::general()).unwrap();
        let judged = general.ask_judgement(&chat).unwrap().unwrap();
        assert!(judged[0].content.starts_with("Why?\n\n"), "{judged:?}");
        assert!(judged[0].content.ends_with("yes or no."), "{judged:?}");
        let default = OutlinePrompts::new(&RawPrompts::default_model()).unwrap();
        assert_eq!(default.ask_judgement(&chat), Ok(None));
        assert_eq!(general.ask_judgement(&[]), Err(OutlineError::NoQuestion));
    }

    #[test]
    fn the_number_of_points_is_asked_for_as_it_is_limited() {
        let raw = RawPrompts {
            outline: "{question} In {min}-{max} points.".into(),
            ..RawPrompts::general()
        };
        let limits = OutlineLimits {
            min_points: 3,
            max_points: 7,
        };
        let asked = OutlinePrompts::new(&raw)
            .unwrap()
            .ask_outline(&[ChatMessage::user("Why?")], limits);
        assert_eq!(asked.unwrap()[0].content, "Why? In 3-7 points.");
    }
}
