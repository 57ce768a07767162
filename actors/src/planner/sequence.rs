//! The sequences that the Planner holds: their accepted tokens are the only state that has to
//! survive a fault.

use std::collections::VecDeque;
use std::time::Instant;

use jupiter_models::sampling::SamplingParams;
use jupiter_models::{SequenceId, Token};

use super::pacing::Pacing;
use crate::RequestId;
use crate::message::SequenceOpen;
use crate::request::{EventSink, GenerateRequest};

/// A request that waits for room.
pub(super) struct Waiting {
    pub(super) request: GenerateRequest,
    pub(super) sink: EventSink,
    pub(super) since: Instant,
}

/// A request that is being computed.
pub(super) struct Sequence {
    pub(super) seq: SequenceId,
    pub(super) request: RequestId,
    pub(super) sink: EventSink,
    /// The prompt, then the accepted tokens.
    pub(super) tokens: Vec<Token>,
    pub(super) n_prompt: usize,
    /// Tokens of the prompt that were in the KV cache already.
    pub(super) n_cached: usize,
    /// The answer ends when `tokens` is as long as this.
    pub(super) n_max: usize,
    pub(super) sampling: SamplingParams,
    pub(super) ignore_eos: bool,
    pub(super) cache_prompt: bool,
    /// Tokens whose rows were sent in this epoch.
    pub(super) n_sent: usize,
    /// Planned rows of the chunks still to be sent; none before the first, or where all are equal.
    chunks: Option<VecDeque<u32>>,
    /// Chunks of other prompts that were sent after its last row.
    pub(super) n_chunks_behind: u32,
    /// Whether the Verifier knows the sequence in this epoch.
    pub(super) opened: bool,
    pub(super) admitted: Instant,
    pub(super) first_token: Option<Instant>,
    pub(super) n_replays: u32,
    /// Replays since its last token.
    pub(super) n_stalled: u32,
    pub(super) usage: Usage,
}

/// Time of each stage's engine on one request, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    pub(super) prompt_us: Vec<f64>,
    pub(super) eval_us: Vec<f64>,
}

impl Sequence {
    pub(super) fn new(seq: SequenceId, waiting: Waiting, n_max: usize, now: Instant) -> Self {
        let Waiting { request, sink, .. } = waiting;
        Self {
            seq,
            request: request.id,
            sink,
            n_prompt: request.prompt.len(),
            tokens: request.prompt,
            n_cached: 0,
            n_max,
            sampling: request.sampling,
            ignore_eos: request.ignore_eos,
            cache_prompt: request.cache_prompt,
            n_sent: 0,
            chunks: None,
            n_chunks_behind: 0,
            opened: false,
            admitted: now,
            first_token: None,
            n_replays: 0,
            n_stalled: 0,
            usage: Usage::default(),
        }
    }

    /// Tokens that no row was sent for.
    pub(super) fn n_unsent(&self) -> usize {
        self.tokens.len() - self.n_sent
    }

    /// Whether the answer has begun.
    pub(super) fn has_answer(&self) -> bool {
        self.tokens.len() > self.n_prompt
    }

    /// Whether the answer has begun and all before its last token is computed or under way.
    pub(super) fn is_answering(&self) -> bool {
        self.has_answer() && self.n_unsent() <= 1
    }

    /// Rows of its next chunk, at most `room`.
    pub(super) fn next_chunk(&mut self, pacing: &Pacing, room: usize) -> usize {
        let n_unsent = self.n_unsent();
        let chunks = self.chunks.get_or_insert_with(|| pacing.chunks(n_unsent));
        let planned = chunks.front().map_or(room, |&rows| rows as usize);
        let taken = planned.min(room);
        // What did not fit goes as a chunk of its own.
        match chunks.front_mut() {
            Some(rest) if taken < planned => *rest -= taken as u32,
            _ => _ = chunks.pop_front(),
        }
        taken
    }

    /// Whether the next row is the one that brings the next token.
    pub(super) fn is_decoding(&self) -> bool {
        self.n_unsent() == 1 && self.has_answer()
    }

    /// What the Verifier has to know, the first time in an epoch.
    pub(super) fn open(&mut self) -> Option<SequenceOpen> {
        if std::mem::replace(&mut self.opened, true) {
            return None;
        }
        let (prompt, generated) = self.tokens.split_at(self.n_prompt);
        Some(SequenceOpen {
            seq: self.seq,
            sampling: self.sampling.clone(),
            prompt: penalty_window(prompt, &self.sampling).to_vec(),
            generated: generated.to_vec(),
            ignore_eos: self.ignore_eos,
        })
    }

    /// Makes the sequence start over in a new epoch: all that was accepted is computed again.
    pub(super) fn rewind(&mut self) {
        if self.n_sent > 0 {
            self.n_replays += 1;
            self.n_stalled += 1;
        }
        self.n_sent = 0;
        self.chunks = None;
        self.n_chunks_behind = 0;
        self.opened = false;
    }
}

/// The end of the prompt that the repeat penalty may look at (all of it for -1, as llama.cpp).
fn penalty_window<'a>(prompt: &'a [Token], sampling: &SamplingParams) -> &'a [Token] {
    let window = usize::try_from(sampling.repeat_last_n).unwrap_or(prompt.len());
    &prompt[prompt.len().saturating_sub(window)..]
}
