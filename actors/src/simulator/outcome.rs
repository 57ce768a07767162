//! What came of a run: latencies, rates, and what the stages did.

use std::sync::Arc;

use jupiter_models::LayerRange;
use serde::Serialize;

use super::workload::NS_PER_S;
use crate::NodeId;
use crate::planner::{MeasuredPlan, StepTrace};

/// Nanoseconds in a millisecond.
const NS_PER_MS: f64 = 1e6;

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What became of each request, in the order in which they came.
    pub requests: Vec<Answered>,
    /// The times between two tokens of a stream, in nanoseconds, from the shortest to the longest.
    pub gaps_ns: Vec<u64>,
    /// From the first request to the last token, in nanoseconds.
    pub elapsed_ns: u64,
    /// The stages of the last plan.
    pub stages: Vec<StageOutcome>,
    /// The last plan with its predictions.
    pub plan: Option<Arc<MeasuredPlan>>,
    /// Steps that the Planner got back.
    pub n_steps: u64,
    /// Rows that were computed.
    pub n_rows: u64,
    /// Of these, rows of guesses that were wrong.
    pub n_rows_in_vain: u64,
    /// Most cells of the KV cache that were in use at once.
    pub most_cells: usize,
    /// How often an answer gave up its place to others.
    pub n_preempted: u64,
    /// Tokens of prompts that were in the KV cache before.
    pub n_cached: u64,
    /// The last steps, at most 4096, where they were asked for.
    pub steps: Vec<StepTrace>,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answered {
    /// From its arrival to its first token, in nanoseconds.
    pub ttft_ns: Option<u64>,
    /// From its arrival to its last token.
    pub total_ns: u64,
    /// From its arrival to the end of its outline, where it has one.
    pub outline_ns: Option<u64>,
    /// Tokens of the answer.
    pub n_tokens: u32,
    /// Why there is no answer, in one line.
    pub error: Option<String>,
}

/// What a stage did.
#[derive(Clone, Debug, PartialEq)]
pub struct StageOutcome {
    /// Where it is.
    pub node: NodeId,
    /// Its layers.
    pub layers: LayerRange,
    /// Time that it computed, in nanoseconds.
    pub busy_ns: u64,
}

/// Many times in a few numbers, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Their mean.
    pub mean: f64,
    /// Half of them are at most this.
    pub p50: f64,
    /// 95 of 100 are at most this.
    pub p95: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
}

impl Spread {
    /// Of sorted times in nanoseconds; all zero of none.
    pub fn of(sorted_ns: &[u64]) -> Spread {
        let Some(last) = sorted_ns.len().checked_sub(1) else {
            return Spread::default();
        };
        let sum: u128 = sorted_ns.iter().map(|&ns| u128::from(ns)).sum();
        // The nearest rank.
        let percentile = |percent: usize| {
            let rank = (sorted_ns.len() * percent).div_ceil(100);
            sorted_ns[rank.saturating_sub(1).min(last)] as f64 / NS_PER_MS
        };
        Spread {
            mean: sum as f64 / sorted_ns.len() as f64 / NS_PER_MS,
            p50: percentile(50),
            p95: percentile(95),
            p99: percentile(99),
        }
    }
}

impl Answered {
    /// Mean time between two of its tokens, in nanoseconds.
    fn mean_gap_ns(&self) -> f64 {
        let n_gaps = self.n_tokens.saturating_sub(1).max(1);
        let writing = self.total_ns.saturating_sub(self.ttft_ns.unwrap_or(0));
        writing as f64 / f64::from(n_gaps)
    }
}

impl Outcome {
    /// Requests without an answer.
    pub fn n_errors(&self) -> usize {
        self.requests.iter().filter(|r| r.error.is_some()).count()
    }

    /// Tokens of all answers.
    pub fn n_tokens(&self) -> u64 {
        self.requests.iter().map(|r| u64::from(r.n_tokens)).sum()
    }

    /// From the first request to the last token.
    pub fn seconds(&self) -> f64 {
        self.elapsed_ns as f64 / NS_PER_S
    }

    /// Tokens a second.
    pub fn tps(&self) -> f64 {
        self.n_tokens() as f64 / self.seconds().max(1e-9)
    }

    /// From arrival to first token.
    pub fn ttft(&self) -> Spread {
        let mut times: Vec<u64> = self.requests.iter().filter_map(|r| r.ttft_ns).collect();
        times.sort_unstable();
        Spread::of(&times)
    }

    /// Between two tokens of a stream.
    pub fn tbt(&self) -> Spread {
        Spread::of(&self.gaps_ns)
    }

    /// Answers a second that began within `ttft_ms` and went on within `tbt_ms` a token on average.
    pub fn goodput(&self, ttft_ms: f64, tbt_ms: f64) -> f64 {
        let is_good = |request: &&Answered| {
            let began = request.ttft_ns.map(|ns| ns as f64 / NS_PER_MS);
            request.error.is_none()
                && began.is_some_and(|ms| ms <= ttft_ms)
                && request.mean_gap_ns() / NS_PER_MS <= tbt_ms
        };
        let n_good = self.requests.iter().filter(is_good).count();
        n_good as f64 / self.seconds().max(1e-9)
    }

    /// Share of the time in which a stage computed.
    pub fn busy_share(&self, stage: &StageOutcome) -> f64 {
        stage.busy_ns as f64 / self.elapsed_ns.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were() {
        let times: Vec<u64> = (1..=200).map(|ms| ms * 1_000_000).collect();
        let spread = Spread::of(&times);
        assert_eq!(
            (spread.mean, spread.p50, spread.p95, spread.p99),
            (100.5, 100.0, 190.0, 198.0)
        );
        assert_eq!(Spread::of(&[5_000_000]).p99, 5.0);
        assert_eq!(Spread::of(&[]), Spread::default());
    }

    #[test]
    fn answers_that_are_late_or_slow_or_none_are_not_good() {
        let answered = |ttft_ms: u64, total_ms: u64, error: Option<&str>| Answered {
            ttft_ns: Some(ttft_ms * 1_000_000),
            total_ns: total_ms * 1_000_000,
            outline_ns: None,
            n_tokens: 11,
            error: error.map(str::to_owned),
        };
        let outcome = Outcome {
            requests: vec![
                answered(100, 600, None),
                answered(101, 600, None),
                answered(100, 611, None),
                answered(100, 600, Some("no")),
            ],
            gaps_ns: Vec::new(),
            elapsed_ns: 2_000_000_000,
            stages: Vec::new(),
            plan: None,
            n_steps: 0,
            n_rows: 0,
            n_rows_in_vain: 0,
            most_cells: 0,
            n_preempted: 0,
            n_cached: 0,
            steps: Vec::new(),
        };
        assert_eq!(outcome.goodput(100.0, 51.0), 0.5);
        assert_eq!((outcome.n_errors(), outcome.n_tokens()), (1, 44));
        assert_eq!(outcome.tps(), 22.0);
    }
}
