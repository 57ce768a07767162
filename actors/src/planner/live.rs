//! A sequence that has a slot: how much of it is computed, and what is due next.
//!
//! ```text
//! Unforked --its base is complete--> Prefill --its last chunk is sent--> Decode: a branch, a request
//!                                    Prefill --its last chunk is sent--> Base: what branches share
//! any --a new epoch: all is computed again--> Unforked (a branch) or Prefill
//! ```

use std::collections::VecDeque;
use std::time::Instant;

use jupiter_models::{SequenceId, Token};

use super::batching::chunking::Chunking;
use super::drafting::Drafting;
use super::drafting::speculator::{Available, Drafted};
use super::kv::{Hold, Leaving, Place};
use super::sequence::Sequence;
use crate::StepId;
use crate::message::SequenceOpen;
use crate::speculation::inflight::InFlight;

/// What is due next of a live sequence.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// A branch without the cells that it shares.
    Unforked,
    /// Chunks of its text.
    Prefill {
        /// Planned rows of the chunks still to be sent; none before the first.
        chunks: Option<VecDeque<u32>>,
    },
    /// All before the last token is computed or under way: each step brings tokens.
    Decode {
        /// Chunks of other texts that were sent after its last row.
        n_chunks_behind: u32,
    },
    /// All is computed or under way, for its branches.
    Base,
}

const PREFILL: Phase = Phase::Prefill { chunks: None };

/// A sequence and what it has while it runs.
pub(super) struct Live {
    pub(super) sequence: Sequence,
    pub(super) seq: SequenceId,
    /// The slot that holds what it shares.
    pub(super) base: Option<SequenceId>,
    pub(super) phase: Phase,
    /// The text ends when it is as long as this.
    pub(super) n_max: usize,
    /// Tokens whose rows were sent in this epoch and are not known to be dead; the last ones may be
    /// under way.
    pub(super) n_computed: usize,
    /// Steps under way with chunks of it, and where in the text these end.
    chunks: VecDeque<(StepId, usize)>,
    /// Tokens that are computed: the last chunk that was reported ends there.
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
        base: Option<SequenceId>,
        available: Available,
        now: Instant,
    ) -> Self {
        (sequence.admitted, sequence.n_cached) = (now, place.n_cached);
        Self {
            seq: place.seq,
            base,
            phase: first_phase(base),
            n_max: sequence.n_shared() + sequence.n_cells,
            n_computed: place.n_cached,
            chunks: VecDeque::new(),
            n_reported: place.n_cached,
            steps: InFlight::new(place.seq, place.generation),
            drafting: Drafting::new(&sequence, available),
            is_open: false,
            sequence,
        }
    }

    /// Makes it start over in a new epoch: all that was accepted is computed again.
    pub(super) fn rewind(&mut self) {
        if self.n_computed > 0 {
            self.sequence.n_replays += 1;
            self.sequence.n_stalled += 1;
        }
        self.phase = first_phase(self.base);
        self.n_computed = 0;
        self.chunks.clear();
        self.n_reported = 0;
        self.steps = InFlight::new(self.seq, 0);
        self.drafting.rewind();
        self.is_open = false;
    }

    /// KV cells that it may come to fill, beside those that it shares.
    pub(super) fn n_reserved(&self) -> usize {
        self.n_max - self.sequence.n_shared()
    }

    /// KV cells that it fills beside those that it shares.
    pub(super) fn n_cells(&self) -> usize {
        self.n_computed.saturating_sub(self.sequence.n_shared())
    }

    /// Tokens that no row was sent for.
    pub(super) fn n_uncomputed(&self) -> usize {
        self.sequence.tokens.len() - self.n_computed
    }

    /// Whether it goes on with a step that brings tokens, now or when one that is under way is back.
    pub(super) fn is_answering(&self) -> bool {
        matches!(self.phase, Phase::Decode { .. }) && self.sequence.has_answer()
    }

    /// Whether a step that brings tokens may go now: the last token's, or guesses behind those under way.
    pub(super) fn is_due(&self) -> bool {
        let n_live = self.steps.n_live();
        let may_go_ahead = n_live > 0 && n_live < self.drafting.speculator.n_in_flight();
        self.is_answering() && (self.n_uncomputed() == 1 || may_go_ahead)
    }

    /// Whether the answer is as long as it may become.
    pub(super) fn is_full(&self) -> bool {
        !self.sequence.is_base() && self.sequence.tokens.len() >= self.n_max
    }

    /// The cells that it shares are its own from now on, when it has not had them before; how many.
    pub(super) fn fork(&mut self) -> Option<(SequenceId, usize)> {
        let base = self.base.filter(|_| self.phase == Phase::Unforked)?;
        let n_shared = self.sequence.n_shared();
        (self.n_computed, self.n_reported, self.sequence.n_cached) = (n_shared, n_shared, n_shared);
        self.phase = PREFILL;
        Some((base, n_shared))
    }

    /// Rows of its next chunk, at most `room`; none where no chunk is due.
    pub(super) fn next_chunk(&mut self, chunking: &Chunking, room: usize) -> Option<usize> {
        let n_uncomputed = self.n_uncomputed();
        let Phase::Prefill { chunks } = &mut self.phase else {
            return None;
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
            self.phase = match self.sequence.is_base() {
                true => Phase::Base,
                false => Phase::Decode { n_chunks_behind: 0 },
            };
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

    /// Whether chunks under way are of no use when it ends now. Where others may have been forked from
    /// them, branches or trees of guesses, they are to be computed.
    pub(super) fn has_dead_chunks(&self) -> bool {
        let is_its_own = match self.phase {
            Phase::Prefill { .. } => true,
            Phase::Decode { .. } => !self.sequence.has_answer(),
            Phase::Unforked | Phase::Base => false,
        };
        is_its_own && !self.chunks.is_empty()
    }

    /// The guesses of its next step of at most `n_rows` rows.
    pub(super) fn draft(&mut self, n_rows: usize) -> Drafted {
        let is_first = self.steps.n_live() == 0;
        let ahead = self.steps.ahead();
        let n_text = self.sequence.tokens.len();
        // The last token of the answer is never guessed: a guess is followed by a token at least.
        let left = (self.n_max - n_text).saturating_sub(1 + ahead.len());
        let room = left.min(n_rows - usize::from(is_first));
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

    /// Gives up what is under way; what its slot holds then.
    pub(super) fn leaving(&mut self, hold: Option<Hold>) -> Leaving {
        // Stages may leave out what is under way.
        let is_under_way = usize::from(self.steps.n_live() > 0);
        let n_certain = self.sequence.tokens.len() - is_under_way;
        let mut n_computed = self.n_computed.min(n_certain);
        let has_dead_chunks = self.has_dead_chunks();
        if has_dead_chunks {
            n_computed = n_computed.min(self.n_reported);
        }
        let is_untidy = self.steps.is_untidy() || has_dead_chunks;
        let lent = self.steps.abandon();
        Leaving {
            generation: self.steps.generation(),
            lent,
            tokens: self.sequence.tokens[..n_computed].to_vec(),
            is_untidy,
            hold,
            is_cached: self.sequence.cache_prompt,
        }
    }
}

fn first_phase(base: Option<SequenceId>) -> Phase {
    match base {
        Some(_) => Phase::Unforked,
        None => PREFILL,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use jupiter_models::Token;
    use tokio::sync::mpsc::unbounded_channel;

    use super::super::core::tests::config;
    use super::*;
    use crate::RequestId;
    use crate::request::{Branch, ForkRequest, GenerateRequest};

    const DECODE: Phase = Phase::Decode { n_chunks_behind: 0 };

    /// A base of 4 tokens and a branch of 3 more.
    fn forked() -> (Sequence, Sequence) {
        let request = GenerateRequest::new(RequestId(2), (0..7).collect());
        let sink = unbounded_channel().0;
        let request = ForkRequest::new(RequestId(1), 4, vec![Branch { request, sink }]);
        let sink = unbounded_channel().0;
        let (base, mut branches) = Sequence::forked(request, sink, &config(), Instant::now());
        (base, branches.remove(0))
    }

    fn live(sequence: Sequence, seq: u32, base: Option<SequenceId>) -> Live {
        let place = Place {
            seq: SequenceId(seq),
            generation: 3,
            n_cached: 0,
        };
        Live::new(sequence, place, base, Available::default(), Instant::now())
    }

    /// Sends chunks of at most 2 rows until none is due; their sizes.
    fn prefill(live: &mut Live) -> Vec<usize> {
        let chunking = Chunking::equal(2);
        std::iter::from_fn(|| {
            let n_rows = live.next_chunk(&chunking, 2)?;
            live.chunk_sent(StepId(0), live.n_computed + n_rows);
            Some(n_rows)
        })
        .collect()
    }

    #[test]
    fn a_base_stays_for_its_branches_and_a_branch_begins_with_its_cells() {
        let (base, branch) = forked();
        let mut base = live(base, 0, None);
        assert_eq!(prefill(&mut base), [2, 2]);
        assert_eq!(base.phase, Phase::Base);
        let mut branch = live(branch, 3, Some(base.seq));
        assert_eq!(prefill(&mut branch), [0; 0], "not before it is forked");
        assert_eq!(branch.fork(), Some((base.seq, 4)));
        assert_eq!(branch.fork(), None, "once");
        assert_eq!(prefill(&mut branch), [2, 1]);
        assert_eq!((&branch.phase, branch.n_cells()), (&DECODE, 3));
        branch.rewind();
        assert_eq!(branch.phase, Phase::Unforked);
        assert_eq!((branch.n_cells(), branch.sequence.n_replays), (0, 1));
    }

    #[test]
    fn a_replayed_answer_goes_on_with_its_last_token() {
        let request = GenerateRequest::new(RequestId(1), vec![1; 3]);
        let sink = unbounded_channel().0;
        let whole = Sequence::whole(request, sink, &config(), Instant::now());
        let mut live = live(whole, 0, None);
        assert_eq!(prefill(&mut live), [2, 1]);
        assert_eq!(live.phase, DECODE);
        assert!(!live.is_answering(), "it has no token yet");
        live.sequence.tokens.extend([8, 9]);
        live.rewind();
        assert_eq!(prefill(&mut live), [2, 2]);
        assert!(live.is_due());
    }

    #[test]
    fn what_is_under_way_is_not_left_behind() {
        let request = GenerateRequest::new(RequestId(1), vec![1; 6]);
        let sink = unbounded_channel().0;
        let whole = Sequence::whole(request, sink, &config(), Instant::now());
        let mut live = live(whole, 0, None);
        live.chunk_sent(StepId(0), 4);
        live.chunks_reported(StepId(0));
        let until = Instant::now() + Duration::from_secs(1);
        let of = RequestId(1);
        let left = live.leaving(Some(Hold { of, until }));
        assert_eq!((left.tokens.len(), left.is_untidy), (4, false));
        live.chunk_sent(StepId(1), 6);
        let text: Vec<Token> = live.sequence.tokens.clone();
        live.steps.send(0, &text, &Default::default(), &[]).unwrap();
        let left = live.leaving(None);
        assert_eq!(
            (left.tokens.len(), left.is_untidy),
            (4, true),
            "nor is a chunk"
        );
        assert!(left.generation > 3);
    }
}
