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
use super::kv::{Wanted, Whose};
use super::queue::Turn;
use super::stats::Usage;
use crate::RequestId;
use crate::request::{
    Branch, ClientId, Deadline, DraftChoice, EventSink, ForkRequest, GenerateRequest, LengthLimit,
    Priority, SpeculationParams,
};

/// What a sequence is to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A request by itself.
    Whole,
    /// What the branches of a request share. It has no answer of its own, and stays until the last of
    /// them has ended.
    Base,
    /// A branch.
    Branch {
        /// The request.
        of: RequestId,
        n_shared: usize,
    },
}

/// A text that waits or is being computed.
pub(super) struct Sequence {
    pub(super) id: RequestId,
    pub(super) role: Role,
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
    /// Whether its cells are held when it is complete.
    pub(super) holds: bool,
    pub(super) follows: Option<RequestId>,
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
    /// A request by itself.
    pub(super) fn whole(
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
            role: Role::Whole,
            turn: Turn::default(),
            sink,
            n_prompt: request.prompt.len(),
            tokens: request.prompt,
            n_max,
            limit,
            sampling: request.sampling,
            ignore_eos: request.ignore_eos,
            cache_prompt: request.cache_prompt,
            holds: request.holds,
            follows: request.follows,
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

    /// What the branches of a request share, and the branches.
    pub(super) fn forked(
        request: ForkRequest,
        sink: EventSink,
        config: &PlannerConfig,
        now: Instant,
    ) -> (Self, Vec<Self>) {
        let (of, n_shared) = (request.id, request.n_shared);
        let shared = request.shared().to_vec();
        let (priority, deadline, client) = (request.priority, request.deadline, request.client);
        let branch = |Branch { request, sink }| Self {
            role: Role::Branch { of, n_shared },
            // Its text is of use to nobody else.
            cache_prompt: false,
            holds: false,
            follows: None,
            priority,
            deadline,
            client,
            ..Self::whole(request, sink, config, now)
        };
        let branches: Vec<Self> = request.branches.into_iter().map(branch).collect();
        // Without an answer there is nothing to guess.
        let nothing = SpeculationParams {
            source: DraftChoice::None,
            ..SpeculationParams::default()
        };
        let base = GenerateRequest {
            n_predict: Some(0),
            cache_prompt: request.cache_prompt,
            speculation: Some(nothing),
            follows: request.follows,
            priority,
            deadline,
            client,
            ..GenerateRequest::new(of, shared)
        };
        let base = Self {
            role: Role::Base,
            ..Self::whole(base, sink, config, now)
        };
        (base, branches)
    }

    /// Tokens that all branches of its request begin with.
    pub(super) fn n_shared(&self) -> usize {
        match self.role {
            Role::Branch { n_shared, .. } => n_shared,
            Role::Whole | Role::Base => 0,
        }
    }

    /// The request whose branch it is.
    pub(super) fn branch_of(&self) -> Option<RequestId> {
        match self.role {
            Role::Branch { of, .. } => Some(of),
            Role::Whole | Role::Base => None,
        }
    }

    pub(super) fn is_base(&self) -> bool {
        self.role == Role::Base
    }

    /// Whether the answer has begun.
    pub(super) fn has_answer(&self) -> bool {
        self.tokens.len() > self.n_prompt
    }

    /// Who may go on from what it computes.
    pub(super) fn whose(&self) -> Whose {
        Whose {
            request: self.branch_of().unwrap_or(self.id),
            is_open: self.cache_prompt,
        }
    }

    /// What has to be computed of it when it begins, or begins again.
    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            text: &self.tokens,
            whose: self.whose(),
            follows: self.follows,
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
