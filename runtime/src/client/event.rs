//! The events of an answer as JSON: what `jupiter run --json` prints, one a line, and what the
//! public topics carry.

use jupiter_actors::NodeId;
use jupiter_actors::request::{Completion, FinishReason, LengthLimit};
use jupiter_models::Token;
use serde::Serialize;

use crate::client::stream::StreamItem;
use crate::outline::{BranchEnd, BranchEvent};

/// One event: any number of tokens, in answers of points with outlines and branches between them,
/// then one `done` or `error`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    /// A part of the text.
    Token {
        /// The token; null for text that was held back until the end, and where there is nothing to
        /// say but that the head is there.
        id: Option<Token>,
        /// Its text.
        text: &'a str,
    },
    /// A part of what the model thinks before it answers; no part of the answer.
    Thought {
        /// The token; null for text that was held back.
        id: Option<Token>,
        /// Its text.
        text: &'a str,
    },
    /// The points of the answer as far as they are known; all of them when `complete`. They are written
    /// side by side, the first ones while others are still to come, and the `token` events are the answer
    /// in order all the same.
    Outline {
        /// Titles in order.
        points: Vec<&'a str>,
        /// Whether these are all.
        complete: bool,
    },
    /// A point goes on, or ends.
    Branch {
        /// Its place in the outline, from 0.
        branch: usize,
        /// The next piece of its text.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        /// At its end, why: `stop`, or `length` when its tokens are used up.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<FinishReason>,
    },
    /// The answer is complete.
    Done(DoneEvent),
    /// The answer does not come, or not to its end.
    Error {
        /// Why, in one line.
        message: &'a str,
        /// When to ask again, where too much is asked at once.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
}

/// What an answer took (see [`Completion`]).
#[derive(Debug, Serialize)]
pub struct DoneEvent {
    reason: FinishReason,
    /// What was used up, where the reason is `length`: `n_predict`, `point_tokens` or `context`.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<LengthLimit>,
    n_prompt: u32,
    n_eval: u32,
    prompt_ms: f64,
    eval_ms: f64,
    n_cached: u32,
    n_replays: u32,
    /// How often its KV cells went to others, and it was computed again.
    n_preempted: u32,
    stages: Vec<StageEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speculation: Option<SpeculationEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outline: Option<OutlineEvent>,
}

/// Whether the answer was written point by point, and why.
#[derive(Debug, Serialize)]
struct OutlineEvent {
    /// Points that were written side by side; 0 for an answer in one piece.
    points: u32,
    class: String,
    reason: String,
}

/// What guessing ahead brought.
#[derive(Debug, Serialize)]
struct SpeculationEvent {
    source: &'static str,
    acceptance: f64,
    tokens_per_step: f64,
    wasted_rows: u32,
}

/// One stage's part.
#[derive(Debug, Serialize)]
struct StageEvent {
    node: NodeId,
    layers: [u32; 2],
    busy_ms: f64,
    prompt_busy_ms: f64,
    eval_busy_ms: f64,
}

impl<'a> From<&'a StreamItem> for Event<'a> {
    fn from(item: &'a StreamItem) -> Self {
        match item {
            StreamItem::Token { id, text } => Self::Token { id: *id, text },
            StreamItem::Thought { id, text } => Self::Thought { id: *id, text },
            StreamItem::Outline {
                outline,
                is_complete,
            } => Self::Outline {
                points: outline.points.iter().map(|p| p.title.as_str()).collect(),
                complete: *is_complete,
            },
            StreamItem::Branch(BranchEvent::Text { branch, text }) => Self::Branch {
                branch: *branch,
                text: Some(text),
                reason: None,
            },
            StreamItem::Branch(BranchEvent::End { branch, end }) => Self::Branch {
                branch: *branch,
                text: None,
                reason: Some(match end {
                    BranchEnd::Stop => FinishReason::Stop,
                    BranchEnd::Cut => FinishReason::Length,
                }),
            },
            StreamItem::Done(done) => Self::Done(done.into()),
        }
    }
}

impl From<&Completion> for DoneEvent {
    fn from(done: &Completion) -> Self {
        let stages = done.stages.iter().map(|stage| StageEvent {
            node: stage.node.clone(),
            layers: [stage.layers.start, stage.layers.end],
            busy_ms: stage.prompt_busy_ms + stage.eval_busy_ms,
            prompt_busy_ms: stage.prompt_busy_ms,
            eval_busy_ms: stage.eval_busy_ms,
        });
        Self {
            reason: done.reason,
            limit: done.limit,
            n_prompt: done.n_prompt,
            n_eval: done.n_eval,
            prompt_ms: done.prompt_ms,
            eval_ms: done.eval_ms,
            n_cached: done.n_cached,
            n_replays: done.n_replays,
            n_preempted: done.n_preempted,
            stages: stages.collect(),
            speculation: done.speculation.as_ref().map(|used| SpeculationEvent {
                source: used.source,
                acceptance: used.acceptance(),
                tokens_per_step: used.tokens_per_step(),
                wasted_rows: used.n_wasted,
            }),
            outline: done.outline.as_ref().map(|used| OutlineEvent {
                points: used.n_points,
                class: used.class.clone(),
                reason: used.reason.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use jupiter_actors::request::StageUsage;
    use jupiter_models::LayerRange;

    use super::*;

    #[test]
    fn events_have_the_promised_shape() {
        let token = StreamItem::Token {
            id: Some(7),
            text: " a\"".into(),
        };
        let line = |event: Event<'_>| serde_json::to_string(&event).unwrap();
        assert_eq!(
            line((&token).into()),
            r#"{"event":"token","id":7,"text":" a\""}"#
        );
        let branch = |event| StreamItem::Branch(event);
        let text = branch(BranchEvent::Text {
            branch: 2,
            text: "a".into(),
        });
        assert_eq!(
            line((&text).into()),
            r#"{"event":"branch","branch":2,"text":"a"}"#
        );
        let end = branch(BranchEvent::End {
            branch: 2,
            end: BranchEnd::Cut,
        });
        assert_eq!(
            line((&end).into()),
            r#"{"event":"branch","branch":2,"reason":"length"}"#
        );
        let error = |retry_after_ms| Event::Error {
            message: "no",
            retry_after_ms,
        };
        assert_eq!(line(error(None)), r#"{"event":"error","message":"no"}"#);
        assert_eq!(
            line(error(Some(40))),
            r#"{"event":"error","message":"no","retry_after_ms":40}"#
        );
        let done = StreamItem::Done(Completion {
            reason: FinishReason::Length,
            limit: Some(LengthLimit::Context),
            n_prompt: 3,
            n_eval: 2,
            prompt_ms: 1.5,
            eval_ms: 2.5,
            n_cached: 0,
            n_replays: 0,
            n_preempted: 0,
            speculation: None,
            outline: None,
            stages: vec![StageUsage {
                node: NodeId("a".into()),
                layers: LayerRange::new(0, 4),
                prompt_busy_ms: 1.0,
                eval_busy_ms: 0.5,
            }],
        });
        assert_eq!(
            line((&done).into()),
            concat!(
                r#"{"event":"done","reason":"length","limit":"context","n_prompt":3,"n_eval":2,"#,
                r#""prompt_ms":1.5,"eval_ms":2.5,"n_cached":0,"n_replays":0,"n_preempted":0,"stages":[{"node":"a","layers":[0,4],"#,
                r#""busy_ms":1.5,"prompt_busy_ms":1.0,"eval_busy_ms":0.5}]}"#
            )
        );
    }
}
