//! Chunks against all ways to cut a prompt, and against the simulation.
use jupiter_actors::planning::chunks::{ChunkGrid, ChunkTable};
use jupiter_actors::planning::cost::{Pipeline, prefill_ns};
use jupiter_actors::planning::profile::Cluster;
use jupiter_actors::simulator::prefill_passage;
use jupiter_models::LayerRange;
use proptest::prelude::*;

use crate::common::{cluster, stages};
use crate::profile::parts;

/// Steps of a grid's prompts.
const PROMPTS: u32 = 15;

/// Grids in single rows, and in rows by the dozen, whose larger chunks are computed in tiles.
fn grid() -> impl Strategy<Value = ChunkGrid> {
    let unit = prop_oneof![Just(1u32), Just(24u32)];
    (unit, 1u32..5, 1u32..3, 1u32..3, 0u32..3, 0u32..5).prop_map(
        |(unit, smallest, fine_quantum, factor, fine, more)| {
            let (smallest, fine_quantum) = (unit * smallest, unit * fine_quantum);
            let quantum = fine_quantum * factor;
            ChunkGrid {
                smallest,
                largest: 2 * smallest + quantum + unit * more,
                fine_quantum,
                fine_until: fine * quantum,
                quantum,
                longest: unit * PROMPTS,
            }
        },
    )
}

/// Whether a prompt may be cut at `at`.
fn is_boundary(grid: &ChunkGrid, at: u32) -> bool {
    let quantum = if at <= grid.fine_until {
        grid.fine_quantum
    } else {
        grid.quantum
    };
    at.is_multiple_of(quantum)
}

/// Every way to cut a prompt.
fn all_chunks(grid: &ChunkGrid, prompt: u32) -> Vec<Vec<u32>> {
    fn extend(
        grid: &ChunkGrid,
        done: u32,
        prompt: u32,
        rows: &mut Vec<u32>,
        all: &mut Vec<Vec<u32>>,
    ) {
        if done == prompt {
            all.push(rows.clone());
            return;
        }
        for end in done + 1..=prompt {
            let n = end - done;
            let is_size = (grid.smallest..=grid.largest).contains(&n) || prompt < grid.smallest;
            if is_size && (end == prompt || is_boundary(grid, end)) {
                rows.push(n);
                extend(grid, end, prompt, rows, all);
                rows.pop();
            }
        }
    }
    if prompt < grid.smallest {
        return vec![vec![prompt]];
    }
    let mut all = Vec::new();
    extend(grid, 0, prompt, &mut Vec::new(), &mut all);
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn no_chunks_are_better(
        cluster in cluster(1..=4, 2..=6),
        pick in any::<prop::sample::Index>(),
        grid in grid(),
        small_front in 1usize..4,
    ) {
        let stages = stages(&cluster, pick);
        let pipeline = Pipeline::new(&cluster, &stages);
        let exact = ChunkTable::with_front(&pipeline, grid, usize::MAX).unwrap();
        let bounded = ChunkTable::with_front(&pipeline, grid, small_front).unwrap();
        let unit = grid.longest / PROMPTS;
        for prompt in (1..=PROMPTS).map(|n| n * unit) {
            let ways = all_chunks(&grid, prompt);
            let best = ways.iter().map(|rows| prefill_ns(&pipeline, rows)).min().unwrap();
            let ours = exact.chunks(prompt).unwrap();
            prop_assert!(ways.contains(&ours.rows));
            prop_assert_eq!(ours.within, 0.0);
            prop_assert_eq!(ours.ttft_ns, best, "{} tokens", prompt);
            prop_assert_eq!(ours.ttft_ns, prefill_ns(&pipeline, &ours.rows));
            let back_ns = prefill_passage(&cluster, &stages, &ours.rows);
            prop_assert_eq!(Some(&ours.ttft_ns), back_ns.last());
            // A front too small for all vectors keeps its promise.
            let near = bounded.chunks(prompt).unwrap();
            prop_assert!(ways.contains(&near.rows));
            prop_assert_eq!(near.ttft_ns, prefill_ns(&pipeline, &near.rows));
            prop_assert!(near.ttft_ns as f64 <= best as f64 * (1.0 + near.within) + 1.0);
        }
    }

    #[test]
    fn any_chunks_take_as_long_as_simulated(
        cluster in cluster(1..=4, 2..=6),
        pick in any::<prop::sample::Index>(),
        chunks in prop::collection::vec(1u32..100, 1..12),
    ) {
        let stages = stages(&cluster, pick);
        let pipeline = Pipeline::new(&cluster, &stages);
        let back_ns = prefill_passage(&cluster, &stages, &chunks);
        prop_assert_eq!(back_ns.last(), Some(&prefill_ns(&pipeline, &chunks)));
        prop_assert_eq!(back_ns.len(), chunks.len());
        prop_assert!(back_ns.is_sorted(), "{:?}", back_ns);
    }
}

#[test]
fn grids_that_leave_prompts_without_chunks_are_refused() {
    let good = ChunkGrid::default();
    let check = |grid: ChunkGrid, message: &str| {
        let (model, devices, links) = parts();
        let cluster = Cluster::new(model, devices, &links, None).unwrap();
        let stages = [(0, LayerRange::new(0, 8))];
        let table = ChunkTable::new(&Pipeline::new(&cluster, &stages), grid);
        assert_eq!(table.unwrap_err().to_string(), message);
    };
    check(
        ChunkGrid {
            largest: 31,
            ..good
        },
        "largest is 31, expected at least 2 * smallest + quantum, at most 2^20",
    );
    check(
        ChunkGrid {
            quantum: 10,
            ..good
        },
        "quantum is 10, expected a multiple of fine_quantum, not 0",
    );
    check(
        ChunkGrid {
            smallest: 0,
            ..good
        },
        "smallest is 0, expected at least 1",
    );
}
