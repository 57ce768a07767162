//! What a client asks, and the events that it gets back.

use jupiter_models::sampling::SamplingParams;
use jupiter_models::{LayerRange, Token};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::{NodeId, RequestId};

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
        }
    }
}

/// Where the events of a request go. The channel is unbounded in type, and bounded in fact by
/// the number of tokens that fit the context; a closed one cancels the request.
pub type EventSink = mpsc::UnboundedSender<StreamEvent>;

/// What happens to a request: any number of tokens, then exactly one `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum StreamEvent {
    /// The next accepted token.
    Token(Token),
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
    /// Tokens of the prompt.
    pub n_prompt: u32,
    /// Of these, the ones that an earlier request had left in the KV cache.
    pub n_cached: u32,
    /// Tokens generated.
    pub n_eval: u32,
    /// Time from admission to the first token, in milliseconds.
    pub prompt_ms: f64,
    /// Time from the first token to the last, in milliseconds.
    pub eval_ms: f64,
    /// How often the stream was replayed after a fault.
    pub n_replays: u32,
    /// The stages that computed it.
    pub stages: Vec<StageUsage>,
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
    /// `n_predict` or the context is used up.
    Length,
}

/// Why a request was refused or could not go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The prompt holds no token.
    #[error("the prompt is empty: send at least one token of text")]
    EmptyPrompt,
    /// The prompt does not fit.
    #[error(
        "the prompt has {n_prompt} tokens and the context {n_ctx}: shorten it or raise -c/--ctx-size"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        n_prompt: u32,
        /// Positions of the context.
        n_ctx: u32,
    },
    /// Too many requests wait.
    #[error("{waiting} requests are waiting already: try again later")]
    Busy {
        /// Length of the queue.
        waiting: usize,
    },
    /// The request can never run as asked (a grammar or sampling parameter, say).
    #[error("{0}")]
    Invalid(String),
    /// The cluster failed and could not be mended in time.
    #[error("{0}")]
    Cluster(String),
}
