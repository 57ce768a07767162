//! Several answers that begin alike, as they come side by side.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures::stream::{BoxStream, SelectAll, select_all};
use futures::{Stream, StreamExt};
use jupiter_actors::planner::PlannerMessage;
use jupiter_actors::request::{Completion, FinishReason, LengthLimit, StreamEvent};
use jupiter_actors::{Inbox, RequestId};
use jupiter_models::Token;
use tokio::sync::mpsc::UnboundedReceiver;

use super::activity::Busy;
use super::answer::{AnswerStream, Part};
use super::usage::together;
use crate::error::{Error, Result};
use crate::planner::tell_if_living;

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
    /// An answer is complete.
    End {
        /// Which one, from 0.
        branch: usize,
        /// What it took; what all share counts as cached.
        completion: Completion,
    },
    /// All are; nothing follows. What they took together.
    Done(Completion),
}

/// The parts of several answers. Ends after [`BranchItem::Done`] or an error. Dropping it stops all
/// of them.
pub struct BranchStream {
    // Dropped in this order: the answers' own words of it come too late to matter.
    request: Cancel,
    whole: UnboundedReceiver<StreamEvent>,
    ids: Vec<RequestId>,
    answers: SelectAll<BoxStream<'static, (usize, Result<Part>)>>,
    done: Vec<Completion>,
    begun: Instant,
    /// When the first token came.
    first: Option<Instant>,
    ended: bool,
    /// For those that count what is being written.
    _busy: Option<Busy>,
}

/// Cancels a request of branches unless it has ended.
struct Cancel {
    id: RequestId,
    inbox: Inbox,
    ended: bool,
}

impl BranchStream {
    pub(crate) fn new(
        id: RequestId,
        inbox: Inbox,
        whole: UnboundedReceiver<StreamEvent>,
        answers: Vec<AnswerStream>,
    ) -> Self {
        let ids = answers.iter().map(AnswerStream::id).collect();
        let numbered = answers.into_iter().enumerate();
        let answers = numbered.map(|(i, answer)| answer.map(move |part| (i, part)).boxed());
        Self {
            request: Cancel {
                id,
                inbox,
                ended: false,
            },
            whole,
            ids,
            answers: select_all(answers),
            done: Vec::new(),
            begun: Instant::now(),
            first: None,
            ended: false,
            _busy: None,
        }
    }

    /// The same, which counts as an answer until it is dropped.
    pub(crate) fn holding(self, busy: Busy) -> Self {
        Self {
            _busy: Some(busy),
            ..self
        }
    }

    /// Has enough of a branch's text: its end follows. A repeat is harmless.
    pub(crate) fn finish(&self, branch: usize) {
        if let Some(&id) = self.ids.get(branch) {
            tell_if_living(&self.request.inbox, PlannerMessage::Finish(id));
        }
    }

    fn first_ms(&self) -> f64 {
        let first = self.first.unwrap_or(self.begun);
        first.duration_since(self.begun).as_secs_f64() * 1e3
    }

    fn item(&mut self, branch: usize, part: Part) -> BranchItem {
        match part {
            Part::Text { id, text } => {
                self.first.get_or_insert_with(Instant::now);
                BranchItem::Token { branch, id, text }
            }
            Part::Done(completion) => {
                self.done.push(completion.clone());
                BranchItem::End { branch, completion }
            }
        }
    }
}

impl Stream for BranchStream {
    type Item = Result<BranchItem>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.ended {
            return Poll::Ready(None);
        }
        if let Some((branch, part)) = ready!(this.answers.poll_next_unpin(context)) {
            this.ended = part.is_err();
            return Poll::Ready(Some(part.map(|part| this.item(branch, part))));
        }
        let last = match ready!(this.whole.poll_recv(context)) {
            Some(StreamEvent::Done(shared)) => {
                let all = with_branches(shared, &this.done, this.first_ms());
                Ok(BranchItem::Done(all))
            }
            Some(StreamEvent::Failed(error)) => Err(error.into()),
            // What branches share has no tokens.
            Some(StreamEvent::Token(_) | StreamEvent::End(_)) | None => Err(Error::Stopped),
        };
        this.ended = true;
        this.request.ended = true;
        Poll::Ready(Some(last))
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        if !self.ended {
            tell_if_living(&self.inbox, PlannerMessage::Cancel(self.id));
        }
    }
}

/// What branches took beside what they share; a branch's beginning is counted there.
fn with_branches(shared: Completion, branches: &[Completion], first_ms: f64) -> Completion {
    // A full context is told before what was asked for.
    let cut = branches.iter().filter_map(|branch| branch.limit);
    let limit = cut.max_by_key(|&limit| limit == LengthLimit::Context);
    let whole_ms = shared.prompt_ms + shared.eval_ms;
    let all = branches.iter().fold(shared, |all, branch| {
        let own = Completion {
            n_prompt: branch.n_prompt - branch.n_cached,
            n_cached: 0,
            ..branch.clone()
        };
        together(all, &own)
    });
    Completion {
        reason: match limit {
            Some(_) => FinishReason::Length,
            None => FinishReason::Stop,
        },
        limit,
        prompt_ms: first_ms,
        eval_ms: (whole_ms - first_ms).max(0.0),
        ..all
    }
}
