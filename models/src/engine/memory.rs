//! What an engine occupies, and whether that fits before it is allocated.

use serde::{Deserialize, Serialize};

use super::EngineParams;
use super::states::States;
use crate::gguf::{GgufFile, ModelInfo};
use crate::slice::StageSlice;
use crate::{LayerRange, ModelError, Result};

/// Hidden-state-sized f32 buffers that a layer's graph keeps at once (measured: 6 to 9).
const WORK_BUFFERS: u64 = 9;
/// Feed-forward-sized f32 buffers that a layer's graph keeps at once: gate, up and their product.
const FF_BUFFERS: u64 = 3;

/// What an engine occupies, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineMemory {
    /// Weights: the slice's tensors, without the part of the file that is a hole.
    pub weights_bytes: u64,
    /// The KV cache, and the states of recurrent layers.
    pub kv_bytes: u64,
    /// Buffers for the computation and its outputs.
    pub compute_bytes: u64,
}

impl EngineMemory {
    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        self.weights_bytes
            .saturating_add(self.kv_bytes)
            .saturating_add(self.compute_bytes)
    }

    /// What loading the slice in `file` will take; the computation's buffers are an estimate.
    pub(super) fn expected(
        file: &GgufFile,
        info: &ModelInfo,
        slice: &StageSlice,
        params: &EngineParams,
    ) -> EngineMemory {
        let hole = slice.is_last() && !slice.is_first() && !info.tied_head;
        let weights_bytes = file
            .tensors()
            .iter()
            .filter(|tensor| !(hole && tensor.name == "token_embd.weight"))
            .map(|tensor| tensor.n_bytes)
            .fold(0, u64::saturating_add);
        let n_ctx = params.n_cells_of(info);
        let kv_bytes = info.kv_bytes(info.all_layers(), n_ctx, params.type_k, params.type_v);
        EngineMemory {
            weights_bytes,
            kv_bytes: kv_bytes
                .saturating_add(state_bytes(info, info.all_layers(), params.n_seq_max))
                .saturating_add(if slice.is_first() {
                    0
                } else {
                    kept_bytes(info, n_ctx)
                }),
            compute_bytes: compute_bytes(info, n_ctx, params.n_batch.min(n_ctx)),
        }
    }

    /// Compares with the memory that is free; without knowledge of it everything fits.
    pub(super) fn check_fits(
        &self,
        available_bytes: Option<u64>,
        slice: &StageSlice,
        params: &EngineParams,
    ) -> Result<()> {
        let Some(available) = available_bytes.filter(|&n| n < self.total_bytes()) else {
            return Ok(());
        };
        let mb = |bytes: u64| bytes.div_ceil(1_000_000);
        Err(ModelError::OutOfMemory {
            what: format!(
                "layers {} need {} MB (weights {}, KV cache of {} cells {}, buffers {}), {} MB are \
                 free: take a smaller context (-c), a smaller batch (-ub) or more stages",
                slice.range,
                mb(self.total_bytes()),
                mb(self.weights_bytes),
                params.n_cells(),
                mb(self.kv_bytes),
                mb(self.compute_bytes),
                mb(available)
            ),
        })
    }
}

/// The states of the recurrent layers of `range`, for `n_seq_max` sequences and checkpoints.
pub(crate) fn state_bytes(info: &ModelInfo, range: LayerRange, n_seq_max: u32) -> u64 {
    info.state_bytes(range, n_seq_max + States::n_spare(n_seq_max))
}

/// The hidden states that a stage behind the first keeps to compute from again, where layers are
/// recurrent.
pub(crate) fn kept_bytes(info: &ModelInfo, n_cells: u32) -> u64 {
    let is_kept = u64::from(info.recurrent.is_some());
    4 * is_kept * u64::from(n_cells) * u64::from(info.n_embd)
}

/// An estimate of a stage's buffers for the computation: rows of work buffers, the attention mask,
/// and the logits of all rows.
pub(crate) fn compute_bytes(info: &ModelInfo, n_ctx: u32, n_batch: u32) -> u64 {
    let [n_embd, n_ff, n_vocab, n_ctx, n_batch] =
        [info.n_embd, info.n_ff, info.n_vocab, n_ctx, n_batch].map(u64::from);
    // The mask is made in f32 and turned to f16.
    let mask_bytes = n_ctx.saturating_mul(6);
    let row_bytes = 4 * (WORK_BUFFERS * n_embd + FF_BUFFERS * n_ff + n_vocab);
    n_batch.saturating_mul(row_bytes.saturating_add(mask_bytes))
}

/// Bytes that programs can still take without swapping (`MemAvailable` of Linux); none where the
/// system does not say.
pub fn available_memory_bytes() -> Option<u64> {
    parse_available(&std::fs::read_to_string("/proc/meminfo").ok()?)
}

fn parse_available(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::LayerRange;

    #[test]
    fn what_does_not_fit_is_told_with_its_numbers() {
        let memory = EngineMemory {
            weights_bytes: 3_000_000_000,
            kv_bytes: 500_000_000,
            compute_bytes: 1,
        };
        let slice = StageSlice {
            path: "m.gguf".into(),
            range: LayerRange::new(0, 8),
            n_layer_total: 16,
            n_embd: 64,
        };
        let check = |free| memory.check_fits(free, &slice, &EngineParams::default());
        assert_eq!(
            check(Some(2_000_000_000)).unwrap_err().to_string(),
            "layers 0..8 need 3501 MB (weights 3000, KV cache of 4096 cells 500, buffers 1), \
             2000 MB are free: take a smaller context (-c), a smaller batch (-ub) or more stages"
        );
        check(Some(3_500_000_001)).unwrap();
        check(None).unwrap();
    }

    #[test]
    fn free_memory_is_read_from_meminfo() {
        assert_eq!(
            parse_available("MemTotal: 9 kB\nMemAvailable:    123 kB\n"),
            Some(125_952)
        );
        assert_eq!(parse_available("MemTotal: 9 kB\n"), None);
        assert_eq!(parse_available("MemAvailable: x kB\n"), None);
    }

    #[test]
    fn available_memory_is_read_in_kib() {
        let meminfo = "MemTotal:       16000 kB\nMemAvailable:    2 kB\n";
        assert_eq!(parse_available(meminfo), Some(2048));
        assert_eq!(
            parse_available("MemAvailable: 99999999999999999999 kB"),
            None
        );
        assert_eq!(parse_available("MemTotal: 3 kB\n"), None);
    }
}
