//! What the target model makes of a draft. Pure: logits or distributions in, a verdict out.
//!
//! - [`follow`]: sample the target as without a draft and go on while the draft holds just that
//!   token. Works for greedy decoding and for any sampler, with penalties and grammars, since the
//!   sampler sees exactly the calls that it would have seen; the text stays the very same.
//! - [`typical`]: accept what is likely enough. Changes the distribution.

mod distribution;
mod follow;
mod typical;

use serde::{Deserialize, Serialize};

pub use distribution::Distribution;
pub use follow::follow;
pub use typical::{TypicalParams, typical};

use jupiter_models::Token;

/// What the target says comes next, and whether it ends the generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Next {
    /// The token.
    pub token: Token,
    /// Whether it ends the generation; nothing is accepted behind it.
    pub ends: bool,
}

/// What makes a guess right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum AcceptanceRule {
    /// That the target samples just this token: the text is the same as without a draft, whatever
    /// the sampling, seed included ([`follow`]).
    #[default]
    Exact,
    /// That the target holds it for likely enough ([`typical`]): more is accepted, and the
    /// distribution of texts is another one.
    Typical(TypicalParams),
}

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The accepted nodes, from depth 1 on.
    pub path: Vec<usize>,
    /// The token after them, which the target chose.
    pub next: Next,
}
