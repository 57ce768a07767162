//! Tells what a model thinks from what it answers.
//!
//! Models write thoughts before their answer, between two tags (a table below), or, as gpt-oss does, in a
//! channel of their own (<https://github.com/openai/harmony>):
//!
//! ```text
//! <|channel|>analysis<|message|>They greet.<|end|><|start|>assistant<|channel|>final<|message|>Hello.
//! ```
//!
//! Only what an answer begins with is a thought: in its midst such tags are words of it.

use std::ops::Range;

use super::stop_filter::overlap;

/// What begins a thought and what ends it, as text or as the name of a control token.
const TAGS: [(&str, &str); 5] = [
    // Qwen, DeepSeek, GLM, MiniMax, SmolLM3 and most others.
    ("<think>", "</think>"),
    // Mistral.
    ("[THINK]", "[/THINK]"),
    // Seed-OSS.
    ("<seed:think>", "</seed:think>"),
    // Command A.
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    // Gemma 4.
    ("<|channel>thought\n", "<channel|>"),
];

/// Control tokens of gpt-oss.
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const START: &str = "<|start|>";
const END: &str = "<|end|>";
/// Its channel of thoughts; others are for the reader.
const ANALYSIS: &str = "analysis";

/// A piece of text, and whether it is thought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) text: String,
    pub(super) is_thought: bool,
}

/// Sorts the pieces of one text.
pub(super) struct Thoughts {
    place: Place,
    /// What may be, or become, a part of a tag.
    held: String,
    /// Bytes of it that are the name of a control token, which is no text.
    hidden: Range<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Nothing was said but spaces.
    Begin,
    /// Before the first word of a thought up to this tag.
    Before(&'static str),
    /// In it.
    Thought(&'static str),
    /// Behind a thought, before the first word of the answer.
    Behind,
    Answer,
    /// In the name of a channel.
    Channel,
    /// In a message of a channel, which only control tokens end.
    Analysis,
    Message,
    /// Between two messages, where nothing is said to anybody.
    Between,
}

/// The tag at whose end stands what was said last, if a thought has begun there: `end` is the end of a
/// prompt, control tokens by their names.
pub(super) fn begun_in(end: &str) -> Option<&'static str> {
    let begun = |(begin, finish): &&(&str, &str)| end.rfind(begin) > end.rfind(finish);
    TAGS.iter().find(begun).map(|&(_, finish)| finish)
}

impl Thoughts {
    /// Of an answer, which goes on in a thought up to the tag `begun_in`.
    pub(super) fn new(begun_in: Option<&'static str>) -> Self {
        Self {
            place: begun_in.map_or(Place::Begin, Place::Before),
            held: String::new(),
            hidden: 0..0,
        }
    }

    /// Whether what comes now is thought.
    pub(super) fn is_thought(&self) -> bool {
        matches!(
            self.place,
            Place::Before(_) | Place::Thought(_) | Place::Analysis | Place::Channel
        )
    }

    /// Takes the next text; gives what is certain.
    pub(super) fn push(&mut self, text: &str) -> Vec<Said> {
        self.held += text;
        let mut said = Vec::new();
        while self.advance(&mut said) {}
        said
    }

    /// The same for a control token.
    pub(super) fn push_control(&mut self, name: &str) -> Vec<Said> {
        let mut said = Vec::new();
        match (self.place, name) {
            (Place::Begin | Place::Answer | Place::Between, CHANNEL) => {
                self.held.clear();
                self.place = Place::Channel;
            }
            (Place::Channel, MESSAGE) => {
                let channel = std::mem::take(&mut self.held);
                self.place = match channel.trim_start().starts_with(ANALYSIS) {
                    true => Place::Analysis,
                    false => Place::Message,
                };
            }
            (Place::Analysis | Place::Message, START | END) => self.place = Place::Between,
            (Place::Before(tag) | Place::Thought(tag), name) if tag == name => {
                said.extend(self.take(self.held.len(), true));
                self.place = Place::Behind;
            }
            (Place::Begin, name) => {
                // No tag goes on with a second one.
                self.show();
                let start = self.held.len();
                self.held += name;
                self.hidden = start..self.held.len();
                while self.advance(&mut said) {}
            }
            _ => {}
        }
        said
    }

    /// The rest, when no more text comes.
    pub(super) fn finish(&mut self) -> Option<Said> {
        let is_said = !matches!(self.place, Place::Channel | Place::Between);
        self.show();
        is_said
            .then(|| self.take(self.held.len(), self.is_thought()))
            .flatten()
    }

    /// One step further in what is held; whether there may be another.
    fn advance(&mut self, said: &mut Vec<Said>) -> bool {
        match self.place {
            Place::Begin => self.begin(said),
            Place::Thought(tag) => {
                let end = self.held.find(tag);
                let n = end.unwrap_or(self.held.len() - overlap(&self.held, tag));
                said.extend(self.take(n, true));
                if end.is_some() {
                    self.held.drain(..tag.len());
                    self.place = Place::Behind;
                }
                end.is_some()
            }
            Place::Before(tag) => self.first_word(Place::Thought(tag)),
            Place::Behind => self.first_word(Place::Answer),
            Place::Answer | Place::Analysis | Place::Message => {
                said.extend(self.take(self.held.len(), self.place == Place::Analysis));
                false
            }
            Place::Between => {
                self.held.clear();
                false
            }
            Place::Channel => false,
        }
    }

    /// Leaves out spaces, and goes on in `place` with the first word.
    fn first_word(&mut self, place: Place) -> bool {
        let n_spaces = self.held.len() - self.held.trim_start().len();
        self.held.drain(..n_spaces);
        let has_begun = !self.held.is_empty();
        if has_begun {
            self.place = place;
        }
        has_begun
    }

    /// Whether the answer begins with a thought.
    fn begin(&mut self, said: &mut Vec<Said>) -> bool {
        let text = self.held.trim_start();
        if let Some((begin, finish)) = TAGS.iter().find(|(begin, _)| text.starts_with(begin)) {
            self.held = text[begin.len()..].to_owned();
            (self.hidden, self.place) = (0..0, Place::Before(finish));
            return true;
        }
        if TAGS.iter().any(|(begin, _)| begin.starts_with(text)) {
            return false;
        }
        self.show();
        said.extend(self.take(self.held.len(), false));
        self.place = Place::Answer;
        false
    }

    /// What is held is no tag: of it the text is left.
    fn show(&mut self) {
        self.held.drain(std::mem::take(&mut self.hidden));
    }

    fn take(&mut self, n: usize, is_thought: bool) -> Option<Said> {
        let rest = self.held.split_off(n);
        let text = std::mem::replace(&mut self.held, rest);
        (!text.is_empty()).then_some(Said { text, is_thought })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Thought and answer of pieces, control tokens in `{}`.
    fn sorted(begun_in: Option<&'static str>, pieces: &[&str]) -> (String, String) {
        let mut thoughts = Thoughts::new(begun_in);
        let mut all = Vec::new();
        for piece in pieces {
            let control = piece
                .strip_prefix('{')
                .and_then(|rest| rest.strip_suffix('}'));
            all.extend(match control {
                Some(name) => thoughts.push_control(name),
                None => thoughts.push(piece),
            });
        }
        all.extend(thoughts.finish());
        let of = |is_thought| {
            let said = all.iter().filter(|said| said.is_thought == is_thought);
            said.map(|said| said.text.as_str()).collect()
        };
        (of(true), of(false))
    }

    #[test]
    fn thoughts_are_told_from_answers_in_every_form() {
        let no: Option<&'static str> = None;
        for (begun_in, pieces, thought, answer) in [
            (no, &["Hello", " you."][..], "", "Hello you."),
            (
                no,
                &["<think>", "\nHm", "m.\n", "</think>", "\n\nHi."],
                "Hmm.\n",
                "Hi.",
            ),
            (no, &[" <th", "ink>Hm</", "thi", "nk>Hi"], "Hm", "Hi"),
            (no, &["<th", "e>"], "", "<the>"),
            (no, &["{[THINK]}", "Hm", "{[/THINK]}", "Hi"], "Hm", "Hi"),
            (
                no,
                &["{<|channel>}", "thought\n", "Hm", "{<channel|>}", "Hi"],
                "Hm",
                "Hi",
            ),
            (no, &["{<|tool>}", "Hi"], "", "Hi"),
            (no, &[" ", "{<|channel>}", "Hi"], "", " Hi"),
            (no, &["{<|channel>}", "{<|tool>}", "Hi"], "", "Hi"),
            (no, &["{<|channel>}"], "", ""),
            (
                no,
                &["So <think>", " is", "</think> a tag"],
                "",
                "So <think> is</think> a tag",
            ),
            (
                Some("</think>"),
                &["Hm", "</think>", "\n", "Hi"],
                "Hm",
                "Hi",
            ),
            (
                Some("</think>"),
                &["Hm, cut off </th"],
                "Hm, cut off </th",
                "",
            ),
            (no, &["  \n"], "", "  \n"),
            (no, &[], "", ""),
        ] {
            let expected = (thought.to_owned(), answer.to_owned());
            assert_eq!(sorted(begun_in, pieces), expected, "{pieces:?}");
        }
    }

    #[test]
    fn channels_of_gpt_oss_are_thoughts_and_answers() {
        let pieces = [
            "{<|channel|>}",
            "ana",
            "lysis",
            "{<|message|>}",
            "They ",
            "greet.",
            "{<|end|>}",
            "{<|start|>}",
            "assistant",
            "{<|channel|>}",
            "final",
            "{<|message|>}",
            "Hel",
            "lo.",
        ];
        assert_eq!(
            sorted(None, &pieces),
            ("They greet.".into(), "Hello.".into())
        );
        let told = [
            "{<|channel|>}",
            "commentary",
            "{<|message|>}",
            "I look it up.",
        ];
        assert_eq!(sorted(None, &told).1, "I look it up.");
    }

    #[test]
    fn a_prompt_may_end_in_a_thought() {
        for (end, expected) in [
            ("<|im_start|>assistant\n<think>\n", Some("</think>")),
            ("<think>\n\n</think>\n\n", None),
            ("assistant: [THINK]", Some("[/THINK]")),
            ("assistant:", None),
        ] {
            assert_eq!(begun_in(end), expected, "{end}");
        }
    }

    proptest! {
        /// However a text is cut, its parts are the same, and nothing of it is lost.
        #[test]
        fn pieces_do_not_matter(cuts in proptest::collection::vec(0..48_usize, 0..8)) {
            let text = "\n<think>Is it <b>? </thin no</think>\n\nIt is <think>.";
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&str> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let expected = ("Is it <b>? </thin no".to_owned(), "It is <think>.".to_owned());
            prop_assert_eq!(sorted(None, &pieces), expected);
        }
    }
}
