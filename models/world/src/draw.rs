//! Random draws that are the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A stream of draws that depends on nothing but its seed words.
pub(crate) struct Draw {
    random: ChaCha8Rng,
    /// Whether nobody misspells anything.
    pub(crate) is_careful: bool,
}

impl Draw {
    /// The stream of these words; every word changes it.
    pub(crate) fn new(words: [u64; 4]) -> Draw {
        let mixed = words.iter().fold(0, |state, &word| mix(state ^ word));
        Draw {
            random: ChaCha8Rng::seed_from_u64(mixed),
            is_careful: false,
        }
    }

    /// A number below `n` (0 for an empty range).
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.random.next_u32()) * n as u64) >> 32) as usize
    }

    /// True `percent` times in a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of the items; `None` of an empty list.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.below(items.len()))
    }

    /// The place of one of the weights, each drawn in proportion to its size.
    pub(crate) fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut left = self.below(weights.iter().sum());
        for (place, &weight) in weights.iter().enumerate() {
            if left < weight {
                return place;
            }
            left -= weight;
        }
        0
    }
}

/// One step of SplitMix64: neighbouring words become unrelated ones.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The text with a capital at its start.
pub(crate) fn upper_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// The text without the capital at its start; an abbreviation keeps its letters.
pub(crate) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next();
    if chars.clone().next().is_some_and(char::is_uppercase) {
        return text.to_owned();
    }
    first.map_or_else(String::new, |first| {
        first.to_lowercase().chain(chars).collect()
    })
}
