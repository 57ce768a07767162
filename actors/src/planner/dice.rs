//! Random numbers of tests, which replay from their seed.

use jupiter_models::draw::splitmix;

/// Draws from a seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Dice {
        Dice(splitmix(seed))
    }

    /// Uniform in `low..high`.
    pub(super) fn roll(&mut self, low: f64, high: f64) -> f64 {
        self.0 = self.0.wrapping_add(1);
        low + (high - low) * (splitmix(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether what happens so often has happened.
    pub(super) fn is(&mut self, probability: f64) -> bool {
        self.roll(0.0, 1.0) < probability
    }
}
