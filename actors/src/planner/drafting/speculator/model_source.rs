//! A draft model's guesses, which come from a Drafter later than they are asked for.

use super::{DraftTimes, Drafted};
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
    /// Nanoseconds of the way to the model and back.
    pub(super) request_ns: f64,
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

    /// Takes guesses; gives them back where they are to be compared with the text only.
    pub(super) fn take(&mut self, guesses: DraftTree, took: DraftTimes) -> Option<DraftTree> {
        if let Some(depth) = guesses.nodes().iter().map(|node| node.depth).max() {
            let (busy, all) = (took.busy.as_nanos() as f64, took.all.as_nanos() as f64);
            learn(&mut self.token_ns, busy / f64::from(depth));
            learn(&mut self.request_ns, (all - busy).max(0.0));
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

/// A running mean; 0 is nothing known.
fn learn(mean: &mut f64, seen: f64) {
    const WEIGHT: f64 = 0.2;
    *mean = match *mean {
        0.0 => seen,
        known => known + WEIGHT * (seen - known),
    };
}
