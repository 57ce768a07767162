//! Who begins next: requests in the order they came, and branches of those that were admitted, when
//! there is a slot and room for all that they may become.

use std::time::Instant;

use jupiter_models::{KvOp, SequenceId, Token};

use super::super::expansion::{Expansion, is_safe};
use super::super::sequence::{Asked, Role, Sequence, Waiting};
use super::super::speculator::Available;
use super::PlannerCore;
use crate::RequestId;
use crate::request::{
    Branch, DEFAULT_DRAFT_MAX, DraftChoice, EventSink, ExpandRequest, GenerateRequest, LengthLimit,
    SpeculationParams,
};

/// Cells that an answer without a limit of its own takes ahead: room for two steps of guesses, and
/// little that others could have meanwhile.
const CELLS_AHEAD: usize = 2 * DEFAULT_DRAFT_MAX as usize;

/// A slot for a text, of which it may hold the beginning, and room for so many tokens.
struct Slot {
    seq: SequenceId,
    n_cached: usize,
    n_max: usize,
}

impl PlannerCore {
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
        let Some(next) = self.waiting.front() else {
            return false;
        };
        !self.free.is_empty() || !self.cache.is_empty() || self.is_held(next.follows())
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
                let (widest, share) = (self.widest(&request), self.share(&request));
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
                self.expansions
                    .push(Expansion::new(request, base, widest, share));
            }
        }
        true
    }

    /// A slot for what is asked, when there are cells enough for all that it may become.
    fn room_for(&mut self, asked: &Asked) -> Option<Slot> {
        match asked {
            Asked::Answer(request, _) => {
                let n_max = self.n_max(request);
                let cached = request.cache_prompt;
                self.slot_for(&request.prompt, request.follows, cached, n_max)
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
        n_max: usize,
    ) -> Option<Slot> {
        let n_held = self.n_held(follows);
        let n_left = (self.n_free_cells() + n_held).checked_sub(n_max)?;
        let hit = match self.take_held(follows, prompt) {
            Some(hit) => Some(hit),
            None => is_cached.then(|| self.cache.take(prompt)).flatten(),
        };
        self.shrink_cache(n_left, self.free.is_empty() && hit.is_none());
        let (seq, n_cached) = match hit {
            Some(hit) => {
                let (seq, pos) = (hit.seq, hit.n_common as u32);
                self.kv_ops.push(KvOp::Truncate { seq, pos });
                (seq, hit.n_common)
            }
            None => (self.free.pop()?, 0),
        };
        Some(Slot {
            seq,
            n_cached,
            n_max,
        })
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
        let (n_shared, share) = (expansion.n_shared, expansion.share);
        let n_cells = |branch: &Branch| self.n_own(&branch.request, n_shared, share);
        let n_needed = expansion.waiting.front().map_or(0, n_cells);
        let n_left = self.n_free_cells().checked_sub(n_needed);
        let (Some(n_left), Some(&seq)) = (n_left, self.branch_slots.last()) else {
            return false;
        };
        self.shrink_cache(n_left, false);
        let Some(branch) = self.expansions[at].waiting.pop_front() else {
            return false;
        };
        self.branch_slots.pop();
        let mut request = branch.request;
        // Its slot is for branches alone.
        (request.cache_prompt, request.holds) = (false, false);
        let default = || self.config.speculation.clone();
        request.speculation.get_or_insert_with(default);
        let slot = Slot {
            seq,
            n_cached: 0,
            n_max: n_shared + n_needed,
        };
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
        let n_ctx = self.config.engine.n_ctx as usize;
        let is_within = |n| request.prompt.len().saturating_add(n as usize) <= n_ctx;
        let limit = match request.n_predict.is_some_and(is_within) {
            true => LengthLimit::NPredict,
            false => LengthLimit::Context,
        };
        let grows = request.n_predict.is_none() && role == Role::Whole;
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
        let mut sequence = Sequence::new(place, request, sink, slot.n_max, available, now);
        (sequence.role, sequence.limit, sequence.grows) = (role, limit, grows);
        sequence.n_sent = slot.n_cached;
        sequence.n_cached = slot.n_cached;
        self.live.push(sequence);
    }

    fn n_free_cells(&self) -> usize {
        let reserved: usize = self.live.iter().map(Sequence::n_reserved).sum();
        let held: usize = self.held.iter().map(|held| held.tokens.len()).sum();
        (self.config.engine.n_ctx as usize).saturating_sub(reserved + held)
    }

    /// Cells of the KV cache that hold something when the steps under way are computed.
    pub(super) fn n_cells(&self) -> usize {
        let held = self.held.iter().map(|held| held.tokens.len());
        self.n_live_cells() + held.sum::<usize>() + self.cache.n_cells()
    }

    /// Those of the live sequences: what a move has to compute again.
    pub(super) fn n_live_cells(&self) -> usize {
        self.live.iter().map(Sequence::n_cells).sum()
    }

    fn shrink_cache(&mut self, n_cells: usize, needs_slot: bool) {
        for seq in self.cache.shrink_to(n_cells, needs_slot) {
            self.kv_ops.push(KvOp::Drop { seq });
            self.free.push(seq);
        }
    }

    /// Gives an answer without a limit of its own more cells before it has used up those that it has.
    /// It takes only what nobody else waits for, and never waits itself: so all others can still begin
    /// when it has ended, and it cannot hold up its own end.
    pub(super) fn grow(&mut self, at: usize, now: Instant) {
        let sequence = &self.live[at];
        let n_ctx = self.config.engine.n_ctx as usize;
        let n_ahead = (sequence.tokens.len() + CELLS_AHEAD).min(n_ctx);
        let n_wanted = n_ahead.saturating_sub(sequence.n_max);
        if !sequence.grows || n_wanted == 0 {
            return;
        }
        // What ended since the last step may have left room for all.
        self.admit(now);
        if self.has_slot_for_next() || self.next_branch().is_some() {
            return;
        }
        let n_free = self.n_free_cells();
        let n_more = n_wanted.min(n_free);
        self.shrink_cache(n_free - n_more, false);
        self.live[at].n_max += n_more;
    }

    /// Length for which there have to be cells before the answer to a request begins. Without a limit
    /// of its own that is its share of the context beside its prompt, and it [grows](Self::grow).
    fn n_max(&self, request: &GenerateRequest) -> usize {
        let n_ctx = self.config.engine.n_ctx as usize;
        let share = n_ctx / self.config.n_parallel.max(1) as usize;
        let n_predict = request.n_predict.map_or(share, |n| n as usize);
        request.prompt.len().saturating_add(n_predict).min(n_ctx)
    }

    /// Cells of a branch, beside those that all share.
    fn n_own(&self, branch: &GenerateRequest, n_shared: usize, share: usize) -> usize {
        match branch.n_predict {
            Some(_) => self.n_max(branch) - n_shared,
            // A token at least, however long its prompt is.
            None => share.max(branch.prompt.len() + 1 - n_shared),
        }
    }

    /// Cells of the largest branch, beside those that all share.
    fn widest(&self, request: &ExpandRequest) -> usize {
        let share = self.share(request);
        let own = |branch: &Branch| self.n_own(&branch.request, request.n_shared, share);
        request.branches.iter().map(own).max().unwrap_or(0)
    }

    /// Cells of each branch when they share evenly what is beside their common beginning.
    fn share(&self, request: &ExpandRequest) -> usize {
        let n_own = self.config.engine.n_ctx as usize - request.n_shared;
        n_own / request.branches.len().max(1)
    }

    /// Places of the live branches of an expansion.
    pub(super) fn branches_of(&self, expansion: RequestId) -> Vec<usize> {
        let is_its = |s: &Sequence| matches!(s.role, Role::Branch { of, .. } if of == expansion);
        let live = self.live.iter().enumerate();
        live.filter_map(|(at, s)| is_its(s).then_some(at)).collect()
    }
}
