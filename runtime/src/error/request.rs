//! What can be wrong with a request that another program sends.

/// Why a request cannot be read; each message names the field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRequest {
    /// What only models for pictures and sounds take.
    #[error("{0}: only text is read here")]
    Media(&'static str),
    /// A JSON schema, which is no grammar.
    #[error("{0}: send a grammar (GBNF) instead")]
    Schema(&'static str),
    /// More text than any context holds.
    #[error("the request has more than {max_bytes} bytes: send no more than that")]
    TooLong {
        /// The most that it can have.
        max_bytes: usize,
    },
    /// It is no text; the message says what it is.
    #[error("the request is {0}")]
    NotText(String),
    /// Its JSON has other fields, or other values in them.
    #[error("the request is not what is expected: {0}")]
    Fields(String),
    /// Control tokens are read only where there is no chat template.
    #[error("special is for a raw prompt: send raw too")]
    SpecialChat,
    /// A conversation is written by the chat template.
    #[error("raw goes with prompt, not with messages")]
    RawMessages,
    /// Two things to answer.
    #[error("prompt and messages are both given")]
    TwoPrompts,
    /// Nothing to answer.
    #[error("prompt or messages is missing")]
    NoPrompt,
    /// No number of tokens.
    #[error("n_predict is {0}: send 1 or more, or -1 for no limit")]
    NPredict(i64),
    /// No seed.
    #[error("seed is {0}: send -1 to {max}", max = u32::MAX)]
    Seed(i64),
    /// A deadline without a time.
    #[error("deadline says for what, and deadline_ms is missing: send both, or deadline_ms alone")]
    DeadlineWithoutTime,
    /// No answer of this type.
    #[error("answer_type {name:?}: {why}")]
    AnswerType {
        /// The type.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// No biases.
    #[error("logit_bias: send [[token or \"text\", number or false], ..], at most {0} of them")]
    LogitBias(usize),
    /// Each token is compared with all stop strings.
    #[error("stop: send at most {n_max} strings of at most {max_bytes} bytes")]
    Stop {
        /// Most strings.
        n_max: usize,
        /// Most bytes of each.
        max_bytes: usize,
    },
}
