//! What is measured of branches that are written side by side.

use std::time::Instant;

use futures::StreamExt;
use jupiter::{BranchItem, Client, Completion, DraftChoice, GenerateOptions, Prompt};
use jupiter::{SamplingParams, SpeculationParams};
use jupiter_models::Token;
use serde::Serialize;

use super::report::median;

/// Tokens that all branches begin with: a question and an outline.
const N_SHARED: u32 = 64;
/// Tokens that ask for one point.
const N_SUFFIX: u32 = 8;

/// The repetitions of one number of branches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Expansions {
    runs: Vec<Expansion>,
}

/// The same tokens in both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Expansion {
    /// In one sequence, from the first of them to the last, in milliseconds.
    sequence_ms: f64,
    /// As branches, from the request to the end of the last, in milliseconds.
    branches_ms: f64,
    /// Busy time of the busiest stage over the elapsed time of the branches.
    efficiency: f64,
}

/// The object `outline` of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct OutlineReport {
    branches: u32,
    branch_tokens: u32,
    /// Median of the sequence's time over the branches'.
    ratio: f64,
    /// Median over the runs.
    efficiency: f64,
    sequence_ms: Vec<f64>,
    branches_ms: Vec<f64>,
}

/// Positions that so many branches of so many tokens need, or as many tokens in one sequence.
pub(super) fn n_positions((n_branches, n_tokens): (u32, u32)) -> u32 {
    let own = n_tokens.saturating_add(N_SUFFIX);
    n_branches.saturating_mul(own).saturating_add(N_SHARED + 1)
}

/// How both ways are asked: greedily, to the last token, without guesses.
fn options(n_predict: u32) -> GenerateOptions {
    GenerateOptions {
        n_predict: Some(n_predict),
        sampling: SamplingParams::greedy(),
        ignore_eos: true,
        speculation: Some(SpeculationParams {
            source: DraftChoice::None,
            ..SpeculationParams::default()
        }),
        ..GenerateOptions::default()
    }
}

impl Expansions {
    /// Expands `n_branches` of `n_tokens` each from what `take` draws; the shared beginning is in the
    /// KV cache already, as that of an outline is.
    pub(super) async fn measure(
        &mut self,
        client: &Client,
        (n_branches, n_tokens): (u32, u32),
        mut take: impl FnMut(u32) -> Vec<Token>,
    ) -> anyhow::Result<()> {
        let shared = take(N_SHARED);
        let all = n_branches.saturating_mul(n_tokens);
        // It leaves the beginning behind.
        let sequence = complete(client, shared.clone(), all.saturating_add(1)).await?;
        let prompts = (0..n_branches).map(|_| [shared.clone(), take(N_SUFFIX)].concat());
        let prompts = prompts.map(Prompt::tokens).collect();
        let begun = Instant::now();
        let mut branches = client.expand(prompts, options(n_tokens)).await?;
        let done = loop {
            match branches.next().await {
                Some(item) => match item? {
                    BranchItem::Done(done) => break done,
                    BranchItem::Token { .. } | BranchItem::End { .. } => {}
                },
                None => anyhow::bail!("the branches broke off"),
            }
        };
        let branches_ms = begun.elapsed().as_secs_f64() * 1e3;
        anyhow::ensure!(done.n_replays == 0, "a stage failed during the measurement");
        anyhow::ensure!(done.n_eval == all, "{} tokens of {all} came", done.n_eval);
        let busy = done
            .stages
            .iter()
            .map(|s| s.prompt_busy_ms + s.eval_busy_ms);
        self.runs.push(Expansion {
            sequence_ms: sequence.eval_ms,
            branches_ms,
            efficiency: busy.fold(0.0, f64::max) / branches_ms,
        });
        Ok(())
    }

    /// None when nothing was measured.
    pub(super) fn report(&self, (branches, branch_tokens): (u32, u32)) -> Option<OutlineReport> {
        let of = |value: fn(&Expansion) -> f64| self.runs.iter().map(value).collect::<Vec<f64>>();
        Some(OutlineReport {
            branches,
            branch_tokens,
            ratio: median(of(|run| run.sequence_ms / run.branches_ms))?,
            efficiency: median(of(|run| run.efficiency))?,
            sequence_ms: of(|run| run.sequence_ms),
            branches_ms: of(|run| run.branches_ms),
        })
    }
}

async fn complete(client: &Client, prompt: Vec<Token>, n: u32) -> anyhow::Result<Completion> {
    let prompt = Prompt::tokens(prompt);
    let mut answer = client.generate(prompt, options(n)).await?;
    while let Some(item) = answer.next().await {
        if let jupiter::StreamItem::Done(done) = item? {
            return Ok(done);
        }
    }
    anyhow::bail!("the answer broke off")
}

impl OutlineReport {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        format!(
            "{} branches of {} tokens side by side: {:.2} times as fast as the same tokens in one \
             sequence, busiest stage {:.0} % of the time\n",
            self.branches,
            self.branch_tokens,
            self.ratio,
            self.efficiency * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_pairs() {
        let run = |sequence_ms, branches_ms| Expansion {
            sequence_ms,
            branches_ms,
            efficiency: 0.9,
        };
        let runs = vec![run(30.0, 10.0), run(10.0, 10.0), run(40.0, 20.0)];
        let report = Expansions { runs }.report((6, 48)).unwrap();
        assert_eq!((report.ratio, report.efficiency), (2.0, 0.9));
        assert_eq!(Expansions::default().report((6, 48)), None);
    }
}
