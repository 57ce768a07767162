//! A source that knows the answer and is right with a given probability: benchmarks need a known
//! acceptance, and random weights cannot be guessed.

use jupiter_models::Token;

use crate::speculation::draft::{DraftLimits, DraftSource};
use crate::speculation::draw::uniform;
use crate::speculation::tree::DraftTree;
use crate::speculation::{Result, SpeculationError};

/// Knows what the target writes. Whether it is right about a position depends on seed and position
/// alone, so that measurements repeat however often it is asked.
pub struct OracleSource {
    truth: Vec<Token>,
    n_vocab: Token,
    acceptance: f64,
    seed: u64,
    n_accepted: usize,
}

impl OracleSource {
    /// An oracle for the text `truth` (prompt and answer), right about each token with probability
    /// `acceptance`.
    ///
    /// # Errors
    /// [`SpeculationError::BadSetting`] for a probability that is none, or a vocabulary of less than
    /// two tokens (nothing could be wrong).
    pub fn new(truth: Vec<Token>, n_vocab: Token, acceptance: f64, seed: u64) -> Result<Self> {
        let bad = |field, got, expected| SpeculationError::BadSetting {
            field,
            got,
            expected,
        };
        if !(0.0..=1.0).contains(&acceptance) {
            let got = acceptance.to_string();
            return Err(bad("acceptance of the oracle", got, "0 to 1"));
        }
        if n_vocab < 2 {
            return Err(bad("vocabulary", n_vocab.to_string(), "at least 2 tokens"));
        }
        Ok(OracleSource {
            truth,
            n_vocab,
            acceptance,
            seed,
            n_accepted: 0,
        })
    }

    fn guess(&self, pos: usize) -> Option<Token> {
        let truth = *self.truth.get(pos)?;
        let is_right = uniform(self.seed, pos as u64) < self.acceptance;
        Some(if is_right {
            truth
        } else {
            (truth + 1) % self.n_vocab
        })
    }
}

impl DraftSource for OracleSource {
    fn name(&self) -> &'static str {
        "oracle"
    }

    fn accept(&mut self, tokens: &[Token]) -> Result<()> {
        self.n_accepted += tokens.len();
        Ok(())
    }

    fn draft(&mut self, ahead: &[Token], limits: DraftLimits) -> Result<DraftTree> {
        let from = self.n_accepted + ahead.len();
        let tokens: Vec<Token> = (from..from + limits.depth)
            .map_while(|pos| self.guess(pos))
            .collect();
        DraftTree::line(&tokens)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn right_as_often_as_asked_and_the_same_each_time() {
        const N: usize = 100_000;
        for acceptance in [0.0, 0.3, 0.8, 1.0] {
            let truth = vec![1; N];
            let oracle = OracleSource::new(truth, 2, acceptance, 7).unwrap();
            let n_right = (0..N).filter(|&pos| oracle.guess(pos) == Some(1)).count();
            let share = n_right as f64 / N as f64;
            assert!(
                (share - acceptance).abs() < 0.005,
                "{share} for {acceptance}"
            );
        }
        let mut oracle = OracleSource::new((0..50).collect(), 100, 0.5, 1).unwrap();
        oracle.accept(&[0, 1]).unwrap();
        let whole = oracle.draft(&[], DraftLimits::line(6)).unwrap();
        let tokens = whole.path_tokens(Some(5));
        let rest = oracle.draft(&tokens[..2], DraftLimits::line(4)).unwrap();
        assert_eq!(rest.path_tokens(Some(3)), tokens[2..]);
        assert!(OracleSource::new(vec![], 2, f64::NAN, 0).is_err());
    }

    #[test]
    fn at_the_end_of_what_it_knows_it_has_no_idea() {
        let mut oracle = OracleSource::new(vec![5, 6, 7], 10, 1.0, 1).unwrap();
        oracle.accept(&[5]).unwrap();
        assert_eq!(oracle.draft(&[], DraftLimits::line(8)).unwrap().len(), 2);
        assert!(
            oracle
                .draft(&[6, 7, 9], DraftLimits::line(8))
                .unwrap()
                .is_empty()
        );
    }
}
