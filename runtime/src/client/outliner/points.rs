//! The outline, and its points side by side: each begins as soon as its title is written and it is certain
//! that the answer has points, or with templates when the outline is whole.

use futures::StreamExt;
use jupiter_actors::request::{Completion, Deadline, DeadlineKind, FinishReason, LengthLimit};

use super::{Items, Outliner, send};
use crate::client::answer::{AnswerPiece, AnswerStream};
use crate::client::branches::Branches;
use crate::client::prompt::{GenerateOptions, Prompt};
use crate::client::stream::StreamItem;
use crate::error::{Error, ErrorKind, Result};
use crate::outline::{
    Asked, BranchEnd, BranchEvent, Joiner, NotAnOutline, Outline, OutlineLimits, OutlineReader,
    Progress,
};

/// Most tokens of a line of an outline: a number and eight words of three tokens, as rare words have.
const LINE_TOKENS: u32 = 28;
/// Tokens that a line of an outline has by experience, twice: what has to be left for it.
const USUAL_LINE_TOKENS: u32 = 12;
/// Fewest tokens of a point that are worth it: a sentence or two.
const FEWEST_POINT_TOKENS: u32 = 32;

/// An outline that is being written, and its points as far as they have begun.
struct Writing {
    asked: Asked,
    limits: OutlineLimits,
    /// Most tokens of the outline; those that it has once it is complete.
    n_outline: u32,
    reader: OutlineReader,
    outline: Outline,
    is_complete: bool,
    /// Whether that was told: only with the first word of a point is it certain to be of use.
    is_told: bool,
    branches: Branches,
    joiner: Joiner,
    /// The points that have begun.
    points: Vec<Begun>,
    /// Most tokens of each, and what is used up then.
    budget: (u32, LengthLimit),
}

/// A point that has begun.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    n_tokens: u32,
    /// Whether its budget is used up, though it may have got more to begin with.
    is_cut: bool,
}

/// Points for which so many tokens are enough, with their outline.
pub(super) fn most_points(n_predict: u32, point_tokens: u32) -> usize {
    let fewest = FEWEST_POINT_TOKENS.min(point_tokens) + USUAL_LINE_TOKENS;
    (n_predict / fewest) as usize
}

impl Outliner {
    /// The answer point by point; none when the model writes no outline, and the plan says why.
    pub(super) async fn write_points(&mut self, items: &Items) -> Result<Option<Completion>> {
        let Some((outline, mut writing)) = self.begin_outline().await? else {
            return Ok(None);
        };
        let written = self.follow(outline, &mut writing, items).await;
        // What was written of later points is no less right.
        if written.is_err() && self.has_shown {
            let text = writing.joiner.finish();
            send(items, StreamItem::Token { id: None, text });
        }
        if let Some(why) = written? {
            self.plan.give_up(&why.to_string());
            return Ok(None);
        }
        let done = writing.branches.taken().ok_or(Error::Stopped)?.clone();
        self.n_points = writing.outline.points.len();
        let is_cut = writing.points.iter().any(|point| point.is_cut);
        let limit = match done.limit {
            Some(LengthLimit::Context) => done.limit,
            limit => (limit.is_some() || is_cut).then_some(writing.budget.1),
        };
        Ok(Some(Completion {
            n_eval: writing.n_outline + done.n_eval,
            reason: match limit {
                Some(_) => FinishReason::Length,
                None => done.reason,
            },
            limit,
            ..done
        }))
    }

    /// Asks for the outline; none where it cannot be asked for.
    async fn begin_outline(&mut self) -> Result<Option<(AnswerStream, Writing)>> {
        let setup = self.setup.clone();
        let mut limits = setup.config.limits;
        let mut n_outline = LINE_TOKENS * limits.max_points as u32;
        if let Some(n) = self.options.n_predict {
            let most = most_points(n, setup.config.point_tokens);
            limits.max_points = limits.max_points.min(most);
            n_outline = n_outline.min(USUAL_LINE_TOKENS * limits.max_points as u32);
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
        options.n_predict = Some(n_outline);
        options.sampling.grammar = Some(setup.prompts.grammar(&asked, limits));
        let answer = self.ask(Prompt::Tokens(prompt), options).await?;
        let writing = Writing {
            reader: OutlineReader::new(limits, &asked.begun),
            asked,
            limits,
            n_outline,
            outline: Outline::default(),
            is_complete: false,
            is_told: false,
            branches: Branches::new(self.planner.clone(), self.whole.id()),
            joiner: Joiner::default(),
            points: Vec::new(),
            budget: (0, LengthLimit::PointTokens),
        };
        Ok(Some((answer, writing)))
    }

    /// Reads the outline and all points as they are written, to the end of all; or why there is no outline.
    async fn follow(
        &mut self,
        mut outline: AnswerStream,
        writing: &mut Writing,
        items: &Items,
    ) -> Result<Option<NotAnOutline>> {
        loop {
            tokio::select! {
                Some(part) = outline.next() => {
                    match part? {
                        AnswerPiece::Text { text, .. } => {
                            self.first_token();
                            if writing.reader.push(&text) == Progress::Closed {
                                outline.finish();
                            }
                            self.show(writing, items);
                        }
                        // What was begun for it is an outline already.
                        AnswerPiece::Thought { .. } => {}
                        AnswerPiece::Done(done) => {
                            let ended = writing.end_outline(&done);
                            self.count(done);
                            if let Err(why) = ended {
                                return Ok(Some(why));
                            }
                            if self.has_shown {
                                writing.tell_end(items);
                            }
                        }
                    }
                    self.begin_points(writing).await?;
                }
                Some((branch, part)) = writing.branches.next() => {
                    let event = match part {
                        // It does not fit any more: what is written of others stands.
                        Err(error) if self.has_shown && error.kind() == ErrorKind::Invalid => {
                            writing.refused(branch)
                        }
                        part => match writing.event(branch, part?) {
                            Some(event) => event,
                            None => continue,
                        },
                    };
                    self.has_shown = true;
                    writing.tell_end(items);
                    if let Some(over) = write_event(&mut writing.joiner, event, items) {
                        writing.branches.finish(over);
                    }
                }
                else => return Ok(None),
            }
        }
    }

    /// Asks for the points that may begin by now: it is certain that the answer has any, and they are not
    /// asked for behind titles that are to come.
    async fn begin_points(&mut self, writing: &mut Writing) -> Result<()> {
        let n_points = writing.outline.points.len();
        let is_certain = n_points >= writing.limits.min_points.max(1);
        let may_begin = is_certain && !self.setup.prompts.need_all_points();
        if !may_begin && !writing.is_complete {
            return Ok(());
        }
        writing.budget = self.budget(writing);
        if writing.points.is_empty() {
            writing.joiner = Joiner::default().behind(self.begin.shown.clone());
        }
        writing.joiner.extend(&writing.outline.points);
        for index in writing.points.len()..n_points {
            let prompts = &self.setup.prompts;
            let asked = prompts.ask_point(&writing.asked, &writing.outline, index);
            let prompt = self.planner.tokenize_begun(&asked).await?;
            let prompt = Prompt::Tokens(prompt.unwrap_or_default());
            let options = self.point_options(writing, index)?;
            writing.branches.begin(prompt, options).await?;
            writing.points.push(Begun::default());
        }
        Ok(())
    }

    fn point_options(&self, writing: &Writing, index: usize) -> Result<GenerateOptions> {
        let n_predict = match writing.is_complete {
            true => writing.budget.0,
            // With fewer points than there may be it becomes more.
            false => self.setup.config.point_tokens,
        };
        let mut options = self.in_time(GenerateOptions {
            n_predict: Some(n_predict),
            ..self.options.clone()
        })?;
        // The first word is that of the first one.
        let is_its = |d: &Deadline| index == 0 || d.kind == DeadlineKind::Answer;
        options.deadline = options.deadline.filter(is_its);
        Ok(options)
    }

    /// Most tokens of a point, and what is used up then; while the outline is written, as if it had as many
    /// points as it may have.
    fn budget(&self, writing: &Writing) -> (u32, LengthLimit) {
        let n_points = match writing.is_complete {
            true => writing.outline.points.len(),
            false => writing.limits.max_points,
        };
        let most = self.setup.config.point_tokens;
        let share = |n: u32| n.saturating_sub(writing.n_outline) / n_points.max(1) as u32;
        match self.options.n_predict.map(share) {
            Some(share) if share < most => (share, LengthLimit::NPredict),
            _ => (most, LengthLimit::PointTokens),
        }
    }

    /// Whether the answer is certain to have points, or would be as good with a number before it.
    fn may_begin(&self, n_points: usize, writing: &Writing) -> bool {
        !self.plan.is_asked_for || n_points >= writing.limits.min_points
    }

    /// Shows the outline as far as it has come, and the beginning of the answer's text.
    fn show(&mut self, writing: &mut Writing, items: &Items) {
        let n_points = writing.reader.points().len();
        let begin = self.setup.prompts.begin(writing.reader.points().first());
        let begin = begin.filter(|_| self.may_begin(n_points, writing));
        // An answer that may begin at once does so before its first title.
        let is_first = begin.is_some() && self.begin.shown.is_empty();
        if n_points == writing.outline.points.len() && !is_first {
            return;
        }
        writing.outline.points = writing.reader.points().to_vec();
        writing.tell(items);
        if let Some(begin) = begin
            && let Some(more) = begin.shown.strip_prefix(&*self.begin.shown)
            && !more.is_empty()
        {
            let text = more.to_owned();
            send(items, StreamItem::Token { id: None, text });
            self.begin = begin;
        }
    }
}

impl Writing {
    /// The outline is written, or none is there.
    fn end_outline(&mut self, done: &Completion) -> Result<(), NotAnOutline> {
        let is_cut = done.reason == FinishReason::Length;
        self.outline = self.reader.clone().finish(is_cut)?;
        (self.n_outline, self.is_complete) = (done.n_eval, true);
        Ok(())
    }

    /// Tells that the outline is complete, once.
    fn tell_end(&mut self, items: &Items) {
        if self.is_complete && !std::mem::replace(&mut self.is_told, true) {
            self.tell(items);
        }
    }

    fn tell(&self, items: &Items) {
        let (outline, is_complete) = (self.outline.clone(), self.is_complete);
        let item = StreamItem::Outline {
            outline,
            is_complete,
        };
        send(items, item);
    }

    fn refused(&mut self, branch: usize) -> BranchEvent {
        if let Some(point) = self.points.get_mut(branch) {
            point.is_cut = true;
        }
        let end = BranchEnd::Cut;
        BranchEvent::End { branch, end }
    }

    /// What a point goes on with. With the end of a sentence it is over before its budget is used up.
    fn event(&mut self, branch: usize, part: AnswerPiece) -> Option<BranchEvent> {
        let (n_most, _) = self.budget;
        let point = self.points.get_mut(branch)?;
        match part {
            AnswerPiece::Thought { .. } => None,
            AnswerPiece::Text { .. } if point.is_cut => None,
            AnswerPiece::Text { id, text } => {
                point.n_tokens += u32::from(id.is_some());
                point.is_cut = point.n_tokens > n_most;
                if point.is_cut {
                    self.branches.finish(branch);
                    return None;
                }
                if point.n_tokens >= n_most - n_most / 4 {
                    self.joiner.hurry(branch);
                }
                Some(BranchEvent::Text { branch, text })
            }
            AnswerPiece::Done(done) => Some(BranchEvent::End {
                branch,
                end: match done.reason {
                    FinishReason::Stop if !point.is_cut => BranchEnd::Stop,
                    _ => BranchEnd::Cut,
                },
            }),
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
