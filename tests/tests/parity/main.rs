//! Slices of a model compute what the whole model computes, to the last bit.
//!
//! - `cuts`: every architecture and type, cut everywhere: the same tokens, the same logits
//! - `branches`: forks, draft trees and shortened sequences on slices
//! - `guesses`: the KV cache after guesses that were right and wrong
//! - `refusals`: what cannot be split or run says so in one line
//! - `kit`: models, pipelines and the greedy loop

#![allow(clippy::unwrap_used)]

mod branches;
mod cuts;
mod guesses;
mod kit;
mod refusals;
