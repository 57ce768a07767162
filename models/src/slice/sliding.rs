//! The sliding-window pattern of a slice.
//!
//! A period counts from the model's first layer, so a slice gets the flags of its layers one by
//! one (`load_swa_pattern` in llama-model.cpp takes a bool array). A slice in which no layer slides
//! needs more, which the table of architectures says.

use crate::architecture::{Architecture, Without};
use crate::gguf::{GgufFile, ModelInfo};
use crate::llama::GgufWriter;
use crate::types::MAX_CELLS;
use crate::{LayerRange, Result};

/// A window that no context reaches: the positions of a sequence are fewer than the cells. No
/// larger, because llama.cpp reserves room for as many indices in every step.
const ENDLESS: u32 = MAX_CELLS;
/// `rope_freq_base_train` where the file gives none (llama-model.cpp).
const DEFAULT_FREQ_BASE: f32 = 10_000.0;

/// Writes the pattern of the layers `range`; nothing for models without a sliding window.
pub(super) fn write_sliding_window(
    writer: &mut GgufWriter,
    model: &GgufFile,
    info: &ModelInfo,
    arch: &Architecture,
    range: LayerRange,
) -> Result<()> {
    let (Some(window), Some(sliding)) = (&info.sliding_window, &arch.sliding) else {
        return Ok(());
    };
    let key = |suffix: &str| format!("{}.{suffix}", info.arch);
    let flags = &window.layers[range.start as usize..range.end as usize];
    if flags.contains(&true) {
        return writer.set_array_bool(&key("attention.sliding_window_pattern"), flags);
    }
    if sliding.without == Without::NoWindow {
        writer.remove_key(&key("attention.sliding_window"))?;
        writer.remove_key(&key("attention.sliding_window_pattern"))?;
        return Ok(());
    }
    // Let it slide and never reach, with the rope of a full layer.
    writer.set_u32(&key("attention.sliding_window"), ENDLESS)?;
    writer.set_array_bool(
        &key("attention.sliding_window_pattern"),
        &vec![true; range.len() as usize],
    )?;
    let swa_base = key("rope.freq_base_swa");
    if model.metadata().opt_f32(&swa_base)?.is_some() {
        let base = model.metadata().opt_f32(&key("rope.freq_base"))?;
        writer.set_f32(&swa_base, base.unwrap_or(DEFAULT_FREQ_BASE))?;
    }
    Ok(())
}
