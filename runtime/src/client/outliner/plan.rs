//! How an answer is to be written, as far as is known without asking the model.

use jupiter_actors::request::OutlineUsage;

use super::OutlineSetup;
use super::points::most_points;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::config::OutlineMode;
use crate::outline::{Class, Decision, MIN_POINTS, Verdict, decide};

/// Most answers beside which points side by side are faster: more rows fill the stages as well.
const MOST_OTHERS: usize = 2;

/// How an answer is to be written, and why.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) verdict: Verdict,
    pub(super) class: Class,
    reason: String,
    /// Whether an outline was asked for, whatever the question.
    pub(super) is_asked_for: bool,
}

impl Plan {
    /// What is decided of a prompt without asking the model, while so many `n_others` are answered, or in a
    /// trial of it; none where outlines are off.
    pub(crate) fn new(
        setup: &OutlineSetup,
        prompt: &Prompt,
        options: &GenerateOptions,
        n_others: Option<usize>,
    ) -> Option<Self> {
        let mode = options.outline.unwrap_or(setup.config.mode);
        if mode == OutlineMode::Off {
            return None;
        }
        let Prompt::Chat(chat) = prompt else {
            return (mode == OutlineMode::On).then(|| Self::plain("it is no chat"));
        };
        let is_on = mode == OutlineMode::On;
        let are_few = |n| most_points(n, setup.config.point_tokens) < MIN_POINTS;
        let hindrance = match chat.last() {
            Some(last) if last.role != "user" => Some("the last turn is not the user's"),
            Some(last) if last.content.trim().is_empty() => Some("nothing is asked"),
            None => Some("nothing is asked"),
            _ if options.sampling.grammar.is_some() => Some("a grammar says what is written"),
            _ if options.ignore_eos => Some("it has to go on to its last token"),
            _ if options.n_predict.is_some_and(are_few) => Some("few tokens are wanted"),
            _ if !is_on && !options.stop.is_empty() => Some("stop strings say where it ends"),
            _ if !is_on && n_others > Some(MOST_OTHERS) => Some("others fill the stages already"),
            _ => None,
        };
        let question = chat.last().map_or("", |last| last.content.as_str());
        let plan = match hindrance {
            Some(why) => Self::plain(why),
            None => Self::from(decide(question)),
        };
        let plan = match (plan.verdict, n_others.and_then(|_| setup.hindrance())) {
            (Verdict::Outline, Some(why)) if !is_on => {
                let mut plan = plan;
                plan.give_up(why);
                plan
            }
            (Verdict::Plain, _) if is_on && hindrance.is_none() => Self {
                verdict: Verdict::Outline,
                reason: "asked for (--outline on)".to_owned(),
                ..plan
            },
            _ => plan,
        };
        Some(Self {
            is_asked_for: is_on,
            ..plan
        })
    }

    fn plain(why: &str) -> Self {
        Self {
            verdict: Verdict::Plain,
            class: Class::Unclear,
            reason: why.to_owned(),
            is_asked_for: false,
        }
    }

    /// What was decided in the end, of an answer of so many points.
    pub(crate) fn conclude(&self, n_points: usize) -> OutlineUsage {
        let (class, reason) = (self.class.to_string(), self.reason.clone());
        tracing::info!(n_points, class, reason, "outline");
        OutlineUsage {
            n_points: n_points as u32,
            class,
            reason,
        }
    }

    /// The answer is written in one piece after all.
    pub(super) fn give_up(&mut self, why: &str) {
        self.verdict = Verdict::Plain;
        self.add(why);
    }

    pub(super) fn add(&mut self, why: &str) {
        self.reason = format!("{}; {why}", self.reason);
    }
}

impl From<Decision> for Plan {
    fn from(decision: Decision) -> Self {
        Self {
            verdict: decision.verdict,
            class: decision.class,
            reason: decision.reason,
            is_asked_for: false,
        }
    }
}
