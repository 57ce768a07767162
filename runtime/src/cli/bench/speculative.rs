//! What is measured of speculative decoding.

use std::str::FromStr;
use std::sync::Arc;

use jupiter::config::{DraftSetting, SpeculationSettings};
use jupiter::{DraftChoice, Oracle, SpeculationParams, SpeculationUsage};
use jupiter_models::Token;
use serde::Serialize;

use super::BenchArgs;
use super::statistics::median;

/// Who guesses in a benchmark.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speculative {
    /// One of the sources that people use.
    Source(DraftSetting),
    /// One that knows the text, and is right so often.
    Oracle(f64),
}

impl FromStr for Speculative {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}`: take auto, ngram, draft, medusa, mtp, or oracle:0.8");
        if let Some(acceptance) = text.strip_prefix("oracle:") {
            let acceptance = acceptance.parse().ok();
            return acceptance
                .filter(|a| (0.0..=1.0).contains(a))
                .map(Self::Oracle)
                .ok_or_else(|| format!("`{text}`: an oracle is right with probability 0 to 1"));
        }
        let guesser = <DraftSetting as clap::ValueEnum>::from_str(text, false);
        guesser.map(Self::Source).map_err(|_| wrong())
    }
}

/// Most steps of an answer on their way; none for as many as pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InFlight(pub(crate) Option<u32>);

impl FromStr for InFlight {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self(None)),
            (_, Ok(n)) if n > 0 => Ok(Self(Some(n))),
            _ => Err("give a number of steps from 1 up, or auto".into()),
        }
    }
}

/// The flags that start a pipeline for a benchmark: sources are loaded only if they are measured.
pub(super) fn flags(args: &BenchArgs) -> SpeculationSettings {
    SpeculationSettings {
        speculative: Some(match args.speculative {
            Some(Speculative::Source(guesser)) => guesser,
            Some(Speculative::Oracle(_)) => DraftSetting::Ngram,
            None => DraftSetting::None,
        }),
        draft_acceptance: None,
    }
}

/// How to guess at what follows `prompt`, after which the model writes `answer`.
pub(super) fn params(
    args: &BenchArgs,
    prompt: &[Token],
    answer: &[Token],
    n_vocab: u32,
) -> Option<SpeculationParams> {
    let source = match args.speculative? {
        Speculative::Source(guesser) => guesser.into(),
        Speculative::Oracle(acceptance) => DraftChoice::Oracle(Oracle {
            truth: Arc::from([prompt, answer].concat()),
            n_vocab: n_vocab as Token,
            acceptance,
            seed: args.seed,
        }),
    };
    let default = SpeculationParams::default();
    Some(SpeculationParams {
        source,
        in_flight: args.in_flight.0,
        draft_max: args.drafts.draft_max.unwrap_or(default.draft_max),
        ..default
    })
}

/// The repetitions with and without guesses.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Comparison {
    /// Milliseconds of each answer: plain, and with guesses.
    pub(super) elapsed_ms: Vec<(f64, f64)>,
    pub(super) usage: Vec<SpeculationUsage>,
    /// Answers that are the same with and without guesses.
    pub(super) n_same: usize,
}

/// The object `speculation` of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SpeculationReport {
    source: &'static str,
    /// Median of plain time over time with guesses.
    ratio: f64,
    tokens_per_step: f64,
    acceptance: f64,
    wasted_rows: f64,
    /// What the rule that chooses the shapes expects of the best one, for the acceptance that was
    /// seen and the times that were measured.
    predicted_ratio: f64,
    /// Share of the answers that are the same with and without guesses.
    same_text: f64,
}

impl Comparison {
    /// The shortest answer with guesses, in milliseconds.
    pub(super) fn best_ms(&self) -> Option<f64> {
        let guessed = self.elapsed_ms.iter().map(|(_, guessed)| *guessed);
        guessed.min_by(f64::total_cmp)
    }

    /// None when nothing was measured.
    pub(super) fn report(&self) -> Option<SpeculationReport> {
        let last = self.usage.last()?;
        let n = self.usage.len() as f64;
        let mean = |of: fn(&SpeculationUsage) -> f64| self.usage.iter().map(of).sum::<f64>() / n;
        let ratios = self
            .elapsed_ms
            .iter()
            .map(|(plain, guessed)| plain / guessed);
        Some(SpeculationReport {
            source: last.source,
            ratio: median(ratios.collect())?,
            tokens_per_step: mean(SpeculationUsage::tokens_per_step),
            acceptance: mean(SpeculationUsage::acceptance),
            wasted_rows: mean(|usage| f64::from(usage.n_wasted)),
            predicted_ratio: mean(|usage| usage.predicted_ratio),
            same_text: self.n_same as f64 / n,
        })
    }
}

impl SpeculationReport {
    /// One line for people.
    pub(super) fn line(&self) -> String {
        format!(
            "guesses by {}: {:.2} times plain decoding ({:.2} predicted), {:.2} tokens a step, \
             {:.0} % right, {:.0} rows in vain an answer, {:.0} % of the answers the same\n",
            self.source,
            self.ratio,
            self.predicted_ratio,
            self.tokens_per_step,
            self.acceptance * 100.0,
            self.wasted_rows,
            self.same_text * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sources_are_names_or_an_oracle_with_a_probability() {
        assert_eq!("oracle:0.8".parse(), Ok(Speculative::Oracle(0.8)));
        assert_eq!(
            "ngram".parse(),
            Ok(Speculative::Source(DraftSetting::Ngram))
        );
        for wrong in ["oracle", "oracle:", "oracle:2", "oracle:NaN", "guess", ""] {
            assert!(wrong.parse::<Speculative>().is_err(), "{wrong}");
        }
        assert_eq!("auto".parse(), Ok(InFlight(None)));
        assert_eq!("2".parse(), Ok(InFlight(Some(2))));
        assert!("0".parse::<InFlight>().is_err() && "x".parse::<InFlight>().is_err());
    }

    #[test]
    fn the_ratio_is_the_median_of_answers_side_by_side() {
        let comparison = Comparison {
            elapsed_ms: vec![(10.0, 5.0), (30.0, 10.0), (12.0, 12.0)],
            usage: vec![SpeculationUsage::default(); 3],
            n_same: 3,
        };
        let report = comparison.report().unwrap();
        assert_eq!((report.ratio, report.same_text), (2.0, 1.0));
        assert_eq!(Comparison::default().report(), None);
    }
}
