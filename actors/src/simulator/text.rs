//! Texts that nobody wrote: each token is a draw of its own, so whoever knows the number of a text
//! knows all of it.

use jupiter_models::Token;
use jupiter_models::draw::splitmix;

/// Tokens of the vocabulary: so many that prompts do not begin alike by chance.
pub(super) const N_VOCAB: Token = 32_000;

/// A prompt and the answer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text(pub(super) u32);

impl Text {
    /// The token at `pos`.
    pub(super) fn token(self, pos: usize) -> Token {
        let draw = splitmix(splitmix(u64::from(self.0)) ^ pos as u64);
        (draw % N_VOCAB as u64) as Token
    }

    /// The first `n` tokens.
    pub(super) fn tokens(self, n: usize) -> Vec<Token> {
        (0..n).map(|pos| self.token(pos)).collect()
    }
}
