//! Finished sequences whose KV cells are kept, so that the next turn of a conversation computes
//! only what is new (llama.cpp server's `cache_prompt`).

use std::collections::VecDeque;

use jupiter_models::{SequenceId, Token};

/// Fewer common tokens than this are not worth keeping another conversation waiting for its cells.
const MIN_COMMON: usize = 8;

/// Kept sequences, the one used longest ago first.
#[derive(Default)]
pub(super) struct PromptCache {
    kept: VecDeque<(SequenceId, Vec<Token>)>,
}

/// A kept sequence that begins as the prompt does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    pub(super) seq: SequenceId,
    /// Tokens that need not be computed again; always less than the prompt.
    pub(super) n_common: usize,
}

impl PromptCache {
    /// Keeps a finished sequence; `computed` are the tokens in its KV cells.
    pub(super) fn put(&mut self, seq: SequenceId, computed: Vec<Token>) {
        self.kept.push_back((seq, computed));
    }

    /// Takes out the kept sequence that shares most with the prompt. The last token of the prompt
    /// is never shared: its row brings the first logits.
    pub(super) fn take(&mut self, prompt: &[Token]) -> Option<Hit> {
        let (at, n_common) = (self.kept.iter().enumerate())
            .map(|(at, (_, tokens))| (at, n_shared(tokens, prompt)))
            .max_by_key(|&(_, n_common)| n_common)
            .filter(|&(_, n_common)| n_common >= MIN_COMMON)?;
        let (seq, _) = self.kept.remove(at)?;
        Some(Hit { seq, n_common })
    }

    /// Cells of all kept sequences.
    pub(super) fn n_cells(&self) -> usize {
        self.kept.iter().map(|(_, tokens)| tokens.len()).sum()
    }

    #[cfg(debug_assertions)]
    pub(super) fn slots(&self) -> impl Iterator<Item = SequenceId> {
        self.kept.iter().map(|&(seq, _)| seq)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Gives up the sequences used longest ago until the rest holds at most `n_cells`, and one
    /// more if a slot is needed.
    pub(super) fn shrink_to(&mut self, n_cells: usize, needs_slot: bool) -> Vec<SequenceId> {
        let mut dropped = Vec::new();
        while self.n_cells() > n_cells || (needs_slot && dropped.is_empty()) {
            let Some((seq, _)) = self.kept.pop_front() else {
                break;
            };
            dropped.push(seq);
        }
        dropped
    }

    /// Forgets all; returns the slots.
    pub(super) fn clear(&mut self) -> Vec<SequenceId> {
        self.kept.drain(..).map(|(seq, _)| seq).collect()
    }
}

/// Tokens that a prompt begins with as `tokens` do, but for its last one.
pub(super) fn n_shared(tokens: &[Token], prompt: &[Token]) -> usize {
    let prompt = &prompt[..prompt.len().saturating_sub(1)];
    let pairs = tokens.iter().zip(prompt);
    pairs.take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_prefix_is_taken_but_never_the_whole_prompt() {
        let mut cache = PromptCache::default();
        cache.put(SequenceId(0), (0..20).collect());
        cache.put(SequenceId(1), (0..30).collect());
        let prompt: Vec<Token> = (0..25).collect();
        assert_eq!(
            cache.take(&prompt),
            Some(Hit {
                seq: SequenceId(1),
                n_common: 24
            })
        );
        assert_eq!(cache.take(&[7, 8, 9]), None);
        assert_eq!(cache.clear(), [SequenceId(0)]);
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut cache = PromptCache::default();
        for seq in 0..3 {
            cache.put(SequenceId(seq), vec![1; 10]);
        }
        assert_eq!(cache.shrink_to(25, false), [SequenceId(0)]);
        assert_eq!(cache.shrink_to(25, true), [SequenceId(1)]);
    }
}
