//! The only `unsafe` of the project: safe wrappers over llama.cpp and ggml.
//!
//! Nothing here lets a safe caller reach a C assertion (those abort the process): arguments are
//! checked before they cross, and what a file claims is checked by our own reader before that.
#![allow(unsafe_code)]

pub(crate) mod backend;
pub(crate) mod chat;
pub mod context;
pub mod dequantize;
mod gguf_metadata;
pub mod gguf_writer;
pub(crate) mod kernels;
pub mod leave;
pub mod log;
pub mod mapping;
pub mod model;
pub mod quantize;
pub mod residency;
mod summed;
mod tap;

pub use gguf_writer::{GgufWriter, TensorSink};
