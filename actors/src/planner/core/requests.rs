//! Requests: which are taken, and how they end.

use std::time::Instant;

use jupiter_models::Token;

use super::super::cluster::State;
use super::super::live::Live;
use super::super::sequence::Sequence;
use super::super::stats::completion;
use super::PlannerCore;
use super::preemption::Leaves;
use crate::RequestId;
use crate::request::{
    EventSink, FinishReason, ForkRequest, GenerateRequest, RequestError, StreamEvent,
};

impl PlannerCore {
    pub(in crate::planner) fn generate(
        &mut self,
        request: GenerateRequest,
        sink: EventSink,
        now: Instant,
    ) {
        let refused = self.refuse().or_else(|| self.refuse_prompt(&request));
        if let Some(error) = refused {
            return tell(&sink, &error);
        }
        let sequence = Sequence::whole(request, sink, &self.config, now);
        if let Some(error) = self.refuse_to_wait(&sequence) {
            return tell(&sequence.sink, &error);
        }
        self.enqueue(sequence, Vec::new());
        self.pump(now);
    }

    pub(in crate::planner) fn fork(&mut self, request: ForkRequest, sink: EventSink, now: Instant) {
        let branches = request.branches.iter();
        let refused = self
            .refuse()
            .or_else(|| self.refuse_branches(&request))
            .or_else(|| request.validate().err())
            .or_else(|| {
                branches
                    .clone()
                    .find_map(|b| self.refuse_prompt(&b.request))
            });
        if let Some(error) = refused {
            branches.for_each(|branch| tell(&branch.sink, &error));
            return tell(&sink, &error);
        }
        let (base, branches) = Sequence::forked(request, sink, &self.config, now);
        if let Some(error) = self.refuse_to_wait(&base) {
            branches
                .iter()
                .for_each(|branch| tell(&branch.sink, &error));
            return tell(&base.sink, &error);
        }
        self.enqueue(base, branches);
        self.pump(now);
    }

    fn enqueue(&mut self, request: Sequence, branches: Vec<Sequence>) {
        let is_first = request.follows.is_some_and(|of| self.kv.has_left(of));
        self.queue.push(request, branches, is_first);
    }

    /// Why nothing can be asked now.
    fn refuse(&self) -> Option<RequestError> {
        match &self.cluster.state {
            State::Failed { why } => Some(RequestError::CannotLoad { why: why.clone() }),
            _ => None,
        }
    }

    fn refuse_branches(&self, request: &ForkRequest) -> Option<RequestError> {
        let mut ids: Vec<RequestId> = request.branches.iter().map(|b| b.request.id).collect();
        ids.push(request.id);
        ids.sort_unstable();
        if self.kv.n_branches() == 0 {
            Some(RequestError::NoBranchSlots)
        } else if self.is_known(request.id) || ids.windows(2).any(|pair| pair[0] == pair[1]) {
            Some(RequestError::IdTaken { id: request.id })
        } else {
            None
        }
    }

    fn refuse_prompt(&self, request: &GenerateRequest) -> Option<RequestError> {
        let n_prompt = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
        let n_ctx = self.config.engine.n_ctx;
        if n_prompt == 0 {
            Some(RequestError::EmptyPrompt)
        } else if n_prompt >= n_ctx {
            Some(RequestError::PromptTooLong { n_prompt, n_ctx })
        } else if request.n_predict == Some(0) {
            Some(RequestError::NothingToGenerate)
        } else if self.is_known(request.id) {
            Some(RequestError::IdTaken { id: request.id })
        } else {
            None
        }
    }

    fn is_known(&self, id: RequestId) -> bool {
        self.live.contains_key(&id) || self.queue.has(id)
    }

    pub(in crate::planner) fn cancel(&mut self, request: RequestId, now: Instant) {
        self.queue.remove(request);
        self.retire(request);
        self.kv.forget(request);
        self.pump(now);
    }

    /// Ends an answer that its client holds for complete, at a stop string say.
    pub(in crate::planner) fn finish(&mut self, request: RequestId, now: Instant) {
        if self.queue.get(request).is_some_and(Sequence::has_answer) {
            self.complete_waiting(request, now);
        }
        self.complete(request, FinishReason::Stop, None, now);
        self.pump(now);
    }

    /// Completes what branches shared, when the last of them has ended.
    pub(super) fn settle_bases(&mut self, now: Instant) {
        let live = &self.live;
        self.queue.tidy(|id| live.contains_key(&id));
        let is_over = |live: &&Live| {
            let id = live.sequence.id;
            let waits = self.queue.first_branch(id).is_some();
            live.sequence.is_base() && !waits && self.branches_of(id).next().is_none()
        };
        let over = self.live.values().filter(is_over);
        let over: Vec<RequestId> = over.map(|live| live.sequence.id).collect();
        for id in over {
            self.complete(id, FinishReason::Stop, None, now);
        }
    }

    /// Live branches of a request.
    pub(super) fn branches_of(&self, of: RequestId) -> impl Iterator<Item = RequestId> {
        let is_its = move |live: &&Live| live.sequence.branch_of() == Some(of);
        let branches = self.live.values().filter(is_its);
        branches.map(|live| live.sequence.id)
    }

    /// Ends a live sequence, if there is one, and with it its branches; what is under way is cancelled.
    pub(super) fn retire(&mut self, id: RequestId) {
        self.end(id);
    }

    fn end(&mut self, id: RequestId) -> Option<Live> {
        let live = self.live.get(&id)?;
        let is_kept = live.sequence.cache_prompt || live.sequence.holds;
        if live.sequence.is_base() {
            self.queue.take_branches(id);
            for branch in self.branches_of(id).collect::<Vec<_>>() {
                self.end(branch);
            }
            // What its preempted branches left is of use to nobody.
            self.kv.forget(id);
        }
        self.take_out(id, Leaves::Ended { is_kept })
    }

    /// Ends a live sequence whose answer is complete; `end` is the token with which the model ended it.
    pub(super) fn complete(
        &mut self,
        id: RequestId,
        reason: FinishReason,
        end: Option<Token>,
        now: Instant,
    ) {
        let Some(live) = self.end(id) else {
            return;
        };
        let done = completion(
            &live.sequence,
            &live.drafting,
            reason,
            &self.cluster.stages,
            now,
        );
        if !live.sequence.is_base() {
            self.lengths.ended();
        }
        let end = end.map(StreamEvent::End);
        let news = end.into_iter().chain([StreamEvent::Done(done)]);
        let sink = live.sequence.sink;
        self.news.extend(news.map(|event| (sink.clone(), event)));
    }

    /// Its client has enough of an answer that was preempted.
    fn complete_waiting(&mut self, id: RequestId, now: Instant) {
        let waiting = self.queue.get(id);
        let Some((sequence, drafting)) = waiting.and_then(|s| Some((s, s.drafting.as_ref()?)))
        else {
            return;
        };
        let reason = FinishReason::Stop;
        let done = completion(sequence, drafting, reason, &self.cluster.stages, now);
        self.news
            .push((sequence.sink.clone(), StreamEvent::Done(done)));
        self.queue.remove(id);
    }

    /// Ends a live sequence with an error, and with it the branches that began with it.
    pub(super) fn fail(&mut self, id: RequestId, error: &RequestError) {
        let is_base = |live: &Live| live.sequence.is_base();
        if self.live.get(&id).is_some_and(is_base) {
            for branch in self.branches_of(id).collect::<Vec<_>>() {
                self.fail(branch, error);
            }
            for branch in self.queue.take_branches(id) {
                let failed = StreamEvent::Failed(error.clone());
                self.news.push((branch.sink, failed));
            }
        }
        if let Some(live) = self.end(id) {
            let failed = StreamEvent::Failed(error.clone());
            self.news.push((live.sequence.sink, failed));
        }
    }

    pub(super) fn fail_live(&mut self, why: &RequestError) {
        while let Some(&id) = self.live.keys().next() {
            self.fail(id, why);
        }
    }

    pub(super) fn fail_waiting(&mut self, why: &RequestError, which: impl Fn(&Sequence) -> bool) {
        for waiting in self.queue.take(which) {
            tell(&waiting.sink, why);
        }
    }
}

/// A client that is gone needs no word of it.
fn tell(sink: &EventSink, error: &RequestError) {
    let _ = sink.send(StreamEvent::Failed(error.clone()));
}
