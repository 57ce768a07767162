//! Speculative decoding against its promise: no loss.

#![allow(clippy::unwrap_used)]

mod lossless;
