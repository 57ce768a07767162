//! How many rows go next: from what wants to be computed, the memory there is, and what steps cost.

use std::collections::{BTreeMap, BTreeSet};

use super::super::live::{Live, Phase};
use super::Progress;
use super::step_times::StepTimes;
use crate::RequestId;

/// What wants to be computed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::planner) struct Load {
    pub(in crate::planner) n_stages: usize,
    /// Sequences whose answer has begun.
    pub(in crate::planner) n_decoding: usize,
    /// Of these, the ones whose next step may go now.
    pub(in crate::planner) n_due: usize,
    /// Tokens of their texts, on average.
    pub(in crate::planner) context: usize,
    /// Rows that their next steps are expected to have, on average.
    pub(in crate::planner) rows_each: f64,
    /// Micro-batches under way in which some of them decode.
    pub(in crate::planner) n_decode_steps: usize,
    /// Rows of branches that may begin or have begun, and have no token yet.
    pub(in crate::planner) n_beginning: usize,
}

/// What there is to compute it in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::planner) struct Memory {
    /// Cells of the KV cache that are in use.
    pub(in crate::planner) n_cells: usize,
    /// Most rows of a micro-batch.
    pub(in crate::planner) n_rows: usize,
}

/// How many rows go next.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::planner) struct Budget {
    /// Of sequences that decode; 0 while one more micro-batch of them would only wait for the first
    /// stage, and be smaller than it need be.
    pub(in crate::planner) decode_rows: f64,
    /// Of branches that begin; what is left of the micro-batch is for the chunk of a prompt.
    pub(in crate::planner) beginning_rows: usize,
}

/// The rows of the next micro-batch.
pub(in crate::planner) fn budget(load: &Load, memory: &Memory, times: &StepTimes) -> Budget {
    Budget {
        decode_rows: match load.n_due {
            0 => 0.0,
            _ => decode_rows(load, memory, times),
        },
        beginning_rows: times.rows_at_once(load.n_beginning as u32) as usize,
    }
}

fn decode_rows(load: &Load, memory: &Memory, times: &StepTimes) -> f64 {
    let size = decode_batch_size(load, memory, times);
    // Few sequences may have several steps of guesses under way each.
    let are_few = 2 * load.n_decoding <= load.n_stages + 1;
    let n_batches = load.n_decoding.div_ceil(size.max(1));
    match !are_few && load.n_decode_steps >= n_batches {
        true => 0.0,
        false => load.rows_each * size as f64,
    }
}

/// Sequences that decode in one micro-batch, when each has as many rows as the others.
pub(in crate::planner) fn decode_batch_size(
    load: &Load,
    memory: &Memory,
    times: &StepTimes,
) -> usize {
    let (n, context) = (load.n_decoding as u32, load.context as u32);
    let best = times.decode_batch_size(n, context, memory.n_cells as u32);
    (best as usize).min(memory.n_rows)
}

impl Load {
    /// What the live sequences want; those that `may_begin` have bases with all that both begin with.
    pub(in crate::planner) fn of(
        live: &BTreeMap<RequestId, Live>,
        may_begin: &BTreeSet<RequestId>,
        progress: &Progress,
    ) -> Self {
        let decoding = live.values().filter(|live| live.sequence.has_answer());
        let n_decoding = decoding.clone().count();
        let n_tokens: usize = decoding
            .clone()
            .map(|live| live.sequence.tokens.len())
            .sum();
        let n_rows: usize = decoding.map(|live| live.drafting.speculator.n_rows()).sum();
        let begins = |live: &&Live| match live.phase {
            Phase::Unforked => may_begin.contains(&live.sequence.id),
            _ => live.n_shared > 0 && !live.sequence.has_answer() && !live.sequence.is_base(),
        };
        let beginning = live.values().filter(begins);
        Self {
            n_stages: progress.n_stages,
            n_decoding,
            n_due: live.values().filter(|live| live.is_due()).count(),
            context: n_tokens.checked_div(n_decoding).unwrap_or_default(),
            rows_each: n_rows as f64 / n_decoding.max(1) as f64,
            n_decode_steps: progress.n_decode_steps,
            n_beginning: beginning.map(|live| live.n_own()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEMORY: Memory = Memory {
        n_cells: 0,
        n_rows: 64,
    };

    fn load(n_decoding: usize, n_decode_steps: usize) -> Load {
        Load {
            n_stages: 2,
            n_decoding,
            n_due: n_decoding,
            rows_each: 1.0,
            n_decode_steps,
            ..Load::default()
        }
    }

    #[test]
    fn those_that_decode_are_spread_over_as_many_micro_batches_as_is_best() {
        let times = StepTimes::new(None, 2);
        let rows = |load: &Load| budget(load, &MEMORY, &times).decode_rows;
        assert_eq!(rows(&load(6, 0)), 3.0);
        assert_eq!(rows(&load(6, 1)), 3.0);
        assert_eq!(rows(&load(6, 2)), 0.0, "both micro-batches are under way");
        assert_eq!(rows(&load(1, 2)), 1.0, "guesses may go behind guesses");
        let waiting = Load {
            n_due: 0,
            ..load(6, 0)
        };
        assert_eq!(rows(&waiting), 0.0, "all are under way");
        let wide = Load {
            rows_each: 4.0,
            ..load(6, 0)
        };
        assert_eq!(rows(&wide), 12.0);
    }

    #[test]
    fn no_micro_batch_is_larger_than_the_largest() {
        let times = StepTimes::new(None, 1);
        let small = Memory {
            n_rows: 2,
            ..MEMORY
        };
        assert_eq!(decode_batch_size(&load(8, 0), &small, &times), 2);
        assert_eq!(decode_batch_size(&load(8, 0), &MEMORY, &times), 8);
    }

    #[test]
    fn branches_begin_a_few_at_a_time() {
        let times = StepTimes::new(None, 2);
        let beginning = Load {
            n_beginning: 48,
            ..load(0, 0)
        };
        assert_eq!(budget(&beginning, &MEMORY, &times).beginning_rows, 24);
    }
}
