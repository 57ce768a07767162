//! Kernels for steps of few rows: products of quantized weights with 1 to 512 rows of activations.
//!
//! Pure functions on memory, without threads and without knowledge of llama.cpp. Each output value
//! depends on its own row and its own weights only, and is computed in one fixed order of float
//! operations, whatever rows share the call, however many threads share the weights, and whatever
//! instructions the processor has: [`scalar`] says which.
//!
//! # Layout
//! - [`attention`]: attention over a KV cache.
//! - [`instructions`]: what the processor has.
//! - [`weights`]: the types of weights and their blocks in a GGUF file.

pub mod attention;
pub mod instructions;
pub mod weights;

pub use instructions::InstructionSet;
pub use weights::WeightType;
