//! Kernels for steps of few rows: products of quantized weights with 1 to 512 rows of activations.
//!
//! Pure functions on memory, without threads and without knowledge of llama.cpp. Each output value
//! depends on its own row and its own weights only, and is computed in one fixed order of float
//! operations, whatever rows share the call, however many threads share the weights, and whatever
//! instructions the processor has: [`scalar`] says which.
//!
//! # Layout
//! - [`attention`]: attention over a KV cache.
//! - [`instructions`]: what the processor has; [`limits`]: what it can do at best.
//! - [`weights`]: the types of weights and their blocks in a GGUF file.
//! - `forms`: what a packed matrix looks like; `pack`: how it gets there.
//! - `panels`: what quantized activations look like, and how they are quantized.
//! - `kernels`: quantize, multiply, and how many rows and much memory are cut into tiles and chunks.
//! - [`scalar`]: the bits.
//! - `ops`, `unroll`, `prefetch`: what the kernels of all processors are written with.
//! - `x86`: the kernels of x86-64; `arm`: those of aarch64.
//! - [`memory`]: memory for weights.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[macro_use]
mod ops;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
#[macro_use]
mod unroll;

#[cfg(target_arch = "aarch64")]
mod arm;
pub mod attention;
mod forms;
pub mod instructions;
mod kernels;
pub mod limits;
pub mod memory;
mod pack;
mod panels;
mod prefetch;
pub mod scalar;
mod unpack;
pub mod weights;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use forms::packed_bytes;
pub use instructions::InstructionSet;
pub use kernels::Kernels;
pub use memory::{OutOfMemory, WeightMemory};
pub use pack::pack;
pub use panels::panel_bytes;
pub use unpack::unpack_row;
pub use weights::WeightType;

/// Rows of weights that are packed together.
pub const GROUP: usize = 16;

/// A matrix of weights: `n_rows` outputs of `n_cols` inputs each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of weights: outputs.
    pub n_rows: usize,
    /// Values of a row: inputs.
    pub n_cols: usize,
}
