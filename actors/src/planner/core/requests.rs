//! Requests: which are taken, when they begin, and how they end.

use std::collections::VecDeque;
use std::time::Instant;

use jupiter_models::{KvOp, SequenceId, Token};

use super::super::expansion::{Expansion, is_safe};
use super::super::sequence::{Asked, Role, Sequence, Waiting};
use super::super::speculator::Available;
use super::held::{HOLD, Held};
use super::{Phase, PlannerCore};
use crate::RequestId;
use crate::request::{
    Branch, DraftChoice, EventSink, ExpandRequest, FinishReason, GenerateRequest, RequestError,
    SpeculationParams, StreamEvent,
};

/// Most requests that wait: a robot that asks faster than it is answered learns it early.
const MAX_WAITING: usize = 256;

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
        mut request: ExpandRequest,
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
        if refused.is_none() {
            self.share_context(&mut request);
        }
        self.enqueue(Asked::Branches(request, sink), refused, now);
    }

    /// Branches without a wish of their own share the context evenly.
    fn share_context(&self, request: &mut ExpandRequest) {
        let n_own = self.config.engine.n_ctx as usize - request.n_shared;
        let share = n_own / request.branches.len().max(1);
        for Branch {
            request: branch, ..
        } in &mut request.branches
        {
            let n_suffix = branch.prompt.len() - request.n_shared;
            let n_left = share.saturating_sub(n_suffix).max(1);
            branch.n_predict.get_or_insert(n_left as u32);
        }
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

    /// Admits waiting requests in the order they came, and branches of those that were admitted,
    /// while there is room. Where both wait they take turns, so that neither keeps the other out.
    pub(super) fn admit(&mut self, now: Instant) {
        loop {
            while self.waiting.front().is_some_and(Waiting::is_closed) {
                self.waiting.pop_front();
            }
            let branch = self.next_branch();
            let is_branch_next = branch.is_some() && !self.may_wait_for_room();
            let (Some(at), true) = (branch, self.branches_turn || is_branch_next) else {
                if !self.admit_next(now) {
                    return;
                }
                self.branches_turn = true;
                continue;
            };
            if !self.start_branch(at, now) {
                return;
            }
            self.branches_turn = !self.has_slot_for_next();
        }
    }

    /// Whether the request that waits longest has a slot, or could have one.
    fn has_slot_for_next(&self) -> bool {
        let has_slot = !self.free.is_empty() || !self.cache.is_empty();
        has_slot && !self.waiting.is_empty()
    }

    /// Whether branches may wait for the request that waits longest: it fits as soon as what runs
    /// beside expansions has ended. For more room it has to wait for the expansions themselves.
    fn may_wait_for_room(&self) -> bool {
        let Some(next) = self.waiting.front().filter(|_| self.has_slot_for_next()) else {
            return false;
        };
        let shared: usize = self.expansions.iter().map(|e| e.n_shared).sum();
        let n_ctx = self.config.engine.n_ctx as usize;
        match &next.asked {
            Asked::Answer(request, _) => shared + self.n_max(request) <= n_ctx,
            Asked::Branches(request, _) => self.is_safe(request),
        }
    }

    /// Admits the request that waits longest. False when there is none, or no room.
    fn admit_next(&mut self, now: Instant) -> bool {
        let Some(waiting) = self.waiting.pop_front() else {
            return false;
        };
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
                // Without an answer there is nothing to guess.
                let none = SpeculationParams {
                    source: DraftChoice::None,
                    ..SpeculationParams::default()
                };
                let shared = GenerateRequest {
                    n_predict: Some(0),
                    cache_prompt: request.cache_prompt,
                    speculation: Some(none),
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
                let cached = request.cache_prompt;
                self.slot_for(&request.prompt, request.follows, cached, n_cells)
            }
            Asked::Branches(request, _) => {
                let (shared, cached) = (request.shared(), request.cache_prompt);
                self.is_safe(request)
                    .then(|| self.slot_for(shared, request.follows, cached, request.n_shared))?
            }
        }
    }

    fn is_safe(&self, request: &ExpandRequest) -> bool {
        let n_ctx = self.config.engine.n_ctx as usize;
        let widest = self.widest(request);
        is_safe(&self.expansions, request.n_shared, widest, n_ctx)
    }

    fn slot_for(
        &mut self,
        prompt: &[Token],
        follows: Option<RequestId>,
        is_cached: bool,
        n_cells: usize,
    ) -> Option<Slot> {
        let n_held = self.n_held(follows);
        let n_left = (self.n_free_cells() + n_held).checked_sub(n_cells)?;
        let hit = match self.take_held(follows, prompt) {
            Some(hit) => Some(hit),
            None => is_cached.then(|| self.cache.take(prompt)).flatten(),
        };
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

    /// The expansion whose branch is next: the one with the fewest running of those with waiting
    /// ones, while there are slots for branches.
    fn next_branch(&mut self) -> Option<usize> {
        for expansion in &mut self.expansions {
            expansion.waiting.retain(|branch| !branch.sink.is_closed());
        }
        let with_waiting = |at: &usize| !self.expansions[*at].waiting.is_empty();
        let fewest = (0..self.expansions.len())
            .filter(with_waiting)
            .min_by_key(|&at| self.branches_of(self.expansions[at].id).len());
        fewest.filter(|_| !self.branch_slots.is_empty())
    }

    /// Starts the next branch of an expansion. False when cells are lacking.
    fn start_branch(&mut self, at: usize, now: Instant) -> bool {
        let expansion = &self.expansions[at];
        let role = Role::Branch {
            of: expansion.id,
            base: expansion.base,
            n_shared: expansion.n_shared,
            is_forked: false,
        };
        let n_shared = expansion.n_shared;
        let n_cells = |branch: &Branch| self.n_max(&branch.request) - n_shared;
        let needed = expansion.waiting.front().map(n_cells);
        let n_left = needed.and_then(|needed| self.n_free_cells().checked_sub(needed));
        let (Some(n_left), Some(&seq)) = (n_left, self.branch_slots.last()) else {
            return false;
        };
        self.shrink_cache(n_left, false);
        let Some(branch) = self.expansions[at].waiting.pop_front() else {
            return false;
        };
        self.branch_slots.pop();
        let mut request = branch.request;
        request.cache_prompt = false;
        let default = || self.config.speculation.clone();
        request.speculation.get_or_insert_with(default);
        let slot = Slot { seq, n_cached: 0 };
        self.begin(slot, request, branch.sink, role, now);
        true
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
        let held: usize = self.held.iter().map(|held| held.tokens.len()).sum();
        (self.config.engine.n_ctx as usize).saturating_sub(reserved + held)
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
