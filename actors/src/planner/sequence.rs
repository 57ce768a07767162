//! One text: what was asked, and its accepted tokens, the only state that has to survive a fault.
//!
//! ```text
//! waits in the Queue  --admitted: slot and cells-->  Live { Phase }  --complete, failed, gone-->
//!                    <--preempted: others need the cells--
//! ```
//! The same object waits and runs; what it has only while it runs is in [`Live`](super::live::Live).

use std::time::Instant;

use jupiter_models::Token;
use jupiter_models::sampling::SamplingParams;

use super::PlannerConfig;
use super::drafting::Drafting;
use super::kv::{Admission, Whose};
use super::queue::Turn;
use super::stats::Usage;
use crate::RequestId;
use crate::request::{
    ClientId, Deadline, EventSink, GenerateRequest, LengthLimit, Priority, SpeculationParams,
};

/// A text that waits or is being computed.
pub(super) struct Sequence {
    pub(super) id: RequestId,
    /// The answer that it is a part of, its own number where it is all of it.
    pub(super) answer: RequestId,
    pub(super) turn: Turn,
    pub(super) sink: EventSink,
    /// The prompt, then the accepted tokens.
    pub(super) tokens: Vec<Token>,
    pub(super) n_prompt: usize,
    /// The text ends when it is as long as this.
    pub(super) n_max: usize,
    /// What is used up then.
    pub(super) limit: LengthLimit,
    pub(super) sampling: SamplingParams,
    pub(super) ignore_eos: bool,
    pub(super) cache_prompt: bool,
    pub(super) priority: Priority,
    pub(super) deadline: Option<Deadline>,
    pub(super) client: ClientId,
    pub(super) speculation: SpeculationParams,
    pub(super) asked: Instant,
    /// When it got its slot.
    pub(super) admitted: Instant,
    pub(super) first_token: Option<Instant>,
    /// Tokens of the prompt that were in the KV cache already.
    pub(super) n_cached: usize,
    /// How often it gave up its cells to others.
    pub(super) n_preempted: u32,
    pub(super) n_replays: u32,
    /// Replays since its last token.
    pub(super) n_stalled: u32,
    pub(super) usage: Usage,
    /// How it guessed before it was preempted.
    pub(super) drafting: Option<Drafting>,
}

impl Sequence {
    pub(super) fn new(
        request: GenerateRequest,
        sink: EventSink,
        config: &PlannerConfig,
        now: Instant,
    ) -> Self {
        let n_ctx = config.engine.n_ctx as usize;
        let is_within = |n| request.prompt.len().saturating_add(n as usize) <= n_ctx;
        let limit = match request.n_predict.is_some_and(is_within) {
            true => LengthLimit::NPredict,
            false => LengthLimit::Context,
        };
        let n_max = n_max(request.prompt.len(), request.n_predict, config);
        let default = || config.speculation.clone();
        Self {
            id: request.id,
            answer: request.part_of.unwrap_or(request.id),
            turn: Turn::default(),
            sink,
            n_prompt: request.prompt.len(),
            tokens: request.prompt,
            n_max,
            limit,
            sampling: request.sampling,
            ignore_eos: request.ignore_eos,
            cache_prompt: request.cache_prompt,
            priority: request.priority,
            deadline: request.deadline,
            client: request.client,
            speculation: request.speculation.unwrap_or_else(default),
            asked: now,
            admitted: now,
            first_token: None,
            n_cached: 0,
            n_preempted: 0,
            n_replays: 0,
            n_stalled: 0,
            usage: Usage::default(),
            drafting: None,
        }
    }

    /// Whether the answer has begun.
    pub(super) fn has_answer(&self) -> bool {
        self.tokens.len() > self.n_prompt
    }

    /// Who may go on from what it computes.
    pub(super) fn whose(&self) -> Whose {
        Whose {
            answer: self.answer,
            is_open: self.cache_prompt,
        }
    }

    /// What has to be computed of it when it begins, or begins again.
    pub(super) fn admission(&self) -> Admission<'_> {
        Admission {
            text: &self.tokens,
            whose: self.whose(),
        }
    }

    /// Tokens of the answer so far.
    pub(super) fn n_answer(&self) -> usize {
        self.tokens.len() - self.n_prompt
    }

    /// Tokens that the answer may still get.
    pub(super) fn n_left(&self) -> usize {
        self.n_max.saturating_sub(self.tokens.len())
    }

    /// The prompt and the answer so far; of the prompt only what the repeat penalty may look at (all of
    /// it for -1, as llama.cpp).
    pub(super) fn prompt_and_answer(&self) -> (&[Token], &[Token]) {
        let (prompt, answer) = self.tokens.split_at(self.n_prompt);
        let window = usize::try_from(self.sampling.repeat_last_n).unwrap_or(prompt.len());
        (&prompt[prompt.len().saturating_sub(window)..], answer)
    }
}

/// Length at which a text ends. Without a limit of its own that is the context's.
fn n_max(n_prompt: usize, n_predict: Option<u32>, config: &PlannerConfig) -> usize {
    let n_ctx = config.engine.n_ctx as usize;
    let n_predict = n_predict.map_or(n_ctx, |n| n as usize);
    n_prompt.saturating_add(n_predict).min(n_ctx)
}
