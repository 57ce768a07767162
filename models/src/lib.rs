//! What computes: GGUF files, layer slices, the llama.cpp engine, text and sampling.
//!
//! No async, no network, no actors live here. The only `unsafe` of the project is in [`llama`].
//!
//! # Layout, in the order a prompt meets it
//!
//! - [`gguf`]: metadata and tensor index of a model file, checked before llama.cpp sees it
//! - [`architecture`]: which architectures may be split, and what is special about each
//! - [`text`]: vocabulary, chat template, streaming detokenization
//! - [`profile`]: what a device needs for a layer, and what planning knows of a model
//! - [`split`]: where a model is cut
//! - [`mod@slice`]: a [`LayerRange`] of a model, written as a small GGUF and cached
//! - [`embedding`]: token embeddings, looked up outside the graph
//! - [`hidden`]: the activations that travel between stages
//! - [`engine`]: rows in, hidden states or logits out; KV operations
//! - [`sampling`]: logits in, a token out
//! - [`draw`]: numbers from a seed and a place
//! - [`draft_model`]: a small model that guesses what a larger one will write
//! - [`medusa`]: heads that guess the tokens after the next one
//! - [`default_model`]: a small model that is always there, embedded in the library
//! - [`synth`]: random-weight models for tests and benchmarks

pub mod architecture;
mod cache;
mod clock;
pub mod default_model;
pub mod devices;
pub mod draft_model;
pub mod draw;
pub mod embedding;
pub mod engine;
mod error;
pub mod gguf;
pub mod hidden;
pub mod kernels;
pub mod llama;
pub mod medusa;
pub mod mtp;
pub mod profile;
pub mod sampling;
pub mod slice;
pub mod split;
pub mod synth;
pub mod text;
mod types;

pub use cache::cache_root;
pub use error::{ModelError, Result};
pub use types::{KvOp, LayerRange, Row, SequenceId, Token};
