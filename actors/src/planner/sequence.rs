//! The sequences that the Planner holds: their accepted tokens are the only state that has to
//! survive a fault.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jupiter_models::sampling::SamplingParams;
use jupiter_models::{KvOp, SequenceId, Token};

use super::pacing::Pacing;
use super::speculator::{Available, Drafted, Speculator, Took};
use crate::RequestId;
use crate::message::{DraftReply, DraftRequest, SequenceOpen};
use crate::request::{
    EventSink, ExpandRequest, GenerateRequest, LengthLimit, RequestError, StreamEvent,
};
use crate::speculation::Result;
use crate::speculation::draft::DraftLimits;
use crate::speculation::inflight::InFlight;
use crate::speculation::tree::DraftTree;

/// A request that waits for room.
pub(super) struct Waiting {
    pub(super) asked: Asked,
    pub(super) since: Instant,
}

/// What a client asks.
pub(super) enum Asked {
    Answer(GenerateRequest, EventSink),
    Branches(ExpandRequest, EventSink),
}

impl Waiting {
    pub(super) fn id(&self) -> RequestId {
        match &self.asked {
            Asked::Answer(request, _) => request.id,
            Asked::Branches(request, _) => request.id,
        }
    }

    /// The request that it goes on from.
    pub(super) fn follows(&self) -> Option<RequestId> {
        match &self.asked {
            Asked::Answer(request, _) => request.follows,
            Asked::Branches(request, _) => request.follows,
        }
    }

    /// Whether nobody waits for it.
    pub(super) fn is_closed(&self) -> bool {
        let (Asked::Answer(_, sink) | Asked::Branches(_, sink)) = &self.asked;
        sink.is_closed()
    }

    /// Ends it with an error; a client that is gone needs no word of it.
    pub(super) fn fail(self, error: &RequestError) {
        let failed = |sink: &EventSink| {
            let _ = sink.send(StreamEvent::Failed(error.clone()));
        };
        match self.asked {
            Asked::Answer(_, sink) => failed(&sink),
            Asked::Branches(request, sink) => {
                failed(&sink);
                for branch in request.branches {
                    failed(&branch.sink);
                }
            }
        }
    }
}

/// What a sequence is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A request by itself.
    Whole,
    /// What the branches of a request share. It has no answer of its own.
    Shared,
    /// A branch.
    Branch {
        /// The request.
        of: RequestId,
        /// The sequence that holds what it shares.
        base: SequenceId,
        n_shared: usize,
        /// Whether it has these cells in this epoch.
        is_forked: bool,
    },
}

/// A request that is being computed.
pub(super) struct Sequence {
    pub(super) seq: SequenceId,
    pub(super) request: RequestId,
    pub(super) role: Role,
    pub(super) sink: EventSink,
    /// The prompt, then the accepted tokens.
    pub(super) tokens: Vec<Token>,
    pub(super) n_prompt: usize,
    /// Tokens of the prompt that were in the KV cache already.
    pub(super) n_cached: usize,
    /// The answer ends when `tokens` is as long as this.
    pub(super) n_max: usize,
    /// What is used up then.
    pub(super) limit: LengthLimit,
    /// Whether `n_max` grows as long as cells are free.
    pub(super) grows: bool,
    pub(super) sampling: SamplingParams,
    pub(super) ignore_eos: bool,
    pub(super) cache_prompt: bool,
    /// Whether its cells are held when it is complete.
    pub(super) holds: bool,
    /// Tokens whose rows were sent in this epoch and are not known to be dead.
    pub(super) n_sent: usize,
    /// Steps under way whose rows are judged.
    pub(super) steps: InFlight,
    pub(super) speculator: Speculator,
    /// What the draft model was told of the text and of guesses behind it.
    told: Vec<Token>,
    n_wishes: u32,
    /// Since when the sequence waits for the draft model.
    wished: Option<Instant>,
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
    /// In slot `seq`, whose rows had generations below `generation` in this epoch.
    pub(super) fn new(
        (seq, generation): (SequenceId, u32),
        request: GenerateRequest,
        sink: EventSink,
        n_max: usize,
        available: Available,
        now: Instant,
    ) -> Self {
        let speculator = Speculator::new(
            request.speculation.unwrap_or_default(),
            available,
            &request.prompt,
        );
        Self {
            seq,
            request: request.id,
            role: Role::Whole,
            sink,
            n_prompt: request.prompt.len(),
            tokens: request.prompt,
            n_cached: 0,
            n_max,
            limit: LengthLimit::NPredict,
            grows: false,
            sampling: request.sampling,
            ignore_eos: request.ignore_eos,
            cache_prompt: request.cache_prompt,
            holds: request.holds,
            n_sent: 0,
            steps: InFlight::new(seq, generation),
            speculator,
            told: Vec::new(),
            n_wishes: 0,
            wished: None,
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

    /// KV cells that it may come to need, beside those that it shares.
    pub(super) fn n_reserved(&self) -> usize {
        self.n_max - self.n_shared()
    }

    /// Tokens whose cells are another sequence's.
    fn n_shared(&self) -> usize {
        match self.role {
            Role::Branch { n_shared, .. } => n_shared,
            Role::Whole | Role::Shared => 0,
        }
    }

    /// Whether it stands for a request, not for a branch of one.
    pub(super) fn is_request(&self) -> bool {
        !matches!(self.role, Role::Branch { .. })
    }

    /// Whether its prompt was sent in this epoch.
    pub(super) fn has_cells(&self) -> bool {
        self.opened || self.role == Role::Shared
    }

    /// Tokens that no row was sent for.
    pub(super) fn n_unsent(&self) -> usize {
        self.tokens.len() - self.n_sent
    }

    /// Whether what it shares is there; `bases` are the sequences that hold all that others share
    /// with them.
    pub(super) fn may_begin(&self, bases: &[SequenceId]) -> bool {
        match &self.role {
            Role::Branch {
                base, is_forked, ..
            } => *is_forked || bases.contains(base),
            Role::Whole | Role::Shared => true,
        }
    }

    /// Whether it is a branch whose first rows may go now.
    pub(super) fn is_beginning(&self, bases: &[SequenceId]) -> bool {
        let is_unforked = matches!(self.role, Role::Branch { is_forked, .. } if !is_forked);
        is_unforked && self.may_begin(bases)
    }

    /// Whether it is a branch whose first rows may go now, or have gone and brought no token yet.
    pub(super) fn is_begun(&self, bases: &[SequenceId]) -> bool {
        let has_no_answer = !self.is_request() && !self.has_answer() && self.may_begin(bases);
        has_no_answer || self.is_beginning(bases)
    }

    /// Tokens that it does not share.
    pub(super) fn n_own(&self) -> usize {
        self.tokens.len() - self.n_shared()
    }

    /// KV cells that it uses beside those that it shares.
    pub(super) fn n_cells(&self) -> usize {
        match self.role {
            Role::Branch { n_shared, .. } => self.n_sent.saturating_sub(n_shared),
            Role::Whole | Role::Shared => self.n_sent,
        }
    }

    /// What gives a branch the cells that it shares, before its first rows.
    pub(super) fn fork(&mut self) -> Option<KvOp> {
        let Role::Branch {
            base,
            n_shared,
            is_forked,
            ..
        } = &mut self.role
        else {
            return None;
        };
        if std::mem::replace(is_forked, true) {
            return None;
        }
        (self.n_sent, self.n_cached) = (*n_shared, *n_shared);
        Some(KvOp::Fork {
            src: *base,
            dst: self.seq,
            len: *n_shared as u32,
        })
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

    /// Whether a step of guesses may go behind those that are under way.
    pub(super) fn may_go_ahead(&self) -> bool {
        let n_live = self.steps.n_live();
        let is_behind = self.has_answer() && self.n_unsent() == 0 && n_live > 0;
        is_behind && n_live < self.speculator.n_in_flight()
    }

    /// The guesses of its next step of at most `n_rows` rows.
    pub(super) fn draft(&mut self, n_rows: usize) -> Drafted {
        let is_first = self.steps.n_live() == 0;
        let ahead = self.steps.ahead();
        // The last token of the answer is never guessed: a guess is followed by a token at least.
        let left = (self.n_max - self.tokens.len()).saturating_sub(1 + ahead.len());
        let room = left.min(n_rows - usize::from(is_first));
        let n_text = self.tokens.len();
        self.speculator.draft(n_text, &ahead, is_first, room)
    }

    /// What the draft model is asked for.
    pub(super) fn wish(&mut self, limits: DraftLimits, now: Instant) -> DraftRequest {
        self.wished = Some(now);
        let ahead = self.steps.ahead();
        self.draft_request(&ahead, limits)
    }

    /// The text so far for the draft model, if it guesses for this sequence.
    pub(super) fn tell_drafter(&mut self) -> Option<DraftRequest> {
        let nothing = DraftLimits { depth: 0, lines: 0 };
        self.speculator
            .uses_model()
            .then(|| self.draft_request(&[], nothing))
    }

    fn draft_request(&mut self, ahead: &[Token], limits: DraftLimits) -> DraftRequest {
        let text = [&self.tokens[..], ahead].concat();
        let same = self.told.iter().zip(&text);
        let from = same.take_while(|(told, token)| told == token).count();
        self.n_wishes += 1;
        self.told = text;
        DraftRequest {
            request: self.request,
            wish: self.n_wishes,
            from: from as u32,
            tokens: self.told[from..].to_vec(),
            depth: limits.depth as u32,
            width: limits.lines as u32,
        }
    }

    /// Takes the draft model's guesses; late ones are dropped.
    ///
    /// # Errors
    /// For guesses that cannot be.
    pub(super) fn take_guesses(&mut self, reply: &DraftReply, now: Instant) -> Result<()> {
        if reply.wish != self.n_wishes {
            return Ok(());
        }
        let is_current = self.told.len() == self.tokens.len() + self.steps.ahead().len();
        // What it has forgotten is told again.
        self.told.truncate(reply.n_known as usize);
        let Some(since) = self.wished.take().filter(|_| is_current) else {
            return Ok(());
        };
        let mut tree = DraftTree::new();
        for guess in &reply.guesses {
            let parent = guess.parent.map(usize::from);
            tree.push(parent, guess.token, Some(f64::from(guess.probability)))?;
        }
        let took = Took {
            busy: Duration::from_micros(reply.busy_us),
            all: now.duration_since(since),
        };
        self.speculator.model_drafted(tree, took);
        Ok(())
    }

    /// The draft model's guesses do not come: the next step goes without.
    pub(super) fn give_up_wish(&mut self) {
        self.wished = None;
        self.told.clear();
        self.speculator
            .model_drafted(DraftTree::new(), Took::default());
    }

    /// Since when it waits for the draft model.
    pub(super) fn wished_since(&self) -> Option<Instant> {
        self.wished
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
            rule: self.speculator.params().rule,
        })
    }

    /// Makes the sequence start over in a new epoch: all that was accepted is computed again.
    pub(super) fn rewind(&mut self) {
        if self.n_sent > 0 {
            self.n_replays += 1;
            self.n_stalled += 1;
        }
        self.n_sent = 0;
        self.steps = InFlight::new(self.seq, 0);
        self.wished = None;
        self.speculator.forget_wishes();
        self.chunks = None;
        self.n_chunks_behind = 0;
        self.opened = false;
        if let Role::Branch { is_forked, .. } = &mut self.role {
            *is_forked = false;
        }
    }
}

/// The end of the prompt that the repeat penalty may look at (all of it for -1, as llama.cpp).
fn penalty_window<'a>(prompt: &'a [Token], sampling: &SamplingParams) -> &'a [Token] {
    let window = usize::try_from(sampling.repeat_last_n).unwrap_or(prompt.len());
    &prompt[prompt.len().saturating_sub(window)..]
}
