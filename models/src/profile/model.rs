//! A model as planning sees it: its layers by what they cost, and its two ends.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::architecture::{Cuts, cuts};
use crate::engine::{EngineParams, compute_bytes, kept_bytes, state_bytes};
use crate::gguf::{GgufFile, KvDtype, ModelInfo, TensorInfo};
use crate::hidden::HiddenDtype;
use crate::{LayerRange, Result};

/// Rows and values over which the bytes of a hidden value are averaged: whole blocks of every type.
const SAMPLE_VALUES: usize = 1024;

/// One layer of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerShape {
    /// Layers of one class cost the same time on the same device. In a model file's profile the
    /// last layer has a class of its own, and its cost is that of rows that want no logits.
    #[serde(default)]
    pub class: usize,
    /// Its tensors.
    pub weight_bytes: u64,
    /// KV cache in f16 for one token of one sequence.
    pub kv_bytes_per_token: u64,
    /// States of all sequences, where the layer is recurrent.
    #[serde(default, skip_serializing_if = "is_none")]
    pub state_bytes: u64,
}

fn is_none(bytes: &u64) -> bool {
    *bytes == 0
}

/// What planning needs to know of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelProfile {
    /// The layers, in order.
    pub layers: Vec<LayerShape>,
    /// The embedding table, which the first stage holds.
    pub embedding_bytes: u64,
    /// The output head, which the last stage holds.
    pub head_bytes: u64,
    /// Whether head and embedding are one tensor: a lone stage then holds it once.
    #[serde(default)]
    pub tied_head: bool,
    /// Compute buffers of one stage.
    pub buffer_bytes: u64,
    /// Width of the hidden states.
    pub n_embd: u32,
    /// Bytes of one value of the hidden states on a link: 4 (f32), 2 (f16), 1.0625 (q8_0).
    pub bytes_per_value: f64,
    /// Where it may be cut.
    #[serde(default, skip_serializing_if = "Cuts::is_anywhere")]
    pub cuts: Cuts,
}

impl ModelProfile {
    /// Reads it off a model file, for engines of `params` whose hidden states travel as `hidden`.
    ///
    /// # Errors
    /// When the file's metadata does not describe a model.
    pub fn from_gguf(
        model: &GgufFile,
        params: &EngineParams,
        hidden: HiddenDtype,
    ) -> Result<ModelProfile> {
        let info = ModelInfo::from_gguf(model)?;
        let bytes_of = |name| model.tensor(name).map_or(0, |tensor| tensor.n_bytes);
        let embedding_bytes = bytes_of("token_embd.weight");
        let n_batch = params.n_batch.min(params.n_cells());
        Ok(ModelProfile {
            layers: layer_shapes(model, &info, params.n_seq_max),
            embedding_bytes,
            head_bytes: if info.tied_head {
                embedding_bytes
            } else {
                bytes_of("output.weight")
            },
            tied_head: info.tied_head,
            buffer_bytes: compute_bytes(&info, params.n_cells(), n_batch)
                .saturating_add(kept_bytes(&info, params.n_cells())),
            n_embd: info.n_embd,
            bytes_per_value: hidden.encoded_bytes(1, SAMPLE_VALUES)? as f64 / SAMPLE_VALUES as f64,
            cuts: cuts(&info, false),
        })
    }

    /// Number of layers.
    pub fn n_layer(&self) -> u32 {
        u32::try_from(self.layers.len()).unwrap_or(u32::MAX)
    }

    /// The first layer of each class, indexed by class: what stands for the class in measurements.
    pub fn representatives(&self) -> Vec<u32> {
        let mut first = Vec::new();
        for (il, layer) in self.layers.iter().enumerate() {
            if layer.class == first.len() {
                first.push(il as u32);
            }
        }
        first
    }
}

/// The layers, classed by their tensors and by whether they see only a window of the past. The last
/// one is of a class of its own: its feed-forward is computed only for rows that want logits
/// (`inp_out_ids` in llama.cpp's graphs), so that it is cheaper in prefill, and the head dearer.
fn layer_shapes(model: &GgufFile, info: &ModelInfo, n_seq_max: u32) -> Vec<LayerShape> {
    let mut tensors: Vec<Vec<&TensorInfo>> = vec![Vec::new(); info.n_layer as usize];
    for tensor in model.tensors() {
        if let Some(layer) = tensor.layer().and_then(|il| tensors.get_mut(il as usize)) {
            layer.push(tensor);
        }
    }
    let last = tensors.len().saturating_sub(1);
    let mut classes = HashMap::new();
    let slides = |il: usize| {
        let window = info.sliding_window.as_ref();
        window.is_some_and(|window| window.layers.get(il).copied().unwrap_or(false))
    };
    let shape = |(il, tensors): (usize, Vec<&TensorInfo>)| {
        let mut costs: Vec<(u32, Vec<u64>)> = tensors
            .iter()
            .map(|tensor| (tensor.ggml_type, tensor.dims.clone()))
            .collect();
        costs.sort_unstable();
        let n_classes = classes.len();
        let range = LayerRange::new(il as u32, il as u32 + 1);
        LayerShape {
            class: *classes
                .entry((slides(il), il == last, costs))
                .or_insert(n_classes),
            weight_bytes: tensors
                .iter()
                .fold(0, |sum: u64, tensor| sum.saturating_add(tensor.n_bytes)),
            kv_bytes_per_token: info.kv_bytes(range, 1, KvDtype::F16, KvDtype::F16),
            state_bytes: state_bytes(info, range, n_seq_max),
        }
    };
    tensors.into_iter().enumerate().map(shape).collect()
}
