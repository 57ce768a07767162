//! What is measured of branches that are written side by side.

use std::time::Instant;

use futures::StreamExt;
use jupiter::{BranchItem, Client, Completion, Prompt, StepTrace};
use jupiter_models::Token;
use serde::Serialize;

use super::answer;
use super::statistics::median;

/// Tokens that all branches begin with: a question and an outline.
pub(super) const N_SHARED: u32 = 64;
/// Tokens that ask for one point.
pub(super) const N_SUFFIX: u32 = 8;

/// The repetitions of one number of branches.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Forks {
    runs: Vec<ForkRun>,
    /// What became of the steps of the shortest one; empty unless they are traced.
    pub(super) best_steps: Vec<StepTrace>,
}

/// The same tokens in both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ForkRun {
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

/// Generates as many tokens in one sequence, from the first to the last, in milliseconds. Its
/// beginning stays in the KV cache, as that of an outline does.
pub(super) async fn one_sequence(
    client: &Client,
    shared: Vec<Token>,
    (n_branches, n_tokens): (u32, u32),
) -> anyhow::Result<f64> {
    let n_predict = n_branches.saturating_mul(n_tokens).saturating_add(1);
    let options = answer::options(n_predict, None);
    let (done, _) = answer::complete(client, shared, options).await?;
    Ok(done.eval_ms)
}

/// Forks branches of `n_tokens` each; the elapsed time, in milliseconds, and what it took.
pub(super) async fn side_by_side(
    client: &Client,
    prompts: Vec<Prompt>,
    n_tokens: u32,
) -> anyhow::Result<(f64, Completion)> {
    let n_all = n_tokens.saturating_mul(prompts.len() as u32);
    let begun = Instant::now();
    let mut branches = client
        .fork(prompts, answer::options(n_tokens, None))
        .await?;
    let done = loop {
        match branches.next().await {
            Some(item) => match item? {
                BranchItem::Done(done) => break done,
                BranchItem::Token { .. } | BranchItem::Thought { .. } | BranchItem::End { .. } => {}
            },
            None => anyhow::bail!("the branches broke off"),
        }
    };
    let elapsed_ms = begun.elapsed().as_secs_f64() * 1e3;
    answer::ensure_whole(&done)?;
    let n_eval = done.n_eval;
    anyhow::ensure!(n_eval == n_all, "{n_eval} tokens of {n_all} came");
    Ok((elapsed_ms, done))
}

impl Forks {
    /// Takes the times of both ways; `steps` are those of the branches.
    pub(super) fn push(
        &mut self,
        sequence_ms: f64,
        (branches_ms, done): (f64, Completion),
        steps: Vec<StepTrace>,
    ) {
        let busy = done.stages.iter();
        let busy = busy.map(|stage| stage.prompt_busy_ms + stage.eval_busy_ms);
        if self.runs.iter().all(|run| run.branches_ms > branches_ms) {
            self.best_steps = steps;
        }
        self.runs.push(ForkRun {
            sequence_ms,
            branches_ms,
            efficiency: busy.fold(0.0, f64::max) / branches_ms,
        });
    }

    /// None when nothing was measured.
    pub(super) fn report(&self, (branches, branch_tokens): (u32, u32)) -> Option<OutlineReport> {
        let of = |value: fn(&ForkRun) -> f64| self.runs.iter().map(value).collect::<Vec<f64>>();
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

impl OutlineReport {
    /// The shortest run of the branches, in milliseconds.
    pub(super) fn best_ms(&self) -> Option<f64> {
        self.branches_ms.iter().copied().min_by(f64::total_cmp)
    }

    /// Names it in a picture.
    pub(super) fn title(&self) -> String {
        let (n_branches, n_tokens) = (self.branches, self.branch_tokens);
        let n_runs = self.branches_ms.len();
        format!("{n_branches} branches of {n_tokens} tokens, the best of {n_runs}")
    }

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
        let run = |sequence_ms, branches_ms| ForkRun {
            sequence_ms,
            branches_ms,
            efficiency: 0.9,
        };
        let runs = vec![run(30.0, 10.0), run(10.0, 10.0), run(40.0, 20.0)];
        let forks = Forks {
            runs,
            ..Forks::default()
        };
        let report = forks.report((6, 48)).unwrap();
        assert_eq!((report.ratio, report.efficiency), (2.0, 0.9));
        assert_eq!(Forks::default().report((6, 48)), None);
    }
}
