//! Medusa heads (arXiv 2401.10774) on the frozen model: head `k` guesses the token `k + 1` places
//! after the one that the model itself predicts.

use std::sync::Arc;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use crate::batch::Batch;
use crate::ops::CrossEntropy;
use crate::trainer::Objective;
use crate::transformer::{Fresh, Parameter, Transformer, row_indices};

/// Weight of each head's loss against the one before it (the paper's lambda).
const LOSS_DECAY: f64 = 0.8;

/// The heads: each a residual block, `h = x + silu(x A + b)`, and a linear layer, `h W`.
pub(crate) struct Medusa {
    model: Transformer,
    n_heads: usize,
    /// Of each head: A (`n_embd`, `n_embd`), b (`n_embd`), W (`n_embd`, `n_vocab`).
    parameters: Vec<Parameter>,
}

impl Medusa {
    /// Heads that begin as the model's own output head: A and b are zero, W is the embedding.
    pub(crate) fn new(model: Transformer, n_heads: usize) -> Result<Self> {
        let n_embd = model.shape.n_embd;
        let mut fresh = Fresh {
            rng: ChaCha8Rng::seed_from_u64(0),
            parameters: Vec::new(),
        };
        let zeroes = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu);
        for k in 0..n_heads {
            fresh.push(&format!("medusa.{k}.block"), zeroes(&[n_embd, n_embd])?)?;
            fresh.push(&format!("medusa.{k}.bias"), zeroes(&[n_embd])?)?;
            let output = model.embedding().t()?.contiguous()?;
            fresh.push(&format!("medusa.{k}.output"), output)?;
        }
        Ok(Self {
            model,
            n_heads,
            parameters: fresh.parameters,
        })
    }

    /// Logits of head `k` from rows of what the output head sees.
    pub(crate) fn logits(&self, k: usize, hidden: &Tensor) -> candle_core::Result<Tensor> {
        let [block, bias, output] = [0, 1, 2].map(|part| &self.parameters[3 * k + part].var);
        let turned = hidden.matmul(block)?.broadcast_add(bias)?.silu()?;
        (hidden + turned)?.matmul(output)
    }
}

impl Objective for Medusa {
    fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    fn loss(&self, batch: &Batch) -> candle_core::Result<(Tensor, usize)> {
        let hidden = self.model.hidden(batch)?.detach();
        let mut total = Tensor::zeros((), DType::F32, &Device::Cpu)?;
        for k in 0..self.n_heads {
            // Targets of one answer lie one behind the other.
            let ahead = k + 1;
            let has_target = |row: &usize| batch.remaining[*row] as usize >= ahead;
            let rows: Vec<usize> = (0..batch.targets.len()).filter(has_target).collect();
            let targets: Arc<[u32]> = rows.iter().map(|row| batch.targets[row + ahead]).collect();
            let rows: Vec<u32> = rows.into_iter().map(|row| row as u32).collect();
            let logits = self.logits(k, &hidden.index_select(&row_indices(&rows)?, 0)?)?;
            let loss = logits.apply_op1(CrossEntropy { targets })?;
            total = (total + (loss * LOSS_DECAY.powi(k as i32))?)?;
        }
        Ok((total, batch.targets.len()))
    }
}
