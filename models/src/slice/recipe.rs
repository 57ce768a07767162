//! What goes into the file of a slice.
//!
//! - all metadata, with `<arch>.block_count` and every per-layer array cut to the range, and the
//!   sliding-window pattern spelled out for it; and what else the architecture's graph derives from
//!   the number of a layer or the number of layers (`layer_facts`);
//! - the layers' tensors, `blk.<i>` renamed to `blk.<i - start>`;
//! - the tensors of no layer: `output_norm` (the loader wants it) and rope factors (layers use
//!   them) as they are;
//! - in slices without the last layer no vocabulary (`tokenizer.ggml.model = "none"`), and
//!   embedding and head cut to 32 rows, because the loader insists on both;
//! - in the slice with the last layer the vocabulary and the head. The loader wants the embedding
//!   there as well: it is the head where no `output.weight` is, else a hole in the file;
//! - in that of the block behind the last layer (`mtp`) the vocabulary, and head and embedding, which are holes
//!   where it has its own.

use super::FORMAT;
use super::layer_facts::write_layer_facts;
use super::sliding::write_sliding_window;
use crate::architecture::Architecture;
use crate::gguf::{Array, GgufFile, ModelInfo, PART_KEYS, TensorInfo, Value};
use crate::llama::GgufWriter;
use crate::{LayerRange, ModelError, Result};

/// Key of the slice's own: the model's hash.
pub(super) const KEY_HASH: &str = "jupiter.slice.model_hash";
/// Key of the slice's own: its first layer in the model.
pub(super) const KEY_START: &str = "jupiter.slice.start";
/// Key of the slice's own: the layer after its last.
pub(super) const KEY_END: &str = "jupiter.slice.end";
/// Key of the slice's own: how this file was written.
const KEY_FORMAT: &str = "jupiter.slice.format";

/// Tokens of a vocabulary that nobody uses; at that size embedding and head cost nothing.
const STUB_VOCAB: u64 = 32;
/// Arrays that may have as many elements as there are layers and are not about layers.
const NOT_PER_LAYER: [&str; 3] = [
    "rope.dimension_sections",
    "attention.sliding_window_pattern",
    "classifier.output_labels",
];

/// A slice's metadata and tensors, ready to be written.
pub(super) struct Recipe {
    pub(super) range: LayerRange,
    pub(super) writer: GgufWriter,
    /// One for each tensor of the writer.
    pub(super) parts: Vec<TensorSource>,
}

/// Where a tensor's bytes come from.
pub(super) struct TensorSource {
    /// Index into the model's tensors.
    pub(super) source: usize,
    /// Leading bytes of the source; none for a hole.
    pub(super) copied_bytes: Option<u64>,
}

impl Recipe {
    pub(super) fn new(
        model: &GgufFile,
        info: &ModelInfo,
        range: LayerRange,
        hash: &str,
    ) -> Result<Recipe> {
        let mut writer = GgufWriter::copy_metadata_of(model.path())?;
        for key in PART_KEYS {
            writer.remove_key(key)?;
        }
        writer.set_u32(KEY_FORMAT, FORMAT)?;
        writer.set_str(KEY_HASH, hash)?;
        writer.set_u32(KEY_START, range.start)?;
        writer.set_u32(KEY_END, range.end)?;
        writer.set_u32(&format!("{}.block_count", info.arch), range.len())?;
        cut_arrays(&mut writer, model, info, range)?;
        if let Some(arch) = Architecture::from_name(&info.arch) {
            write_sliding_window(&mut writer, model, info, arch, range)?;
            write_layer_facts(&mut writer, model, info, arch, range)?;
        }
        let has_head = has_head(info, range);
        let n_vocab = if has_head {
            u64::from(info.n_vocab)
        } else {
            stub_vocab(info)
        };
        if !has_head {
            drop_vocabulary(&mut writer, model, info, n_vocab as u32)?;
        }
        let mut recipe = Recipe {
            range,
            writer,
            parts: Vec::new(),
        };
        for (source, tensor) in model.tensors().iter().enumerate() {
            recipe.add((source, tensor), model, info, range, n_vocab)?;
        }
        Ok(recipe)
    }

    /// Bytes that are copied from the model.
    pub(super) fn copied_bytes(&self) -> u64 {
        self.parts.iter().filter_map(|part| part.copied_bytes).sum()
    }

    fn add(
        &mut self,
        (source, tensor): (usize, &TensorInfo),
        model: &GgufFile,
        info: &ModelInfo,
        range: LayerRange,
        n_vocab: u64,
    ) -> Result<()> {
        let mut dims = tensor.dims.clone();
        let mut name = tensor.name.clone();
        let mut copied_bytes = Some(tensor.n_bytes);
        if let Some(layer) = tensor.layer() {
            if !range.contains(layer) {
                return Ok(());
            }
            let (_, rest) = name["blk.".len()..].split_once('.').unwrap_or_default();
            name = format!("blk.{}.{rest}", layer - range.start);
        } else if name == "rope_freqs.weight" && !loads_rope_freqs(info, range) {
            return Ok(());
        } else if let Some(dim) = vocabulary_dim(&name) {
            if dims.get(dim) != Some(&u64::from(info.n_vocab)) {
                return Err(ModelError::Unsplittable {
                    why: format!(
                        "`{name}` has the shape {dims:?} for {} tokens",
                        info.n_vocab
                    ),
                });
            }
            dims[dim] = n_vocab;
            // The vocabulary is the last dim, so its first tokens are the first bytes.
            copied_bytes = Some(tensor.n_bytes / u64::from(info.n_vocab) * n_vocab);
            if !is_read(&name, model, info, range) {
                copied_bytes = None;
            }
        }
        self.writer.add_tensor(&name, tensor.ggml_type, &dims)?;
        self.parts.push(TensorSource {
            source,
            copied_bytes,
        });
        Ok(())
    }
}

/// Whether the loader asks for rope factors that belong to no layer: it refuses tensors that it has no
/// use for.
fn loads_rope_freqs(info: &ModelInfo, range: LayerRange) -> bool {
    let of_full = Architecture::from_name(&info.arch).is_some_and(|arch| arch.has_full_rope_freqs);
    let layers = range.start as usize..range.end as usize;
    let window = info.sliding_window.as_ref();
    !of_full || window.is_none_or(|window| window.layers[layers].contains(&false))
}

/// Whether the graph of `range` reads a tensor of the vocabulary that the loader wants in any case.
fn is_read(name: &str, model: &GgufFile, info: &ModelInfo, range: LayerRange) -> bool {
    let has_own = |what: &str| {
        let own = format!("blk.{}.nextn.{what}.weight", info.n_layer);
        range.start >= info.n_layer && model.tensor(&own).is_some()
    };
    let is_head = info.tied_head && has_head(info, range) && !has_own("shared_head_head");
    match name {
        "token_embd.weight" if range.end == info.n_layer => is_head,
        "token_embd.weight" => is_head || !has_own("embed_tokens"),
        "output.weight" => !has_own("shared_head_head"),
        _ => true,
    }
}

fn has_head(info: &ModelInfo, range: LayerRange) -> bool {
    range.end >= info.n_layer
}

fn stub_vocab(info: &ModelInfo) -> u64 {
    STUB_VOCAB.min(u64::from(info.n_vocab))
}

/// The dim that counts tokens in the tensors of the vocabulary.
fn vocabulary_dim(name: &str) -> Option<usize> {
    match name {
        "token_embd.weight" | "output.weight" => Some(1),
        "output.bias" => Some(0),
        _ => None,
    }
}

fn drop_vocabulary(
    writer: &mut GgufWriter,
    model: &GgufFile,
    info: &ModelInfo,
    n_vocab: u32,
) -> Result<()> {
    for (key, _) in model
        .metadata()
        .iter()
        .filter(|(key, _)| key.starts_with("tokenizer."))
    {
        writer.remove_key(key)?;
    }
    writer.set_str("tokenizer.ggml.model", "none")?;
    writer.set_u32(&format!("{}.vocab_size", info.arch), n_vocab)
}

/// Cuts the arrays that have an element for each layer; those of layers behind the last one go.
fn cut_arrays(
    writer: &mut GgufWriter,
    model: &GgufFile,
    info: &ModelInfo,
    range: LayerRange,
) -> Result<()> {
    let layers = range.start as usize..range.end as usize;
    let prefix = format!("{}.", info.arch);
    let bare = Architecture::from_name(&info.arch).map_or(&[][..], |arch| arch.bare_layer_keys);
    let is_per_layer = |key: &str| match key.strip_prefix(&prefix) {
        Some(suffix) => !NOT_PER_LAYER.contains(&suffix),
        None => bare.contains(&key),
    };
    for (key, value) in model.metadata().iter() {
        let Value::Array(array) = value else {
            continue;
        };
        if !is_per_layer(key) || array.len() != info.n_blocks as usize {
            continue;
        }
        match array {
            Array::Uint(v) => writer.set_array_u32(key, &narrow(key, &v[layers.clone()])?)?,
            Array::Int(v) => writer.set_array_i32(key, &narrow(key, &v[layers.clone()])?)?,
            Array::Float(v) => {
                let v: Vec<f32> = v[layers.clone()].iter().map(|&x| x as f32).collect();
                writer.set_array_f32(key, &v)?;
            }
            Array::Bool(v) => writer.set_array_bool(key, &v[layers.clone()])?,
            Array::Str(v) => writer.set_array_str(key, &v[layers.clone()])?,
        }
    }
    Ok(())
}

fn narrow<W: Copy, N: TryFrom<W>>(key: &str, values: &[W]) -> Result<Vec<N>> {
    values
        .iter()
        .map(|&x| N::try_from(x).ok())
        .collect::<Option<_>>()
        .ok_or_else(|| ModelError::Unsplittable {
            why: format!("`{key}` holds numbers beyond 32 bits"),
        })
}
