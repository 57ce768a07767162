//! How prompts are cut for the stages.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::planner::cluster::fleet::MeasuredPlan;
use crate::planning::chunks::{ChunkGrid, ChunkTable};

/// Smallest chunk that is tried: below this a row costs so much more that no overlap pays it back,
/// since up to eight rows cost nearly the same. On eight equal stages chunks of eight make prompts of
/// 32 rows 15 % faster than the best larger ones, prompts of 128 rows no more.
const SMALLEST_CHUNK: u32 = 8;
/// Boundaries up to [`FINE_UNTIL`] are multiples of this. Kernels take eight rows at a time, but what
/// a rest costs grows evenly, and chunks that are more nearly equal leave stages idle less: multiples
/// of eight make a prompt of 100 rows 4 % slower on four stages and more.
const FINE_QUANTUM: u32 = 4;
/// Tokens up to which boundaries are fine.
const FINE_UNTIL: u32 = 512;
/// Boundaries beyond are multiples of this.
const QUANTUM: u32 = 16;
/// Longest prompt that a table is made for; the rest of a longer one goes in largest chunks.
const LONGEST_PROMPT: u32 = 8192;

/// How prompts are cut.
pub(in crate::planner) struct Chunking {
    /// Most rows of a micro-batch.
    largest: u32,
    /// What it was made by; without it all chunks are equal.
    plan: Option<Arc<MeasuredPlan>>,
    /// The best chunks by what was measured; without it all are the largest.
    table: Option<ChunkTable>,
}

impl Chunking {
    /// Equal chunks.
    pub(in crate::planner) fn equal(largest: u32) -> Chunking {
        Chunking {
            largest,
            plan: None,
            table: None,
        }
    }

    /// Chunks that are best by what was measured.
    pub(in crate::planner) fn measured(
        plan: &Arc<MeasuredPlan>,
        largest: u32,
        n_ctx: u32,
    ) -> Chunking {
        let pipeline = plan.pipeline();
        let grid = grid(largest, n_ctx);
        let table = grid.and_then(|grid| match ChunkTable::new(&pipeline, grid) {
            Ok(table) => Some(table),
            Err(error) => {
                tracing::warn!(%error, "no chunk table: prompts go in equal chunks");
                None
            }
        });
        Chunking {
            largest,
            plan: Some(plan.clone()),
            table,
        }
    }

    /// Whether it was made by this very plan.
    pub(in crate::planner) fn is_of(&self, plan: &Arc<MeasuredPlan>) -> bool {
        self.plan.as_ref().is_some_and(|own| Arc::ptr_eq(own, plan))
    }

    pub(in crate::planner) fn largest(&self) -> usize {
        self.largest as usize
    }

    /// Rows of the chunks of a prompt that has `n_rows` to be computed; empty where all are equal.
    pub(in crate::planner) fn chunks(&self, n_rows: usize) -> VecDeque<u32> {
        let n_rows = u32::try_from(n_rows).unwrap_or(u32::MAX);
        let planned = self.table.as_ref().and_then(|table| {
            let chunks = table.chunks(n_rows.min(table.longest()));
            chunks.ok()
        });
        planned.map_or_else(VecDeque::new, |chunks| chunks.rows.into())
    }
}

/// The boundaries for chunks of at most `largest` rows and contexts of `n_ctx`; none when chunks
/// are so small that there is nothing to choose.
pub fn grid(largest: u32, n_ctx: u32) -> Option<ChunkGrid> {
    let fine = FINE_QUANTUM.min(largest / 4);
    let quantum = QUANTUM.min(largest / 4) / fine.max(1) * fine.max(1);
    let smallest = SMALLEST_CHUNK.min(largest / 4);
    (smallest > 0 && quantum > 0).then(|| ChunkGrid {
        smallest,
        largest,
        fine_quantum: fine,
        fine_until: FINE_UNTIL / quantum * quantum,
        quantum,
        longest: n_ctx.min(LONGEST_PROMPT),
    })
}
