//! Who begins next: requests in the order of the queue, and branches of those that were admitted, when
//! there is a slot and room for all that they may become.
//!
//! A request of branches is admitted only when what all such requests share leaves room for the largest
//! branch of any: so whatever runs, the others can still run after it, and nobody waits for ever.

use std::time::Instant;

use jupiter_models::SequenceId;

use super::super::drafting::speculator::Available;
use super::super::kv::{Place, Wanted};
use super::super::live::Live;
use super::super::sequence::{Role, Sequence};
use super::PlannerCore;
use crate::RequestId;
use crate::request::DEFAULT_DRAFT_MAX;

/// Cells that an answer without a limit of its own takes ahead: room for two steps of guesses, and
/// little that others could have meanwhile.
const CELLS_AHEAD: usize = 2 * DEFAULT_DRAFT_MAX as usize;

impl PlannerCore {
    /// Admits waiting requests, and branches of those that were admitted, while there is room. Where both
    /// wait they take turns, so that neither keeps the other out.
    pub(super) fn admit(&mut self, now: Instant) {
        loop {
            self.queue.drop_closed();
            let branch = self.next_branch();
            let is_branch_next = branch.is_some() && !self.may_wait_for_room();
            let is_admitted = match branch {
                Some(of) if self.queue.is_branches_turn || is_branch_next => {
                    let is_admitted = self.admit_branch(of, now);
                    self.queue.is_branches_turn = !self.has_slot_for_next();
                    is_admitted
                }
                _ => {
                    let is_admitted = self.admit_request(now);
                    self.queue.is_branches_turn |= is_admitted;
                    is_admitted
                }
            };
            if !is_admitted {
                return;
            }
        }
    }

    /// Whether the request that is next has a slot, or could have one.
    fn has_slot_for_next(&self) -> bool {
        let next = self.queue.first();
        next.is_some_and(|next| self.kv.has_slot(next.follows))
    }

    /// Whether branches may wait for the request that is next: it fits as soon as what runs beside what
    /// branches share has ended. For more room it has to wait for the branches themselves.
    fn may_wait_for_room(&self) -> bool {
        if !self.has_slot_for_next() {
            return false;
        }
        let (n_shared, widest) = self.shared();
        let n_ctx = self.config.engine.n_ctx as usize;
        let fits = |next: &Sequence| n_shared + n_after(next, widest) <= n_ctx;
        self.queue.first().is_some_and(fits)
    }

    /// Cells that branches share, and those of the largest branch of all.
    fn shared(&self) -> (usize, usize) {
        let bases = self
            .live
            .values()
            .filter_map(|live| match live.sequence.role {
                Role::Base { widest } => Some((live.sequence.n_cells, widest)),
                _ => None,
            });
        bases.fold((0, 0), |(n_shared, widest), base| {
            (n_shared + base.0, widest.max(base.1))
        })
    }

    /// Admits the request that is next. False when there is none, or no room.
    fn admit_request(&mut self, now: Instant) -> bool {
        let (n_shared, widest) = self.shared();
        let n_ctx = self.config.engine.n_ctx as usize;
        let Some(next) = self.queue.first() else {
            return false;
        };
        if next.is_base() && n_shared + n_after(next, widest) > n_ctx {
            return false;
        }
        let place = self.kv.admit(&Wanted {
            text: &next.tokens,
            follows: next.follows,
            is_cached: next.cache_prompt,
            n_cells: next.n_cells,
        });
        let (Some(place), Some(sequence)) = (place, place.and_then(|_| self.queue.pop_first(now)))
        else {
            return false;
        };
        let id = sequence.id;
        self.begin(sequence, place, None, now);
        self.tell_drafter(id);
        true
    }

    /// The request whose branch is next: the one with the fewest running of those with waiting ones,
    /// while there are slots for branches.
    fn next_branch(&self) -> Option<RequestId> {
        if !self.kv.has_branch_slot() {
            return None;
        }
        let bases = self.live.values().filter(|live| live.sequence.is_base());
        let waiting = bases.filter_map(|live| self.queue.first_branch(live.sequence.id));
        let next = waiting.filter_map(|branch| Some((branch.branch_of()?, branch.turn)));
        let next = next.min_by_key(|&(of, turn)| (self.branches_of(of).count(), turn));
        next.map(|(of, _)| of)
    }

    /// Starts the next branch of a request. False when cells are lacking.
    fn admit_branch(&mut self, of: RequestId, now: Instant) -> bool {
        let base = self.live.get(&of).map(|live| live.seq);
        let branch = self.queue.first_branch(of);
        let (Some(base), Some(n_cells)) = (base, branch.map(|branch| branch.n_cells)) else {
            return false;
        };
        let place = self.kv.admit_branch(base, n_cells);
        let (Some(place), Some(branch)) = (place, place.and_then(|_| self.queue.pop_branch(of)))
        else {
            return false;
        };
        self.begin(branch, place, Some(base), now);
        true
    }

    fn begin(&mut self, sequence: Sequence, place: Place, base: Option<SequenceId>, now: Instant) {
        // The draft model would have to read every branch from its beginning, while the stages have
        // enough to do.
        let available = Available {
            model: self.sources.available.model && base.is_none(),
            ..self.sources.available
        };
        let id = sequence.id;
        let live = Live::new(sequence, place, base, available, now);
        self.live.insert(id, live);
    }

    /// Gives an answer without a limit of its own more cells before it has used up those that it has.
    /// It takes only what nobody else waits for, and never waits itself: so all others can still begin
    /// when it has ended, and it cannot hold up its own end.
    pub(super) fn grow(&mut self, id: RequestId, now: Instant) {
        let n_ctx = self.config.engine.n_ctx as usize;
        let n_wanted = |live: &Live| {
            let n_ahead = (live.sequence.tokens.len() + CELLS_AHEAD).min(n_ctx);
            n_ahead.saturating_sub(live.n_max)
        };
        let grows = self.live.get(&id).filter(|live| live.sequence.grows);
        let n_wanted = grows.map_or(0, n_wanted);
        if n_wanted == 0 {
            return;
        }
        // What ended since the last step may have left room for all.
        self.admit(now);
        if self.has_slot_for_next() || self.next_branch().is_some() {
            return;
        }
        if let Some(live) = self.live.get_mut(&id) {
            live.n_max += self.kv.grow(live.seq, n_wanted);
        }
    }
}

/// Cells that have to be free of what others share for a request to be admitted: all that it may become,
/// or what its branches share and the largest branch of all.
fn n_after(request: &Sequence, widest: usize) -> usize {
    match request.role {
        Role::Base { widest: own } => request.n_cells + own.max(widest),
        _ => request.n_cells,
    }
}
