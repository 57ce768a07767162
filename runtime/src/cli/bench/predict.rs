//! What the simulator says of the runs, by the measured profiles: `--predict`.

use std::sync::Arc;

use anyhow::Context;
use jupiter::timeline::{Timeline, from_trace};
use jupiter::{Config, described_config};
use jupiter_actors::planner::{MeasuredPlan, PlacedStage, SplitPolicy};
use jupiter_actors::simulator::{
    Answered, Guesses, Outcome, Points, Scenario, SimRequest, Simulation,
};
use serde::Serialize;

use super::BenchArgs;
use super::branches::{N_SHARED, N_SUFFIX};
use super::speculative::Speculative;
use crate::cli::table::{Align, markdown};

/// Nanoseconds in a millisecond.
const NS_PER_MS: f64 = 1e6;

/// Times as they were predicted or measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Times {
    /// From the prompt to its first token, in milliseconds.
    pub ttft_ms: Option<f64>,
    /// Between two tokens of a stream, in milliseconds.
    pub tbt_ms: Option<f64>,
    /// Tokens a second, all streams together.
    pub tps: Option<f64>,
    /// An answer with guesses, from its first token to its last, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guessed_ms: Option<f64>,
    /// All branches, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branches_ms: Option<f64>,
}

/// A simulated run of a test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prediction {
    /// As a benchmark counts it, in milliseconds.
    pub elapsed_ms: f64,
    /// What stages and links would do.
    pub timeline: Timeline,
}

/// The predictions of all tests.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Predictions {
    pub(super) pp: Option<Prediction>,
    pub(super) tg: Option<Prediction>,
    pub(super) guessed: Option<Prediction>,
    pub(super) branches: Option<Prediction>,
}

/// The measured cluster, as the simulator takes it.
pub(super) struct Predictor<'a> {
    pub(super) config: &'a Config,
    pub(super) plan: Arc<MeasuredPlan>,
    pub(super) stages: Vec<String>,
}

impl Predictor<'_> {
    /// What the simulator says of the tests that are measured.
    pub(super) fn of_tests(&self, args: &BenchArgs, n_streams: u32) -> anyhow::Result<Predictions> {
        let guesses = match args.speculative {
            Some(Speculative::Oracle(acceptance)) => Some(Guesses {
                acceptance,
                draft_max: args.drafts.draft_max,
                in_flight: args.in_flight.0,
                seed: args.seed,
            }),
            _ => None,
        };
        let generates = args.n_gen > 0;
        Ok(Predictions {
            pp: (args.n_prompt > 0)
                .then(|| self.prefill(args.n_prompt))
                .transpose()?,
            tg: generates
                .then(|| self.decode(n_streams, args.n_gen, None))
                .transpose()?,
            guessed: (guesses.filter(|_| generates))
                .map(|guesses| self.decode(1, args.n_gen, Some(guesses)))
                .transpose()?,
            branches: (args.outlined())
                .map(|of| self.branches(of.n_branches, of.n_tokens))
                .transpose()?,
        })
    }

    /// A prompt of `n_tokens`, up to the first token of the answer.
    fn prefill(&self, n_tokens: u32) -> anyhow::Result<Prediction> {
        let outcome = self.run(vec![SimRequest::at_once(n_tokens, 1)], None)?;
        self.prediction(&outcome, first_token_ns)
    }

    /// `n_tokens` behind the first in each of `n_streams` answers, with guesses or without.
    fn decode(
        &self,
        n_streams: u32,
        n_tokens: u32,
        guesses: Option<Guesses>,
    ) -> anyhow::Result<Prediction> {
        let request = SimRequest::at_once(1, n_tokens.saturating_add(1));
        let outcome = self.run(vec![request; n_streams as usize], guesses)?;
        match n_streams {
            1 => self.prediction(&outcome, |one| Some(one.total_ns - one.ttft_ns?)),
            _ => self.prediction(&outcome, |one| Some(one.total_ns)),
        }
    }

    /// Branches of `n_tokens` each behind a beginning that is in the cache.
    fn branches(&self, n_branches: u32, n_tokens: u32) -> anyhow::Result<Prediction> {
        let request = SimRequest {
            points: Some(Points {
                n_points: n_branches,
                n_prompt: N_SUFFIX,
                n_predict: n_tokens,
                with_lines: false,
            }),
            ..SimRequest::at_once(N_SHARED - 1, 1)
        };
        let outcome = self.run(vec![request], None)?;
        self.prediction(&outcome, |one| Some(one.total_ns - one.outline_ns?))
    }

    fn run(&self, requests: Vec<SimRequest>, guesses: Option<Guesses>) -> anyhow::Result<Outcome> {
        let cluster = &self.plan.cluster;
        let head = self.config.network.node.clone();
        let n_nodes = cluster.devices().len() as u32;
        let (model, is_guessed) = (cluster.model().clone(), guesses.is_some());
        let mut planner = described_config(self.config, model, head, n_nodes, is_guessed)?;
        let place = |&(device, layers): &(usize, _)| PlacedStage {
            node: cluster.devices()[device].node.clone(),
            layers,
        };
        let stages = self.plan.stages.iter();
        planner.split = match planner.split {
            SplitPolicy::Planned | SplitPolicy::Pinned(_) => {
                SplitPolicy::Pinned(stages.map(place).collect())
            }
            // Cut without a plan: nor are chunks planned.
            SplitPolicy::PerNode | SplitPolicy::Stages(_) | SplitPolicy::Ranges(_) => {
                SplitPolicy::Ranges(stages.map(|&(_, layers)| layers).collect())
            }
        };
        let scenario = Scenario {
            cluster: cluster.clone(),
            planner,
            requests,
            guesses,
            traces: true,
        };
        Ok(Simulation::new(&scenario)?.run()?)
    }

    fn prediction(
        &self,
        outcome: &Outcome,
        elapsed_ns: impl Fn(&Answered) -> Option<u64>,
    ) -> anyhow::Result<Prediction> {
        let error = outcome.requests.iter().find_map(|one| one.error.as_ref());
        anyhow::ensure!(error.is_none(), "the simulation: {error:?}");
        let longest_ns = outcome.requests.iter().filter_map(elapsed_ns).max();
        let longest_ns = longest_ns.context("the simulation brought no token")?;
        Ok(Prediction {
            elapsed_ms: longest_ns as f64 / NS_PER_MS,
            timeline: from_trace("predicted", &self.stages, &outcome.steps),
        })
    }
}

fn first_token_ns(answered: &Answered) -> Option<u64> {
    answered.ttft_ns
}

/// Measured and predicted times beside each other.
pub(super) fn prediction_table(measured: &Times, predicted: &Times) -> String {
    use Align::{Left, Right};
    let columns = [
        ("time", Left),
        ("measured", Right),
        ("predicted", Right),
        ("off by", Right),
    ];
    let rows = [
        ("first token, ms", measured.ttft_ms, predicted.ttft_ms),
        ("a token of a stream, ms", measured.tbt_ms, predicted.tbt_ms),
        ("tokens a second", measured.tps, predicted.tps),
        (
            "an answer with guesses, ms",
            measured.guessed_ms,
            predicted.guessed_ms,
        ),
        (
            "all branches, ms",
            measured.branches_ms,
            predicted.branches_ms,
        ),
    ];
    let row = |(what, measured, predicted): (&str, Option<f64>, Option<f64>)| {
        let (measured, predicted) = (measured?, predicted?);
        Some(vec![
            what.to_owned(),
            format!("{measured:.2}"),
            format!("{predicted:.2}"),
            format!("{:+.1} %", (predicted / measured - 1.0) * 100.0),
        ])
    };
    markdown(
        &columns,
        &rows.into_iter().filter_map(row).collect::<Vec<_>>(),
    )
}
