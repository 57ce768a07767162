//! What a benchmark computes: tokens without meaning.

use jupiter_models::Token;
use jupiter_models::draw::{GOLDEN_GAMMA, splitmix};

/// Tokens of a seed (SplitMix64), as any of the vocabulary.
pub(super) struct RandomTokens {
    pub(super) state: u64,
    pub(super) n_vocab: u32,
}

impl RandomTokens {
    /// The next `n`.
    pub(super) fn take(&mut self, n: u32) -> Vec<Token> {
        (0..n).map(|_| self.next()).collect()
    }

    fn next(&mut self) -> Token {
        let drawn = splitmix(self.state);
        self.state = self.state.wrapping_add(GOLDEN_GAMMA);
        (drawn % u64::from(self.n_vocab.max(1))) as Token
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_tokens_are_of_the_vocabulary_and_follow_from_the_seed() {
        let take = |state| {
            RandomTokens {
                state,
                n_vocab: 300,
            }
            .take(64)
        };
        assert!(take(1).iter().all(|token| (0..300).contains(token)));
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }
}
