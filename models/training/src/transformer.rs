//! The model that is trained: llama's architecture, as llama.cpp computes it.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor, Var};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};

use crate::batch::Batch;
use crate::ops::{Attention, Heads, RmsNorm, SwiGlu};

/// Spread of fresh weights, as in GPT-2.
const INITIAL_STD: f32 = 0.02;
/// `attention.layer_norm_rms_epsilon`.
pub(crate) const NORM_EPS: f32 = 1e-5;
/// `rope.freq_base`.
pub(crate) const ROPE_BASE: f32 = 10_000.0;

/// Shape of a model; names as in llama.cpp.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Shape {
    pub(crate) n_vocab: usize,
    pub(crate) n_embd: usize,
    pub(crate) n_layer: usize,
    pub(crate) n_head: usize,
    pub(crate) n_head_kv: usize,
    pub(crate) n_ff: usize,
}

impl Shape {
    pub(crate) fn heads(&self) -> Heads {
        Heads {
            n_head: self.n_head,
            n_head_kv: self.n_head_kv,
            head_dim: self.n_embd / self.n_head,
            rope_base: ROPE_BASE,
        }
    }
}

/// A weight and its name in checkpoints. Matrices have shape (in, out): `y = x W`.
#[derive(Clone)]
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) var: Var,
}

/// Weights; the output head is the embedding again (tied).
pub(crate) struct Transformer {
    pub(crate) shape: Shape,
    /// In the order of [`Layer`], after the embedding and before the last norm.
    parameters: Vec<Parameter>,
}

/// Weights of a layer, by position in `parameters`.
enum Layer {
    AttnNorm,
    AttnQkv,
    AttnOutput,
    FfnNorm,
    FfnGateUp,
    FfnDown,
}

/// Parameters of a layer.
const PER_LAYER: usize = 6;

impl Transformer {
    /// Fresh weights, drawn from `seed`.
    pub(crate) fn new(shape: Shape, seed: u64) -> Result<Self> {
        let Shape {
            n_vocab,
            n_embd,
            n_layer,
            n_head,
            n_head_kv,
            n_ff,
        } = shape;
        ensure!(
            n_embd.is_multiple_of(2 * n_head) && n_head.is_multiple_of(n_head_kv),
            "{n_head} heads ({n_head_kv} for keys) do not fit a width of {n_embd}"
        );
        let mut fresh = Fresh {
            rng: ChaCha8Rng::seed_from_u64(seed),
            parameters: Vec::new(),
        };
        fresh.matrix("token_embd", n_vocab, n_embd, INITIAL_STD)?;
        // What adds to the residual stream starts smaller, the more layers there are (GPT-2).
        let residual_std = INITIAL_STD / ((2 * n_layer) as f32).sqrt();
        for i in 0..n_layer {
            let name = |part: &str| format!("blk.{i}.{part}");
            fresh.gain(&name("attn_norm"), n_embd)?;
            let qkv = shape.heads().qkv_width();
            fresh.matrix(&name("attn_qkv"), n_embd, qkv, INITIAL_STD)?;
            fresh.matrix(&name("attn_output"), n_embd, n_embd, residual_std)?;
            fresh.gain(&name("ffn_norm"), n_embd)?;
            fresh.matrix(&name("ffn_gate_up"), n_embd, 2 * n_ff, INITIAL_STD)?;
            fresh.matrix(&name("ffn_down"), n_ff, n_embd, residual_std)?;
        }
        fresh.gain("output_norm", n_embd)?;
        Ok(Self {
            shape,
            parameters: fresh.parameters,
        })
    }

    pub(crate) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// Number of weights.
    pub(crate) fn n_weights(&self) -> usize {
        self.parameters.iter().map(|p| p.var.elem_count()).sum()
    }

    /// Token embeddings, shape (`n_vocab`, `n_embd`); also the output head.
    pub(crate) fn embedding(&self) -> &Var {
        &self.parameters[0].var
    }

    fn layer(&self, i: usize, part: Layer) -> &Var {
        &self.parameters[1 + i * PER_LAYER + part as usize].var
    }

    fn output_norm(&self) -> &Var {
        &self.parameters[1 + self.shape.n_layer * PER_LAYER].var
    }

    /// What the output head sees (llama.cpp's `result_norm`) at the rows of `batch` that have a
    /// target: shape (targets, `n_embd`).
    pub(crate) fn hidden(&self, batch: &Batch) -> candle_core::Result<Tensor> {
        let tokens = Tensor::from_slice(&batch.tokens, batch.tokens.len(), &Device::Cpu)?;
        let mut x = self.embedding().index_select(&tokens, 0)?;
        for i in 0..self.shape.n_layer {
            let attended = norm(&x, self.layer(i, Layer::AttnNorm))?
                .matmul(self.layer(i, Layer::AttnQkv))?
                .apply_op1(Attention {
                    heads: self.shape.heads(),
                    segments: batch.segments.clone(),
                })?
                .matmul(self.layer(i, Layer::AttnOutput))?;
            x = (x + attended)?;
            // After the last attention only rows with a target matter.
            if i + 1 == self.shape.n_layer {
                x = x.index_select(&row_indices(&batch.rows)?, 0)?;
            }
            let fed = norm(&x, self.layer(i, Layer::FfnNorm))?
                .matmul(self.layer(i, Layer::FfnGateUp))?
                .apply_op1(SwiGlu)?
                .matmul(self.layer(i, Layer::FfnDown))?;
            x = (x + fed)?;
        }
        norm(&x, self.output_norm())
    }

    /// Logits of rows of [`Transformer::hidden`], shape (rows, `n_vocab`).
    pub(crate) fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        hidden.matmul(&self.embedding().t()?)
    }
}

fn norm(x: &Tensor, gain: &Var) -> candle_core::Result<Tensor> {
    x.apply_op2(gain, RmsNorm { eps: NORM_EPS })
}

/// Row numbers as the index of a selection.
pub(crate) fn row_indices(rows: &[u32]) -> candle_core::Result<Tensor> {
    Tensor::from_slice(rows, rows.len(), &Device::Cpu)
}

/// Draws weights in order.
pub(crate) struct Fresh {
    pub(crate) rng: ChaCha8Rng,
    pub(crate) parameters: Vec<Parameter>,
}

impl Fresh {
    /// A matrix of normally distributed weights (Irwin-Hall: twelve uniform draws).
    pub(crate) fn matrix(&mut self, name: &str, rows: usize, cols: usize, std: f32) -> Result<()> {
        let mut normal = || {
            let sum: f32 = (0..12).map(|_| self.rng.random::<f32>()).sum();
            (sum - 6.0) * std
        };
        let values: Vec<f32> = (0..rows * cols).map(|_| normal()).collect();
        self.push(name, Tensor::from_vec(values, (rows, cols), &Device::Cpu)?)
    }

    /// A vector of ones.
    pub(crate) fn gain(&mut self, name: &str, width: usize) -> Result<()> {
        self.push(
            name,
            Tensor::ones(width, candle_core::DType::F32, &Device::Cpu)?,
        )
    }

    /// A weight that starts at `value`.
    pub(crate) fn push(&mut self, name: &str, value: Tensor) -> Result<()> {
        self.parameters.push(Parameter {
            name: name.to_owned(),
            var: Var::from_tensor(&value)?,
        });
        Ok(())
    }
}
