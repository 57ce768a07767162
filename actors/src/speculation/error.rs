//! What can be wrong with a guess.

use jupiter_models::Token;

/// Result of speculation.
pub type Result<T> = std::result::Result<T, SpeculationError>;

/// Why a draft, a distribution or a verdict cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SpeculationError {
    /// A probability that cannot be.
    #[error(
        "the probability of token {token} is {got}, expected a finite number of at least 0: its \
         source computes nonsense, leave it out (--speculative none)"
    )]
    BadProbability {
        /// Whose probability.
        token: Token,
        /// What it is.
        got: f64,
    },
    /// A distribution without any possible token, or with a sum beyond the numbers' range.
    #[error(
        "the probabilities of {n_tokens} tokens add up to {got}, expected a finite number above 0: \
         their source computes nonsense, leave it out (--speculative none)"
    )]
    BadSum {
        /// How many tokens were given.
        n_tokens: usize,
        /// Their sum.
        got: f64,
    },
    /// One token twice in a distribution or among siblings.
    #[error("token {token} appears twice in {place}: give each token once")]
    DuplicateToken {
        /// Which.
        token: Token,
        /// Where.
        place: &'static str,
    },
    /// A logit that is not a number.
    #[error("the model computed NaN: its file is damaged or its weights overflow")]
    NanLogit,
    /// A tree that cannot be.
    #[error("draft tree: {field} is {got}, expected {expected}")]
    BadTree {
        /// Which value.
        field: &'static str,
        /// What it is.
        got: usize,
        /// What it may be.
        expected: String,
    },
    /// A verdict that does not fit what is in flight.
    #[error("verdict of {sequence}: {field} is {got}, expected {expected}: start a new epoch")]
    BadVerdict {
        /// Which part of the bookkeeping.
        sequence: &'static str,
        /// Which value.
        field: &'static str,
        /// What it is.
        got: u64,
        /// What it may be.
        expected: String,
    },
    /// A setting out of range.
    #[error("{field} is {got}, expected {expected}")]
    BadSetting {
        /// Which.
        field: &'static str,
        /// What it is.
        got: String,
        /// What it may be.
        expected: &'static str,
    },
}
