//! Several answers that are written side by side, as they come.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::stream::{BoxStream, SelectAll};
use futures::{Stream, StreamExt};
use jupiter_actors::RequestId;
use jupiter_actors::request::Completion;
use jupiter_models::Token;
use jupiter_models::draw::splitmix;

use super::activity::Busy;
use super::answer::AnswerPiece;
use super::planner_client::{PlannerClient, Whole};
use super::prompt::{GenerateOptions, Prompt};
use super::usage::beside;
use crate::error::{Error, Result};

/// A part of one of several answers.
#[derive(Clone, Debug, PartialEq)]
pub enum BranchItem {
    /// An answer goes on.
    Token {
        /// Which one, from 0, in the order of the prompts.
        branch: usize,
        /// The token; none for text that was held back until the end.
        id: Option<Token>,
        /// Its text.
        text: String,
    },
    /// What the model thinks before an answer; no part of it.
    Thought {
        /// Before which one, from 0.
        branch: usize,
        /// The token; none for text that was held back.
        id: Option<Token>,
        /// Its text.
        text: String,
    },
    /// An answer is complete.
    End {
        /// Which one, from 0.
        branch: usize,
        /// What it took; what others computed of its prompt counts as cached.
        completion: Completion,
    },
    /// All are; nothing follows. What they took together.
    Done(Completion),
}

/// The parts of several answers. Ends after [`BranchItem::Done`] or an error. Dropping it stops all
/// of them.
pub struct BranchStream {
    branches: Branches,
    begun: Instant,
    /// When the first token came.
    first: Option<Instant>,
    ended: bool,
    _whole: Whole,
    /// For those that count what is being written.
    _busy: Busy,
}

/// Requests that are parts of one answer. Dropping it stops all of them.
pub(crate) struct Branches {
    planner: PlannerClient,
    answer: RequestId,
    ids: Vec<RequestId>,
    running: SelectAll<BoxStream<'static, (usize, Result<AnswerPiece>)>>,
    taken: Option<Completion>,
}

impl Branches {
    /// None yet, of this answer.
    pub(crate) fn new(planner: PlannerClient, answer: RequestId) -> Self {
        Self {
            planner,
            answer,
            ids: Vec::new(),
            running: SelectAll::new(),
            taken: None,
        }
    }

    /// Asks for one more, whose number is the next one. The seed of `options` is fixed: each draws
    /// numbers of its own.
    ///
    /// # Errors
    /// As [`PlannerClient::answer`].
    pub(crate) async fn begin(
        &mut self,
        prompt: Prompt,
        mut options: GenerateOptions,
    ) -> Result<()> {
        let branch = self.ids.len();
        let seed = u64::from(options.sampling.seed);
        options.sampling.seed = (splitmix(seed ^ (branch as u64 + 1) << 32) >> 32) as u32;
        let of = Some(self.answer);
        let answer = self.planner.answer(prompt, options, of).await?;
        self.ids.push(answer.id());
        let numbered = answer.map(move |part| (branch, part));
        self.running.push(numbered.boxed());
        Ok(())
    }

    /// Has enough of a branch's text: its end follows. A repeat is harmless.
    pub(crate) fn finish(&self, branch: usize) {
        if let Some(&id) = self.ids.get(branch) {
            self.planner.finish(id);
        }
    }

    /// What those that are complete took together.
    pub(crate) fn taken(&self) -> Option<&Completion> {
        self.taken.as_ref()
    }
}

/// The next part of any of them, with its number; none while none runs.
impl Stream for Branches {
    type Item = (usize, Result<AnswerPiece>);

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = ready!(this.running.poll_next_unpin(context));
        if let Some((_, Ok(AnswerPiece::Done(done)))) = &next {
            this.taken = Some(match this.taken.take() {
                Some(taken) => beside(taken, done),
                None => done.clone(),
            });
        }
        Poll::Ready(next)
    }
}

impl BranchStream {
    pub(crate) fn new(branches: Branches, whole: Whole, busy: Busy) -> Self {
        Self {
            branches,
            begun: Instant::now(),
            first: None,
            ended: false,
            _whole: whole,
            _busy: busy,
        }
    }

    fn item(&mut self, branch: usize, part: AnswerPiece) -> BranchItem {
        match part {
            AnswerPiece::Text { id, text } => {
                self.first.get_or_insert_with(Instant::now);
                BranchItem::Token { branch, id, text }
            }
            AnswerPiece::Thought { id, text } => {
                self.first.get_or_insert_with(Instant::now);
                BranchItem::Thought { branch, id, text }
            }
            AnswerPiece::Done(completion) => BranchItem::End { branch, completion },
        }
    }

    fn done(&self) -> Result<BranchItem> {
        let taken = self.branches.taken().ok_or(Error::Stopped)?;
        let first = self.first.unwrap_or(self.begun);
        Ok(BranchItem::Done(Completion {
            prompt_ms: first.duration_since(self.begun).as_secs_f64() * 1e3,
            eval_ms: first.elapsed().as_secs_f64() * 1e3,
            ..taken.clone()
        }))
    }
}

impl Stream for BranchStream {
    type Item = Result<BranchItem>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        let item = match ready!(this.branches.poll_next_unpin(context)) {
            Some((branch, part)) => {
                this.ended = part.is_err();
                part.map(|part| this.item(branch, part))
            }
            None => {
                this.ended = true;
                this.done()
            }
        };
        Poll::Ready(Some(item))
    }
}
