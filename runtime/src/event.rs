//! The events of an answer as JSON: what `jupiter run --json` prints, one a line, and what the
//! public topics carry.

use jupiter_actors::NodeId;
use jupiter_actors::request::{Completion, FinishReason};
use jupiter_models::Token;
use serde::Serialize;

use crate::client::StreamItem;

/// One event: any number of tokens, then one `done` or `error`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Event<'a> {
    /// A part of the text.
    Token {
        /// The token; null for text that was held back until the end.
        id: Option<Token>,
        /// Its text.
        text: &'a str,
    },
    /// The answer is complete.
    Done(DoneEvent),
    /// The answer does not come, or not to its end.
    Error {
        /// Why, in one line.
        message: &'a str,
    },
}

/// What an answer took (see [`Completion`]).
#[derive(Debug, Serialize)]
pub struct DoneEvent {
    reason: FinishReason,
    n_prompt: u32,
    n_eval: u32,
    prompt_ms: f64,
    eval_ms: f64,
    n_cached: u32,
    n_replays: u32,
    stages: Vec<StageEvent>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speculation: Option<SpeculationEvent>,
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
            n_prompt: done.n_prompt,
            n_eval: done.n_eval,
            prompt_ms: done.prompt_ms,
            eval_ms: done.eval_ms,
            n_cached: done.n_cached,
            n_replays: done.n_replays,
            stages: stages.collect(),
            speculation: done.speculation.as_ref().map(|used| SpeculationEvent {
                source: used.source,
                acceptance: used.acceptance(),
                tokens_per_step: used.tokens_per_step(),
                wasted_rows: used.n_wasted,
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
        let error = Event::Error { message: "no" };
        assert_eq!(line(error), r#"{"event":"error","message":"no"}"#);
        let done = StreamItem::Done(Completion {
            reason: FinishReason::Length,
            n_prompt: 3,
            n_eval: 2,
            prompt_ms: 1.5,
            eval_ms: 2.5,
            n_cached: 0,
            n_replays: 0,
            speculation: None,
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
                r#"{"event":"done","reason":"length","n_prompt":3,"n_eval":2,"prompt_ms":1.5,"#,
                r#""eval_ms":2.5,"n_cached":0,"n_replays":0,"stages":[{"node":"a","layers":[0,4],"#,
                r#""busy_ms":1.5,"prompt_busy_ms":1.0,"eval_busy_ms":0.5}]}"#
            )
        );
    }
}
