//! What is measured of branches that are written side by side.

use std::time::Instant;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use jupiter::{BranchItem, Client, Completion, Prompt, StepTrace, StreamItem};
use jupiter_models::Token;
use serde::Serialize;

use super::answer;
use super::statistics::median;
use crate::cli::output::UsageError;

/// Tokens that all branches begin with: a question, and an outline that is in the cache.
pub(super) const N_SHARED: u32 = 64;
/// Tokens that ask for one point.
pub(super) const N_SUFFIX: u32 = 8;

/// Most branches that run beside an outline: as many sequences as llama.cpp has, but one.
const MOST_BESIDE: u32 = 255;

/// An outlined answer that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outlined {
    /// Tokens of the outline, a line for each branch; of none, it is in the cache.
    pub(super) n_outline: u32,
    pub(super) n_branches: u32,
    /// Tokens of each branch.
    pub(super) n_tokens: u32,
}

impl Outlined {
    /// # Errors
    /// When not every branch can have a line of the outline, or not all can run at once.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        let (n_outline, n_branches) = (self.n_outline, self.n_branches);
        let how = match n_outline {
            0 => return Ok(()),
            n if n < n_branches => format!(
                "an outline of {n} tokens has no line for each of {n_branches} branches: raise \
                 --outline-tokens to {n_branches} at least"
            ),
            _ if n_branches > MOST_BESIDE => format!(
                "{n_branches} branches cannot run beside their outline: --branches {MOST_BESIDE} at most"
            ),
            _ => return Ok(()),
        };
        Err(UsageError(how))
    }

    /// All tokens that are written.
    fn n_all(&self) -> u32 {
        let in_branches = self.n_branches.saturating_mul(self.n_tokens);
        in_branches.saturating_add(self.n_outline)
    }

    /// Positions that it needs, or as many tokens in one sequence.
    pub(super) fn n_positions(&self) -> u32 {
        let suffixes = self.n_branches.saturating_mul(N_SUFFIX);
        let all = self.n_all().saturating_add(suffixes);
        // The outline is not the text that is in the cache already: its prompt has one token more.
        all.saturating_add(N_SHARED + 2)
    }

    /// Sequences that run at once: branches of a beginning in the cache are one request.
    pub(super) fn n_parallel(&self) -> u32 {
        match self.n_outline {
            0 => 1,
            _ => self.n_branches.saturating_add(1),
        }
    }

    /// Tokens of the outline up to the end of line `line`.
    fn n_until(&self, line: usize) -> usize {
        (self.n_outline as usize * (line + 1)).div_ceil(self.n_branches.max(1) as usize)
    }
}

/// The repetitions of one outlined answer.
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
    outline_tokens: u32,
    branches: u32,
    branch_tokens: u32,
    /// Median of the sequence's time over the branches'.
    ratio: f64,
    /// Median over the runs.
    efficiency: f64,
    sequence_ms: Vec<f64>,
    branches_ms: Vec<f64>,
}

/// Generates as many tokens in one sequence, from the first to the last, in milliseconds. Its
/// beginning stays in the KV cache, as that of an outline does.
pub(super) async fn one_sequence(
    client: &Client,
    shared: Vec<Token>,
    of: Outlined,
) -> anyhow::Result<f64> {
    let options = answer::options(of.n_all().saturating_add(1), None);
    let (done, _) = answer::complete(client, shared, options).await?;
    Ok(done.eval_ms)
}

/// Writes an outlined answer: each branch goes on with its suffix, from `shared`, or from the outline behind
/// it as far as it is written. The elapsed time, in milliseconds, and what it took.
pub(super) async fn outlined(
    client: &Client,
    shared: Vec<Token>,
    suffixes: Vec<Vec<Token>>,
    of: Outlined,
) -> anyhow::Result<(f64, Vec<Completion>)> {
    let begun = Instant::now();
    let done = match of.n_outline {
        0 => vec![side_by_side(client, &shared, suffixes, of).await?],
        _ => with_lines(client, shared, suffixes, of).await?,
    };
    let elapsed_ms = begun.elapsed().as_secs_f64() * 1e3;
    done.iter().try_for_each(answer::ensure_whole)?;
    let n_eval: u32 = done.iter().map(|done| done.n_eval).sum();
    let n_all = of.n_all();
    anyhow::ensure!(n_eval == n_all, "{n_eval} tokens of {n_all} came");
    Ok((elapsed_ms, done))
}

/// Forks all branches.
async fn side_by_side(
    client: &Client,
    shared: &[Token],
    suffixes: Vec<Vec<Token>>,
    of: Outlined,
) -> anyhow::Result<Completion> {
    let prompts = suffixes.iter();
    let prompts = prompts.map(|suffix| Prompt::tokens([shared, suffix].concat()));
    let mut branches = client
        .fork(prompts.collect(), answer::options(of.n_tokens, None))
        .await?;
    loop {
        match branches.next().await {
            Some(item) => match item? {
                BranchItem::Done(done) => return Ok(done),
                BranchItem::Token { .. } | BranchItem::Thought { .. } | BranchItem::End { .. } => {}
            },
            None => anyhow::bail!("the branches broke off"),
        }
    }
}

/// Writes the outline; each branch begins when its line is there.
async fn with_lines(
    client: &Client,
    mut text: Vec<Token>,
    suffixes: Vec<Vec<Token>>,
    of: Outlined,
) -> anyhow::Result<Vec<Completion>> {
    let n_before = text.len();
    let options = answer::options(of.n_outline, None);
    let mut outline = client
        .generate(Prompt::tokens(text.clone()), options)
        .await?;
    let mut branches = FuturesUnordered::new();
    let mut suffixes = suffixes.into_iter().enumerate().peekable();
    let mut done = Vec::new();
    let mut is_written = false;
    while !is_written || !branches.is_empty() {
        tokio::select! {
            item = outline.next(), if !is_written => match item {
                Some(Ok(StreamItem::Token { id, .. } | StreamItem::Thought { id, .. })) => text.extend(id),
                Some(Ok(StreamItem::Done(of_outline))) => {
                    is_written = true;
                    done.push(of_outline);
                }
                Some(other) => drop(other?),
                None => anyhow::bail!("the outline broke off"),
            },
            Some(branch) = branches.next() => done.push(branch?),
        }
        let n_written = text.len() - n_before;
        while let Some((_, suffix)) =
            suffixes.next_if(|&(line, _)| is_written || of.n_until(line) <= n_written)
        {
            let prompt = [&text[..], &suffix].concat();
            let options = answer::options(of.n_tokens, None);
            branches.push(async move {
                let (done, _) = answer::complete(client, prompt, options).await?;
                anyhow::Ok(done)
            });
        }
    }
    Ok(done)
}

impl Forks {
    /// Takes the times of both ways; `steps` are those of the branches.
    pub(super) fn push(
        &mut self,
        sequence_ms: f64,
        (branches_ms, done): (f64, Vec<Completion>),
        steps: Vec<StepTrace>,
    ) {
        let busy = answer::busy_ms(&done, |stage| stage.prompt_busy_ms + stage.eval_busy_ms);
        if self.runs.iter().all(|run| run.branches_ms > branches_ms) {
            self.best_steps = steps;
        }
        self.runs.push(ForkRun {
            sequence_ms,
            branches_ms,
            efficiency: busy.into_iter().fold(0.0, f64::max) / branches_ms,
        });
    }

    /// None when nothing was measured.
    pub(super) fn report(&self, outlined: Outlined) -> Option<OutlineReport> {
        let of = |value: fn(&ForkRun) -> f64| self.runs.iter().map(value).collect::<Vec<f64>>();
        Some(OutlineReport {
            outline_tokens: outlined.n_outline,
            branches: outlined.n_branches,
            branch_tokens: outlined.n_tokens,
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
        format!("{}, the best of {}", self.what(), self.branches_ms.len())
    }

    fn what(&self) -> String {
        let outline = match self.outline_tokens {
            0 => String::new(),
            n => format!(" with an outline of {n}"),
        };
        let (n_branches, n_tokens) = (self.branches, self.branch_tokens);
        format!("{n_branches} branches of {n_tokens} tokens{outline}")
    }

    /// One line for people.
    pub(super) fn line(&self) -> String {
        format!(
            "{} side by side: {:.2} times as fast as the same tokens in one sequence, busiest stage \
             {:.0} % of the time\n",
            self.what(),
            self.ratio,
            self.efficiency * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SIX: Outlined = Outlined {
        n_outline: 0,
        n_branches: 6,
        n_tokens: 48,
    };

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
        let report = forks.report(SIX).unwrap();
        assert_eq!((report.ratio, report.efficiency), (2.0, 0.9));
        assert_eq!(Forks::default().report(SIX), None);
    }

    #[test]
    fn each_branch_has_a_line() {
        let of = Outlined {
            n_outline: 20,
            ..SIX
        };
        let ends: Vec<usize> = (0..6).map(|line| of.n_until(line)).collect();
        assert_eq!(ends, [4, 7, 10, 14, 17, 20]);
        assert_eq!((of.n_parallel(), SIX.n_parallel()), (7, 1));
        assert!(of.check().is_ok() && SIX.check().is_ok());
        let no_lines = Outlined {
            n_outline: 5,
            ..SIX
        };
        let too_many = Outlined {
            n_outline: 256,
            n_branches: 256,
            ..SIX
        };
        assert!(no_lines.check().is_err() && too_many.check().is_err());
        assert_eq!(of.n_positions(), 20 + 6 * (48 + 8) + 66);
    }
}
