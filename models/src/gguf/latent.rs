//! Attention that keeps one narrow vector of each position for all heads (multi-head latent attention,
//! DeepSeek V2, arXiv 2405.04434, section 2.1): what there is to know of it, and what its graph asserts.

use super::info::{MAX_WIDTH, ModelInfo, Reader};
use crate::Result;
use crate::architecture::{Architecture, Latent};

/// How keys, values and queries come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LatentInfo {
    /// Whether the vector itself is cached, as the one key head, of which the values are a part. Files from
    /// before April 2025 cache every head's keys and values.
    pub is_absorbed: bool,
    /// Whether queries come from one matrix, and not from two with a narrow middle.
    pub has_one_query_matrix: bool,
}

impl Reader<'_> {
    /// As the architectures' `load_arch_hparams` tell models apart.
    pub(super) fn latent(&self, n_layer: u32, n_vocab: u32) -> Result<Option<LatentInfo>> {
        let Some(latent) = Architecture::from_name(&self.arch).and_then(|arch| arch.latent) else {
            return Ok(None);
        };
        let width = |suffix| Ok(self.opt_bounded(suffix, 0, MAX_WIDTH)?.unwrap_or(0));
        let widths = [
            width("attention.key_length_mla")?,
            width("attention.value_length_mla")?,
        ];
        if widths.contains(&0) && widths != [0, 0] {
            return Err(self.bad(format!(
                "`{}` and `{}` belong together",
                self.key("attention.key_length_mla"),
                self.key("attention.value_length_mla")
            )));
        }
        Ok(Some(LatentInfo {
            is_absorbed: widths != [0, 0],
            has_one_query_matrix: latent.has_one_query_matrix(n_layer, n_vocab)
                || self.bounded("attention.q_lora_rank", 0, MAX_WIDTH)? == 0,
        }))
    }

    /// The widths of which heads and cache are made.
    pub(super) fn check_latent(&self, info: &ModelInfo, latent: LatentInfo) -> Result<()> {
        let n_latent = self.bounded("attention.kv_lora_rank", 1, MAX_WIDTH)?;
        let n_rot = self.bounded("rope.dimension_count", 2, MAX_WIDTH)?;
        let key = match latent.is_absorbed {
            true => "attention.key_length_mla",
            false => "attention.key_length",
        };
        let head = self.bounded(key, 1, MAX_WIDTH)?;
        let is_even = n_rot.is_multiple_of(2) && head.is_multiple_of(2);
        if head <= n_rot || !is_even {
            return Err(self.bad(format!(
                "of a head's {head} values {n_rot} are rotated: both must be even, and some not rotated"
            )));
        }
        let cached = [info.n_embd_head_k, info.n_embd_head_v];
        if latent.is_absorbed && cached != [n_latent + n_rot, n_latent] {
            return Err(self.bad(format!(
                "{n_latent} values and {n_rot} rotated ones are kept of a position, but keys have {} and \
                 values {}",
                cached[0], cached[1]
            )));
        }
        let fits = |il: usize| match latent.is_absorbed {
            true => info.n_head_kv[il] == 1,
            false => info.n_head_kv[il] == info.n_head[il],
        };
        let layers = (0..info.n_layer as usize).filter(|&il| info.attends(il));
        for il in layers.clone() {
            self.check_matrices(il, latent)?;
        }
        if info.n_embd_head_v == 0 {
            return Err(self.bad(format!("`{}` is 0", self.key("attention.value_length"))));
        }
        if !layers.clone().all(fits) {
            return Err(self.bad(format!(
                "`{}` must be {}",
                self.key("attention.head_count_kv"),
                match latent.is_absorbed {
                    true => "1",
                    false => "the number of heads",
                }
            )));
        }
        let temperature = self
            .meta
            .opt_f32(&self.key("attention.temperature_scale"))?;
        if temperature.is_some_and(|scale| scale != 0.0) {
            self.bounded("attention.temperature_length", 1, i32::MAX as u32)?;
        }
        Ok(())
    }

    /// Graphs tell by the matrices of layer `il` what is cached, and have to find what the widths say.
    fn check_matrices(&self, il: usize, latent: LatentInfo) -> Result<()> {
        let name = |matrix: &str| format!("blk.{il}.{matrix}.weight");
        if !latent.is_absorbed {
            return self.needs(&name("attn_kv_b")).map(drop);
        }
        self.needs(&name("attn_k_b"))?;
        self.needs(&name("attn_v_b"))?;
        match self.file.tensor(&name("attn_kv_b")) {
            Some(tensor) => Err(self.bad(format!("the tensor `{}` is one too many", tensor.name))),
            None => Ok(()),
        }
    }
}

impl Latent {
    fn has_one_query_matrix(self, n_layer: u32, n_vocab: u32) -> bool {
        match self {
            Latent::OneQueryMatrix => true,
            Latent::OneQueryMatrixAt(models) => models.iter().any(|&(layers, vocab)| {
                layers == n_layer && vocab.is_none_or(|vocab| vocab == n_vocab)
            }),
        }
    }
}
