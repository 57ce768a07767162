//! What the rest of the project wants to know of a model, checked so that llama.cpp's assertions
//! (which abort the process) cannot fire.

use super::{GgufFile, LatentInfo, Metadata, RecurrentInfo, bad};
use crate::architecture::{Architecture, Window, check_runs};
use crate::types::MAX_CELLS;
use crate::{LayerRange, ModelError, Result};

/// `LLAMA_MAX_LAYERS` (llama-hparams.h).
pub(super) const MAX_LAYERS: u32 = 512;
/// `LLAMA_MAX_EXPERTS` (llama-hparams.h).
pub(super) const MAX_EXPERTS: u32 = 1024;
/// Far above any model; keeps products of sizes in i64, as ggml needs.
pub(super) const MAX_WIDTH: u32 = 1 << 24;
/// The hyperparameters of a model, from its metadata and tensor index.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelInfo {
    /// `general.architecture`.
    pub arch: String,
    /// `general.name`.
    pub name: Option<String>,
    /// Number of layers.
    pub n_layer: u32,
    /// The same with the layers behind them that guess tokens ahead (`block_count`); arrays have an
    /// element for each.
    pub n_blocks: u32,
    /// Width of the hidden state.
    pub n_embd: u32,
    /// Rows of the token embedding, which is the size of the vocabulary.
    pub n_vocab: u32,
    /// Longest context of the training.
    pub n_ctx_train: u32,
    /// Query heads of each layer.
    pub n_head: Vec<u32>,
    /// Key and value heads of each layer.
    pub n_head_kv: Vec<u32>,
    /// Values of one head's key.
    pub n_embd_head_k: u32,
    /// Values of one head's value.
    pub n_embd_head_v: u32,
    /// Values of one head's key in sliding layers.
    pub n_embd_head_k_swa: u32,
    /// Values of one head's value in sliding layers.
    pub n_embd_head_v_swa: u32,
    /// Widest feed-forward of all layers; 0 where only experts have one.
    pub n_ff: u32,
    /// Experts of a mixture, else 0.
    pub n_expert: u32,
    /// Every how many layers there are experts (`interleave_moe_layer_step`); 1 where that is not told.
    pub expert_step: u32,
    /// Whether layers use the tokens themselves, or the keys of other layers (Gemma 4 E2B and E4B).
    pub shares_across_layers: bool,
    /// The layers that see only a window of the past, if there are any.
    pub sliding_window: Option<SlidingWindow>,
    /// The layers that keep a state of the past instead of its keys and values, if there are any.
    pub recurrent: Option<RecurrentInfo>,
    /// How heads come from one narrow vector of each position, if they do.
    pub latent: Option<LatentInfo>,
    /// Whether the token embedding serves as the output head too.
    pub tied_head: bool,
}

/// Which layers see only the last `n_swa` positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Length of the window in positions.
    pub n_swa: u32,
    /// For each layer, whether it slides.
    pub layers: Vec<bool>,
}

/// The type of the cached keys or values.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum KvDtype {
    /// 2 bytes a value.
    #[default]
    F16,
    /// 34 bytes for 32 values.
    Q8_0,
}

impl KvDtype {
    /// Bytes of `n` values; whole blocks.
    pub fn bytes(self, n: u64) -> u64 {
        match self {
            KvDtype::F16 => n.saturating_mul(2),
            KvDtype::Q8_0 => n.div_ceil(32).saturating_mul(34),
        }
    }
}

impl ModelInfo {
    /// Reads the hyperparameters of `file`.
    ///
    /// # Errors
    /// [`ModelError::OtherKind`] for files that are no language models, [`ModelError::BadGguf`] for
    /// missing keys and for values that no model can have. Supported architectures are checked for
    /// all that llama.cpp would assert; others only for what is read here.
    pub fn from_gguf(file: &GgufFile) -> Result<ModelInfo> {
        file.check_is_model()?;
        let reader = Reader::of(file)?;
        match Architecture::from_name(&reader.arch) {
            Some(arch) => {
                let info = reader.read()?;
                reader.check(arch, &info)?;
                Ok(info)
            }
            // What is missing may be what its architecture never has.
            None => check_runs(&reader.arch)
                .and_then(|()| reader.read())
                .map_err(|error| match error {
                    ModelError::BadGguf { what, .. } => reader.bad(format!(
                        "no test has shown that `{}` models run, and {what}",
                        reader.arch
                    )),
                    other => other,
                }),
        }
    }

    /// The range of all layers.
    pub fn all_layers(&self) -> LayerRange {
        LayerRange::new(0, self.n_layer)
    }

    /// Bytes of the KV cache of the layers of `range` for `n_ctx` cells.
    pub fn kv_bytes(&self, range: LayerRange, n_ctx: u32, k: KvDtype, v: KvDtype) -> u64 {
        let layers = range.start as usize..(range.end as usize).min(self.n_head_kv.len());
        let slides = |il: usize| {
            let window = self.sliding_window.as_ref();
            window.is_some_and(|window| window.layers.get(il).copied().unwrap_or(false))
        };
        let of_layer = |il: usize| {
            if !self.attends(il) {
                return 0;
            }
            let heads = u64::from(self.n_head_kv[il]);
            let (width_k, width_v) = match slides(il) {
                true => (self.n_embd_head_k_swa, self.n_embd_head_v_swa),
                false => (self.n_embd_head_k, self.n_embd_head_v),
            };
            let width_v = if self.values_are_keys() { 0 } else { width_v };
            k.bytes(heads.saturating_mul(u64::from(width_k)))
                .saturating_add(v.bytes(heads.saturating_mul(u64::from(width_v))))
                .saturating_mul(u64::from(n_ctx))
        };
        layers.map(of_layer).fold(0, u64::saturating_add)
    }

    /// How much of its past a sequence still has behind its end, where that is not all: positions of a
    /// sliding window, or 0 where layers are recurrent.
    pub fn past(&self) -> Option<u32> {
        match &self.recurrent {
            Some(_) => Some(0),
            None => self.sliding_window.as_ref().map(|window| window.n_swa),
        }
    }

    /// Whether a block behind the last layer can guess tokens ahead: `graph_mtp` takes just one, and of latent
    /// attention one kind.
    pub fn has_mtp(&self) -> bool {
        let arch = Architecture::from_name(&self.arch);
        let is_known = |latent: LatentInfo| latent.is_absorbed && !latent.has_one_query_matrix;
        self.n_blocks == self.n_layer + 1
            && arch.is_some_and(|arch| arch.mtp)
            && self.latent.is_none_or(is_known)
    }

    /// Whether cached values are a part of the cached keys.
    pub(crate) fn values_are_keys(&self) -> bool {
        self.latent.is_some_and(|latent| latent.is_absorbed)
    }

    /// Whether layer `il` has a state.
    pub(super) fn recurs(&self, il: usize) -> bool {
        let recurrent = self.recurrent.as_ref();
        recurrent.is_some_and(|recurrent| recurrent.layers.get(il) == Some(&true))
    }

    /// Whether layer `il` has keys and values.
    pub(super) fn attends(&self, il: usize) -> bool {
        let recurrent = self.recurrent.as_ref();
        recurrent.is_none_or(|recurrent| recurrent.attends.get(il) == Some(&true))
    }

    /// Bytes of the states of the layers of `range` for `n_seq` sequences.
    pub fn state_bytes(&self, range: LayerRange, n_seq: u32) -> u64 {
        let Some(recurrent) = &self.recurrent else {
            return 0;
        };
        let layers = (0..).zip(&recurrent.layers);
        let layers = layers.filter(|(il, recurrent)| **recurrent && range.contains(*il));
        recurrent
            .state_bytes
            .saturating_mul(layers.count() as u64)
            .saturating_mul(u64::from(n_seq))
    }
}

fn arch_name(file: &GgufFile) -> Result<String> {
    let name = file.metadata().str("general.architecture")?;
    // It becomes a part of keys and of messages.
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.is_empty() || name.len() > 64 || !name.chars().all(plain) {
        return Err(bad(file.path(), "`general.architecture` is not a name"));
    }
    Ok(name.to_owned())
}

/// Reads keys of the file's architecture; [`super::checks`] holds the rest of it.
pub(super) struct Reader<'a> {
    pub(super) file: &'a GgufFile,
    pub(super) meta: &'a Metadata,
    pub(super) arch: String,
}

impl<'a> Reader<'a> {
    pub(super) fn of(file: &'a GgufFile) -> Result<Self> {
        Ok(Self {
            file,
            meta: file.metadata(),
            arch: arch_name(file)?,
        })
    }
}

impl Reader<'_> {
    pub(super) fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.arch)
    }

    pub(super) fn bad(&self, what: impl Into<String>) -> ModelError {
        bad(self.file.path(), what)
    }

    fn read(&self) -> Result<ModelInfo> {
        let n_blocks = self.bounded("block_count", 1, MAX_LAYERS)?;
        let n_layer = n_blocks - self.next_token_layers(n_blocks)?;
        let n_embd = self.bounded("embedding_length", 1, MAX_WIDTH)?;
        let n_head = self
            .per_layer("attention.head_count", n_layer)?
            .unwrap_or_default();
        let n_head_kv = self
            .per_layer("attention.head_count_kv", n_layer)?
            .unwrap_or_else(|| n_head.clone());
        let n_ff = self
            .per_layer("feed_forward_length", n_layer)?
            .unwrap_or_default();
        let by_heads = n_head
            .first()
            .filter(|&&n| n > 0)
            .map_or(0, |&n| n_embd / n);
        let head = |suffix, default| Ok(self.opt_bounded(suffix, 0, MAX_WIDTH)?.unwrap_or(default));
        let head_k = head("attention.key_length", by_heads)?;
        let head_v = head("attention.value_length", by_heads)?;
        let is_above_0 = |suffix| Ok(self.opt_bounded(suffix, 0, MAX_WIDTH)?.unwrap_or(0) > 0);
        let n_vocab = self.n_vocab(n_embd)?;
        Ok(ModelInfo {
            arch: self.arch.clone(),
            name: self.meta.opt_str("general.name")?.map(str::to_owned),
            n_layer,
            n_blocks,
            n_embd,
            n_vocab,
            n_ctx_train: self.bounded("context_length", 1, i32::MAX as u32)?,
            n_embd_head_k: head_k,
            n_embd_head_v: head_v,
            n_embd_head_k_swa: head("attention.key_length_swa", head_k)?,
            n_embd_head_v_swa: head("attention.value_length_swa", head_v)?,
            n_ff: n_ff.iter().copied().max().unwrap_or(0),
            n_expert: self
                .opt_bounded("expert_count", 0, MAX_EXPERTS)?
                .unwrap_or(0),
            expert_step: self
                .opt_bounded("interleave_moe_layer_step", 0, MAX_LAYERS)?
                .unwrap_or(1)
                .max(1),
            shares_across_layers: is_above_0("embedding_length_per_layer_input")?
                || is_above_0("attention.shared_kv_layers")?,
            sliding_window: self.sliding_window(n_layer)?,
            recurrent: self.recurrent(n_layer, n_embd)?,
            latent: self.latent(n_layer, n_vocab)?,
            tied_head: self.file.tensor("output.weight").is_none(),
            n_head,
            n_head_kv,
        })
    }

    fn n_vocab(&self, n_embd: u32) -> Result<u32> {
        let embedding = self
            .file
            .tensor("token_embd.weight")
            .filter(|t| t.dims.len() == 2 && t.dims[0] == u64::from(n_embd))
            .ok_or_else(|| {
                self.bad(format!(
                    "`token_embd.weight` of {n_embd} columns is missing"
                ))
            })?;
        u32::try_from(embedding.dims[1])
            .ok()
            .filter(|&n| n <= i32::MAX as u32)
            .ok_or_else(|| self.bad("the vocabulary has more than 2^31 tokens"))
    }

    /// As `load_swa_pattern` in llama-model.cpp and the architectures' `load_arch_hparams` do.
    fn sliding_window(&self, n_layer: u32) -> Result<Option<SlidingWindow>> {
        let sliding = Architecture::from_name(&self.arch).and_then(|arch| arch.sliding);
        let Some(sliding) = sliding else {
            return Ok(None);
        };
        let n_swa = match (sliding.window, self.opt_window(sliding.window)?) {
            (Window::Or(default), None) => default,
            (Window::FixedIfGiven(fixed), Some(1..))
            | (Window::FixedUnlessZero(fixed), None | Some(1..)) => fixed,
            (_, given) => given.unwrap_or(0),
        };
        if n_swa == 0 {
            return Ok(None);
        }
        let key = self.key("attention.sliding_window_pattern");
        let layers: Vec<bool> = match self.meta.opt_array(&key) {
            Ok(Some(_)) => {
                let flags = self
                    .meta
                    .opt_u32_per_layer(&key, n_layer)?
                    .unwrap_or_default();
                flags.into_iter().map(|flag| flag != 0).collect()
            }
            // One number, or nothing.
            _ => {
                let period = self.meta.opt_u32(&key)?.unwrap_or(sliding.period);
                let dense = if sliding.dense_first {
                    0
                } else {
                    period.wrapping_sub(1)
                };
                (0..n_layer)
                    .map(|il| period == 0 || il % period != dense)
                    .collect()
            }
        };
        Ok(Some(SlidingWindow { n_swa, layers }))
    }

    /// The length of the window that the file gives; at least 1 where layers slide in any case.
    fn opt_window(&self, window: Window) -> Result<Option<u32>> {
        let suffix = "attention.sliding_window";
        match window {
            Window::Required => self.bounded(suffix, 1, MAX_CELLS).map(Some),
            Window::Or(_) => self.opt_bounded(suffix, 1, MAX_CELLS),
            _ => self.opt_bounded(suffix, 0, MAX_CELLS),
        }
    }

    /// How many of the `n_blocks` layers are behind the last one and guess tokens ahead.
    fn next_token_layers(&self, n_blocks: u32) -> Result<u32> {
        let suffix = "nextn_predict_layers";
        match Architecture::from_name(&self.arch) {
            Some(arch) if !arch.next_tokens => Ok(0),
            _ => Ok(self.opt_bounded(suffix, 0, n_blocks - 1)?.unwrap_or(0)),
        }
    }

    pub(super) fn bounded(&self, suffix: &str, min: u32, max: u32) -> Result<u32> {
        let key = self.key(suffix);
        self.meta
            .u32(&key)
            .and_then(|n| self.within(&key, n, min, max))
    }

    pub(super) fn opt_bounded(&self, suffix: &str, min: u32, max: u32) -> Result<Option<u32>> {
        let key = self.key(suffix);
        self.meta
            .opt_u32(&key)?
            .map(|n| self.within(&key, n, min, max))
            .transpose()
    }

    fn within(&self, key: &str, n: u32, min: u32, max: u32) -> Result<u32> {
        if (min..=max).contains(&n) {
            return Ok(n);
        }
        Err(self.bad(format!("`{key}` is {n}: {min} to {max} are possible")))
    }

    pub(super) fn per_layer(&self, suffix: &str, n_layer: u32) -> Result<Option<Vec<u32>>> {
        self.meta.opt_u32_per_layer(&self.key(suffix), n_layer)
    }
}
