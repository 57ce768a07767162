//! Where guesses come from.

pub mod heads;
pub mod ngram;
pub mod oracle;

use jupiter_models::Token;

use crate::speculation::Result;
use crate::speculation::tree::DraftTree;

/// How much a source may guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DraftLimits {
    /// Most tokens after each other.
    pub depth: usize,
    /// Most lines that start at the same place.
    pub lines: usize,
}

impl DraftLimits {
    /// One line of `depth` tokens.
    pub const fn line(depth: usize) -> DraftLimits {
        DraftLimits { depth, lines: 1 }
    }
}

/// Guesses at what follows a text. An error ends the use of the source, never the answer.
pub trait DraftSource {
    /// What people call it.
    fn name(&self) -> &'static str;

    /// Takes tokens that were accepted: those of the prompt first.
    ///
    /// # Errors
    /// Whatever makes the source unusable.
    fn accept(&mut self, tokens: &[Token]) -> Result<()>;

    /// Guesses at what follows the accepted tokens and then `ahead`, which is drafted and under
    /// way; the likeliest first. Empty when the source has no idea.
    ///
    /// # Errors
    /// Whatever makes the source unusable.
    fn draft(&mut self, ahead: &[Token], limits: DraftLimits) -> Result<DraftTree>;
}
