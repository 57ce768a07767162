//! Slices of a model compute what the whole model computes, to the last bit.
//!
//! - `cuts`: every architecture and type, cut everywhere: the same tokens, the same logits
//! - `branches`: forks, draft trees and shortened sequences on slices
//! - `company`: a row has the same bits whatever shares its step
//! - `kernels`: ours beside llama.cpp's
//! - `guesses`: the KV cache after guesses that were right and wrong
//! - `keys`: files with spoilt keys
//! - `parts`: models in several files
//! - `states`: sequences of models with recurrent layers
//! - `refusals`: what cannot be split or run says so in one line
//! - `kit`: models, pipelines and the greedy loop

#![allow(clippy::unwrap_used)]

mod branches;
mod company;
mod cuts;
mod guesses;
mod kernels;
mod keys;
mod kit;
mod parts;
mod refusals;
mod states;
