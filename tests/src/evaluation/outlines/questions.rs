//! Held-out questions, and which of them are answered by an outline.

use std::collections::HashSet;

use jupiter::outline::{Verdict, decide};
use jupiter_models::text::ChatMessage;
use jupiter_world::{Check, Kind, Split, World};

use crate::evaluation::SEED;
use crate::evaluation::answers::messages;

/// A question that the default model was never trained on.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The conversation up to it.
    pub messages: Vec<ChatMessage>,
    /// What its answer must hold.
    pub check: Check,
}

impl Question {
    /// Its last turn.
    pub fn text(&self) -> &str {
        self.messages.last().map_or("", |last| &last.content)
    }
}

/// The questions of one kind that suit an outline.
#[derive(Clone, Debug, PartialEq)]
pub struct Routed {
    /// Different questions that were looked at.
    pub n_asked: usize,
    /// Those that [`decide`] routes to an outline.
    pub questions: Vec<Question>,
}

/// Looks at the different questions among `n` held-out examples of `kind`.
pub fn routed(world: &World, kind: Kind, n: u64) -> Routed {
    let mut all = Routed {
        n_asked: 0,
        questions: Vec::new(),
    };
    let mut seen = HashSet::new();
    for index in 0..n {
        let example = world.example_of(kind, Split::HeldOut, SEED, index);
        let question = Question {
            messages: messages(&example),
            check: example.check,
        };
        let turns: Vec<_> = question.messages.iter().map(|m| &m.content).collect();
        if !seen.insert(format!("{turns:?}")) {
            continue;
        }
        all.n_asked += 1;
        if decide(question.text()).verdict == Verdict::Outline {
            all.questions.push(question);
        }
    }
    all
}
