//! Where a prompt is cut, so that its first token comes soonest.
//!
//! Exactly: chunks in the order of the prompt pass a line of servers (stages and links), each
//! with a time of its own for every chunk, that depends on its rows (the measured curve, with all
//! its steps) and on the tokens before it. [`ChunkTable`] minimises the makespan of that flow
//! shop over all boundaries of a grid; not a bound like TeraPipe's or Jupiter's
//! `sum + (stages - 1) * longest`, which holds for equal stages without links only.
//!
//! # How
//! What the chunks so far mean for the rest of the prompt is when each server is free: one vector
//! for each way to cut the tokens up to a boundary. Of two vectors for the same boundary one that
//! is nowhere later is never worse, whatever follows, so that only the Pareto front is kept. Two
//! things keep fronts small: a server counts as busy until the earliest time at which any further
//! chunk could reach it (what happens before is lost to all alike), and beyond a limit vectors
//! are merged that differ by at most `share * t`, `t` being the time of their last chunk on one
//! fixed server. Completion times are max-plus linear, so an error never grows on the way; the
//! errors of a prompt add up to at most `share` times that server's total, and no makespan is
//! shorter than that. So a makespan is within `1 + share` of the best on the grid. Besides, for
//! every prompt a lower bound of all makespans is known. [`PlannedChunks::within`] is the better
//! of both: 0, exact, where fronts fit.

mod bound;
mod costs;
mod front;
mod grid;

use serde::Serialize;

pub use grid::ChunkGrid;

use crate::planning::cost::{Pipeline, advance};
use crate::planning::{PlanError, Result};
use bound::LowerBounds;
use costs::ChunkCosts;
use front::{Candidate, Front};

/// What a boundary may cost: vectors kept, squared, times servers. That is 104 vectors for two
/// stages and 46 for eight: exact where it is cheap, and a table of 8192 tokens in a fraction of a
/// second. Five times as many vectors shortened makespans on eight unequal devices by 0.1 to 0.5 %
/// in most trials, by 1.2 % at most, and took twenty times as long.
const MAX_FRONT_WORK: usize = 1 << 15;

/// A prompt's chunks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PlannedChunks {
    /// Rows of each chunk, in order.
    pub rows: Vec<u32>,
    /// When the first token is back at the Planner; what a simulation of the same costs gives.
    pub ttft_ns: u64,
    /// No other boundaries on the grid are better by more than this share; 0 is exact.
    pub within: f64,
}

/// The best chunks of every prompt up to a length, for one pipeline.
#[derive(Clone, Debug)]
pub struct ChunkTable {
    grid: ChunkGrid,
    costs: ChunkCosts,
    bounds: LowerBounds,
    /// Boundaries, from 0.
    boundaries: Vec<u32>,
    /// The front of each boundary.
    fronts: Vec<Front>,
}

impl ChunkTable {
    /// Builds the table. With `B` boundaries, `n` of them within the largest chunk, `F` vectors in
    /// a front and `M` servers: `O(B n F^2 M)`, in practice far less.
    ///
    /// # Errors
    /// [`PlanError::BadRequest`] for a grid that leaves prompts without chunks.
    pub fn new(pipeline: &Pipeline<'_>, grid: ChunkGrid) -> Result<ChunkTable> {
        let n_servers = pipeline.n_servers().max(1);
        ChunkTable::with_front(pipeline, grid, (MAX_FRONT_WORK / n_servers).isqrt())
    }

    /// The same with fronts of at most `max_front` vectors: more are exacter and slower.
    ///
    /// # Errors
    /// [`PlanError::BadRequest`] for a grid that leaves prompts without chunks.
    pub fn with_front(
        pipeline: &Pipeline<'_>,
        grid: ChunkGrid,
        max_front: usize,
    ) -> Result<ChunkTable> {
        grid.check()?;
        let costs = ChunkCosts::new(pipeline, &grid);
        let n_servers = pipeline.n_servers();
        let mut table = ChunkTable {
            grid,
            bounds: LowerBounds::new(&costs, &grid),
            costs,
            boundaries: vec![0],
            fronts: vec![Front::empty_pipeline(n_servers)],
        };
        let mut share = 0.0;
        let mut candidates = Vec::new();
        for boundary in grid.boundaries() {
            candidates.clear();
            table.extend_to(boundary, &mut candidates);
            let front = Front::of(&mut candidates, n_servers, share, max_front.max(1));
            share = front.share;
            table.boundaries.push(boundary);
            table.fronts.push(front);
        }
        Ok(table)
    }

    /// All ways to reach `boundary` with one more chunk.
    fn extend_to(&self, boundary: u32, candidates: &mut Vec<Candidate>) {
        let costs = &self.costs;
        let mut times = vec![0; costs.delay_ns.len()];
        for (index, begin, front) in self.within_reach(boundary) {
            costs.chunk(boundary - begin, begin, &mut times);
            for label in 0..front.len() {
                let mut free_ns = front.free_ns(label).to_vec();
                advance(&mut free_ns, &times, &costs.delay_ns, 0);
                costs.wait_for_next(boundary, &mut free_ns);
                candidates.push(Candidate {
                    sum_ns: free_ns.iter().map(|&ns| u128::from(ns)).sum(),
                    free_ns,
                    n_chunks: front.step(label).n_chunks + 1,
                    from: (index as u32, label as u32),
                    slack_ns: times[costs.reference_server],
                });
            }
        }
    }

    /// The boundaries from which one chunk reaches `end`: place in the table, tokens, front.
    fn within_reach(&self, end: u32) -> impl Iterator<Item = (usize, u32, &Front)> {
        let range = self.grid.within_reach(&self.boundaries, end);
        range.map(|index| (index, self.boundaries[index], &self.fronts[index]))
    }

    /// The best chunks of a prompt of `prompt` tokens. Boundaries lie on the grid; the last chunk
    /// takes what remains. `O(n F M)`, and where fronts were cut short `O(prompt^2 M / smallest^2)`
    /// to try equal chunks as well: below a millisecond up to some thousand tokens.
    ///
    /// # Errors
    /// [`PlanError::BadRequest`] for an empty prompt, or one beyond the table.
    pub fn chunks(&self, prompt: u32) -> Result<PlannedChunks> {
        if prompt == 0 || prompt > self.grid.longest {
            return Err(PlanError::BadRequest {
                field: "prompt",
                got: prompt.to_string(),
                expected: "1 to the longest prompt of the chunk table",
            });
        }
        let (mut rows, mut done_ns) = self.best_of_fronts(prompt);
        let used = self.boundaries.partition_point(|&end| end < prompt);
        let share = self.fronts[..used]
            .iter()
            .fold(0.0, |share, front| front.share.max(share));
        if share > 0.0 {
            let equal = self.best_of_equal(prompt);
            if equal.1 < done_ns {
                (rows, done_ns) = equal;
            }
        }
        let trip_ns = self.costs.trip_ns;
        let bound_ns = self.bounds.prompt_ns(&self.costs, &self.grid, prompt) + trip_ns;
        let ttft_ns = done_ns.saturating_add(trip_ns);
        let above_bound = ttft_ns as f64 / bound_ns.max(1) as f64 - 1.0;
        Ok(PlannedChunks {
            rows,
            ttft_ns,
            within: share.min(above_bound),
        })
    }

    /// The best last chunk behind any vector: rows, and when the last server is done.
    fn best_of_fronts(&self, prompt: u32) -> (Vec<u32>, u64) {
        let costs = &self.costs;
        let mut times = vec![0; costs.delay_ns.len()];
        let mut best = (u64::MAX, u32::MAX, (0, 0));
        for (index, begin, front) in self.within_reach(prompt) {
            costs.last_chunk(prompt - begin, begin, &mut times);
            for label in 0..front.len() {
                let mut free_ns = front.free_ns(label).to_vec();
                let done_ns = advance(&mut free_ns, &times, &costs.delay_ns, 0);
                let way = (done_ns, front.step(label).n_chunks, (index, label));
                best = best.min(way);
            }
        }
        let (done_ns, _, (mut index, mut label)) = best;
        let mut rows = Vec::new();
        let mut end = prompt;
        loop {
            let begin = self.boundaries[index];
            rows.push(end - begin);
            end = begin;
            if end == 0 {
                break;
            }
            let from = self.fronts[index].step(label).from;
            (index, label) = (from.0 as usize, from.1 as usize);
        }
        rows.reverse();
        (rows, done_ns)
    }

    /// Chunks as equal as the grid allows, so that a front that was cut short is never worse.
    fn best_of_equal(&self, prompt: u32) -> (Vec<u32>, u64) {
        let ChunkGrid {
            smallest, largest, ..
        } = self.grid;
        let sizes = smallest..=largest;
        let ways = prompt.div_ceil(largest)..=prompt / smallest;
        ways.filter_map(|n_chunks| {
            let mut begin = 0;
            let mut rows = Vec::with_capacity(n_chunks as usize);
            for i in 1..=n_chunks {
                let end = (u64::from(prompt) * u64::from(i) / u64::from(n_chunks)) as u32;
                let at = self.boundaries.partition_point(|&boundary| boundary <= end);
                let end = match self.boundaries.get(at.saturating_sub(1)) {
                    Some(&boundary) if i < n_chunks => boundary,
                    _ => prompt,
                };
                rows.push(end.checked_sub(begin).filter(|n| sizes.contains(n))?);
                begin = end;
            }
            let done_ns = self.costs.prompt_ns(&rows);
            Some((rows, done_ns))
        })
        .min_by_key(|(_, done_ns)| *done_ns)
        .unwrap_or((Vec::new(), u64::MAX))
    }

    /// The longest prompt of the table.
    pub fn longest(&self) -> u32 {
        self.grid.longest
    }
}
