//! What a client asks for.

use jupiter_actors::request::{ClientId, Deadline, Priority, RequestError, SpeculationParams};
use jupiter_models::Token;
use jupiter_models::sampling::SamplingParams;
use jupiter_models::text::{ChatMessage, Vocabulary};

use crate::client::chat_format::ChatFormat;
use crate::config::OutlineMode;
use crate::error::{Error, Result};

/// What the model shall answer or continue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prompt {
    /// A conversation; the model's template is applied.
    Chat(Vec<ChatMessage>),
    /// Text that is continued as it is; the text of control tokens stays text.
    Raw(String),
    /// Text that is continued as it is, with control tokens written by their names.
    Special(String),
    /// Tokens that are continued as they are.
    Tokens(Vec<Token>),
}

impl Prompt {
    /// A conversation so far; its last turn is answered.
    pub fn chat(messages: impl Into<Vec<ChatMessage>>) -> Self {
        Self::Chat(messages.into())
    }

    /// One question.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Chat(vec![ChatMessage::user(text)])
    }

    /// Text that is continued as it is, without template.
    pub fn raw(text: impl Into<String>) -> Self {
        Self::Raw(text.into())
    }

    /// The same with control tokens, which are written by their names: a chat format by hand. What
    /// others wrote has no place in it, since it could end their turn.
    pub fn special(text: impl Into<String>) -> Self {
        Self::Special(text.into())
    }

    /// Tokens that are continued as they are.
    pub fn tokens(tokens: impl Into<Vec<Token>>) -> Self {
        Self::Tokens(tokens.into())
    }

    /// Whether there is nothing to answer.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Tokens(tokens) => tokens.is_empty(),
            Self::Raw(text) | Self::Special(text) => text.is_empty(),
            Self::Chat(messages) => messages.iter().all(|m| m.content.trim().is_empty()),
        }
    }

    /// Its tokens. Only what the template wrote is read as control tokens, never a user's words,
    /// unless that is asked for.
    ///
    /// # Errors
    /// An empty prompt, and what the template refuses.
    pub(crate) fn tokenize(
        &self,
        vocabulary: &Vocabulary,
        format: &ChatFormat,
    ) -> Result<Vec<Token>> {
        match self {
            _ if self.is_empty() => Err(RequestError::EmptyPrompt.into()),
            Self::Tokens(tokens) => {
                let n_vocab = vocabulary.n_vocab();
                let known = |&token: &Token| u32::try_from(token).is_ok_and(|id| id < n_vocab);
                match tokens.iter().find(|token| !known(token)) {
                    Some(&token) => {
                        let last = n_vocab - 1;
                        Err(Error::UnknownToken { token, last })
                    }
                    None => Ok(tokens.clone()),
                }
            }
            Self::Raw(text) => Ok(vocabulary.tokenize(text, true, false)),
            Self::Special(text) => Ok(vocabulary.tokenize(text, true, true)),
            Self::Chat(messages) => Ok(vocabulary.tokenize_chat(format.template(), messages)?),
        }
    }
}

/// How an answer is made.
#[derive(Clone, Debug, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens; without it until the model ends or the context is full: no KV cell is left that
    /// nobody else waits for.
    pub n_predict: Option<u32>,
    /// How tokens are chosen.
    pub sampling: SamplingParams,
    /// The answer ends before any of these; of one that is written point by point, each point.
    pub stop: Vec<String>,
    /// Whether it goes on where the model would end (for benchmarks).
    pub ignore_eos: bool,
    /// Whether what an earlier request with the same beginning computed is used again.
    pub cache_prompt: bool,
    /// How tokens are guessed ahead; without it as the head is configured.
    pub speculation: Option<SpeculationParams>,
    /// Whether a chat is answered point by point; without it as the head is configured.
    pub outline: Option<OutlineMode>,
    /// How urgent it is beside others.
    pub priority: Priority,
    /// Until when it is of use: what cannot be there by then is given up.
    pub deadline: Option<Deadline>,
    /// Whose it is: clients take turns. A program that answers others numbers them.
    pub client: ClientId,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        Self {
            n_predict: None,
            sampling: SamplingParams::default(),
            stop: Vec::new(),
            ignore_eos: false,
            cache_prompt: true,
            speculation: None,
            outline: None,
            priority: Priority::default(),
            deadline: None,
            client: ClientId::default(),
        }
    }
}
