//! How often a source is right: running estimates with decay.
//!
//! Depth counts from the last token that was verified when the draft was made, from 1; rank is the
//! place among the guesses after one token, from 0. A rate is conditional: how often the guess was
//! right when all before it were.

use crate::speculation::{Result, SpeculationError};

/// Depths with an estimate of their own; deeper ones count as the last.
pub const MAX_DEPTH: usize = 16;
/// Ranks with an estimate of their own; Medusa's trees use up to 10, hardly any beyond 4.
pub const MAX_RANK: usize = 4;
/// What an observation still counts after the next one: about the last 50 matter, some 20 steps, so
/// that a change of topic is noticed within a paragraph.
const DECAY: f64 = 0.98;
/// What everything counts after an observation of anything: a depth that had bad luck is not sent
/// any more, so it would never be seen again; so it comes to follow the depth before it.
const FADE: f64 = 0.997;
/// A first guess is expected to be right this often before anything is known: with it a few rows pay
/// on every curve, so a source is tried; a bad one is left after one step where rows are dear, after
/// some ten where they cost hardly anything.
const PRIOR_FIRST: f64 = 0.55;
/// A further guess, when those before it are wrong, of a source whose first guesses are as good as
/// expected; less of one whose first guesses are worse. Else a bad source would always be thought to
/// have good second guesses: where rows cost hardly anything they would seem to pay for ever.
const PRIOR_FURTHER: f64 = 0.25;
/// What the prior counts, in observations: one failure is enough to doubt it.
const PRIOR_WEIGHT: f64 = 2.0;
/// What the rate of the depth before counts: sources do get worse with depth, slowly.
const DEPTH_WEIGHT: f64 = 10.0;

/// Estimates for one source and one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct AcceptanceRates {
    /// How often a first guess is expected to be right before anything is known.
    prior: f64,
    /// Right and all, by depth and rank; all are those whose path was right and whose siblings of
    /// lower rank were wrong.
    seen: [[(f64, f64); MAX_RANK]; MAX_DEPTH],
}

impl Default for AcceptanceRates {
    fn default() -> Self {
        AcceptanceRates {
            prior: PRIOR_FIRST,
            seen: [[(0.0, 0.0); MAX_RANK]; MAX_DEPTH],
        }
    }
}

impl AcceptanceRates {
    /// Estimates for a source whose first guesses are right as often as `prior`, as long as nothing
    /// else is known.
    pub fn expecting(prior: f64) -> AcceptanceRates {
        AcceptanceRates {
            prior,
            ..AcceptanceRates::default()
        }
    }

    /// Rates that are known: `rates[d]` for the first guess at depth `d + 1`, the last one for all
    /// deeper, and no further guesses. For predictions and benchmarks.
    ///
    /// # Errors
    /// [`SpeculationError::BadProbability`] for a rate that is none, and no rate at all.
    pub fn known(rates: &[f64]) -> Result<AcceptanceRates> {
        /// Large beside the prior.
        const SURE: f64 = 1e12;
        let mut known = AcceptanceRates::default();
        for (depth, ranks) in known.seen.iter_mut().enumerate() {
            let got = *rates.get(depth).or(rates.last()).unwrap_or(&f64::NAN);
            if !(0.0..=1.0).contains(&got) {
                return Err(SpeculationError::BadProbability { token: -1, got });
            }
            ranks.fill((0.0, SURE));
            ranks[0] = (got * SURE, SURE);
        }
        Ok(known)
    }

    /// The first `n_guesses` ranks at `depth` were verified behind a right path; the guess of rank
    /// `right` was right, if any. Guesses behind a wrong one tell nothing and are not observed.
    /// What was only compared with the text, not sent, counts as well.
    pub fn observe(&mut self, depth: u32, n_guesses: usize, right: Option<usize>) {
        for (hits, all) in self.seen.iter_mut().flatten() {
            *hits *= FADE;
            *all *= FADE;
        }
        let ranks = &mut self.seen[index(depth)];
        let n_judged = right.map_or(n_guesses, |right| right + 1).min(n_guesses);
        for (rank, (hits, all)) in ranks.iter_mut().enumerate().take(n_judged) {
            *hits = *hits * DECAY + f64::from(u8::from(right == Some(rank)));
            *all = *all * DECAY + 1.0;
        }
    }

    /// The rates of first guesses by depth, from depth 1; the last one is that of all deeper.
    pub fn first_guesses(&self) -> [f64; MAX_DEPTH] {
        std::array::from_fn(|at| self.rate(at as u32 + 1, 0))
    }

    /// Probability that the guess of `rank` at `depth` is right when its path is, 0 to 1; over all
    /// ranks of a depth at most 1. What was hardly observed follows the depth before it.
    pub fn rate(&self, depth: u32, rank: usize) -> f64 {
        if rank >= MAX_RANK {
            return 0.0;
        }
        let mut left = 1.0;
        for lower in 0..rank {
            left *= 1.0 - self.when_lower_are_wrong(depth, lower);
        }
        left * self.when_lower_are_wrong(depth, rank)
    }

    fn when_lower_are_wrong(&self, depth: u32, rank: usize) -> f64 {
        let mut rate = match rank {
            0 => self.prior,
            _ => PRIOR_FURTHER * (self.when_lower_are_wrong(depth, 0) / PRIOR_FIRST).min(1.0),
        };
        let mut weight = PRIOR_WEIGHT;
        for ranks in &self.seen[..=index(depth)] {
            let (hits, all) = ranks[rank];
            rate = (hits + weight * rate) / (all + weight);
            weight = DEPTH_WEIGHT;
        }
        rate
    }
}

fn index(depth: u32) -> usize {
    (depth.max(1) as usize - 1).min(MAX_DEPTH - 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::speculation::draw::uniform;

    #[test]
    fn estimates_find_the_rate_and_follow_its_change() {
        let mut rates = AcceptanceRates::default();
        let mut place = 0;
        let mut see = |rates: &mut AcceptanceRates, p: f64, n: u32| {
            for _ in 0..n {
                place += 1;
                let right = (uniform(3, place) < p).then_some(0);
                rates.observe(1, 1, right);
            }
            rates.rate(1, 0)
        };
        assert!((see(&mut rates, 0.8, 400) - 0.8).abs() < 0.15);
        assert!(see(&mut rates, 0.1, 100) < 0.3);
        // A second guess is never seen here: it is expected among what is left, and as bad as the first.
        assert!(rates.rate(1, 1) < 1.0 - rates.rate(1, 0));
        see(&mut rates, 0.0, 100);
        assert!(rates.rate(1, 1) < rates.rate(1, 0) && rates.rate(1, 0) < 0.1);
    }

    #[test]
    fn deeper_guesses_follow_shallower_until_they_are_known() {
        let mut rates = AcceptanceRates::default();
        for _ in 0..100 {
            rates.observe(1, 1, Some(0));
        }
        assert!(rates.rate(9, 0) > 0.9);
        for _ in 0..100 {
            rates.observe(2, 1, None);
        }
        assert!(rates.rate(1, 0) > 0.9 && rates.rate(2, 0) < 0.25 && rates.rate(3, 0) < 0.25);
    }

    #[test]
    fn ranks_never_exceed_one_together() {
        let mut rates = AcceptanceRates::default();
        for rank in 0..MAX_RANK {
            for _ in 0..5 {
                rates.observe(1, rank + 1, Some(rank));
            }
        }
        let sum: f64 = (0..MAX_RANK).map(|rank| rates.rate(1, rank)).sum();
        assert!(sum <= 1.0 + 1e-9, "{sum}");
        assert_eq!(rates.rate(1, MAX_RANK), 0.0);
    }

    #[test]
    fn known_rates_are_kept_and_nonsense_refused() {
        let rates = AcceptanceRates::known(&[0.9, 0.5]).unwrap();
        assert!((rates.rate(1, 0) - 0.9).abs() < 1e-9 && (rates.rate(40, 0) - 0.5).abs() < 1e-9);
        assert!(rates.rate(1, 1) < 1e-9);
        assert!(
            AcceptanceRates::known(&[f64::NAN]).is_err() && AcceptanceRates::known(&[]).is_err()
        );
    }
}
