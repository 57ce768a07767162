//! The outline, and its points side by side.

use futures::StreamExt;
use jupiter_actors::request::{Completion, FinishReason, LengthLimit};
use jupiter_models::text::ChatMessage;

use super::{Items, Outliner, send};
use crate::client::answer::{AnswerStream, Part};
use crate::client::branches::{BranchItem, BranchStream};
use crate::client::planner_client::n_shared;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::client::stream::StreamItem;
use crate::error::{Error, Result};
use crate::outline::{BranchEnd, BranchEvent, Joiner, Outline, OutlineParser, Progress};

/// Most tokens of an outline: ten points with a few words about each. A model that has not come to
/// its end by then answers already.
const OUTLINE_TOKENS: u32 = 256;
/// Fewest tokens of a point that are worth it: a sentence.
const FEWEST_POINT_TOKENS: u32 = 24;

/// An outline, and what the model wrote for it.
pub(super) struct Written {
    asked: Vec<ChatMessage>,
    outline: Outline,
    text: String,
    n_tokens: u32,
}

impl Outliner {
    /// The outline; none when the model writes none, and the plan says why.
    pub(super) async fn write_outline(&mut self, items: &Items) -> Result<Option<Written>> {
        let setup = &self.setup;
        let limits = setup.config.limits;
        let asked = match setup.prompts.ask_outline(&self.chat, limits) {
            Ok(asked) => asked,
            Err(error) => {
                self.plan.give_up(&error.to_string());
                return Ok(None);
            }
        };
        let most = self.options.n_predict.unwrap_or(OUTLINE_TOKENS);
        let options = GenerateOptions {
            n_predict: Some(most.min(OUTLINE_TOKENS)),
            ..self.inner()
        };
        let mut parser = OutlineParser::new(limits);
        let answer = self.ask(asked.clone(), options, true).await?;
        let (text, done) = self.follow_outline(answer, &mut parser, items).await?;
        let n_tokens = done.n_eval;
        if done.reason == FinishReason::Length {
            parser.cut();
        }
        self.count(done);
        match parser.finish() {
            Ok(outline) => Ok(Some(Written {
                asked,
                outline,
                text,
                n_tokens,
            })),
            Err(why) => {
                self.plan.give_up(&why.to_string());
                Ok(None)
            }
        }
    }

    /// Reads the outline as it is written, and shows its points as they come.
    async fn follow_outline(
        &mut self,
        mut answer: AnswerStream,
        parser: &mut OutlineParser,
        items: &Items,
    ) -> Result<(String, Completion)> {
        let mut text = String::new();
        let mut n_shown = 0;
        loop {
            match answer.next().await.ok_or(Error::Stopped)?? {
                Part::Text { text: piece, .. } => {
                    self.first_token();
                    text.push_str(&piece);
                    if parser.push(&piece) == Progress::Closed {
                        answer.finish();
                    }
                }
                Part::Done(done) => return Ok((text, done)),
            }
            let points = parser.points();
            if points.len() != n_shown {
                n_shown = points.len();
                let points = points.to_vec();
                let (outline, is_complete) = (Outline { points }, false);
                send(
                    items,
                    StreamItem::Outline {
                        outline,
                        is_complete,
                    },
                );
            }
        }
    }

    /// All points side by side; none when they are not worth it, and the plan says why.
    pub(super) async fn write_points(
        &mut self,
        written: Written,
        items: &Items,
    ) -> Result<Option<Completion>> {
        let outline = &written.outline;
        let n_points = outline.points.len();
        let (n_predict, limit) = self.point_tokens(written.n_tokens, n_points);
        if n_predict < FEWEST_POINT_TOKENS.min(self.setup.config.point_tokens) {
            self.plan.give_up("few tokens would be left for each point");
            return Ok(None);
        }
        let prompts = &self.setup.prompts;
        let shared = prompts.shared_prefix(&written.asked, outline, &written.text);
        let chats = prompts.ask_points(&shared, outline);
        let prompts = self
            .planner
            .tokenize_all(chats.into_iter().map(Prompt::Chat))
            .await?;
        let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0);
        if 2 * n_shared(&prompts) < shortest {
            self.plan
                .give_up("by the chat template the points have no common beginning");
            return Ok(None);
        }
        let options = GenerateOptions {
            n_predict: Some(n_predict),
            ..self.options.clone()
        };
        let options = self.in_time(options)?;
        let follows = self.held.take();
        let branches = self.planner.fork(prompts, options, follows).await?;
        self.n_points = n_points;
        let done = self.follow_points(branches, outline, items).await?;
        let n_eval = written.n_tokens + done.n_eval;
        let limit = done.limit.map(|cut| match cut {
            LengthLimit::NPredict => limit,
            cut => cut,
        });
        Ok(Some(Completion {
            n_eval,
            limit,
            ..done
        }))
    }

    /// Hands on all points as they are written; what they took.
    async fn follow_points(
        &mut self,
        mut branches: BranchStream,
        outline: &Outline,
        items: &Items,
    ) -> Result<Completion> {
        let mut joiner = Joiner::new(outline);
        let mut item = Some(StreamItem::Outline {
            outline: outline.clone(),
            is_complete: true,
        });
        while let Some(part) = branches.next().await {
            let event = match part {
                Ok(BranchItem::Token { branch, text, .. }) => BranchEvent::Text { branch, text },
                Ok(BranchItem::End { branch, completion }) => BranchEvent::End {
                    branch,
                    end: match completion.reason {
                        FinishReason::Stop => BranchEnd::Stop,
                        FinishReason::Length => BranchEnd::Cut,
                    },
                },
                Ok(BranchItem::Done(done)) => return Ok(done),
                Err(error) => {
                    // What was written of later points is no less right.
                    if self.has_shown {
                        let text = joiner.finish();
                        send(items, StreamItem::Token { id: None, text });
                    }
                    return Err(error);
                }
            };
            self.has_shown = true;
            if let Some(item) = item.take() {
                send(items, item);
            }
            if let Some(over) = write_event(&mut joiner, event, items) {
                branches.finish(over);
            }
        }
        Err(Error::Stopped)
    }

    /// Most tokens of each point, after an outline of `n_outline`, and what is used up then.
    fn point_tokens(&self, n_outline: u32, n_points: usize) -> (u32, LengthLimit) {
        let most = self.setup.config.point_tokens;
        let share = |n: u32| n.saturating_sub(n_outline) / n_points.max(1) as u32;
        match self.options.n_predict.map(share) {
            Some(share) if share < most => (share, LengthLimit::NPredict),
            _ => (most, LengthLimit::PointTokens),
        }
    }
}

/// Hands on what an event adds to its branch and to the answer. A branch that goes on though its
/// point is over is to be ended.
fn write_event(joiner: &mut Joiner, event: BranchEvent, items: &Items) -> Option<usize> {
    let joined = match joiner.push(&event) {
        Ok(joined) => joined,
        Err(error) => {
            tracing::error!(%error, "an answer of points");
            return None;
        }
    };
    let (BranchEvent::Text { branch, .. } | BranchEvent::End { branch, .. }) = event;
    if !joined.branch.is_empty() {
        let text = joined.branch;
        let event = BranchEvent::Text { branch, text };
        send(items, StreamItem::Branch(event));
    }
    if let BranchEvent::End { .. } = event {
        send(items, StreamItem::Branch(event));
    }
    if !joined.answer.is_empty() {
        let text = joined.answer;
        send(items, StreamItem::Token { id: None, text });
    }
    joined.is_over.then_some(branch)
}
