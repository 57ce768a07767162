//! The costs of a pipeline, tabulated for chunks.

use super::ChunkGrid;
use jupiter_models::profile::TILE_ROWS;

use crate::planning::cost::{Pipeline, Work, advance, context_ns};

/// Nanoseconds of chunks on every server (stages and links).
#[derive(Clone, Debug)]
pub(super) struct ChunkCosts {
    /// `rows_ns[rows * servers + server]` without context.
    rows_ns: Vec<u64>,
    /// The least of `rows_ns` for any chunk, by server.
    least_ns: Vec<u64>,
    /// Layers and picoseconds for a row and token of context, by server; in chunks that are computed
    /// in tiles, and in smaller ones.
    tile_context: Vec<Vec<(u64, u64)>>,
    context: Vec<Vec<(u64, u64)>>,
    /// The head, for the last chunk.
    head_ns: u64,
    smallest: u32,
    /// From one server to the next.
    pub(super) delay_ns: Vec<u64>,
    /// From the Planner to the first server and from the last one back: it comes on top of every
    /// makespan, since all chunks leave the Planner at once.
    pub(super) trip_ns: u64,
    /// The server that errors are measured by: the one with most to do.
    pub(super) reference_server: usize,
}

impl ChunkCosts {
    pub(super) fn new(pipeline: &Pipeline<'_>, grid: &ChunkGrid) -> ChunkCosts {
        let n_servers = pipeline.n_servers();
        let mut rows_ns = Vec::with_capacity((grid.largest as usize + 1) * n_servers);
        for rows in 0..=grid.largest {
            rows_ns.extend(pipeline.chunk_ns(Work::chunk(rows, 0)));
        }
        let of_rows = |server: usize, rows: u32| rows_ns[rows as usize * n_servers + server];
        let least_ns = (0..n_servers)
            .map(|server| {
                let all = (grid.smallest..=grid.largest).map(|rows| of_rows(server, rows));
                all.min().unwrap_or(0)
            })
            .collect();
        let typical = Work::chunk(grid.largest / 2, grid.longest / 2);
        let one_more = Work::last_chunk(1, 0);
        let last = n_servers - 1;
        let context_of = |rows| {
            let of = |server| pipeline.context_of(server, rows);
            (0..n_servers).map(of).collect()
        };
        ChunkCosts {
            least_ns,
            tile_context: context_of(TILE_ROWS),
            context: context_of(TILE_ROWS - 1),
            head_ns: pipeline.server_ns(last, one_more) - of_rows(last, 1),
            smallest: grid.smallest,
            delay_ns: (0..n_servers)
                .map(|server| pipeline.delay_ns(server))
                .collect(),
            trip_ns: pipeline.entry_ns() + pipeline.return_ns(),
            reference_server: (0..n_servers)
                .max_by_key(|&server| pipeline.server_ns(server, typical))
                .unwrap_or(0),
            rows_ns,
        }
    }

    /// What `context` tokens add to a chunk of `rows` rows.
    fn context_ns(&self, server: usize, rows: u32, context: u32) -> u64 {
        let layers = if rows < TILE_ROWS {
            &self.context[server]
        } else {
            &self.tile_context[server]
        };
        let row_context = u64::from(rows) * u64::from(context);
        layers
            .iter()
            .map(|&(n_layer, ps)| n_layer * context_ns(ps, row_context))
            .sum()
    }

    /// A chunk of `rows` rows behind `context` tokens, that is not the last.
    pub(super) fn chunk(&self, rows: u32, context: u32, times: &mut [u64]) {
        let at = rows as usize * times.len();
        for (server, time) in times.iter_mut().enumerate() {
            *time = self.rows_ns[at + server] + self.context_ns(server, rows, context);
        }
    }

    /// The last chunk of a prompt.
    pub(super) fn last_chunk(&self, rows: u32, context: u32, times: &mut [u64]) {
        self.chunk(rows, context, times);
        if let Some(last) = times.last_mut() {
            *last += self.head_ns;
        }
    }

    /// When the last server is done with a prompt of these chunks.
    pub(super) fn prompt_ns(&self, rows: &[u32]) -> u64 {
        let mut times = vec![0; self.delay_ns.len()];
        let mut free_ns = times.clone();
        let (mut context, mut done_ns) = (0, 0);
        for (i, &n) in rows.iter().enumerate() {
            if i + 1 == rows.len() {
                self.last_chunk(n, context, &mut times);
            } else {
                self.chunk(n, context, &mut times);
            }
            done_ns = advance(&mut free_ns, &times, &self.delay_ns, 0);
            context += n;
        }
        done_ns
    }

    /// Takes every server for busy until the next chunk, whichever it is, can reach it.
    pub(super) fn wait_for_next(&self, context: u32, free_ns: &mut [u64]) {
        // The smallest chunk of either kind has the least of it.
        let tile = self.smallest.max(TILE_ROWS);
        let mut reaches = 0;
        for (server, free) in free_ns.iter_mut().enumerate() {
            *free = reaches.max(*free);
            let context_ns = self.context_ns(server, self.smallest, context);
            let tile_ns = self.context_ns(server, tile, context);
            let passes = self.least_ns[server] + context_ns.min(tile_ns);
            reaches = free.saturating_add(passes + self.delay_ns[server]);
        }
    }
}
