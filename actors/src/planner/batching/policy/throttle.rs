//! gLLM's throttling of tokens (arXiv 2504.14775, section 3): rows of prompts by how many wait and how
//! much memory is free, and those that decode spread evenly over the pipeline.

use super::super::budget::{Backlog, Memory, Prefill};

/// Micro-batches in which all that waits is to be computed (`#T`).
const STEPS: usize = 8;
/// Most rows of prompts in a micro-batch (`#MaxP`), where `--chunk` allows as many.
const MOST: f64 = 2048.0;
/// Fewest (`#MinP`).
const FEWEST: usize = 32;
/// Share of the cells below which no prompt goes on (`KV_thresh`).
const SPARE: f64 = 0.05;

/// Rows of those that decode (`#D = #RD / #PP_depth`), and of prompts: `#P = max(min(#WP / #T, #MaxP *
/// (KV_free - KV_thresh) / (1 - KV_thresh)), #MinP)`, where the memory wins over `#MinP`, as in gLLM's
/// code. At most as many micro-batches as stages are under way.
pub(in crate::planner::batching) fn rows(load: &Backlog, memory: &Memory) -> (f64, Prefill) {
    if load.under_way.len() >= load.n_stages {
        return (0.0, Prefill::AtMost(0));
    }
    let n_each = load.n_decoding.div_ceil(load.n_stages.max(1));
    let n_waiting = load.n_prompt + load.n_queued;
    let free =
        1.0 - memory.n_cells.saturating_sub(memory.n_cached) as f64 / memory.n_ctx.max(1) as f64;
    let by_memory = match load.n_answering {
        // Nobody would give a cell back.
        0 => usize::MAX,
        _ => (MOST * (free - SPARE) / (1.0 - SPARE)).max(0.0) as usize,
    };
    let by_waiting = n_waiting.div_ceil(STEPS).max(FEWEST);
    let n_prompt = by_waiting.min(by_memory);
    (load.rows_each * n_each as f64, Prefill::AtMost(n_prompt))
}

#[cfg(test)]
mod tests {
    use super::super::super::budget::tests::{MEMORY, load};
    use super::*;

    fn n_prompt(n_waiting: usize, n_cells: usize) -> usize {
        let load = Backlog {
            n_prompt: n_waiting / 2,
            n_queued: n_waiting - n_waiting / 2,
            ..load(7, 1)
        };
        // As many more are cached: they are as good as free.
        let memory = Memory {
            n_cells: n_cells + 100,
            n_cached: 100,
            ..MEMORY
        };
        match rows(&load, &memory).1 {
            Prefill::AtMost(n) => n,
            Prefill::Planned => usize::MAX,
        }
    }

    #[test]
    fn prompts_are_throttled_as_the_paper_says() {
        assert_eq!(n_prompt(10, 0), 32, "#MinP");
        assert_eq!(n_prompt(800, 0), 100, "#WP / #T");
        assert_eq!(n_prompt(80_000, 0), 2048, "#MaxP");
        // Half of the cells are free: 2048 * 0.45 / 0.95.
        assert_eq!(n_prompt(80_000, 2048), 970);
        assert_eq!(n_prompt(10, 3880), 5, "the memory wins over #MinP");
        assert_eq!(n_prompt(10, 3900), 0, "below KV_thresh");
    }

    #[test]
    fn a_prompt_that_fills_the_memory_alone_goes_on() {
        let alone = Backlog {
            n_prompt: 200,
            ..load(0, 0)
        };
        let memory = Memory {
            n_cells: 4000,
            ..MEMORY
        };
        assert_eq!(rows(&alone, &memory).1, Prefill::AtMost(32));
    }

    #[test]
    fn those_that_decode_are_spread_over_the_pipeline() {
        assert_eq!(rows(&load(7, 1), &MEMORY).0, 4.0);
        assert_eq!(rows(&load(7, 2), &MEMORY).0, 0.0, "both stages have one");
    }
}
