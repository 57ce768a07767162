//! How a model is asked for the outline of an answer, and then for each of its points.
//!
//! A model that was not trained for outlines is asked for nothing: the conversation stays as it is,
//! and the answer is begun for it, `1. **`. The grammar lets it write titles alone; each point goes on
//! behind its own, `3. **Get enough sleep**:`, and sees no other, so that it cannot repeat them. All
//! prompts begin with that of the plain answer, and differ by a few tokens. Of the forms that were
//! tried on a model of 135M parameters it was the only one whose points were sentences on their
//! titles: behind the lines so far, or behind the whole outline, half of them stayed empty.
//!
//! With templates the model is asked in turns of their own (Skeleton-of-Thought, section 2; the
//! wording is ours), as the default model was trained to be. A point's turn stands behind the titles so
//! far: the default model, which was trained with all of them, says the same behind these.

mod template;

use jupiter_models::text::ChatMessage;

use self::template::Template;
use super::error::{OutlineError, Result};
use super::lines::grammar;
use super::points::{Outline, OutlineLimits, Point};

/// Before and behind a title in an answer that is begun.
const BOLD: &str = "**";

/// Templates as they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPrompts {
    /// Takes the place of the question: `{question}`, and `{min}` and `{max}` points.
    pub outline: String,
    /// The turn behind the outline: `{n}`, and `{title}` and the `{count}` of points.
    pub expansion: String,
}

/// How a model is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutlinePrompts {
    /// Checked; none: the answer is begun.
    templates: Option<(Template, Template)>,
}

/// A conversation whose next turn, the assistant's, has begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The turns before.
    pub chat: Vec<ChatMessage>,
    /// What the assistant has said so far.
    pub begun: String,
}

/// The beginning of an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Begin {
    /// As it is shown.
    pub shown: String,
    /// As the model has it.
    pub begun: String,
}

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
        }
    }

    /// For the default model, in the words that it was trained with.
    pub fn default_model() -> Self {
        Self {
            outline: "{question}\nOutline only: numbered points of 2 to 5 words.".into(),
            expansion: "Write point {n}: {title}".into(),
        }
    }
}

impl OutlinePrompts {
    /// Prompts of templates, which are checked.
    ///
    /// # Errors
    /// An unknown placeholder, one that is missing, a lone brace.
    pub fn new(raw: &RawPrompts) -> Result<Self> {
        let question = ["question", "min", "max"];
        let point = ["n", "title", "count"];
        let outline = Template::new("outline", &raw.outline, &question, &["question"])?;
        let expansion = Template::new("expansion", &raw.expansion, &point, &["n"])?;
        let templates = Some((outline, expansion));
        Ok(Self { templates })
    }

    /// Answers are begun, in the conversation as it is.
    pub fn begun() -> Self {
        Self::default()
    }

    /// Asks for the outline.
    ///
    /// # Errors
    /// When the last turn is not the user's.
    pub fn ask_outline(&self, chat: &[ChatMessage], limits: OutlineLimits) -> Result<Asked> {
        let (last, before) = chat.split_last().ok_or(OutlineError::NoQuestion)?;
        if last.role != "user" || last.content.trim().is_empty() {
            return Err(OutlineError::NoQuestion);
        }
        let Some((outline, _)) = &self.templates else {
            let (chat, begun) = (chat.to_vec(), format!("1. {BOLD}"));
            return Ok(Asked { chat, begun });
        };
        let (min, max) = (limits.min_points.to_string(), limits.max_points.to_string());
        let places = [("question", &*last.content), ("min", &min), ("max", &max)];
        let mut chat = before.to_vec();
        chat.push(ChatMessage::user(outline.fill(&places)));
        let begun = String::new();
        Ok(Asked { chat, begun })
    }

    /// What the outline is sampled under (GBNF), behind what has begun of it.
    pub fn grammar(&self, asked: &Asked, limits: OutlineLimits) -> String {
        let mark = if self.templates.is_some() { "" } else { BOLD };
        grammar(mark, limits.max_points.max(1), &asked.begun)
    }

    /// How an answer can go on in one piece whose outline came to nothing, when it was shown to begin
    /// with its first point's title, or with its number alone. None with templates: there the
    /// conversation has gone elsewhere.
    pub fn begin(&self, first: Option<&Point>) -> Option<Begin> {
        let (shown, begun) = match first {
            None => ("1. ".to_owned(), "1.".to_owned()),
            Some(Point { title }) => (format!("1. {title}"), format!("1. {BOLD}{title}{BOLD}:")),
        };
        self.templates.is_none().then_some(Begin { shown, begun })
    }

    /// Whether a point can only be asked for when all titles are written: with templates the outline is a
    /// turn of the conversation, which is whole, and the template may say how many points there are.
    pub fn need_all_points(&self) -> bool {
        self.templates.is_some()
    }

    /// Asks for one of the points, by its index, behind what was `asked` for the outline and the points as
    /// far as they are written: all begin alike.
    pub fn ask_point(&self, asked: &Asked, outline: &Outline, index: usize) -> Asked {
        let n = (index + 1).to_string();
        let title = outline.points.get(index).map_or("", |point| &point.title);
        let mut chat = asked.chat.clone();
        let Some((_, expansion)) = &self.templates else {
            let begun = format!("{n}. {BOLD}{title}{BOLD}:");
            return Asked { chat, begun };
        };
        let count = outline.points.len().to_string();
        let places = [("n", n.as_str()), ("title", title), ("count", &count)];
        chat.push(ChatMessage::assistant(outline.render()));
        chat.push(ChatMessage::user(expansion.fill(&places)));
        let begun = String::new();
        Asked { chat, begun }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn outline() -> Outline {
        let titles = ["Lift the car", "Take off the wheel", "Mount the spare"];
        let points = titles.map(|title| Point {
            title: title.into(),
        });
        Outline {
            points: points.into(),
        }
    }

    fn chat() -> [ChatMessage; 3] {
        [
            ChatMessage::user("Hi"),
            ChatMessage::assistant("Hello."),
            ChatMessage::user("How do I clean the {title}?"),
        ]
    }

    #[test]
    fn the_default_model_is_asked_in_its_own_words() {
        let prompts = OutlinePrompts::new(&RawPrompts::default_model()).unwrap();
        let limits = OutlineLimits::default();
        let asked = prompts.ask_outline(&chat(), limits).unwrap();
        assert_eq!(asked.chat[..2], chat()[..2]);
        let question =
            "How do I clean the {title}?\nOutline only: numbered points of 2 to 5 words.";
        assert_eq!((&*asked.chat[2].content, &*asked.begun), (question, ""));
        assert!(prompts.need_all_points() && !OutlinePrompts::begun().need_all_points());
        let counts = OutlinePrompts::new(&RawPrompts::general()).unwrap();
        assert!(counts.need_all_points());
        for i in 0..3 {
            let point = prompts.ask_point(&asked, &outline(), i);
            assert_eq!(point.chat[..3], asked.chat[..]);
            let written = "1. Lift the car\n2. Take off the wheel\n3. Mount the spare";
            assert_eq!(point.chat[3], ChatMessage::assistant(written));
            let turn = format!("Write point {}: {}", i + 1, outline().points[i].title);
            assert_eq!(point.chat[4], ChatMessage::user(turn));
        }
    }

    #[test]
    fn an_answer_that_is_begun_leaves_the_conversation_as_it_is() {
        let prompts = OutlinePrompts::begun();
        let limits = OutlineLimits {
            min_points: 2,
            max_points: 2,
        };
        let asked = prompts.ask_outline(&chat(), limits).unwrap();
        assert_eq!((&asked.chat[..], &*asked.begun), (&chat()[..], "1. **"));
        let grammar = prompts.grammar(&asked, limits);
        let root = "root ::= \"\" line1\nline1 ::= title \"**\" (\"\\n2. **\" line2)?\nline2 ::= title \"**\"\n";
        assert!(grammar.starts_with(root), "{grammar}");
        let point = prompts.ask_point(&asked, &outline(), 2);
        assert_eq!(point.chat, chat());
        assert_eq!(point.begun, "3. **Mount the spare**:");
        assert!(!prompts.need_all_points(), "it sees no other");
    }

    #[test]
    fn templates_are_checked_in_one_line() {
        let raw = |outline: &str, expansion: &str| {
            let raw = RawPrompts {
                outline: outline.into(),
                expansion: expansion.into(),
            };
            let wrong = OutlinePrompts::new(&raw).unwrap_err();
            wrong.to_string()
        };
        let unknown = "template outline has an unknown placeholder {titel}: it may have {question}, \
                       {min}, {max}";
        assert_eq!(raw("{question} {titel}", "{n}"), unknown);
        let missing = "template expansion lacks the placeholder {n}: put it where it belongs";
        assert_eq!(raw("{question}", "{title}"), missing);
        let lone = "template outline has a lone brace at byte 11: write {{ or }} for the sign";
        assert_eq!(raw("{question} {", "{n}"), lone);
        assert_eq!(raw("{question} }", "{n}"), lone);
    }

    #[test]
    fn a_conversation_ends_with_a_question() {
        for chat in [
            vec![],
            vec![ChatMessage::assistant("x")],
            vec![ChatMessage::user(" ")],
        ] {
            let asked = OutlinePrompts::begun().ask_outline(&chat, OutlineLimits::default());
            assert_eq!(asked, Err(OutlineError::NoQuestion));
        }
    }
}
