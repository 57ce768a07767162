//! What no way to cut a prompt can beat.
//!
//! On the longest path through a flow shop lie, for every server, the first chunk's way to it, all
//! chunks on it, and the last chunk's way on. For each server apart the best cut for that path is
//! a shortest path over boundaries; the longest of them over all servers bounds every makespan.

use super::costs::ChunkCosts;
use super::grid::ChunkGrid;

/// For each boundary and server: the least time until the server is done with all up to the
/// boundary, were it the only one that anything waits for.
#[derive(Clone, Debug)]
pub(super) struct LowerBounds {
    boundaries: Vec<u32>,
    /// `least_ns[boundary * servers + server]`.
    least_ns: Vec<u64>,
}

impl LowerBounds {
    pub(super) fn new(costs: &ChunkCosts, grid: &ChunkGrid) -> LowerBounds {
        let mut bounds = LowerBounds {
            boundaries: vec![0],
            least_ns: vec![0; costs.delay_ns.len()],
        };
        let mut times = vec![0; costs.delay_ns.len()];
        for boundary in grid.boundaries() {
            let mut least = vec![u64::MAX; times.len()];
            for (index, begin) in bounds.within_reach(grid, boundary) {
                costs.chunk(boundary - begin, begin, &mut times);
                bounds.append(costs, index, &times, &mut least);
            }
            bounds.boundaries.push(boundary);
            bounds.least_ns.extend(least);
        }
        bounds
    }

    /// No makespan of a prompt is shorter; without the ways from and to the Planner.
    pub(super) fn prompt_ns(&self, costs: &ChunkCosts, grid: &ChunkGrid, prompt: u32) -> u64 {
        let mut times = vec![0; costs.delay_ns.len()];
        let mut least = vec![u64::MAX; times.len()];
        let mut done = vec![u64::MAX; times.len()];
        for (index, begin) in self.within_reach(grid, prompt) {
            costs.last_chunk(prompt - begin, begin, &mut times);
            least.fill(u64::MAX);
            self.append(costs, index, &times, &mut least);
            let mut rest = 0;
            for server in (0..times.len()).rev() {
                rest += costs.delay_ns[server];
                done[server] = done[server].min(least[server].saturating_add(rest));
                rest += times[server];
            }
        }
        done.into_iter().max().unwrap_or(0)
    }

    /// One more chunk behind boundary `index`.
    fn append(&self, costs: &ChunkCosts, index: usize, times: &[u64], least: &mut [u64]) {
        let mut arrives = 0;
        for (server, &time) in times.iter().enumerate() {
            let before = match index {
                0 => arrives,
                _ => self.least_ns[index * times.len() + server],
            };
            least[server] = least[server].min(before.saturating_add(time));
            arrives += time + costs.delay_ns[server];
        }
    }

    fn within_reach(&self, grid: &ChunkGrid, end: u32) -> impl Iterator<Item = (usize, u32)> {
        let range = grid.within_reach(&self.boundaries, end);
        range.clone().zip(self.boundaries[range].iter().copied())
    }
}
