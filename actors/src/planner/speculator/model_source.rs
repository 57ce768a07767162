//! A draft model's guesses, which come from a Drafter later than they are asked for.

use super::Drafted;
use crate::speculation::draft::DraftLimits;
use crate::speculation::tree::DraftTree;

/// The draft model computes elsewhere: its guesses come later, for the text they were asked for.
#[derive(Default)]
pub(super) struct ModelSource {
    /// Where the guesses that are asked for, or there, begin: length of the text and of what is
    /// under way behind it.
    at: Option<(usize, usize)>,
    ready: Option<DraftTree>,
    /// Whether they are to be compared with the text only.
    is_probe: bool,
    /// Whether it is time for such a comparison.
    pub(super) wants_probe: bool,
    /// Nanoseconds for one guess.
    pub(super) token_ns: f64,
}

impl ModelSource {
    /// The guesses at this place, if they are there; else what is to be asked for.
    pub(super) fn draft(&mut self, at: (usize, usize), limits: DraftLimits) -> Drafted {
        if self.at == Some(at) {
            return match self.ready.take() {
                Some(tree) => {
                    self.at = None;
                    Drafted::Guesses(tree)
                }
                None => Drafted::Later(None),
            };
        }
        (self.at, self.ready, self.is_probe) = (Some(at), None, false);
        Drafted::Later(Some(limits))
    }

    fn learn_speed(&mut self, token_ns: f64) {
        const WEIGHT: f64 = 0.2;
        self.token_ns = match self.token_ns {
            0.0 => token_ns,
            known => known + WEIGHT * (token_ns - known),
        };
    }

    /// Takes guesses that took the model `ns` nanoseconds; gives them back where they are to be
    /// compared with the text only.
    pub(super) fn take(&mut self, guesses: DraftTree, ns: u64) -> Option<DraftTree> {
        if let Some(depth) = guesses.nodes().iter().map(|node| node.depth).max() {
            self.learn_speed(ns as f64 / f64::from(depth));
        }
        if self.is_probe {
            self.forget();
            return Some(guesses);
        }
        if self.at.is_some() {
            self.ready = Some(guesses);
        }
        None
    }

    /// One guess behind a text of `n_text` tokens, where it is time for a comparison.
    pub(super) fn probe_wish(&mut self, n_text: usize) -> Option<DraftLimits> {
        std::mem::take(&mut self.wants_probe).then(|| {
            (self.at, self.ready, self.is_probe) = (Some((n_text, 0)), None, true);
            DraftLimits::line(1)
        })
    }

    /// What was asked for is not waited for any more.
    pub(super) fn forget(&mut self) {
        (self.at, self.ready, self.is_probe) = (None, None, false);
    }
}
