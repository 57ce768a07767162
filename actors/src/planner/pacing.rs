//! How work is cut for the stages: the chunks of a prompt, and the rows of a decode step.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fleet::MeasuredPlan;
use crate::planning::chunks::{ChunkGrid, ChunkTable};
use crate::planning::cost::{Pipeline, Work};

/// Smallest chunk that is tried: below this a row costs so much more that no overlap pays it back.
const SMALLEST_CHUNK: u32 = 16;
/// Boundaries up to [`FINE_UNTIL`] are multiples of this: kernels work in fours.
const FINE_QUANTUM: u32 = 4;
/// Tokens up to which boundaries are fine.
const FINE_UNTIL: u32 = 512;
/// Boundaries beyond are multiples of this.
const QUANTUM: u32 = 16;
/// Longest prompt that a table is made for; the rest of a longer one goes in largest chunks.
const LONGEST_PROMPT: u32 = 8192;

/// How work is cut.
pub(super) struct Pacing {
    /// Most rows of a micro-batch.
    largest: u32,
    n_stages: usize,
    /// What it was made by; without it all chunks are equal.
    plan: Option<Arc<MeasuredPlan>>,
    /// The best chunks by what was measured; without it all are the largest.
    table: Option<ChunkTable>,
    /// Rows of a micro-batch for 1, 2, ... decoding sequences; without it they are spread over as
    /// many micro-batches as there are stages.
    decode_rows: Vec<u32>,
}

impl Pacing {
    /// Equal chunks, and as many micro-batches as stages (gLLM: `#D = #RD / #PP_depth`).
    pub(super) fn equal(largest: u32, n_stages: usize) -> Pacing {
        Pacing {
            largest,
            n_stages,
            plan: None,
            table: None,
            decode_rows: Vec::new(),
        }
    }

    /// Chunks and micro-batches that are best by what was measured.
    pub(super) fn measured(
        plan: &Arc<MeasuredPlan>,
        largest: u32,
        n_ctx: u32,
        n_seq: u32,
    ) -> Pacing {
        let pipeline = plan.pipeline();
        let grid = grid(largest, n_ctx);
        let table = grid.and_then(|grid| match ChunkTable::new(&pipeline, grid) {
            Ok(table) => Some(table),
            Err(error) => {
                tracing::warn!(%error, "no chunk table: prompts go in equal chunks");
                None
            }
        });
        let context = n_ctx / n_seq.max(1) / 2;
        let decode_rows = (1..=n_seq).map(|n| best_rows(&pipeline, n, context).min(largest));
        Pacing {
            largest,
            n_stages: plan.stages.len(),
            plan: Some(plan.clone()),
            table,
            decode_rows: decode_rows.collect(),
        }
    }

    /// Whether it was made by this very plan.
    pub(super) fn is_of(&self, plan: &Arc<MeasuredPlan>) -> bool {
        self.plan.as_ref().is_some_and(|own| Arc::ptr_eq(own, plan))
    }

    pub(super) fn largest(&self) -> usize {
        self.largest as usize
    }

    /// Rows of the chunks of a prompt that has `n_rows` to be computed; empty where all are equal.
    pub(super) fn chunks(&self, n_rows: usize) -> VecDeque<u32> {
        let n_rows = u32::try_from(n_rows).unwrap_or(u32::MAX);
        let planned = self.table.as_ref().and_then(|table| {
            let chunks = table.chunks(n_rows.min(table.longest()));
            chunks.ok()
        });
        planned.map_or_else(VecDeque::new, |chunks| chunks.rows.into())
    }

    /// Rows of the next micro-batch when `n_decoding` sequences decode.
    pub(super) fn decode_rows(&self, n_decoding: usize) -> usize {
        let planned = n_decoding
            .checked_sub(1)
            .and_then(|at| self.decode_rows.get(at));
        let rows = planned.map_or_else(
            || n_decoding.div_ceil(self.n_stages.max(1)),
            |&rows| rows as usize,
        );
        rows.min(self.largest())
    }
}

/// The boundaries for chunks of at most `largest` rows and contexts of `n_ctx`; none when chunks
/// are so small that there is nothing to choose.
pub fn grid(largest: u32, n_ctx: u32) -> Option<ChunkGrid> {
    let fine = FINE_QUANTUM.min(largest / 4);
    let quantum = QUANTUM.min(largest / 4) / fine.max(1) * fine.max(1);
    let smallest = SMALLEST_CHUNK.min(largest / 4);
    (smallest > 0 && quantum > 0).then_some(ChunkGrid {
        smallest,
        largest,
        fine_quantum: fine,
        fine_until: FINE_UNTIL / quantum * quantum,
        quantum,
        longest: n_ctx.min(LONGEST_PROMPT),
    })
}

/// Rows of a micro-batch with which `n_streams` sequences get most tokens: with `m` micro-batches
/// under way a round takes as long as the slowest server needs for all of them, or as one needs
/// all around.
fn best_rows(pipeline: &Pipeline<'_>, n_streams: u32, context: u32) -> u32 {
    let round_ns = |n_batches: u32| {
        let rows = n_streams.div_ceil(n_batches);
        let work = Work::decode(rows, context);
        let servers = (0..pipeline.n_servers()).map(|server| pipeline.server_ns(server, work));
        let slowest = servers.max().unwrap_or(0);
        pipeline
            .pass_ns(work)
            .max(slowest.saturating_mul(u64::from(n_batches)))
    };
    let most = n_streams.min(pipeline.n_stages() as u32 + 1);
    let best = (1..=most.max(1)).min_by_key(|&n| round_ns(n)).unwrap_or(1);
    n_streams.div_ceil(best)
}
