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
use crate::request::{EventSink, FinishReason, GenerateRequest, RequestError, StreamEvent};

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
        let sequence = Sequence::new(request, sink, &self.config, now);
        let is_part = self.is_part(&sequence);
        if let Some(error) = self.refuse_to_wait(&sequence, is_part) {
            return tell(&sequence.sink, &error);
        }
        self.queue.push(sequence, is_part);
        self.pump(now);
    }

    /// Whether it goes on with an answer that has begun.
    fn is_part(&self, request: &Sequence) -> bool {
        let answer = request.answer;
        answer != request.id && (self.is_under_way(answer) || self.kv.has_left(answer))
    }

    /// Why nothing can be asked now.
    fn refuse(&self) -> Option<RequestError> {
        match &self.cluster.state {
            State::Failed { why } => Some(RequestError::CannotLoad { why: why.clone() }),
            _ => None,
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

    /// Ends a live sequence, if there is one; what is under way is cancelled.
    pub(super) fn retire(&mut self, id: RequestId) {
        self.end(id);
    }

    fn end(&mut self, id: RequestId) -> Option<Live> {
        let live = self.live.get(&id)?;
        // Other parts of its answer may go on from it.
        let is_part = live.sequence.answer != id;
        let is_kept = live.sequence.cache_prompt || is_part;
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
        self.lengths.ended();
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

    /// Ends a live sequence with an error.
    pub(super) fn fail(&mut self, id: RequestId, error: &RequestError) {
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
