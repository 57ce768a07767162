//! Cells of a complete answer that are held for the request that goes on from it: an outline's for its
//! points, say. A client takes a moment to ask, and who waits for room would take them meanwhile.

use std::time::{Duration, Instant};

use jupiter_models::{KvOp, SequenceId, Token};

use super::super::cache::{Hit, n_shared};
use super::PlannerCore;
use crate::RequestId;

/// How long: enough for a client beside the Planner to read an outline and ask for its points, and
/// short for those who wait.
pub(super) const HOLD: Duration = Duration::from_secs(2);

/// A complete sequence.
pub(super) struct Held {
    pub(super) request: RequestId,
    pub(super) seq: SequenceId,
    /// Those in its cells.
    pub(super) tokens: Vec<Token>,
    pub(super) until: Instant,
    /// Whether it may go to the prompt cache.
    pub(super) cache_prompt: bool,
}

impl PlannerCore {
    pub(super) fn is_held(&self, request: Option<RequestId>) -> bool {
        self.held.iter().any(|held| Some(held.request) == request)
    }

    /// Cells that are held of a request.
    pub(super) fn n_held(&self, request: Option<RequestId>) -> usize {
        let of = self
            .held
            .iter()
            .filter(|held| Some(held.request) == request);
        of.map(|held| held.tokens.len()).sum()
    }

    /// Gives the cells to the request that follows, of which `prompt` is the text.
    pub(super) fn take_held(
        &mut self,
        request: Option<RequestId>,
        prompt: &[Token],
    ) -> Option<Hit> {
        let is_its = |held: &Held| Some(held.request) == request;
        let at = self.held.iter().position(is_its)?;
        let held = self.held.swap_remove(at);
        Some(Hit {
            seq: held.seq,
            n_common: n_shared(&held.tokens, prompt),
        })
    }

    /// Holds some no longer: they go to the prompt cache, where they may.
    pub(super) fn release(&mut self, which: impl Fn(&Held) -> bool) {
        for held in self.held.extract_if(.., |held| which(held)) {
            if held.cache_prompt {
                self.cache.put(held.seq, held.tokens);
            } else {
                self.kv_ops.push(KvOp::Drop { seq: held.seq });
                self.free.push(held.seq);
            }
        }
    }

    /// The cells are gone with their epoch.
    pub(super) fn forget_held(&mut self) {
        self.free.extend(self.held.drain(..).map(|held| held.seq));
    }
}
