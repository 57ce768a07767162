//! What a client asks, and the events that it gets back.

mod error;
mod urgency;

use std::sync::Arc;

use jupiter_models::sampling::SamplingParams;
use jupiter_models::{LayerRange, Token};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use self::error::RequestError;
pub use self::urgency::{ClientId, Deadline, DeadlineKind, Priority};
use crate::speculation::accept::AcceptanceRule;
use crate::{NodeId, RequestId};

/// Most tokens of a guess when nothing is said (llama.cpp's `--draft-max`).
pub const DEFAULT_DRAFT_MAX: u32 = 16;

/// How tokens are guessed ahead of the model. Whatever is said here, the text stays the same but
/// for a rule of acceptance that says otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct SpeculationParams {
    /// Who guesses.
    pub source: DraftChoice,
    /// Most tokens of a guess.
    pub draft_max: u32,
    /// Most steps of the sequence on their way at once; without it, as many as pay.
    pub in_flight: Option<u32>,
    /// What makes a guess right.
    pub rule: AcceptanceRule,
}

impl Default for SpeculationParams {
    fn default() -> Self {
        Self {
            source: DraftChoice::Auto,
            draft_max: DEFAULT_DRAFT_MAX,
            in_flight: None,
            rule: AcceptanceRule::Exact,
        }
    }
}

/// Who guesses.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum DraftChoice {
    /// Whichever source of those that there are brings most.
    #[default]
    Auto,
    /// Nobody.
    None,
    /// What stood in the text before.
    Ngram,
    /// The draft model.
    Model,
    /// Medusa heads.
    Medusa,
    /// The model's own block for multi-token prediction.
    Mtp,
    /// One that knows the text: for benchmarks.
    Oracle(Oracle),
}

/// A source that is right with a known probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Oracle {
    /// Prompt and answer.
    pub truth: Arc<[Token]>,
    /// Number of tokens of the vocabulary.
    pub n_vocab: Token,
    /// How often a guess is right, 0 to 1.
    pub acceptance: f64,
    /// Of the guesses that are wrong.
    pub seed: u64,
}

/// What guessing ahead brought to one answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpeculationUsage {
    /// The source with most guesses; `none` when none was judged.
    pub source: &'static str,
    /// Steps that were judged.
    pub n_steps: u32,
    /// Tokens that they brought.
    pub n_tokens: u32,
    /// Tokens that were guessed and sent.
    pub n_drafted: u32,
    /// Of these, the ones that were right.
    pub n_accepted: u32,
    /// Rows of guesses that were computed in vain, or cancelled before.
    pub n_wasted: u32,
    /// Tokens per time over those of plain decoding, as expected for the acceptance that was seen
    /// and the measured times.
    pub predicted_ratio: f64,
}

impl SpeculationUsage {
    /// Tokens of a step.
    pub fn tokens_per_step(&self) -> f64 {
        f64::from(self.n_tokens) / f64::from(self.n_steps.max(1))
    }

    /// Share of the guesses that were right, 0 to 1.
    pub fn acceptance(&self) -> f64 {
        f64::from(self.n_accepted) / f64::from(self.n_drafted.max(1))
    }
}

/// A prompt to be answered.
#[derive(Clone, Debug)]
pub struct GenerateRequest {
    /// Chosen by the client side, unique at the head.
    pub id: RequestId,
    /// The whole prompt, tokenized, template applied.
    pub prompt: Vec<Token>,
    /// Most tokens to generate; without it, until the model ends or the context is full.
    pub n_predict: Option<u32>,
    /// How to sample.
    pub sampling: SamplingParams,
    /// Whether end-of-generation tokens are never sampled (for benchmarks).
    pub ignore_eos: bool,
    /// Whether KV cells of an earlier request with the same beginning are used, and this one's kept.
    pub cache_prompt: bool,
    /// How tokens are guessed ahead; without it as the head is configured.
    pub speculation: Option<SpeculationParams>,
    /// The answer that it is a part of, where several requests make one, as the points of an outline do:
    /// chosen as `id` is, and the same for all of them. Together they count as one of the requests at a
    /// time (`-np`), they share what they compute whatever `cache_prompt` says, until it is cancelled, and
    /// none of them waits behind others once one has begun.
    pub part_of: Option<RequestId>,
    /// How urgent it is.
    pub priority: Priority,
    /// Until when it is of use.
    pub deadline: Option<Deadline>,
    /// Whose it is.
    pub client: ClientId,
}

impl GenerateRequest {
    /// A request with defaults: until the model ends, default sampling, prompt cache on.
    pub fn new(id: RequestId, prompt: Vec<Token>) -> Self {
        let sampling = SamplingParams::default();
        Self {
            id,
            prompt,
            n_predict: None,
            sampling,
            ignore_eos: false,
            cache_prompt: true,
            speculation: None,
            part_of: None,
            priority: Priority::default(),
            deadline: None,
            client: ClientId::default(),
        }
    }
}

/// Where the events of a request go. The channel is unbounded in type, and bounded in fact by
/// the number of tokens that fit the context; a closed one cancels the request.
pub type EventSink = mpsc::UnboundedSender<StreamEvent>;

/// What happens to a request: any number of tokens, then `End` if the model ends it, then exactly
/// one `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// The next accepted token.
    Token(Token),
    /// The token with which the model ends the answer; it is no part of it.
    End(Token),
    /// The answer is complete.
    Done(Completion),
    /// The answer cannot go on; the tokens so far stay valid.
    Failed(RequestError),
}

/// How a request ended, and what it took.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Why it ended.
    pub reason: FinishReason,
    /// What was used up, where it ended by its length.
    pub limit: Option<LengthLimit>,
    /// Tokens of the prompt.
    pub n_prompt: u32,
    /// Of these, the ones that others had computed, or computed for it.
    pub n_cached: u32,
    /// Tokens generated.
    pub n_eval: u32,
    /// Time from admission to the first token, in milliseconds.
    pub prompt_ms: f64,
    /// Time from the first token to the last, in milliseconds.
    pub eval_ms: f64,
    /// How often the stream was replayed after a fault.
    pub n_replays: u32,
    /// How often it gave up its KV cells to others, and was computed again.
    pub n_preempted: u32,
    /// The stages that computed it.
    pub stages: Vec<StageUsage>,
    /// What guessing ahead brought; none when it was not asked for.
    pub speculation: Option<SpeculationUsage>,
    /// Whether it was written point by point, where that was to be decided: the Planner, which sees
    /// requests and branches, leaves it to the client.
    pub outline: Option<OutlineUsage>,
}

/// What a client decided of outlines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutlineUsage {
    /// Points that were written side by side; 0 for an answer in one piece.
    pub n_points: u32,
    /// What sort of question it was.
    pub class: String,
    /// Why it was answered as it was, in one line.
    pub reason: String,
}

/// One stage's part in a request.
#[derive(Clone, Debug, PartialEq)]
pub struct StageUsage {
    /// Where the stage runs.
    pub node: NodeId,
    /// Its layers.
    pub layers: LayerRange,
    /// Time its engine worked on the request's rows while prompts were computed, in milliseconds.
    pub prompt_busy_ms: f64,
    /// The same while tokens were generated.
    pub eval_busy_ms: f64,
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// A [`LengthLimit`] is used up.
    Length,
}

/// What ended an answer that the model would have continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthLimit {
    /// It has as many tokens as were asked for.
    #[error("n_predict is reached")]
    NPredict,
    /// A point of it has as many tokens as a point may have.
    #[error("the tokens of a point are used up")]
    PointTokens,
    /// Prompt and answer fill the context.
    #[error("the context is full")]
    Context,
}
