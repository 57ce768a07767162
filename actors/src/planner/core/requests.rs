//! Requests: which are taken, and how they end.

use std::collections::VecDeque;
use std::time::Instant;

use jupiter_models::KvOp;

use super::super::expansion::Expansion;
use super::super::sequence::{Asked, Role, Sequence, Waiting};
use super::held::{HOLD, Held};
use super::{Phase, PlannerCore};
use crate::RequestId;
use crate::request::{
    Branch, EventSink, ExpandRequest, FinishReason, GenerateRequest, RequestError, StreamEvent,
};

/// Most requests that wait: a robot that asks faster than it is answered learns it early.
const MAX_WAITING: usize = 256;

impl PlannerCore {
    pub(in crate::planner) fn generate(
        &mut self,
        request: GenerateRequest,
        sink: EventSink,
        now: Instant,
    ) {
        let refused = self.refuse().or_else(|| self.refuse_prompt(&request));
        self.enqueue(Asked::Answer(request, sink), refused, now);
    }

    pub(in crate::planner) fn expand(
        &mut self,
        request: ExpandRequest,
        sink: EventSink,
        now: Instant,
    ) {
        let branches = request.branches.iter();
        let refused = self
            .refuse()
            .or_else(|| self.refuse_branches())
            .or_else(|| request.validate().err())
            .or_else(|| {
                branches
                    .into_iter()
                    .find_map(|b| self.refuse_prompt(&b.request))
            });
        self.enqueue(Asked::Branches(request, sink), refused, now);
    }

    fn enqueue(&mut self, asked: Asked, refused: Option<RequestError>, now: Instant) {
        let waiting = Waiting { asked, since: now };
        match refused {
            Some(error) => waiting.fail(&error),
            None if self.is_held(waiting.follows()) => self.waiting.push_front(waiting),
            None => self.waiting.push_back(waiting),
        }
        self.pump(now);
    }

    /// Why nothing can be asked now.
    fn refuse(&self) -> Option<RequestError> {
        match &self.phase {
            Phase::Failed { why } => Some(RequestError::Cluster(why.clone())),
            _ if self.waiting.len() >= MAX_WAITING => Some(RequestError::Busy {
                waiting: self.waiting.len(),
            }),
            _ => None,
        }
    }

    fn refuse_branches(&self) -> Option<RequestError> {
        self.config.branch_slots().is_empty().then(|| {
            let how = "no branches can run here: lower -np/--parallel, or leave out outlines";
            RequestError::Invalid(how.to_owned())
        })
    }

    fn refuse_prompt(&self, request: &GenerateRequest) -> Option<RequestError> {
        let n_prompt = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
        let n_ctx = self.config.engine.n_ctx;
        if n_prompt == 0 {
            Some(RequestError::EmptyPrompt)
        } else if n_prompt >= n_ctx {
            Some(RequestError::PromptTooLong { n_prompt, n_ctx })
        } else if request.n_predict == Some(0) {
            Some(RequestError::Invalid(
                "n_predict is 0: ask for at least one token".into(),
            ))
        } else {
            None
        }
    }

    pub(in crate::planner) fn cancel(&mut self, request: RequestId, now: Instant) {
        self.waiting.retain(|waiting| waiting.id() != request);
        for expansion in &mut self.expansions {
            let is_kept = |branch: &Branch| branch.request.id != request;
            expansion.waiting.retain(is_kept);
        }
        if let Some(at) = self.live.iter().position(|s| s.request == request) {
            self.retire(at);
        }
        self.release(|held| held.request == request);
        self.pump(now);
    }

    /// Ends an answer that its client holds for complete, at a stop string say.
    pub(in crate::planner) fn finish(&mut self, request: RequestId, now: Instant) {
        if let Some(at) = self.live.iter().position(|s| s.request == request) {
            self.complete(at, FinishReason::Stop, now);
        }
        self.pump(now);
    }

    /// Ends expansions without branches, and branches whose expansion was given up.
    pub(super) fn settle_expansions(&mut self, now: Instant) {
        let mut settled = Vec::new();
        for expansion in &self.expansions {
            let base = self.live.iter().any(|s| s.request == expansion.id);
            let is_over = expansion.waiting.is_empty() && self.branches_of(expansion.id).is_empty();
            if !base || is_over {
                settled.push(expansion.id);
            }
        }
        for id in settled {
            self.expansions.retain(|expansion| expansion.id != id);
            while let Some(at) = self.branches_of(id).first().copied() {
                self.retire(at);
            }
            if let Some(at) = self.live.iter().position(|s| s.request == id) {
                self.complete(at, FinishReason::Stop, now);
            }
        }
    }

    /// Ends a live sequence; its slot is free for the next step, and what is under way of it is
    /// cancelled.
    pub(super) fn retire(&mut self, at: usize) -> Sequence {
        self.end(at, None)
    }

    /// The same; with a time, its cells are held so long for a request that follows it.
    fn end(&mut self, at: usize, until: Option<Instant>) -> Sequence {
        let sequence = &mut self.live[at];
        let seq = sequence.seq;
        // What is under way may be left out by some stages.
        let n_certain = sequence.tokens.len() - usize::from(sequence.steps.n_live() > 0);
        let n_computed = sequence.n_sent.min(n_certain);
        let is_untidy = sequence.steps.is_untidy();
        let has_steps = sequence.steps.n_steps() > 0;
        let spare = sequence.steps.abandon();
        self.kv_ops
            .extend(spare.iter().map(|&seq| KvOp::Drop { seq }));
        self.spare.extend(spare);
        if let Some(generation) = self.generations.get_mut(seq.0 as usize) {
            *generation = sequence.steps.generation();
        }
        if has_steps && matches!(self.phase, Phase::Running) {
            self.cancel_rows(at);
        }
        let sequence = self.live.remove(at);
        let is_kept = sequence.cache_prompt || until.is_some();
        if is_kept && sequence.has_cells() && matches!(self.phase, Phase::Running) {
            if is_untidy {
                let pos = n_computed as u32;
                self.kv_ops.push(KvOp::Truncate { seq, pos });
            }
            let tokens = sequence.tokens[..n_computed].to_vec();
            match until {
                Some(until) => self.held.push(Held {
                    request: sequence.request,
                    seq,
                    tokens,
                    until,
                    cache_prompt: sequence.cache_prompt,
                }),
                None => self.cache.put(seq, tokens),
            }
            return sequence;
        }
        self.kv_ops.push(KvOp::Drop { seq });
        match sequence.role {
            Role::Branch { .. } => self.branch_slots.push(seq),
            Role::Whole | Role::Shared => self.free.push(seq),
        }
        sequence
    }

    /// Ends a live sequence whose answer is complete.
    pub(super) fn complete(&mut self, at: usize, reason: FinishReason, now: Instant) {
        let until = self.live[at].holds.then(|| now + HOLD);
        let sequence = self.end(at, until);
        let done = self.completion(&sequence, reason, now);
        self.news.push((sequence.sink, StreamEvent::Done(done)));
    }

    /// Ends a live sequence with an error, and with it the branches that began with it.
    pub(super) fn fail(&mut self, at: usize, error: &RequestError) {
        let sequence = self.retire(at);
        let failed = StreamEvent::Failed(error.clone());
        self.news.push((sequence.sink, failed));
        if sequence.role != Role::Shared {
            return;
        }
        while let Some(at) = self.branches_of(sequence.request).first().copied() {
            self.fail(at, error);
        }
        let is_its = |expansion: &Expansion| expansion.id == sequence.request;
        if let Some(at) = self.expansions.iter().position(is_its) {
            for branch in self.expansions.remove(at).waiting {
                let failed = StreamEvent::Failed(error.clone());
                self.news.push((branch.sink, failed));
            }
        }
    }

    pub(super) fn fail_live(&mut self, why: &str) {
        while !self.live.is_empty() {
            self.fail(0, &RequestError::Cluster(why.to_owned()));
        }
    }

    pub(super) fn fail_waiting(&mut self, why: &str, which: impl Fn(&Waiting) -> bool) {
        let (failed, kept): (VecDeque<_>, _) = self.waiting.drain(..).partition(which);
        self.waiting = kept;
        for waiting in failed {
            waiting.fail(&RequestError::Cluster(why.to_owned()));
        }
    }
}
