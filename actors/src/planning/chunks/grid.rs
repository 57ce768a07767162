//! Where a prompt may be cut.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::planning::{PlanError, Result};

/// Boundaries that are considered: fine ones at the beginning, where prompts are short and every
/// chunk counts; coarser ones behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkGrid {
    /// Rows of the smallest useful chunk; only a prompt shorter than it has a smaller one.
    pub smallest: u32,
    /// Rows of the largest chunk: what the engine takes in one step.
    pub largest: u32,
    /// Boundaries up to `fine_until` are multiples of this.
    pub fine_quantum: u32,
    /// Tokens up to which the fine quantum holds.
    pub fine_until: u32,
    /// Boundaries beyond are multiples of this.
    pub quantum: u32,
    /// The longest prompt.
    pub longest: u32,
}

impl Default for ChunkGrid {
    fn default() -> ChunkGrid {
        ChunkGrid {
            smallest: 8,
            largest: 512,
            fine_quantum: 4,
            fine_until: 512,
            quantum: 16,
            longest: 8192,
        }
    }
}

impl ChunkGrid {
    /// All boundaries but 0, ascending. A boundary below `smallest` cannot be reached.
    pub(super) fn boundaries(&self) -> impl Iterator<Item = u32> + use<> {
        let ChunkGrid {
            smallest,
            fine_quantum,
            fine_until,
            quantum,
            longest,
            ..
        } = *self;
        let fine = (1..).map(move |i| i * fine_quantum);
        let coarse = (1..).map(move |i| i * quantum);
        fine.take_while(move |&at| at <= fine_until.min(longest))
            .chain(coarse.skip_while(move |&at| at <= fine_until))
            .take_while(move |&at| at <= longest)
            .filter(move |&at| at >= smallest)
    }

    /// Which of `boundaries`, of all up to `end`, one chunk takes to `end`.
    pub(super) fn within_reach(&self, boundaries: &[u32], end: u32) -> Range<usize> {
        let first = boundaries.partition_point(|begin| begin + self.largest < end);
        let last = boundaries.partition_point(|begin| begin + self.smallest <= end);
        // A prompt shorter than the smallest chunk is one chunk.
        first..last.max(usize::from(end < self.smallest))
    }

    /// Checks that every prompt has chunks: any length is a boundary plus one last chunk.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |field, got: u32, expected| {
            Err(PlanError::BadRequest {
                field,
                got: got.to_string(),
                expected,
            })
        };
        /// Longer prompts than any context; keeps tables small.
        const LONGEST: u32 = 1 << 20;
        if self.fine_quantum == 0
            || self.quantum == 0
            || !self.quantum.is_multiple_of(self.fine_quantum)
        {
            return bad("quantum", self.quantum, "a multiple of fine_quantum, not 0");
        }
        if !self.fine_until.is_multiple_of(self.quantum) {
            return bad("fine_until", self.fine_until, "a multiple of quantum");
        }
        if self.smallest == 0 {
            return bad("smallest", self.smallest, "at least 1");
        }
        let least = 2 * self.smallest.min(LONGEST) + self.quantum.min(LONGEST);
        if self.largest < least || self.largest > LONGEST {
            let expected = "at least 2 * smallest + quantum, at most 2^20";
            return bad("largest", self.largest, expected);
        }
        if self.longest == 0 || self.longest > LONGEST {
            return bad("longest", self.longest, "1 to 2^20");
        }
        Ok(())
    }
}
