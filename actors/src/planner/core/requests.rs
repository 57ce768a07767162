//! Requests: which are taken, when they begin, and how they end.

use std::collections::VecDeque;
use std::time::Instant;

use jupiter_models::{KvOp, SequenceId, Token};

use super::super::expansion::{Expansion, is_safe};
use super::super::sequence::{Asked, Role, Sequence, Waiting};
use super::super::speculator::Available;
use super::{Phase, PlannerCore};
use crate::RequestId;
use crate::request::{
    Branch, EventSink, ExpandRequest, FinishReason, GenerateRequest, RequestError, StreamEvent,
};

/// Most requests that wait: a robot that asks faster than it is answered learns it early.
const MAX_WAITING: usize = 256;

/// Whether a branch can start.
enum Start {
    /// One has started.
    Started,
    /// None waits, or all slots for branches are taken.
    Nothing,
    /// The next one waits for cells: who came later must not take them.
    NoCells,
}

/// A slot for a text, of which it may hold the beginning.
struct Slot {
    seq: SequenceId,
    n_cached: usize,
}

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
        self.pump(now);
    }

    /// Ends an answer that its client holds for complete, at a stop string say.
    pub(in crate::planner) fn finish(&mut self, request: RequestId, now: Instant) {
        if let Some(at) = self.live.iter().position(|s| s.request == request) {
            self.complete(at, FinishReason::Stop, now);
        }
        self.pump(now);
    }

    /// Admits waiting requests while there is room, in the order they came; branches of those that
    /// were admitted go first.
    pub(super) fn admit(&mut self, now: Instant) {
        loop {
            match self.start_branch(now) {
                Start::Started => {}
                Start::NoCells => return,
                Start::Nothing if self.admit_next(now) => {}
                Start::Nothing => return,
            }
        }
    }

    /// Admits the request that waits longest, or drops it when nobody waits for it.
    fn admit_next(&mut self, now: Instant) -> bool {
        let Some(waiting) = self.waiting.pop_front() else {
            return false;
        };
        if waiting.is_closed() {
            return true;
        }
        let Some(slot) = self.room_for(&waiting.asked) else {
            self.waiting.push_front(waiting);
            return false;
        };
        match waiting.asked {
            Asked::Answer(mut request, sink) => {
                let default = || self.config.speculation.clone();
                request.speculation.get_or_insert_with(default);
                self.begin(slot, request, sink, Role::Whole, now);
                self.tell_drafter();
            }
            Asked::Branches(request, sink) => {
                let widest = self.widest(&request);
                let shared = GenerateRequest {
                    n_predict: Some(0),
                    cache_prompt: request.cache_prompt,
                    ..GenerateRequest::new(request.id, request.shared().to_vec())
                };
                let base = slot.seq;
                self.begin(slot, shared, sink, Role::Shared, now);
                self.expansions.push(Expansion::new(request, base, widest));
            }
        }
        true
    }

    /// A slot for what is asked, when there are cells enough for all that it may become.
    fn room_for(&mut self, asked: &Asked) -> Option<Slot> {
        match asked {
            Asked::Answer(request, _) => {
                let n_cells = self.n_max(request);
                self.slot_for(&request.prompt, request.cache_prompt, n_cells)
            }
            Asked::Branches(request, _) => {
                let n_ctx = self.config.engine.n_ctx as usize;
                let widest = self.widest(request);
                let is_safe = is_safe(&self.expansions, request.n_shared, widest, n_ctx);
                let (shared, is_cached) = (request.shared(), request.cache_prompt);
                is_safe.then(|| self.slot_for(shared, is_cached, request.n_shared))?
            }
        }
    }

    fn slot_for(&mut self, prompt: &[Token], is_cached: bool, n_cells: usize) -> Option<Slot> {
        let n_left = self.n_free_cells().checked_sub(n_cells)?;
        let hit = is_cached.then(|| self.cache.take(prompt)).flatten();
        self.shrink_cache(n_left, self.free.is_empty() && hit.is_none());
        let Some(hit) = hit else {
            let n_cached = 0;
            return self.free.pop().map(|seq| Slot { seq, n_cached });
        };
        let (seq, n_cached) = (hit.seq, hit.n_common);
        let pos = n_cached as u32;
        self.kv_ops.push(KvOp::Truncate { seq, pos });
        Some(Slot { seq, n_cached })
    }

    /// Starts a branch of the expansion with the fewest.
    fn start_branch(&mut self, now: Instant) -> Start {
        for expansion in &mut self.expansions {
            expansion.waiting.retain(|branch| !branch.sink.is_closed());
        }
        let with_waiting = |at: &usize| !self.expansions[*at].waiting.is_empty();
        let fewest = (0..self.expansions.len())
            .filter(with_waiting)
            .min_by_key(|&at| self.branches_of(self.expansions[at].id).len());
        let (Some(at), Some(&seq)) = (fewest, self.branch_slots.last()) else {
            return Start::Nothing;
        };
        let expansion = &self.expansions[at];
        let (of, base, n_shared) = (expansion.id, expansion.base, expansion.n_shared);
        let n_max = |branch: &Branch| self.n_max(&branch.request);
        let Some(n_cells) = expansion.waiting.front().map(n_max) else {
            return Start::Nothing;
        };
        let Some(n_left) = self.n_free_cells().checked_sub(n_cells - n_shared) else {
            return Start::NoCells;
        };
        self.shrink_cache(n_left, false);
        let Some(branch) = self.expansions[at].waiting.pop_front() else {
            return Start::Nothing;
        };
        self.branch_slots.pop();
        let mut request = branch.request;
        request.cache_prompt = false;
        let default = || self.config.speculation.clone();
        request.speculation.get_or_insert_with(default);
        let slot = Slot { seq, n_cached: 0 };
        let role = Role::Branch {
            of,
            base,
            n_shared,
            is_forked: false,
        };
        self.begin(slot, request, branch.sink, role, now);
        Start::Started
    }

    /// Takes a request among the live ones.
    fn begin(
        &mut self,
        slot: Slot,
        request: GenerateRequest,
        sink: EventSink,
        role: Role,
        now: Instant,
    ) {
        let n_max = self.n_max(&request);
        let available = match role {
            // It would have to read every branch from its beginning, while the stages have enough
            // to do.
            Role::Branch { .. } => Available {
                model: false,
                ..self.available
            },
            _ => self.available,
        };
        let place = (slot.seq, self.generation_of(slot.seq));
        let mut sequence = Sequence::new(place, request, sink, n_max, available, now);
        sequence.role = role;
        sequence.n_sent = slot.n_cached;
        sequence.n_cached = slot.n_cached;
        self.live.push(sequence);
    }

    fn n_free_cells(&self) -> usize {
        let reserved: usize = self.live.iter().map(Sequence::n_reserved).sum();
        (self.config.engine.n_ctx as usize).saturating_sub(reserved)
    }

    fn shrink_cache(&mut self, n_cells: usize, needs_slot: bool) {
        for seq in self.cache.shrink_to(n_cells, needs_slot) {
            self.kv_ops.push(KvOp::Drop { seq });
            self.free.push(seq);
        }
    }

    /// Length at which the answer to a request ends: without a wish of its own, an answer may take
    /// as many cells as are each sequence's share of the context, beside its prompt.
    fn n_max(&self, request: &GenerateRequest) -> usize {
        let n_ctx = self.config.engine.n_ctx as usize;
        let share = n_ctx / self.config.n_parallel.max(1) as usize;
        let n_predict = request.n_predict.map_or(share, |n| n as usize);
        request.prompt.len().saturating_add(n_predict).min(n_ctx)
    }

    /// Cells of the largest branch, beside those that all share.
    fn widest(&self, request: &ExpandRequest) -> usize {
        let own = |branch: &Branch| self.n_max(&branch.request) - request.n_shared;
        request.branches.iter().map(own).max().unwrap_or(0)
    }

    /// Places of the live branches of an expansion.
    fn branches_of(&self, expansion: RequestId) -> Vec<usize> {
        let is_its = |s: &Sequence| matches!(s.role, Role::Branch { of, .. } if of == expansion);
        let live = self.live.iter().enumerate();
        live.filter_map(|(at, s)| is_its(s).then_some(at)).collect()
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
        if sequence.is_worth_keeping() && matches!(self.phase, Phase::Running) {
            if is_untidy {
                let pos = n_computed as u32;
                self.kv_ops.push(KvOp::Truncate { seq, pos });
            }
            self.cache.put(seq, sequence.tokens[..n_computed].to_vec());
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
        let sequence = self.retire(at);
        let done = self.completion(&sequence, reason, now);
        // A client that is gone needs no word of it.
        let _ = sequence.sink.send(StreamEvent::Done(done));
    }

    /// Ends a live sequence with an error, and with it the branches that began with it.
    pub(super) fn fail(&mut self, at: usize, error: &RequestError) {
        let sequence = self.retire(at);
        // A client that is gone needs no word of it.
        let _ = sequence.sink.send(StreamEvent::Failed(error.clone()));
        if sequence.role != Role::Shared {
            return;
        }
        while let Some(at) = self.branches_of(sequence.request).first().copied() {
            self.fail(at, error);
        }
        let is_its = |expansion: &Expansion| expansion.id == sequence.request;
        if let Some(at) = self.expansions.iter().position(is_its) {
            for branch in self.expansions.remove(at).waiting {
                let _ = branch.sink.send(StreamEvent::Failed(error.clone()));
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
