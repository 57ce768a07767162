//! What model to make, and which wishes are refused.

use super::{SynthArch, SynthType, tensors, tokenizer};
use crate::{ModelError, Result};

/// `LLAMA_MAX_LAYERS` (llama-hparams.h): more make llama.cpp abort.
const MAX_LAYERS: u32 = 512;
/// Half of `LLAMA_MAX_EXPERTS` (llama-hparams.h), far above any model of a robot's size.
const MAX_EXPERTS: u32 = 512;
/// Bounds rows and heads, so that products of two dims stay far from overflow.
const MAX_WIDTH: u32 = 1 << 20;
/// The largest context that a model may promise.
const MAX_CTX: u32 = 1 << 24;
/// A wish for more than 1 TiB of random numbers is a typing error.
const MAX_BYTES: u64 = 1 << 40;

/// A model to generate. Start from [`SynthSpec::new`] and change what matters.
#[derive(Clone, Debug, PartialEq)]
pub struct SynthSpec {
    /// Architecture.
    pub arch: SynthArch,
    /// Number of layers.
    pub n_layer: u32,
    /// Width of the hidden states.
    pub n_embd: u32,
    /// Number of query heads.
    pub n_head: u32,
    /// Number of key and value heads; divides `n_head`.
    pub n_head_kv: u32,
    /// Width of a head; `None` is `n_embd / n_head`, beside which many take nothing else.
    pub n_embd_head: Option<u32>,
    /// Width of the feed-forward layer; of each expert's where there are experts.
    pub n_ff: u32,
    /// Number of tokens, at least [`SynthSpec::MIN_VOCAB`].
    pub n_vocab: u32,
    /// Type of the matrices.
    pub ty: SynthType,
    /// All weights follow from it.
    pub seed: u64,
    /// The context length that the metadata promises.
    pub n_ctx_train: u32,
    /// Whether the embedding table is the output head too; some architectures leave no choice.
    pub tied: bool,
    /// Experts in a layer, of those that have them.
    pub n_expert: u32,
    /// Experts that a token uses.
    pub n_expert_used: u32,
    /// Sliding window in tokens, of those that have one.
    pub n_swa: u32,
    /// Whether a `rope_freqs.weight` is written, as Llama 3.1 has it (llama only).
    pub rope_freqs: bool,
}

impl SynthSpec {
    /// The fewest tokens: 256 bytes, the control tokens, and some words.
    pub const MIN_VOCAB: u32 = 300;

    /// A tiny model (about a million weights a layer) that every type fits.
    pub fn new(arch: SynthArch) -> Self {
        let shape = arch.shape();
        Self {
            arch,
            n_layer: shape.n_layer,
            n_embd: 256,
            n_head: 4,
            n_head_kv: if shape.has_all_kv_heads { 4 } else { 2 },
            n_embd_head: shape.n_embd_head,
            n_ff: if shape.has_experts() { 256 } else { 512 },
            n_vocab: 1024,
            ty: SynthType::F16,
            seed: 1,
            n_ctx_train: 8192,
            tied: shape.tied == Some(true),
            n_expert: 8,
            n_expert_used: 2,
            n_swa: 32,
            rope_freqs: false,
        }
    }

    /// Width of a head, as given or derived.
    pub fn head_width(&self) -> u32 {
        self.n_embd_head
            .unwrap_or_else(|| self.n_embd / self.n_head.max(1))
    }

    /// Bytes of tensor data, without padding. The spec must be valid.
    pub fn n_bytes(&self) -> u64 {
        tensors::plan(self)
            .iter()
            .fold(0, |sum, tensor| sum.saturating_add(tensor.n_bytes()))
    }

    /// Checks that llama.cpp will load the model.
    ///
    /// # Errors
    /// One line that names the first number that cannot be, and what would be right.
    pub fn validate(&self) -> Result<()> {
        self.check_ranges()?;
        self.check_heads()?;
        self.check_blocks()?;
        self.check_arch()?;
        if self.n_bytes() > MAX_BYTES {
            return refuse(format!(
                "the model would have {} GiB, more than 1024: take fewer layers or smaller ones",
                self.n_bytes() >> 30
            ));
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<()> {
        for (name, value, min, max) in [
            ("layers", self.n_layer, 1, MAX_LAYERS),
            ("embd", self.n_embd, 1, MAX_WIDTH),
            ("heads", self.n_head, 1, MAX_WIDTH),
            ("kv-heads", self.n_head_kv, 1, MAX_WIDTH),
            ("ff", self.n_ff, 1, MAX_WIDTH),
            ("vocab", self.n_vocab, Self::MIN_VOCAB, tokenizer::MAX_VOCAB),
            ("context length", self.n_ctx_train, 1, MAX_CTX),
        ] {
            if value < min || value > max {
                return refuse(format!("{name} must be {min} to {max}, not {value}"));
            }
        }
        Ok(())
    }

    fn check_heads(&self) -> Result<()> {
        let Self {
            n_embd,
            n_head,
            n_head_kv,
            ..
        } = *self;
        if n_head % n_head_kv != 0 {
            return refuse(format!(
                "{n_head} heads do not share {n_head_kv} kv-heads evenly"
            ));
        }
        if self.n_embd_head.is_none() && n_embd % n_head != 0 {
            return refuse(format!("embd {n_embd} is not a multiple of {n_head} heads"));
        }
        let width = self.head_width();
        // Rope turns pairs of values.
        if width == 0 || !width.is_multiple_of(2) || width > MAX_WIDTH / n_head {
            return refuse(format!(
                "a head of {width} values cannot be: take a small even number"
            ));
        }
        let is_square = self
            .arch
            .architecture()
            .is_some_and(|arch| arch.square_heads);
        if is_square && width * n_head != n_embd {
            return refuse(format!(
                "{} takes no head width but embd / heads",
                self.arch
            ));
        }
        Ok(())
    }

    fn check_blocks(&self) -> Result<()> {
        let block = self.ty.block();
        let attention = self.n_head * self.head_width();
        for (name, row) in [
            ("embd", self.n_embd),
            ("heads * head width", attention),
            ("ff", self.n_ff),
        ] {
            if row % block != 0 {
                return refuse(format!(
                    "{} needs {name} to be a multiple of {block}, not {row}",
                    self.ty
                ));
            }
        }
        Ok(())
    }

    fn check_arch(&self) -> Result<()> {
        let shape = self.arch.shape();
        match shape.tied {
            Some(true) if !self.tied => {
                return refuse(format!("{} ties its embeddings: set tied", self.arch));
            }
            Some(false) if self.tied => {
                return refuse(format!("{} does not tie its embeddings", self.arch));
            }
            _ => {}
        }
        if shape.has_all_kv_heads && self.n_head_kv != self.n_head {
            return refuse(format!("{} has as many kv-heads as heads", self.arch));
        }
        if shape.has_window() && self.n_swa == 0 {
            return refuse(format!(
                "{} needs a sliding window of at least 1",
                self.arch
            ));
        }
        let (n_expert, used) = (self.n_expert, self.n_expert_used);
        let experts_fit = (1..=MAX_EXPERTS).contains(&n_expert) && (1..=n_expert).contains(&used);
        if shape.has_experts() && !experts_fit {
            return refuse(format!(
                "{used} of {n_expert} experts cannot be: take 1 to {MAX_EXPERTS}, and use 1 to all"
            ));
        }
        if self.rope_freqs && self.arch != SynthArch::Llama {
            return refuse(format!("rope_freqs are for llama, not {}", self.arch));
        }
        Ok(())
    }
}

pub(super) fn refuse<T>(what: String) -> Result<T> {
    Err(ModelError::BadInput { what })
}

#[cfg(test)]
mod tests;
