//! Which rows stages compute and the Verifier samples.

use std::sync::atomic::{AtomicU32, Ordering};

use jupiter_models::Token;

use crate::speculation::accept::Next;
use crate::speculation::{Result, SpeculationError};

/// A Stage's side, for one sequence. Whoever computes may see a cancel a step late: then it computes
/// in vain, no more.
#[derive(Debug, Default)]
pub struct StageGate {
    live_from: AtomicU32,
}

impl StageGate {
    /// A cancel came. Late and repeated ones change nothing.
    pub fn cancel(&self, live_from: u32) {
        self.live_from.fetch_max(live_from, Ordering::AcqRel);
    }

    /// All rows of a new epoch are computed.
    pub fn clear(&self) {
        self.live_from.store(0, Ordering::Release);
    }

    /// Whether rows of this generation are computed.
    pub fn is_live(&self, generation: u32) -> bool {
        generation >= self.live_from.load(Ordering::Acquire)
    }
}

/// The Verifier's side, for one sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifierGate {
    /// Rows of older generations are dead.
    generation: u32,
    /// Whether rows of it were admitted: the first ones go on from what was sampled, always.
    has_begun: bool,
    /// Position and token of the next row that counts; none before the first.
    next: Option<(u32, Token)>,
}

impl VerifierGate {
    /// Before the first rows of a sequence.
    pub fn new(generation: u32) -> VerifierGate {
        VerifierGate {
            generation,
            has_begun: false,
            next: None,
        }
    }

    /// Whether the rows, which begin with `token` at `pos`, are to be judged. Call it once for each
    /// step that has rows of the sequence, in order.
    ///
    /// # Errors
    /// [`SpeculationError::BadVerdict`] when a newer generation does not go on from what was
    /// sampled: the Planner holds another text.
    pub fn admit(&mut self, generation: u32, pos: u32, token: Token) -> Result<bool> {
        if generation < self.generation {
            return Ok(false);
        }
        let fits = self.next.is_none_or(|next| next == (pos, token));
        let is_first = generation > self.generation || !self.has_begun;
        if is_first && !fits {
            return Err(SpeculationError::BadVerdict {
                sequence: "rows to verify",
                field: "position",
                got: u64::from(pos),
                expected: format!("position and token {:?}", self.next),
            });
        }
        // Guesses behind a wrong one are dead, and the Planner learns it from the same verdict.
        self.generation = if fits { generation } else { generation + 1 };
        self.has_begun = fits;
        Ok(fits)
    }

    /// Notes the verdict on the rows just admitted, `n_rows` from `pos` on.
    pub fn judged(&mut self, pos: u32, n_rows: usize, n_accepted: usize, next: Next) {
        self.next = Some((pos + n_accepted as u32 + 1, next.token));
        if n_accepted + 1 < n_rows || next.ends {
            self.generation += 1;
            self.has_begun = false;
        }
    }
}
