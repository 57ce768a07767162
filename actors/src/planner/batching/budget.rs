//! How many rows go next: from what wants to be computed, the memory there is, and what steps cost.

use std::collections::{BTreeMap, BTreeSet};

use super::super::live::{Live, Phase};
use super::policy::{Scheduling, auto, chunked, throttle};
use super::step_times::StepTimes;
use super::{Progress, UnderWay};
use crate::RequestId;
use crate::planner::Schedule;

/// What wants to be computed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::planner) struct Backlog {
    pub(in crate::planner) n_stages: usize,
    /// Micro-batches under way, the oldest first.
    pub(in crate::planner) under_way: Vec<UnderWay>,
    /// Sequences whose answer has begun.
    pub(in crate::planner) n_decoding: usize,
    /// Of these, the ones whose next step is under way or may go: not those that are computed again.
    pub(in crate::planner) n_answering: usize,
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
    /// Rows of prompts that have begun and are not computed.
    pub(in crate::planner) n_prompt: usize,
    /// All rows of these prompts that were in no cache, computed or not.
    pub(in crate::planner) n_prompt_whole: usize,
    /// Tokens before the next row of the first of them.
    pub(in crate::planner) prompt_context: usize,
    /// Rows of prompts that wait for a slot, where the schedule goes by them.
    pub(in crate::planner) n_queued: usize,
}

/// What there is to compute it in.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(in crate::planner) struct Memory {
    /// Cells of the KV cache that are in use: attention goes over them.
    pub(in crate::planner) n_cells: usize,
    /// Of these, the ones that are given up when they are needed.
    pub(in crate::planner) n_cached: usize,
    /// Cells that there are.
    pub(in crate::planner) n_ctx: usize,
    /// Most rows of a micro-batch.
    pub(in crate::planner) n_rows: usize,
}

/// How many rows go next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::planner) struct Budget {
    /// Of sequences that decode; 0 while one more micro-batch of them would only wait for the first
    /// stage, and be smaller than it need be.
    pub(in crate::planner) decode_rows: f64,
    /// Of branches that begin, so that the stages overlap and the first ones decode while others begin.
    pub(in crate::planner) beginning_rows: usize,
    /// Of prompts, branches that begin among them.
    pub(in crate::planner) prefill: Prefill,
}

/// How many rows of prompts go next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::planner) enum Prefill {
    /// The next chunk as it was planned for a prompt that has the stages to itself.
    Planned,
    /// As many as there are, up to these and to the largest micro-batch.
    AtMost(usize),
}

/// The rows of the next micro-batch.
pub(in crate::planner) fn budget(
    scheduling: &Scheduling,
    load: &Backlog,
    memory: &Memory,
    times: &StepTimes,
) -> Budget {
    let (decode_rows, prefill) = match scheduling.schedule {
        Schedule::Auto => auto::rows(scheduling, load, memory, times),
        Schedule::Throttle => throttle::rows(load, memory),
        Schedule::Chunked => chunked::rows(load),
    };
    Budget {
        decode_rows,
        beginning_rows: times.rows_at_once(load.n_beginning as u32) as usize,
        prefill,
    }
}

impl Backlog {
    /// What the live sequences want; those that `may_begin` have bases with all that both begin with.
    pub(in crate::planner) fn of(
        live: &BTreeMap<RequestId, Live>,
        may_begin: &BTreeSet<RequestId>,
        progress: &Progress,
    ) -> Self {
        let mut load = Self {
            n_stages: progress.n_stages,
            under_way: progress.under_way.clone(),
            n_decode_steps: progress.n_decode_steps,
            n_queued: progress.n_queued,
            ..Self::default()
        };
        let (mut n_tokens, mut n_rows) = (0, 0);
        let mut first = None;
        for live in live.values() {
            let n_text = live.sequence.tokens.len();
            if live.sequence.has_answer() {
                load.n_decoding += 1;
                n_tokens += n_text;
                n_rows += live.drafting.speculator.n_rows();
            }
            load.n_answering += usize::from(live.is_answering());
            load.n_due += usize::from(live.is_due());
            let may_fork = || may_begin.contains(&live.sequence.id);
            let has_forked = || live.n_shared > 0 && !live.sequence.has_answer();
            let (may_prefill, begins) = match live.phase {
                Phase::Unforked => (may_fork(), may_fork()),
                Phase::Prefill { .. } => (true, has_forked()),
                Phase::Decode => (false, has_forked()),
            };
            if begins {
                load.n_beginning += live.n_own();
            }
            if may_prefill {
                let n_cached = live.n_shared.max(live.sequence.n_cached);
                load.n_prompt += n_text - live.n_computed.max(live.n_shared);
                load.n_prompt_whole += n_text.saturating_sub(n_cached);
                let next = (live.sequence.turn, live.n_computed);
                first = Some(first.map_or(next, |first| next.min(first)));
            }
        }
        load.context = n_tokens.checked_div(load.n_decoding).unwrap_or_default();
        load.rows_each = n_rows as f64 / load.n_decoding.max(1) as f64;
        load.prompt_context = first.map_or(0, |(_, n_computed)| n_computed);
        load
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::planning::cost::Work;

    pub(in crate::planner::batching) const MEMORY: Memory = Memory {
        n_cells: 0,
        n_cached: 0,
        n_ctx: 4096,
        n_rows: 64,
    };

    /// A row that is nearly back.
    const UNDER_WAY: UnderWay = UnderWay {
        work: Work {
            rows: 1,
            row_context: 0,
            cells: 0,
            logits: 1,
        },
        since_ns: 20_000_000,
    };

    pub(in crate::planner::batching) fn load(n_decoding: usize, n_decode_steps: usize) -> Backlog {
        Backlog {
            n_stages: 2,
            under_way: vec![UNDER_WAY; n_decode_steps],
            n_decoding,
            n_answering: n_decoding,
            n_due: n_decoding,
            rows_each: 1.0,
            n_decode_steps,
            ..Backlog::default()
        }
    }

    #[test]
    fn branches_begin_a_few_at_a_time() {
        let times = StepTimes::new(None, 2);
        let beginning = Backlog {
            n_beginning: 48,
            ..load(0, 0)
        };
        let budget = budget(&Scheduling::default(), &beginning, &MEMORY, &times);
        assert_eq!(budget.beginning_rows, 24);
    }
}
