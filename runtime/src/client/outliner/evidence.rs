//! What trials told of how a model writes point by point on these stages, kept by the model's hash.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// Of what the trials are: a new one where questions or prompts change.
const FOLDER: &str = "outlines-1";
/// Digits of a model's hash that name a file.
const NAME_DIGITS: usize = 16;
/// Share of the points that have to be whole.
const MIN_FORM: f64 = 0.8;
/// How many times as fast as in one piece an answer has to be complete, in the median.
const MIN_SPEED: f64 = 1.15;
/// And in the worst trial.
const MIN_WORST_SPEED: f64 = 1.0;

/// What trials told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trials {
    /// Share of the points that were whole, those of answers without an outline counted as none.
    pub(crate) form: f64,
    /// Seconds of the answer in one piece, over those of the one with points: the median.
    pub(crate) speed: f64,
    /// The same, the worst.
    pub(crate) worst_speed: f64,
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
            Some(trials) if trials.form < MIN_FORM => {
                Some("in trials this model did not write whole points")
            }
            Some(trials) if trials.speed < MIN_SPEED || trials.worst_speed < MIN_WORST_SPEED => {
                Some("in trials answers of points were complete no sooner")
            }
            Some(_) => None,
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
        worst_speed: 1.1,
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
            (
                Trials {
                    worst_speed: 0.9,
                    ..GOOD
                },
                "no sooner",
            ),
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
}
