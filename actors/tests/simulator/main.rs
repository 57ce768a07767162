//! The simulator: the real Planner on a virtual clock.

#![allow(clippy::unwrap_used)]

mod common;
mod guesses;
mod load;
mod one_stream;
