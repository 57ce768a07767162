//! Speculative decoding as pure functions: what is guessed, in which shape, and what of it counts.
//!
//! # Layout
//! - [`draft`]: sources of guesses: [`draft::ngram`] from the text itself, [`draft::heads`] from
//!   Medusa heads, [`draft::oracle`] for benchmarks.
//! - [`tree`]: guesses as a tree, its rows in a step, and its branches as sequences of the KV cache.
//! - [`shape`]: how many rows, how deep, how many steps in flight: most tokens per time.
//! - [`accept`]: what the target model makes of a tree.
//! - [`inflight`]: the bookkeeping of several steps of one sequence under way.

pub mod accept;
pub mod draft;
pub mod draw;
mod error;
pub mod inflight;
pub mod shape;
pub mod tree;

pub use error::{Result, SpeculationError};
