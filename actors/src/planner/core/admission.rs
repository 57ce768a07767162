//! Who begins next: what goes on with an answer that has begun, else the first in the queue, when there
//! are a slot and cells for its text.
//!
//! Cells for what comes behind are taken as tokens come ([`preemption`](super::preemption)). So that they
//! seldom end, nobody begins where the answers under way are expected to need them.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::drafting::speculator::Available;
use super::super::kv::{Computing, Found, Place};
use super::super::live::Live;
use super::super::sequence::Sequence;
use super::PlannerCore;
use crate::RequestId;

/// Most waiting requests whose beginnings are compared with those of one that begins.
const MAX_COMPARED: usize = 256;

impl PlannerCore {
    /// Admits waiting sequences, one by one in their order, while there is room for the one that is next.
    pub(super) fn admit(&mut self, now: Instant) {
        loop {
            self.queue.drop_closed();
            let Some(next) = self.next() else {
                return;
            };
            // Prompts are compared only when something has changed since the last time.
            let try_of = (next.id, self.kv.n_returns());
            if self.no_room_for == Some(try_of) {
                return;
            }
            let (found, n_text) = (self.find(next, |_| true), next.tokens.len());
            let is_part = next.turn.is_part();
            let n_shared = found.map_or(0, |found| found.n_shared());
            if let Some((id, n)) = self.find_to_stop(next, n_shared) {
                if let Some(live) = self.live.get_mut(&id) {
                    live.fork_point = Some(n);
                }
                continue;
            }
            let has_room = self.is_expected_to_fit(next, found) && self.fits_for_good(next);
            let place = has_room.then(|| self.kv.place(found, n_text)).flatten();
            let Some(place) = place else {
                self.no_room_for = Some(try_of);
                return;
            };
            let next = match is_part {
                true => self.queue.pop_part(),
                false => self.queue.pop_first(now),
            };
            if let Some(sequence) = next {
                self.begin(sequence, place, now);
            }
        }
    }

    /// The sequence whose turn it is of those that may have a slot.
    fn next(&self) -> Option<&Sequence> {
        let (part, request) = (self.queue.first_part(), self.queue.first());
        part.or(request)?;
        let n_answers = self.n_answers();
        let n_more = self.live.len() - n_answers;
        let has_slot = |next: &&Sequence| match self.is_under_way(next.answer) {
            true => n_more < self.kv.n_branches(),
            false => n_answers < self.kv.n_requests(),
        };
        part.filter(has_slot).or(request.filter(has_slot))
    }

    /// Answers of which a part has a slot.
    pub(super) fn n_answers(&self) -> usize {
        let answers = self.live.values().map(|live| live.sequence.answer);
        let mut answers: Vec<RequestId> = answers.collect();
        answers.sort_unstable();
        answers.dedup();
        answers.len()
    }

    /// Whether a part of the answer has a slot.
    pub(super) fn is_under_way(&self, answer: RequestId) -> bool {
        let mut live = self.live.values();
        live.any(|live| live.sequence.answer == answer)
    }

    /// What shares most with a text, of nodes and of the live sequences for which `may_be` is true.
    pub(super) fn find(
        &self,
        sequence: &Sequence,
        may_be: impl Fn(RequestId) -> bool,
    ) -> Option<Found> {
        let live = self.live.values().filter(|live| may_be(live.sequence.id));
        self.kv
            .find(&sequence.admission(), live.map(Live::computing))
    }

    /// The live sequence that could stop for the next one, and where; `n_shared` tokens it gets from others.
    fn find_to_stop(&self, next: &Sequence, n_shared: usize) -> Option<(RequestId, usize)> {
        if !self.kv.has_state() {
            return None;
        }
        let admission = next.admission();
        let running = self.live.values().filter(|live| live.fork_point.is_none());
        let points = running.filter_map(|live| {
            let Computing { text, whose, .. } = live.computing();
            let n = self.kv.n_worth_a_state(&admission, text, whose);
            let n_before = live.n_computed.max(live.n_shared).max(n_shared);
            (n > n_before).then_some((n, live.sequence.id))
        });
        points.max().map(|(n, id)| (id, n))
    }

    /// Where a sequence that begins with `n_shared` tokens of others stops for those that begin as it does.
    fn fork_point(&self, sequence: &Sequence, n_shared: usize) -> Option<usize> {
        if !self.kv.has_state() {
            return None;
        }
        let live = self.live.values().map(|live| &live.sequence);
        let others = live.chain(self.queue.requests().take(MAX_COMPARED));
        let others = others.filter(|other| other.id != sequence.id);
        // The last token's row is everybody's own.
        let others = others.map(|other| (&other.tokens[..other.tokens.len() - 1], other.whose()));
        self.kv.fork_point(&sequence.admission(), n_shared, others)
    }

    /// Whether there are cells for its text, and for what it and those that run are expected to become.
    /// Where nobody runs, there are.
    fn is_expected_to_fit(&self, sequence: &Sequence, found: Option<Found>) -> bool {
        if self.live.is_empty() {
            return true;
        }
        let running = self.live.values().map(|live| &live.sequence);
        let n_more: usize = running.chain([sequence]).map(|s| self.n_expected(s)).sum();
        let n_live = self.kv.n_live_with(found, sequence.tokens.len());
        n_live + n_more <= self.config.engine.n_ctx as usize
    }

    /// Tokens that an answer is expected to get.
    pub(super) fn n_expected(&self, sequence: &Sequence) -> usize {
        let n_done = sequence.n_answer();
        self.lengths.expected(n_done, sequence.n_left())
    }

    fn begin(&mut self, sequence: Sequence, place: Place, now: Instant) {
        let is_new = sequence.n_preempted == 0;
        // The draft model would have to read every part of an answer from its beginning, while the
        // stages have enough to do.
        let available = Available {
            model: self.sources.available.model && !self.is_under_way(sequence.answer),
            ..self.sources.available
        };
        let id = sequence.id;
        let fork_point = self.fork_point(&sequence, place.n_shared);
        let mut live = Live::new(sequence, place, available, now);
        live.fork_point = fork_point;
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
            let found = self.find(sequence, |other| placed.contains(&other));
            match self.kv.place(found, sequence.tokens.len()) {
                Some(place) => {
                    placed.insert(id);
                    let fork_point = self.fork_point(sequence, place.n_shared);
                    if let Some(live) = self.live.get_mut(&id) {
                        live.put(place);
                        live.fork_point = fork_point;
                    }
                }
                None => self.wait_again(id),
            }
        }
    }
}
