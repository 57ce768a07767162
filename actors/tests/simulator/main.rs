//! The simulator: the real Planner on a virtual clock.

#![allow(clippy::unwrap_used)]

mod common;
mod guesses;
mod load;
mod long_waits;
mod one_stream;
