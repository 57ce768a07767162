//! Draws that depend on a seed and a place only, never on earlier draws.

use jupiter_models::draw::splitmix;

/// A number in 0..1 for `place` under `seed`; neighbours of both are unrelated.
pub fn uniform(seed: u64, place: u64) -> f64 {
    /// The bits of an f64's mantissa, so that every value is exact and below 1.
    const N_BITS: u32 = 53;
    let bits = splitmix(splitmix(seed) ^ place) >> (u64::BITS - N_BITS);
    bits as f64 / (1u64 << N_BITS) as f64
}
