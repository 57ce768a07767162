//! What requests took: counted while they run, told when they are complete.

use std::time::Instant;

use super::cluster::placement::PlacedStage;
use super::drafting::Drafting;
use super::sequence::Sequence;
use crate::message::StageTiming;
use crate::request::{Completion, FinishReason, StageUsage};

/// Time of each stage's engine on one request, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Usage {
    prompt_us: Vec<f64>,
    eval_us: Vec<f64>,
}

/// A request's part of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share {
    /// Of the step's rows, 0 to 1.
    pub(super) of_rows: f64,
    /// Whether they belong to the prompt.
    pub(super) is_prompt: bool,
}

impl Usage {
    /// Adds a share of a step's engine times.
    pub(super) fn credit(&mut self, share: Share, timings: &[StageTiming], n_stages: usize) {
        let busy = match share.is_prompt {
            true => &mut self.prompt_us,
            false => &mut self.eval_us,
        };
        busy.resize(n_stages.max(busy.len()), 0.0);
        for timing in timings {
            if let Some(busy) = busy.get_mut(timing.stage as usize) {
                *busy += timing.busy_us as f64 * share.of_rows;
            }
        }
    }
}

/// How a sequence ended, and what it took.
pub(super) fn completion(
    sequence: &Sequence,
    drafting: &Drafting,
    reason: FinishReason,
    stages: &[PlacedStage],
    now: Instant,
) -> Completion {
    let first = sequence.first_token.unwrap_or(now);
    let ms = |us: &[f64], stage: usize| us.get(stage).copied().unwrap_or(0.0) / 1e3;
    let stages = stages.iter().enumerate().map(|(i, stage)| StageUsage {
        node: stage.node.clone(),
        layers: stage.layers,
        prompt_busy_ms: ms(&sequence.usage.prompt_us, i),
        eval_busy_ms: ms(&sequence.usage.eval_us, i),
    });
    let speculator = &drafting.speculator;
    Completion {
        reason,
        limit: (reason == FinishReason::Length).then_some(sequence.limit),
        n_prompt: sequence.n_prompt as u32,
        n_cached: sequence.n_cached as u32,
        n_eval: sequence.n_answer() as u32,
        prompt_ms: first.duration_since(sequence.admitted).as_secs_f64() * 1e3,
        eval_ms: now.duration_since(first).as_secs_f64() * 1e3,
        n_replays: sequence.n_replays,
        n_preempted: sequence.n_preempted,
        stages: stages.collect(),
        speculation: speculator.is_asked().then(|| speculator.usage()),
        outline: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_shared_by_rows_and_prompts_are_counted_apart() {
        let timing = |stage, busy_us| StageTiming {
            stage,
            began_us: 0,
            waited_us: 0,
            busy_us,
        };
        // The report of a third stage is none of this plan.
        let timings = [timing(0, 100), timing(1, 300), timing(2, 1)];
        let mut usage = Usage::default();
        for (of_rows, is_prompt) in [(0.5, true), (0.25, false), (0.25, false)] {
            usage.credit(Share { of_rows, is_prompt }, &timings, 2);
        }
        assert_eq!(usage.prompt_us, [50.0, 150.0]);
        assert_eq!(usage.eval_us, [50.0, 150.0]);
    }
}
