//! Speculative decoding against its promises: no loss, and the speed that the formulas say.

#![allow(clippy::unwrap_used)]

mod lossless;
mod simulate;
