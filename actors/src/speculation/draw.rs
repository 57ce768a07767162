//! Draws that depend on a seed and a place only, never on earlier draws.

/// SplitMix64's output (Steele, Lea and Flood 2014) for one state.
pub fn splitmix(state: u64) -> u64 {
    const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;
    let z = state.wrapping_add(GOLDEN_GAMMA);
    let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

/// A number in 0..1 for `place` under `seed`; neighbours of both are unrelated.
pub fn uniform(seed: u64, place: u64) -> f64 {
    /// The bits of an f64's mantissa, so that every value is exact and below 1.
    const N_BITS: u32 = 53;
    let bits = splitmix(splitmix(seed) ^ place) >> (u64::BITS - N_BITS);
    bits as f64 / (1u64 << N_BITS) as f64
}
