//! Probabilities of the few tokens that are possible.

use jupiter_models::Token;

use crate::speculation::{Result, SpeculationError};

/// A distribution over tokens: ascending in tokens, above 0, adding up to 1 within rounding.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    entries: Vec<(Token, f64)>,
}

impl Distribution {
    /// The distribution in proportion to `weights`; tokens of weight 0 are left out.
    ///
    /// # Errors
    /// For a weight that is NaN, infinite or negative, a token given twice, and a sum of 0 or
    /// beyond the range.
    pub fn new(weights: impl IntoIterator<Item = (Token, f64)>) -> Result<Distribution> {
        let mut entries: Vec<(Token, f64)> = weights.into_iter().collect();
        let n_tokens = entries.len();
        for &(token, got) in &entries {
            if !(got.is_finite() && got >= 0.0) {
                return Err(SpeculationError::BadProbability { token, got });
            }
        }
        entries.sort_by_key(|&(token, _)| token);
        if let Some(pair) = entries.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let (token, place) = (pair[0].0, "a distribution");
            return Err(SpeculationError::DuplicateToken { token, place });
        }
        entries.retain(|&(_, weight)| weight > 0.0);
        normalised(entries).map_err(|got| SpeculationError::BadSum { n_tokens, got })
    }

    /// Tokens and probabilities, ascending in tokens.
    pub fn entries(&self) -> &[(Token, f64)] {
        &self.entries
    }

    /// Probability of `token`.
    pub fn p(&self, token: Token) -> f64 {
        let at = self
            .entries
            .binary_search_by_key(&token, |&(token, _)| token);
        at.map_or(0.0, |at| self.entries[at].1)
    }

    /// The token at `u` of 0..1, when the tokens lie beside each other in their order.
    pub fn draw(&self, u: f64) -> Token {
        let mut reached = 0.0;
        for &(token, p) in &self.entries {
            reached += p;
            if u < reached {
                return token;
            }
        }
        // The sum may be below 1 by rounding. A distribution is never empty.
        self.entries.last().map_or(0, |&(token, _)| token)
    }

    /// Entropy in nats.
    pub fn entropy(&self) -> f64 {
        -self.entries.iter().map(|&(_, p)| p * p.ln()).sum::<f64>()
    }
}

/// Divides by the sum, which is the error where it is none.
fn normalised(mut entries: Vec<(Token, f64)>) -> std::result::Result<Distribution, f64> {
    // The empty sum of floats is minus zero, which reads badly.
    let sum = entries.iter().fold(0.0, |sum, &(_, p)| sum + p);
    if !(sum.is_finite() && sum > 0.0) {
        return Err(sum);
    }
    for (_, p) in &mut entries {
        *p /= sum;
    }
    Ok(Distribution { entries })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn weights_are_normalised_and_impossible_ones_named() {
        let d = Distribution::new([(7, 3.0), (2, 1.0), (5, 0.0)]).unwrap();
        assert_eq!(d.entries(), [(2, 0.25), (7, 0.75)]);
        assert_eq!((d.p(7), d.p(5), d.p(99)), (0.75, 0.0, 0.0));
        assert_eq!((d.draw(0.0), d.draw(0.25), d.draw(0.999)), (2, 7, 7));
        let error = |weights: &[(Token, f64)]| {
            let weights = weights.iter().copied();
            Distribution::new(weights).err().unwrap().to_string()
        };
        assert!(error(&[(1, f64::NAN)]).contains("token 1 is NaN"));
        assert!(error(&[(1, -0.5)]).contains("token 1 is -0.5"));
        assert!(error(&[(1, f64::INFINITY)]).contains("token 1 is inf"));
        assert!(error(&[(1, 0.0), (2, 0.0)]).contains("of 2 tokens add up to 0"));
        assert!(error(&[]).contains("add up to"));
        assert!(error(&[(1, f64::MAX), (2, f64::MAX)]).contains("add up to inf"));
        assert!(error(&[(1, 0.5), (1, 0.5)]).contains("twice"));
        let even = Distribution::new((0..4).map(|t| (t, 1.0))).unwrap();
        assert!((even.entropy() - 4f64.ln()).abs() < 1e-12);
    }
}
