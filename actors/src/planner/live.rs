//! A sequence that has a slot: how much of it is computed, and what is due next.
//!
//! ```text
//! Unforked --its base has what both begin with--> Prefill --its last chunk is sent--> Decode
//! any --a new epoch: all is computed again--> Unforked or Prefill
//! any --preempted--> the queue
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use jupiter_models::{SequenceId, Token};

use super::batching::chunking::Chunking;
use super::drafting::Drafting;
use super::drafting::speculator::{Available, Drafted};
use super::kv::{Computing, Leaving, Place};
use super::sequence::Sequence;
use crate::StepId;
use crate::message::SequenceOpen;
use crate::speculation::inflight::InFlight;

/// What is due next of a live sequence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Without the cells that another sequence computes for it.
    Unforked,
    /// Chunks of its text.
    Prefill {
        /// Planned rows of the chunks still to be sent; none before the first.
        chunks: Option<VecDeque<u32>>,
    },
    /// All before the last token is computed or under way: each step brings tokens.
    Decode,
}

const PREFILL: Phase = Phase::Prefill { chunks: None };

/// A sequence and what it has while it runs.
pub(super) struct Live {
    pub(super) sequence: Sequence,
    pub(super) seq: SequenceId,
    /// The slot of the sequence that computes what both begin with, until it is forked.
    pub(super) base: Option<SequenceId>,
    /// Tokens whose cells it got, or gets, from others.
    pub(super) n_shared: usize,
    /// Tokens after which its state is kept for others that begin so, and goes to those that wait for it.
    pub(super) fork_point: Option<usize>,
    pub(super) phase: Phase,
    /// Tokens whose rows were sent in this epoch and are not known to be dead; the last ones may be
    /// under way.
    pub(super) n_computed: usize,
    /// Steps under way with chunks of it, and where in the text these end.
    chunks: VecDeque<(StepId, usize)>,
    /// Where the last chunk ends that was reported, or what it got from others.
    n_reported: usize,
    /// Steps under way whose rows are judged.
    pub(super) steps: InFlight,
    pub(super) drafting: Drafting,
    /// Whether the Verifier knows it in this epoch.
    is_open: bool,
}

impl Live {
    pub(super) fn new(
        mut sequence: Sequence,
        place: Place,
        available: Available,
        now: Instant,
    ) -> Self {
        // One that was preempted has computed all of its prompt itself before.
        if sequence.n_preempted == 0 {
            (sequence.admitted, sequence.n_cached) = (now, place.n_shared);
        }
        let mut drafting = match sequence.drafting.take() {
            Some(drafting) => drafting,
            None => Drafting::new(&sequence, available),
        };
        if sequence.n_preempted > 0 {
            drafting.rewind();
            drafting.speculator.restrict(available);
        }
        let mut live = Self {
            seq: place.seq,
            base: None,
            n_shared: 0,
            fork_point: None,
            phase: PREFILL,
            n_computed: 0,
            chunks: VecDeque::new(),
            n_reported: 0,
            steps: InFlight::new(place.seq, place.generation),
            drafting,
            is_open: false,
            sequence,
        };
        live.put(place);
        live
    }

    /// Makes it start over in a new epoch: all that was accepted is computed again.
    pub(super) fn rewind(&mut self) {
        self.sequence.n_replays += u32::from(self.n_computed > 0);
        // What it waits for is as much in the way of its tokens.
        self.sequence.n_stalled += u32::from(self.n_computed > 0 || self.base.is_some());
        (self.phase, self.base) = (PREFILL, None);
        (self.n_shared, self.n_computed, self.fork_point) = (0, 0, None);
        self.chunks.clear();
        self.steps = InFlight::new(self.seq, 0);
        self.drafting.rewind();
        self.is_open = false;
    }

    /// It goes on in this slot, with what is there of its text.
    pub(super) fn put(&mut self, place: Place) {
        self.seq = place.seq;
        self.steps = InFlight::new(place.seq, place.generation);
        (self.base, self.n_shared) = (place.base, place.n_shared);
        (self.phase, self.n_computed) = match place.base {
            Some(_) => (Phase::Unforked, 0),
            None => (PREFILL, place.n_shared),
        };
        self.n_reported = self.n_computed;
    }

    /// Its base ends, and has computed `n_computed` of what both begin with: that is forked, and the rest
    /// is its own to compute.
    pub(super) fn inherit(&mut self, n_computed: usize) {
        (self.phase, self.base) = (PREFILL, None);
        (self.n_shared, self.n_computed, self.n_reported) = (n_computed, n_computed, n_computed);
        if !self.sequence.has_answer() {
            self.sequence.n_cached = self.sequence.n_cached.min(n_computed);
        }
    }

    /// Its first `n_shared` tokens are computed by another sequence from now on.
    pub(super) fn rebase(&mut self, base: SequenceId, n_shared: usize) {
        (self.base, self.n_shared) = (Some(base), n_shared);
    }

    /// What others may go on from: cells that are computed, or will be while it is live. The row of the
    /// last token is sent only when there is room for one more, and may be left out.
    pub(super) fn computing(&self) -> Computing<'_> {
        let tokens = &self.sequence.tokens;
        Computing {
            seq: self.seq,
            text: &tokens[..tokens.len() - 1],
            n_computed: self.n_computed,
            whose: self.sequence.whose(),
            n_max: self.sequence.n_max,
            fork_point: self.fork_point,
        }
    }

    /// The first tokens of its text, where these and no more are computed or under way, and others begin
    /// with them.
    pub(super) fn reach_fork_point(&mut self) -> Option<Vec<Token>> {
        let n = self.fork_point.take_if(|n| self.n_computed >= *n)?;
        let is_there = self.n_computed == n && self.base.is_none();
        is_there.then(|| self.sequence.tokens[..n].to_vec())
    }

    /// Tokens that it does not get from others.
    pub(super) fn n_own(&self) -> usize {
        self.sequence.tokens.len() - self.n_shared
    }

    /// Tokens for which it has cells when the next row without guesses is sent; none: none is due.
    pub(super) fn n_next(&self) -> Option<usize> {
        let is_next = self.is_answering() && self.steps.n_live() == 0;
        is_next.then_some(self.sequence.tokens.len())
    }

    /// Tokens that no row was sent for.
    pub(super) fn n_uncomputed(&self) -> usize {
        self.sequence.tokens.len() - self.n_computed
    }

    /// Whether it goes on with a step that brings tokens, now or when one that is under way is back.
    pub(super) fn is_answering(&self) -> bool {
        self.phase == Phase::Decode && self.sequence.has_answer()
    }

    /// Whether a step that brings tokens may go now: the last token's, or guesses behind those under way.
    pub(super) fn is_due(&self) -> bool {
        let n_live = self.steps.n_live();
        let may_go_ahead = n_live > 0 && n_live < self.drafting.speculator.n_in_flight();
        self.is_answering() && (self.n_uncomputed() == 1 || may_go_ahead)
    }

    /// Whether rows of it may go now, if there is room.
    pub(super) fn may_send(&self) -> bool {
        self.phase != Phase::Decode || self.is_due()
    }

    /// Whether the answer is as long as it may become.
    pub(super) fn is_full(&self) -> bool {
        self.sequence.n_left() == 0
    }

    /// The cells that its base computed are its own, too, from now on, when it has not had them before;
    /// how many.
    pub(super) fn fork(&mut self) -> Option<(SequenceId, usize)> {
        let base = self.base.take()?;
        (self.phase, self.n_computed) = (PREFILL, self.n_shared);
        self.n_reported = self.n_shared;
        Some((base, self.n_shared))
    }

    /// Rows of its next chunk, at most `room`; none where no chunk is due. Without `chunking` it fills the
    /// room, and what is left is planned anew.
    pub(super) fn next_chunk(&mut self, chunking: Option<&Chunking>, room: usize) -> Option<usize> {
        let n_uncomputed = self.n_uncomputed();
        let n_before = self.fork_point.map(|n| n.saturating_sub(self.n_computed));
        let room = n_before.filter(|&n| n > 0).map_or(room, |n| n.min(room));
        let Phase::Prefill { chunks } = &mut self.phase else {
            return None;
        };
        let Some(chunking) = chunking else {
            *chunks = None;
            return Some(room.min(n_uncomputed));
        };
        let chunks = chunks.get_or_insert_with(|| chunking.chunks(n_uncomputed));
        let planned = chunks.front().map_or(room, |&rows| rows as usize);
        let taken = planned.min(room);
        // What did not fit goes as a chunk of its own.
        match chunks.front_mut() {
            Some(rest) if taken < planned => *rest -= taken as u32,
            _ => _ = chunks.pop_front(),
        }
        Some(taken.min(n_uncomputed))
    }

    /// A chunk was sent, up to the token `end`.
    pub(super) fn chunk_sent(&mut self, step: StepId, end: usize) {
        self.n_computed = end;
        self.chunks.push_back((step, end));
        // The last token of an answer that is replayed brings the next one, perhaps with guesses.
        let n_decoded = usize::from(self.sequence.has_answer());
        if self.n_uncomputed() <= n_decoded {
            self.phase = Phase::Decode;
        }
    }

    /// All up to this step is computed.
    pub(super) fn chunks_reported(&mut self, step: StepId) {
        while self.chunks.front().is_some_and(|&(sent, _)| sent <= step)
            && let Some((_, end)) = self.chunks.pop_front()
        {
            self.n_reported = end;
        }
    }

    /// Tokens that are computed where the chunks under way are of no use to it when it ends; none: it has
    /// none, or trees of guesses may have been forked from them.
    pub(super) fn n_before_chunks(&self) -> Option<usize> {
        let has_guesses = self.phase == Phase::Decode && self.sequence.has_answer();
        (!has_guesses && !self.chunks.is_empty()).then_some(self.n_reported)
    }

    /// The chunks under way are dead.
    pub(super) fn drop_chunks(&mut self) {
        self.n_computed = self.n_computed.min(self.n_reported);
        self.chunks.clear();
    }

    /// The guesses of its next step of at most `n_rows` rows.
    pub(super) fn draft(&mut self, n_rows: usize) -> Drafted {
        let n_left = self.sequence.n_left();
        let is_first = self.steps.n_live() == 0;
        let ahead = self.steps.ahead();
        let n_text = self.sequence.tokens.len();
        // The last token of the answer is never guessed: a guess is followed by a token at least.
        let left = n_left.saturating_sub(1 + ahead.len());
        let room = left.min(n_rows.saturating_sub(usize::from(is_first)));
        self.drafting
            .speculator
            .draft(n_text, &ahead, is_first, room)
    }

    /// The text, with the guesses under way behind it.
    pub(super) fn text_ahead(&self) -> Vec<Token> {
        [&self.sequence.tokens[..], &self.steps.ahead()].concat()
    }

    /// What the Verifier has to know, the first time in an epoch.
    pub(super) fn open(&mut self) -> Option<SequenceOpen> {
        if std::mem::replace(&mut self.is_open, true) {
            return None;
        }
        let sequence = &self.sequence;
        let (prompt, generated) = sequence.prompt_and_answer();
        Some(SequenceOpen {
            seq: self.seq,
            sampling: sequence.sampling.clone(),
            prompt: prompt.to_vec(),
            generated: generated.to_vec(),
            ignore_eos: sequence.ignore_eos,
            rule: sequence.speculation.rule,
        })
    }

    /// Gives up what is under way; what its slot holds then, and stays there if it `is_kept`.
    pub(super) fn leaving(&mut self, is_kept: bool) -> Leaving {
        // Stages may leave out what is under way.
        let is_under_way = usize::from(self.steps.n_live() > 0);
        let n_certain = self.sequence.tokens.len() - is_under_way;
        let n_computed = self.n_computed.min(n_certain);
        let lent = self.steps.abandon();
        Leaving {
            generation: self.steps.generation(),
            lent,
            last_chunk: self.chunks.back().map(|&(step, _)| step),
            tokens: self.sequence.tokens[..n_computed].to_vec(),
            whose: self.sequence.whose(),
            is_kept,
        }
    }
}

#[cfg(test)]
mod tests;
