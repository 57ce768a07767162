//! Who begins next: of the requests in the queue and the branches of those that were admitted, the one
//! whose turn it is, when there are a slot and cells for its text.
//!
//! Cells for what comes behind are taken as tokens come ([`preemption`](super::preemption)). So that they
//! seldom end, nobody begins where the answers under way are expected to need them.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::drafting::speculator::Available;
use super::super::kv::{Found, Place};
use super::super::live::Live;
use super::super::queue::Turn;
use super::super::sequence::Sequence;
use super::PlannerCore;
use crate::RequestId;

/// Who is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The first request of the queue.
    Request,
    /// The first branch of this request.
    Branch(RequestId),
}

impl Next {
    pub(super) fn is_branch_of(self, request: RequestId) -> bool {
        self == Next::Branch(request)
    }
}

impl PlannerCore {
    /// Admits waiting sequences, one by one in their order, while there is room for the one that is next.
    pub(super) fn admit(&mut self, now: Instant) {
        loop {
            self.queue.drop_closed();
            let Some((next, id)) = self.next() else {
                return;
            };
            // Prompts are compared only when something has changed since the last time.
            let try_of = (id, self.kv.n_returns());
            if self.no_room_for == Some(try_of) {
                return;
            }
            if !self.admit_next(next, now) && !self.preempt_idle(next) {
                self.no_room_for = Some(try_of);
                return;
            }
        }
    }

    /// The sequence whose turn it is of those that may have a slot: of what several requests ask, the one
    /// of the request that has the fewest running.
    fn next(&self) -> Option<(Next, RequestId)> {
        let n_branches = self
            .live
            .values()
            .filter(|l| l.sequence.branch_of().is_some());
        let n_branches = n_branches.count();
        let n_requests = self.live.len() - n_branches;
        let request = (n_requests < self.kv.n_requests()).then(|| self.queue.first());
        let request = request.flatten();
        let request = request.map(|first| (0, first.turn, Next::Request, first.id));
        let branch = (n_branches < self.kv.n_branches()).then(|| self.next_branch());
        let branch = branch.flatten();
        let next = request.into_iter().chain(branch);
        let next = next.min_by_key(|&(n_running, turn, ..)| (n_running, turn));
        next.map(|(.., next, id)| (next, id))
    }

    fn next_branch(&self) -> Option<(usize, Turn, Next, RequestId)> {
        let bases = self.live.values().filter(|live| live.sequence.is_base());
        let first = bases.filter_map(|live| {
            let of = live.sequence.id;
            let branch = self.queue.first_branch(of)?;
            let n_running = self.branches_of(of).count();
            Some((n_running, branch.turn, Next::Branch(of), branch.id))
        });
        first.min_by_key(|&(n_running, turn, ..)| (n_running, turn))
    }

    /// False where there is no room.
    fn admit_next(&mut self, next: Next, now: Instant) -> bool {
        let sequence = match next {
            Next::Request => self.queue.first(),
            Next::Branch(of) => self.queue.first_branch(of),
        };
        let Some(sequence) = sequence else {
            return false;
        };
        let (found, n_text) = (self.find(sequence, |_| true), sequence.tokens.len());
        if !self.is_expected_to_fit(sequence, found) || !self.fits_for_good(sequence) {
            return false;
        }
        let Some(place) = self.kv.place(found, n_text) else {
            return false;
        };
        let sequence = match next {
            Next::Request => self.queue.pop_first(now),
            Next::Branch(of) => self.queue.pop_branch(of),
        };
        if let Some(sequence) = sequence {
            self.begin(sequence, place, now);
        }
        true
    }

    /// What shares most with a text, of nodes and of the live sequences for which `may_be` is true.
    pub(super) fn find(
        &self,
        sequence: &Sequence,
        may_be: impl Fn(RequestId) -> bool,
    ) -> Option<Found> {
        let live = self.live.values().filter(|live| may_be(live.sequence.id));
        self.kv.find(&sequence.wanted(), live.map(Live::computing))
    }

    /// Whether there are cells for its text, and for what it and those that run are expected to become.
    /// Where nobody runs, there are.
    fn is_expected_to_fit(&self, sequence: &Sequence, found: Option<Found>) -> bool {
        let running = self.live.values().filter(|live| !live.sequence.is_base());
        if running.clone().next().is_none() {
            return true;
        }
        let running: usize = running.map(|live| self.n_expected(&live.sequence)).sum();
        // What branches share is of no use without room for one of them.
        let own = match self.queue.first_branch(sequence.id) {
            Some(branch) => branch.tokens.len() - sequence.tokens.len() + self.n_expected(branch),
            None => self.n_expected(sequence),
        };
        let n_live = self.kv.n_live_with(found, sequence.tokens.len());
        n_live + running + own <= self.config.engine.n_ctx as usize
    }

    /// Tokens that an answer is expected to get.
    pub(super) fn n_expected(&self, sequence: &Sequence) -> usize {
        let n_done = sequence.n_answer();
        self.lengths.expected(n_done, sequence.n_left())
    }

    fn begin(&mut self, sequence: Sequence, place: Place, now: Instant) {
        let is_new = sequence.n_preempted == 0;
        // The draft model would have to read every branch from its beginning, while the stages have
        // enough to do.
        let available = Available {
            model: self.sources.available.model && sequence.branch_of().is_none(),
            ..self.sources.available
        };
        let id = sequence.id;
        let live = Live::new(sequence, place, available, now);
        self.live.insert(id, live);
        if is_new {
            self.tell_drafter(id);
        }
    }

    /// All live sequences begin anew, in their order: slots and cells are theirs alone. What does not fit
    /// any more waits.
    pub(super) fn rewind(&mut self) {
        self.kv.restart();
        let mut order: Vec<_> = self
            .live
            .values()
            .map(|l| (l.sequence.turn, l.sequence.id))
            .collect();
        order.sort_unstable();
        for live in self.live.values_mut() {
            live.rewind();
        }
        let mut placed = BTreeSet::new();
        for (_, id) in order {
            let Some(live) = self.live.get(&id) else {
                continue;
            };
            let sequence = &live.sequence;
            let has_base = sequence.branch_of().is_none_or(|of| placed.contains(&of));
            let found = self.find(sequence, |other| placed.contains(&other));
            let place = has_base.then(|| self.kv.place(found, sequence.tokens.len()));
            match place.flatten() {
                Some(place) => {
                    placed.insert(id);
                    if let Some(live) = self.live.get_mut(&id) {
                        live.put(place);
                    }
                }
                None => self.wait_again(id),
            }
        }
    }
}
