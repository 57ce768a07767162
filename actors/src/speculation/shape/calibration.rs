//! What a source's own probabilities are worth: models are too sure, and a sampler's temperature
//! changes what is right.

use crate::speculation::tree::Node;

/// Probabilities are told apart this finely.
const N_BINS: usize = 10;
/// What an observation still counts after the next one in its bin: the last hundred matter.
const DECAY: f64 = 0.99;
/// What the source's own word counts, in observations.
const TRUST: f64 = 5.0;

/// Said and seen, by what was said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    bins: [Bin; N_BINS],
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Bin {
    said: f64,
    right: f64,
    n: f64,
}

impl Calibration {
    /// [`Calibration::probability`] of a guess; nothing for one whose source does not say.
    pub fn of(&self, guess: &Node) -> f64 {
        guess.probability.map_or(0.0, |said| self.probability(said))
    }

    /// A guess that its source gave `said`, behind a right path, was judged.
    pub fn observe(&mut self, said: f64, is_right: bool) {
        let bin = &mut self.bins[bin_of(said)];
        bin.said = bin.said * DECAY + said.clamp(0.0, 1.0);
        bin.right = bin.right * DECAY + f64::from(u8::from(is_right));
        bin.n = bin.n * DECAY + 1.0;
    }

    /// Probability that a guess is right of which its source says `said`; NaN stays NaN, so that
    /// it is refused where it is used.
    pub fn probability(&self, said: f64) -> f64 {
        let bin = &self.bins[bin_of(said)];
        (said + (bin.right - bin.said) / (bin.n + TRUST)).clamp(0.0, 1.0)
    }
}

fn bin_of(said: f64) -> usize {
    ((said.clamp(0.0, 1.0) * N_BINS as f64) as usize).min(N_BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boaster_is_believed_less_and_others_as_before() {
        let mut calibration = Calibration::default();
        assert_eq!(calibration.probability(0.95), 0.95);
        for i in 0..500 {
            calibration.observe(0.95, i % 2 == 0);
        }
        let p = calibration.probability(0.95);
        assert!((p - 0.5).abs() < 0.05, "{p}");
        assert_eq!(calibration.probability(0.3), 0.3);
        assert!(calibration.probability(f64::NAN).is_nan());
        assert_eq!(
            calibration.probability(1.0),
            calibration.probability(0.95) + 0.05
        );
    }
}
