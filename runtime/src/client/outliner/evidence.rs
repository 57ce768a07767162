//! What trials told of how a model writes point by point on these stages, kept by the model's hash.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// Of what the trials are: a new one where questions or prompts change.
const FOLDER: &str = "outlines-2";
/// Digits of a model's hash that name a file.
const NAME_DIGITS: usize = 16;
/// Share of the points that have to be whole.
const MIN_FORM: f64 = 0.8;
/// How many times as fast as in one piece an answer has to be complete, in the median.
const MIN_SPEED: f64 = 1.15;
/// Share of the answers that may be complete later than in one piece.
const MOST_LATER: f64 = 0.1;

/// What one question told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    /// Share of the points that were whole; 0 without an outline.
    pub(crate) form: f64,
    /// Seconds of the answer in one piece, over those of the one with points.
    pub(crate) speed: f64,
}

/// What trials told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trials {
    /// Share of the points that were whole, those of answers without an outline counted as none.
    form: f64,
    /// Seconds of the answer in one piece, over those of the one with points: the median.
    speed: f64,
    /// Share of the answers that were complete later than in one piece.
    later: f64,
}

impl Trials {
    /// What all of these told.
    pub(crate) fn of(trials: &[Trial]) -> Self {
        let n = trials.len().max(1) as f64;
        let mut speeds: Vec<f64> = trials.iter().map(|trial| trial.speed).collect();
        speeds.sort_by(f64::total_cmp);
        let n_later = speeds.iter().filter(|&&speed| speed < 1.0).count();
        Self {
            form: trials.iter().map(|trial| trial.form).sum::<f64>() / n,
            speed: speeds.get(speeds.len() / 2).copied().unwrap_or(0.0),
            later: n_later as f64 / n,
        }
    }

    /// Why answers are better in one piece whatever else is tried, up to `n` questions; none while that is
    /// open.
    pub(crate) fn verdict(trials: &[Trial], n: usize) -> Option<&'static str> {
        let best = Trial {
            form: 1.0,
            speed: f64::INFINITY,
        };
        let rest = std::iter::repeat(best);
        let all: Vec<Trial> = trials.iter().copied().chain(rest).take(n).collect();
        Self::of(&all).hindrance()
    }

    /// Why answers are better written in one piece; none where they are not.
    fn hindrance(&self) -> Option<&'static str> {
        if self.form < MIN_FORM {
            Some("in trials this model did not write whole points")
        } else if self.speed < MIN_SPEED {
            Some("in trials answers of points were complete no sooner")
        } else if self.later > MOST_LATER {
            Some("in trials too many answers of points were complete later")
        } else {
            None
        }
    }
}

/// What is known of one model on so many stages.
#[derive(Debug)]
pub(crate) struct Evidence {
    /// Where it is kept; none for as long as this program runs.
    file: Option<PathBuf>,
    found: OnceLock<Trials>,
}

impl Evidence {
    /// Of the model with this hash, as far as it is kept in the cache folder `root`. Stages in one
    /// process and in several are as fast as they are. Without a hash nothing is known at the start.
    pub(crate) fn of(root: &Path, hash: Option<&str>, stages: &str) -> Self {
        let file = hash.map(|hash| {
            let hash = &hash[..hash.len().min(NAME_DIGITS)];
            root.join(FOLDER).join(format!("{hash}-{stages}.json"))
        });
        // What cannot be read is found out anew.
        let kept = file.as_ref().and_then(|file| fs::read(file).ok());
        let kept: Option<Trials> = kept.and_then(|text| serde_json::from_slice(&text).ok());
        let found = kept.map_or_else(OnceLock::new, OnceLock::from);
        Self { file, found }
    }

    pub(crate) fn is_known(&self) -> bool {
        self.found.get().is_some()
    }

    /// Why answers are better written in one piece; none where they are not.
    pub(crate) fn hindrance(&self) -> Option<&'static str> {
        match self.found.get() {
            None => Some("it is not known yet how this model writes point by point"),
            Some(trials) => trials.hindrance(),
        }
    }

    /// Keeps what was found, here and in the cache folder.
    ///
    /// # Errors
    /// When the file cannot be written: then it is found out again at the next start.
    pub(crate) fn keep(&self, trials: Trials) -> io::Result<()> {
        // Only the first counts; one at a time tries.
        let _ = self.found.set(trials);
        let Some(file) = &self.file else {
            return Ok(());
        };
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(file, serde_json::to_vec(&trials)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GOOD: Trials = Trials {
        form: 0.9,
        speed: 1.5,
        later: 0.1,
    };

    #[test]
    fn what_was_found_is_known_from_then_on() {
        let dir = tempfile::tempdir().unwrap();
        let of = |stages| Evidence::of(dir.path(), Some("0123456789abcdef0123"), stages);
        assert!(of("2").hindrance().unwrap().contains("not known"));
        of("2").keep(GOOD).unwrap();
        assert!(of("2").is_known() && of("2").hindrance().is_none());
        assert!(!of("1").is_known(), "other stages are as fast as they are");
        let nameless = Evidence::of(dir.path(), None, "2");
        nameless.keep(GOOD).unwrap();
        assert!(nameless.is_known());
        let file = dir.path().join(FOLDER).join("0123456789abcdef-2.json");
        fs::write(file, "{\"form\": ").unwrap();
        assert!(!of("2").is_known());
    }

    #[test]
    fn form_and_time_are_both_needed() {
        let dir = tempfile::tempdir().unwrap();
        for (i, (trials, expected)) in [
            (GOOD, ""),
            (Trials { form: 0.7, ..GOOD }, "whole points"),
            (Trials { speed: 1.1, ..GOOD }, "no sooner"),
            (Trials { later: 0.2, ..GOOD }, "complete later"),
        ]
        .into_iter()
        .enumerate()
        {
            let evidence = Evidence::of(dir.path(), Some("abc"), &i.to_string());
            evidence.keep(trials).unwrap();
            let found = evidence.hindrance();
            assert_eq!(found.is_some(), !expected.is_empty());
            assert!(found.unwrap_or_default().contains(expected));
        }
    }

    #[test]
    fn trials_end_when_the_rest_can_change_nothing() {
        let trial = |form, speed| Trial { form, speed };
        let good = [trial(1.0, 1.5); 9];
        assert_eq!(Trials::verdict(&good, 10), None);
        let one_later = [&good[..], &[trial(0.5, 0.9)]].concat();
        assert_eq!(Trials::verdict(&one_later, 10), None);
        let found = Trials::of(&one_later);
        let expected = Trials {
            form: 0.95,
            speed: 1.5,
            later: 0.1,
        };
        assert_eq!(found, expected);
        let later = [trial(1.0, 1.5), trial(1.0, 0.9), trial(1.0, 0.5)];
        assert_eq!(Trials::verdict(&later[..2], 10), None);
        let told = Trials::verdict(&later, 10).unwrap();
        assert!(told.contains("later"));
        assert!(Trials::of(&later).hindrance().is_some(), "and stays so");
        let empty = [trial(0.0, 1.0); 3];
        assert_eq!(Trials::verdict(&empty[..2], 10), None);
        assert!(Trials::verdict(&empty, 10).unwrap().contains("whole"));
    }
}
