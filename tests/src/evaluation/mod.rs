//! Judges the default model on phrasings and combinations that it was never trained on.
//!
//! - [`answers`]: what it writes, greedy, through the runtime in two stages
//! - [`guesses`]: perplexity, and how often draft model and Medusa heads guess right
//! - [`table`]: the figures beside what they must reach

pub mod answers;
pub mod guesses;
pub mod speculation;
pub mod table;

/// Seed of the examples that are judged.
pub const SEED: u64 = 7;
