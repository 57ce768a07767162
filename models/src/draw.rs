//! Draws that depend on a seed and a place only, never on earlier draws.

/// What SplitMix64 adds to its state from one output to the next: 2^64 over the golden ratio, odd.
pub const GOLDEN_GAMMA: u64 = 0x9E37_79B9_7F4A_7C15;

/// SplitMix64's output (Steele, Lea and Flood 2014) for one state.
pub fn splitmix(state: u64) -> u64 {
    let z = state.wrapping_add(GOLDEN_GAMMA);
    let z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_those_of_the_published_generator() {
        let state = |n: u64| n.wrapping_mul(GOLDEN_GAMMA);
        assert_eq!(splitmix(state(0)), 0xE220_A839_7B1D_CDAF);
        assert_eq!(splitmix(state(1)), 0x6E78_9E6A_A1B9_65F4);
    }
}
