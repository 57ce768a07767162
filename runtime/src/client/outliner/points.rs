//! The outline, and its points side by side.

use futures::StreamExt;
use jupiter_actors::request::{Completion, FinishReason, LengthLimit};

use super::{Items, Outliner, send};
use crate::client::answer::{AnswerStream, Part};
use crate::client::branches::{BranchItem, BranchStream};
use crate::client::planner_client::n_shared;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::client::stream::StreamItem;
use crate::error::{Error, Result};
use crate::outline::{
    Asked, BranchEnd, BranchEvent, Joiner, MIN_POINTS, Outline, OutlineReader, Progress,
};

/// Most tokens of a line of an outline: a number and eight words of three tokens, as rare words have.
const LINE_TOKENS: u32 = 28;
/// Tokens that a line of an outline has by experience, twice: what has to be left for it.
const USUAL_LINE_TOKENS: u32 = 12;
/// Fewest tokens of a point that are worth it: a sentence or two.
const FEWEST_POINT_TOKENS: u32 = 32;

/// An outline, and what was asked for it.
pub(super) struct Written {
    asked: Asked,
    outline: Outline,
    n_tokens: u32,
}

/// Points for which so many tokens are enough, with their outline.
pub(super) fn most_points(n_predict: u32, point_tokens: u32) -> usize {
    let fewest = FEWEST_POINT_TOKENS.min(point_tokens) + USUAL_LINE_TOKENS;
    (n_predict / fewest) as usize
}

impl Outliner {
    /// The outline; none when the model writes none, and the plan says why.
    pub(super) async fn write_outline(&mut self, items: &Items) -> Result<Option<Written>> {
        let setup = self.setup.clone();
        let mut limits = setup.config.limits;
        let mut most = LINE_TOKENS * limits.max_points as u32;
        if let Some(n) = self.options.n_predict {
            limits.max_points = limits
                .max_points
                .min(most_points(n, setup.config.point_tokens));
            most = most.min(USUAL_LINE_TOKENS * limits.max_points as u32);
        }
        let asked = match setup.prompts.ask_outline(&self.chat, limits) {
            Ok(asked) => asked,
            Err(error) => {
                self.plan.give_up(&error.to_string());
                return Ok(None);
            }
        };
        let Some(prompt) = self.planner.tokenize_begun(&asked).await? else {
            self.plan
                .give_up("by the chat template an answer begins with a thought");
            return Ok(None);
        };
        let mut options = self.inner();
        options.n_predict = Some(most);
        options.sampling.grammar = Some(setup.prompts.grammar(&asked, limits));
        let mut reader = OutlineReader::new(limits, &asked.begun);
        let answer = self.ask(Prompt::Tokens(prompt), options, true).await?;
        let done = self.follow_outline(answer, &mut reader, items).await?;
        let n_tokens = done.n_eval;
        let is_cut = done.reason == FinishReason::Length;
        self.count(done);
        match reader.finish(is_cut) {
            Ok(outline) => Ok(Some(Written {
                asked,
                outline,
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
        reader: &mut OutlineReader,
        items: &Items,
    ) -> Result<Completion> {
        // An answer that may begin at once is shown before its first title.
        let begins_now = self.may_begin(0) && self.setup.prompts.begin(None).is_some();
        let mut n_shown = (!begins_now).then_some(0);
        loop {
            match answer.next().await.ok_or(Error::Stopped)?? {
                Part::Text { text: piece, .. } => {
                    self.first_token();
                    if reader.push(&piece) == Progress::Closed {
                        answer.finish();
                    }
                }
                Part::Done(done) => return Ok(done),
            }
            let points = reader.points();
            if n_shown != Some(points.len()) {
                n_shown = Some(points.len());
                let points = points.to_vec();
                self.show(Outline { points }, items);
            }
        }
    }

    /// Whether the answer is certain to have points, or would be as good with a number before it.
    fn may_begin(&self, n_points: usize) -> bool {
        !self.plan.is_asked_for || n_points >= MIN_POINTS
    }

    /// Shows the outline as far as it has come, and the beginning of the answer's text.
    fn show(&mut self, outline: Outline, items: &Items) {
        let first = outline.points.first();
        let begin = self.setup.prompts.begin(first);
        let begin = begin.filter(|_| self.may_begin(outline.points.len()));
        let is_complete = false;
        send(
            items,
            StreamItem::Outline {
                outline,
                is_complete,
            },
        );
        let Some(begin) = begin else { return };
        if let Some(more) = begin.shown.strip_prefix(&*self.begin.shown) {
            let text = more.to_owned();
            send(items, StreamItem::Token { id: None, text });
            self.begin = begin;
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
        let asked = self.setup.prompts.ask_points(&written.asked, outline);
        let mut prompts = Vec::new();
        for point in &asked {
            prompts.extend(self.planner.tokenize_begun(point).await?);
        }
        let shortest = prompts.iter().map(Vec::len).min().unwrap_or(0);
        if prompts.len() < n_points || 2 * n_shared(&prompts) < shortest {
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
        let done = self
            .follow_points(branches, outline, n_predict, items)
            .await?;
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

    /// Hands on all points as they are written, each to the end of a sentence before its budget of
    /// `n_predict` tokens is used up; what they took.
    async fn follow_points(
        &mut self,
        mut branches: BranchStream,
        outline: &Outline,
        n_predict: u32,
        items: &Items,
    ) -> Result<Completion> {
        let hurry_at = n_predict - n_predict / 4;
        let mut n_written = vec![0; outline.points.len()];
        let begun = self.begin.shown.clone();
        let mut joiner = Joiner::new(outline).behind(begun);
        let mut item = Some(StreamItem::Outline {
            outline: outline.clone(),
            is_complete: true,
        });
        while let Some(part) = branches.next().await {
            let event = match part {
                Ok(BranchItem::Token { branch, text, .. }) => {
                    n_written[branch] += 1;
                    if n_written[branch] == hurry_at {
                        joiner.hurry(branch);
                    }
                    BranchEvent::Text { branch, text }
                }
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
