//! Several answers that begin alike, as they come side by side.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::{BoxStream, SelectAll, select_all};
use futures::{Stream, StreamExt};
use jupiter_actors::planner::PlannerMessage;
use jupiter_actors::request::{
    Completion, FinishReason, SpeculationUsage, StageUsage, StreamEvent,
};
use jupiter_actors::{Inbox, RequestId};
use jupiter_models::Token;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::error::{Error, Result};
use crate::stream::{AnswerStream, Part};

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
    answers: SelectAll<BoxStream<'static, (usize, Result<Part>)>>,
    done: Vec<Completion>,
    ended: bool,
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
        let numbered = answers.into_iter().enumerate();
        let answers = numbered.map(|(i, answer)| answer.map(move |part| (i, part)).boxed());
        Self {
            request: Cancel {
                id,
                inbox,
                ended: false,
            },
            whole,
            answers: select_all(answers),
            done: Vec::new(),
            ended: false,
        }
    }

    fn item(&mut self, branch: usize, part: Part) -> BranchItem {
        match part {
            Part::Text { id, text } => BranchItem::Token { branch, id, text },
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
            Some(StreamEvent::Done(shared)) => Ok(BranchItem::Done(together(shared, &this.done))),
            Some(StreamEvent::Failed(error)) => Err(error.into()),
            // What branches share has no tokens.
            Some(StreamEvent::Token(_)) | None => Err(Error::Stopped),
        };
        this.ended = true;
        this.request.ended = true;
        Poll::Ready(Some(last))
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        // A Planner that is gone has nothing to stop.
        if let Some(planner) = self.inbox.planner().filter(|_| !self.ended) {
            let _ = planner.cast(PlannerMessage::Cancel(self.id));
        }
    }
}

/// What branches took together with what they share.
fn together(shared: Completion, branches: &[Completion]) -> Completion {
    let first = branches.iter().map(|branch| branch.prompt_ms);
    let prompt_ms = first.fold(shared.prompt_ms, f64::min);
    let cut = branches
        .iter()
        .any(|branch| branch.reason == FinishReason::Length);
    let own = |branch: &Completion| branch.n_prompt - branch.n_cached;
    let mut all = Completion {
        reason: if cut {
            FinishReason::Length
        } else {
            FinishReason::Stop
        },
        n_prompt: shared.n_prompt + branches.iter().map(own).sum::<u32>(),
        prompt_ms,
        eval_ms: shared.prompt_ms + shared.eval_ms - prompt_ms,
        speculation: None,
        ..shared
    };
    for branch in branches {
        all.n_eval += branch.n_eval;
        add_stages(&mut all.stages, &branch.stages);
        add_guesses(&mut all.speculation, branch.speculation.as_ref());
    }
    all
}

/// What one answer took after another.
pub(crate) fn after(first: Completion, then: Completion) -> Completion {
    let mut all = Completion {
        reason: then.reason,
        n_prompt: first.n_prompt + then.n_prompt,
        n_cached: first.n_cached + then.n_cached,
        n_eval: first.n_eval + then.n_eval,
        eval_ms: first.eval_ms + then.prompt_ms + then.eval_ms,
        n_replays: first.n_replays + then.n_replays,
        outline: then.outline,
        ..first
    };
    add_stages(&mut all.stages, &then.stages);
    add_guesses(&mut all.speculation, then.speculation.as_ref());
    all
}

fn add_stages(all: &mut Vec<StageUsage>, more: &[StageUsage]) {
    for (i, stage) in more.iter().enumerate() {
        match all.get_mut(i) {
            Some(sum) => {
                sum.prompt_busy_ms += stage.prompt_busy_ms;
                sum.eval_busy_ms += stage.eval_busy_ms;
            }
            None => all.push(stage.clone()),
        }
    }
}

/// The source of the one with most guesses stands for all, and its prediction.
fn add_guesses(all: &mut Option<SpeculationUsage>, more: Option<&SpeculationUsage>) {
    let (Some(sum), Some(more)) = (all.as_mut(), more) else {
        *all = all.take().or_else(|| more.cloned());
        return;
    };
    let most = if more.n_drafted > sum.n_drafted {
        more
    } else {
        &*sum
    };
    *sum = SpeculationUsage {
        source: most.source,
        predicted_ratio: most.predicted_ratio,
        n_steps: sum.n_steps + more.n_steps,
        n_tokens: sum.n_tokens + more.n_tokens,
        n_drafted: sum.n_drafted + more.n_drafted,
        n_accepted: sum.n_accepted + more.n_accepted,
        n_wasted: sum.n_wasted + more.n_wasted,
    };
}
