//! A fixed budget of rows, as Sarathi-Serve (arXiv 2403.02310) and vLLM have it: all that decode and are
//! not under way go first, and a prompt's chunk fills the rest. For comparison.

use super::super::budget::{Backlog, Prefill};

/// Rows of those that decode, and of prompts. At most as many micro-batches as stages are under way.
pub(in crate::planner::batching) fn rows(load: &Backlog) -> (f64, Prefill) {
    match load.under_way.len() < load.n_stages {
        true => (f64::INFINITY, Prefill::AtMost(usize::MAX)),
        false => (0.0, Prefill::AtMost(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::budget::tests::load;
    use super::*;

    #[test]
    fn all_that_decode_go_at_once_and_chunks_fill_the_rest() {
        let all = (f64::INFINITY, Prefill::AtMost(usize::MAX));
        assert_eq!(rows(&load(40, 1)), all);
        let full = (0.0, Prefill::AtMost(0));
        assert_eq!(rows(&load(40, 2)), full, "both stages have one");
    }
}
