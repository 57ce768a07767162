//! Tokens that were there already become less likely.

use std::collections::{HashMap, VecDeque};

use crate::types::Token;

/// The tokens that the repeat penalty looks back on.
#[derive(Clone)]
pub(super) struct Recent {
    /// Most tokens to remember; none: all.
    limit: Option<usize>,
    tokens: VecDeque<Token>,
    counts: HashMap<Token, u32>,
}

impl Recent {
    pub(super) fn new(repeat_last_n: i32) -> Self {
        Self {
            limit: usize::try_from(repeat_last_n).ok(),
            tokens: VecDeque::new(),
            counts: HashMap::new(),
        }
    }

    pub(super) fn push(&mut self, token: Token) {
        self.tokens.push_back(token);
        *self.counts.entry(token).or_default() += 1;
        if self.limit.is_some_and(|limit| self.tokens.len() > limit) {
            let Some(oldest) = self.tokens.pop_front() else {
                return;
            };
            if let Some(count) = self.counts.get_mut(&oldest) {
                *count -= 1;
                if *count == 0 {
                    self.counts.remove(&oldest);
                }
            }
        }
    }

    /// A copy of `logits` with the penalty applied; none where it changes nothing.
    pub(super) fn penalise(&self, logits: &[f32], penalty: f32) -> Option<Vec<f32>> {
        if penalty == 1.0 || self.counts.is_empty() {
            return None;
        }
        let mut logits = logits.to_vec();
        for &token in self.counts.keys() {
            let Some(logit) = usize::try_from(token).ok().and_then(|i| logits.get_mut(i)) else {
                continue;
            };
            // Dividing a negative logit would make the token likelier, hence the case (llama.cpp's
            // correction of the paper, CTRL, arXiv 1909.05858).
            *logit = if *logit <= 0.0 {
                *logit * penalty
            } else {
                *logit / penalty
            };
        }
        Some(logits)
    }
}
