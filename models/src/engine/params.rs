//! Sizes and types of an engine, and what of them is possible.

use serde::{Deserialize, Serialize};

use super::states::MAX_RECURRENT_SEQUENCES;
use crate::gguf::{KvDtype, ModelInfo};
use crate::kernels::KernelChoice;
use crate::llama::context::{ContextParams, MAX_SEQUENCES, MAX_THREADS};
use crate::types::MAX_CELLS;
use crate::{ModelError, Result};

/// llama.cpp rounds the number of cells up to a multiple of this (llama-context.cpp).
const CELL_GROUP: u32 = 256;
/// Far above any useful batch: the buffers of one layer alone would be tens of gigabytes.
const MAX_BATCH: u32 = 1 << 16;
/// Values of a `q8_0` block, which a head must fill.
const Q8_BLOCK: u32 = 32;

/// Sizes and types of an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineParams {
    /// Cells of the KV cache, which all sequences share; rounded up to a multiple of 256.
    pub n_ctx: u32,
    /// Sequence ids are below it; at most 256.
    pub n_seq_max: u32,
    /// Most rows of a step; all are computed at once (llama.cpp's `n_ubatch` is the same).
    pub n_batch: u32,
    /// Threads that compute.
    pub n_threads: u32,
    /// Type of the cached keys.
    pub type_k: KvDtype,
    /// Type of the cached values; q8_0 needs flash attention.
    pub type_v: KvDtype,
    /// Whether attention is one fused operation.
    pub flash_attention: bool,
    /// Whose kernels compute products with weights: each machine chooses for itself, so it does not
    /// travel.
    #[serde(skip)]
    pub kernels: KernelChoice,
    /// Layers to put on a GPU, where llama.cpp was built for one.
    pub n_gpu_layers: u32,
    /// Which states that its output head saw the last slice gives beside logits.
    pub keeps_states: KeptStates,
}

/// Of which rows what the output head saw is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeptStates {
    /// Of none.
    #[default]
    None,
    /// Of those with logits.
    WithLogits,
    /// Of all, where the graph computes it; else of those with logits.
    All,
}

impl Default for EngineParams {
    /// A context of 4096 tokens for 16 sequences, steps of 512 rows, all cores, no GPU.
    fn default() -> Self {
        Self {
            n_ctx: 4096,
            n_seq_max: 16,
            n_batch: 512,
            n_threads: std::thread::available_parallelism()
                .map_or(1, |n| (n.get() as u32).min(MAX_THREADS)),
            type_k: KvDtype::F16,
            type_v: KvDtype::F16,
            flash_attention: true,
            kernels: KernelChoice::Auto,
            n_gpu_layers: 0,
            keeps_states: KeptStates::None,
        }
    }
}

impl EngineParams {
    /// `n_ctx` as llama.cpp rounds it.
    pub fn n_cells(&self) -> u32 {
        self.n_ctx.min(MAX_CELLS).next_multiple_of(CELL_GROUP)
    }

    /// The same for `model`. Sequences of recurrent layers that went back compute some rows again that
    /// others share, so there is room for that.
    pub(super) fn n_cells_of(&self, model: &ModelInfo) -> u32 {
        let n_more = model.recurrent.as_ref().map_or(0, |_| CELL_GROUP);
        self.n_cells() + n_more
    }

    /// Refuses what llama.cpp would abort or fail on.
    pub(super) fn check(&self, model: &ModelInfo) -> Result<()> {
        let within = |what: &str, value: u32, max: u32| {
            if (1..=max).contains(&value) {
                return Ok(());
            }
            Err(ModelError::BadInput {
                what: format!("{what} is {value}: take 1 to {max}"),
            })
        };
        within("the context (-c)", self.n_ctx, MAX_CELLS)?;
        within(
            "the number of sequences (-np)",
            self.n_seq_max,
            match model.recurrent {
                Some(_) => MAX_RECURRENT_SEQUENCES,
                None => MAX_SEQUENCES,
            },
        )?;
        within("the batch (-ub)", self.n_batch, MAX_BATCH)?;
        within("the number of threads (-t)", self.n_threads, MAX_THREADS)?;
        if self.type_v == KvDtype::Q8_0 && !self.flash_attention {
            return Err(ModelError::BadInput {
                what: "a q8_0 cache of values (-ctv) needs flash attention (-fa)".into(),
            });
        }
        if model.values_are_keys() && self.type_k != self.type_v {
            return Err(ModelError::BadInput {
                what:
                    "this model caches values as a part of keys: give -ctk and -ctv the same type"
                        .into(),
            });
        }
        for (dtype, n, flag) in [
            (self.type_k, model.n_embd_head_k, "-ctk"),
            (self.type_v, model.n_embd_head_v, "-ctv"),
        ] {
            if dtype == KvDtype::Q8_0 && !n.is_multiple_of(Q8_BLOCK) {
                return Err(ModelError::BadInput {
                    what: format!(
                        "a q8_0 cache needs heads of a multiple of {Q8_BLOCK} values, this model's \
                         have {n}: take f16 ({flag})"
                    ),
                });
            }
        }
        Ok(())
    }

    /// For a context of `n_ctx` cells, with `n_spare` sequences beside those of the steps.
    pub(crate) fn for_context(&self, n_ctx: u32, n_spare: u32) -> ContextParams {
        ContextParams {
            n_ctx,
            n_batch: self.n_batch.min(n_ctx),
            n_ubatch: self.n_batch.min(n_ctx),
            n_seq_max: self.n_seq_max + n_spare,
            n_threads: self.n_threads,
            type_k: self.type_k,
            type_v: self.type_v,
            flash_attention: self.flash_attention,
            offload: self.n_gpu_layers > 0,
            is_mtp: false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gguf::tests::info;

    #[test]
    fn impossible_parameters_get_one_line() {
        let check = |change: fn(&mut EngineParams), message: &str| {
            let mut params = EngineParams::default();
            change(&mut params);
            let model = ModelInfo {
                n_embd_head_k: 16,
                n_embd_head_v: 16,
                ..info("llama", 4)
            };
            assert_eq!(params.check(&model).unwrap_err().to_string(), message);
        };
        check(|p| p.n_ctx = 0, "the context (-c) is 0: take 1 to 4194304");
        check(
            |p| p.n_seq_max = 257,
            "the number of sequences (-np) is 257: take 1 to 256",
        );
        check(|p| p.n_batch = 0, "the batch (-ub) is 0: take 1 to 65536");
        check(
            |p| p.n_threads = 0,
            "the number of threads (-t) is 0: take 1 to 512",
        );
        check(
            |p| (p.type_v, p.flash_attention) = (KvDtype::Q8_0, false),
            "a q8_0 cache of values (-ctv) needs flash attention (-fa)",
        );
        check(
            |p| p.type_k = KvDtype::Q8_0,
            "a q8_0 cache needs heads of a multiple of 32 values, this model's have 16: take f16 (-ctk)",
        );
        EngineParams::default().check(&info("llama", 4)).unwrap();
        assert_eq!(
            EngineParams {
                n_ctx: 257,
                ..Default::default()
            }
            .n_cells(),
            512
        );
    }
}
