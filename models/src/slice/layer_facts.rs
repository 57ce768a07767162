//! What graphs derive from the number of a layer, or from how many there are, spelled out for a slice.

use crate::architecture::{Architecture, InputScale, RecurrentLayers};
use crate::gguf::{GgufFile, ModelInfo};
use crate::llama::GgufWriter;
use crate::{LayerRange, Result};

/// Writes the keys for the layers `range`.
pub(super) fn write_layer_facts(
    writer: &mut GgufWriter,
    model: &GgufFile,
    info: &ModelInfo,
    arch: &Architecture,
    range: LayerRange,
) -> Result<()> {
    let key = |suffix: &str| format!("{}.{suffix}", info.arch);
    let meta = model.metadata();
    if arch.leading_dense {
        let name = key("leading_dense_block_count");
        if let Some(lead) = meta.opt_u32(&name)? {
            writer.set_u32(&name, lead.saturating_sub(range.start).min(range.len()))?;
        }
    }
    let is_behind = range.start >= info.n_layer;
    if arch.next_tokens && info.n_blocks > info.n_layer {
        let n_next = if is_behind { range.len() } else { 0 };
        writer.set_u32(&key("nextn_predict_layers"), n_next)?;
    }
    if let (Some(recurrent), Some(RecurrentLayers::AllButEvery(_))) = (
        &info.recurrent,
        arch.recurrent.map(|recurrent| recurrent.layers),
    ) {
        let named = key("attention.recurrent_layers");
        // Those behind the last one are not.
        let layers = (range.start..range.end).map(|il| recurrent.layers.get(il as usize));
        let layers: Vec<bool> = layers
            .map(|is_recurrent| is_recurrent == Some(&true))
            .collect();
        writer.set_array_bool(&named, &layers)?;
    }
    if let InputScale::Key(_) = arch.input_scale {
        // What enters is scaled already (`EmbeddingTable`), and a product with 1 has the same bits.
        writer.set_f32(&key("embedding_scale"), 1.0)?;
    }
    write_by_depth(writer, model, info, arch)?;
    for suffix in arch.dropped_keys {
        let name = key(suffix);
        if meta.get(&name).is_some() {
            writer.remove_key(&name)?;
        }
    }
    Ok(())
}

/// What the whole model's number of layers stands for.
fn write_by_depth(
    writer: &mut GgufWriter,
    model: &GgufFile,
    info: &ModelInfo,
    arch: &Architecture,
) -> Result<()> {
    let key = |suffix: &str| format!("{}.{suffix}", info.arch);
    let meta = model.metadata();
    if (info.latent).is_some_and(|latent| latent.has_one_query_matrix) {
        writer.set_u32(&key("attention.q_lora_rank"), 0)?;
    }
    let name = key("expert_gating_func");
    if arch.gating_by_depth && meta.opt_u32(&name)?.unwrap_or(0) == 0 {
        writer.set_u32(&name, gating(info))?;
    }
    let name = key("residual_scale");
    if arch.residual_by_depth && meta.opt_f32(&name)?.is_none() {
        // As minicpm.cpp computes it, in f32.
        writer.set_f32(&name, 1.4 / (info.n_layer as f32).sqrt())?;
    }
    Ok(())
}

/// How experts are chosen where the file does not say, as deepseek2.cpp guesses
/// (`llama_expert_gating_func_type`).
fn gating(info: &ModelInfo) -> u32 {
    const SOFTMAX: u32 = 1;
    const SIGMOID: u32 = 2;
    // GLM 4.7 Flash.
    let is_glm = matches!(info.n_layer, 47 | 48) && info.n_vocab == 154_880;
    if is_glm { SIGMOID } else { SOFTMAX }
}
