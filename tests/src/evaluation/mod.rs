//! Judges the default model on phrasings and combinations that it was never trained on.
//!
//! - [`answers`]: what it writes, greedy, through the runtime in two stages
//! - [`people`]: what it answers to questions in people's own words
//! - [`guesses`]: perplexity, and how often draft model and Medusa heads guess right
//! - [`speculation`]: tokens that a step brings when they are guessed ahead
//! - [`outlines`]: answers point by point; the program `outlines` prints it
//! - [`table`]: the figures beside what they must reach

pub mod answers;
pub mod guesses;
pub mod outlines;
pub mod people;
pub mod speculation;
pub mod table;

/// Seed of the examples that are judged.
pub const SEED: u64 = 7;
