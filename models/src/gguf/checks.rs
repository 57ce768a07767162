//! What llama.cpp asserts of a model's metadata and tensors, checked before it can abort the process.

use super::info::{MAX_EXPERTS, MAX_LAYERS, MAX_WIDTH, ModelInfo, Reader};
use super::{Array, TensorInfo};
use crate::Result;
use crate::architecture::Architecture;
use crate::llama::dequantize::is_weight_type;
use crate::llama::quantize::F32;

/// The scalings that `llama_rope_scaling_type_from_string` knows.
const ROPE_SCALINGS: [&str; 4] = ["none", "linear", "yarn", "longrope"];
/// The tokenizers of the supported architectures: SentencePiece, byte-pair, and a slice's own.
const TOKENIZERS: [&str; 3] = ["llama", "gpt2", "none"];

impl Reader<'_> {
    /// Every condition that llama.cpp asserts for the supported architectures, so that a hostile
    /// file gets a message instead of an abort.
    pub(super) fn check(&self, arch: Architecture, info: &ModelInfo) -> Result<()> {
        self.check_layers(info)?;
        self.check_heads(arch, info)?;
        self.check_experts(info)?;
        self.check_tensors()?;
        self.check_norm_and_attention()?;
        if let Some(swa) = &info.sliding_window
            && !swa.layers.contains(&true)
        {
            return Err(self.bad("a sliding window is set, but no layer slides"));
        }
        if self
            .opt_bounded("nextn_predict_layers", 0, MAX_LAYERS)?
            .unwrap_or(0)
            > 0
        {
            return Err(self.bad("it holds layers for multi-token prediction, which cannot be run"));
        }
        if let Some(scaling) = self.meta.opt_str(&self.key("rope.scaling.type"))?
            && !ROPE_SCALINGS.contains(&scaling)
        {
            return Err(self.bad("`rope.scaling.type` is none of none, linear, yarn, longrope"));
        }
        self.check_tokenizer()
    }

    /// Cut or not: a stage sees its own layers only, and llama.cpp only what a stage holds.
    fn check_layers(&self, info: &ModelInfo) -> Result<()> {
        let mut is_there = vec![false; info.n_layer as usize];
        for layer in self.file.tensors().iter().filter_map(TensorInfo::layer) {
            match is_there.get_mut(layer as usize) {
                Some(is_there) => *is_there = true,
                None => {
                    return Err(self.bad(format!(
                        "`{}` is {}, but tensors of layer {layer} are there: convert the model again",
                        self.key("block_count"),
                        info.n_layer
                    )));
                }
            }
        }
        match is_there.iter().position(|&is_there| !is_there) {
            Some(layer) => Err(self.bad(format!(
                "`{}` is {}, but no tensor of layer {layer} is there: convert the model again",
                self.key("block_count"),
                info.n_layer
            ))),
            None => Ok(()),
        }
    }

    fn check_norm_and_attention(&self) -> Result<()> {
        let eps = self
            .meta
            .f32(&self.key("attention.layer_norm_rms_epsilon"))?;
        if !eps.is_finite() || eps < 0.0 {
            return Err(self.bad("`attention.layer_norm_rms_epsilon` must be a number from 0 on"));
        }
        if self.meta.opt_bool(&self.key("attention.causal"))? == Some(false) {
            return Err(self.bad("it does not attend causally: an encoder cannot generate text"));
        }
        Ok(())
    }

    fn check_heads(&self, arch: Architecture, info: &ModelInfo) -> Result<()> {
        if info.n_head.len() != info.n_layer as usize {
            return Err(self.bad(format!("`{}` is missing", self.key("attention.head_count"))));
        }
        for (il, (&n_head, &n_head_kv)) in info.n_head.iter().zip(&info.n_head_kv).enumerate() {
            let plausible = |n: u32| (1..=MAX_WIDTH).contains(&n);
            if !plausible(n_head) || !plausible(n_head_kv) || n_head % n_head_kv != 0 {
                return Err(self.bad(format!(
                    "layer {il} has {n_head} heads and {n_head_kv} key-value heads: \
                     the first must be a multiple of the second"
                )));
            }
        }
        self.check_equal_layers(info)?;
        let head = info.n_embd_head_k;
        // Their loaders take the attention to be as wide as the hidden state.
        let square = matches!(arch, Architecture::Qwen2 | Architecture::Phi3);
        let width = u64::from(head) * u64::from(info.n_head[0]);
        if square && width != u64::from(info.n_embd) {
            return Err(self.bad(format!(
                "{} heads of {head} values are not the {} values of a hidden state",
                info.n_head[0], info.n_embd
            )));
        }
        if head == 0 || head != info.n_embd_head_v {
            return Err(self.bad(format!(
                "keys of {head} and values of {} values a head: they must be equal and above 0",
                info.n_embd_head_v
            )));
        }
        let n_rot = self
            .opt_bounded("rope.dimension_count", 0, MAX_WIDTH)?
            .unwrap_or(head);
        // phi3 may rotate a part of the head; the others assert equality.
        let partly = arch == Architecture::Phi3 && n_rot <= head;
        let gemma = arch.sliding_window_period().is_some() && n_rot <= head;
        if n_rot == 0 || n_rot % 2 != 0 || (n_rot != head && !partly && !gemma) {
            return Err(self.bad(format!(
                "`rope.dimension_count` {n_rot} does not fit heads of {head}"
            )));
        }
        for suffix in ["key_length_swa", "value_length_swa"] {
            let key = format!("attention.{suffix}");
            if self
                .opt_bounded(&key, 0, MAX_WIDTH)?
                .is_some_and(|n| n != head)
            {
                return Err(self.bad(format!("`{key}` differs from the other layers' heads")));
            }
        }
        if self
            .opt_bounded("rope.dimension_count_swa", 0, MAX_WIDTH)?
            .is_some_and(|n| n != n_rot)
        {
            return Err(self.bad("`rope.dimension_count_swa` differs from the other layers'"));
        }
        Ok(())
    }

    /// llama.cpp's graphs of these architectures take the first layer's numbers for all layers.
    fn check_equal_layers(&self, info: &ModelInfo) -> Result<()> {
        for suffix in [
            "attention.head_count",
            "attention.head_count_kv",
            "feed_forward_length",
            "expert_used_count",
            "expert_feed_forward_length",
        ] {
            let values = self.per_layer(suffix, info.n_layer)?.unwrap_or_default();
            if values.windows(2).any(|pair| pair[0] != pair[1]) {
                return Err(self.bad(format!(
                    "`{}` differs between layers, which {} cannot have",
                    self.key(suffix),
                    self.arch
                )));
            }
        }
        Ok(())
    }

    fn check_experts(&self, info: &ModelInfo) -> Result<()> {
        let used = self
            .per_layer("expert_used_count", info.n_layer)?
            .unwrap_or_default();
        let most = used.iter().copied().max().unwrap_or(0);
        let least = used.iter().copied().min().unwrap_or(0);
        if most > info.n_expert || (info.n_expert > 0 && least == 0) {
            return Err(self.bad(format!(
                "{least} to {most} of {} experts are used: 1 to {0} are possible",
                info.n_expert
            )));
        }
        if self
            .opt_bounded("expert_group_count", 0, MAX_EXPERTS)?
            .unwrap_or(0)
            > 1
        {
            return Err(self.bad("grouped experts are not supported"));
        }
        Ok(())
    }

    fn check_tokenizer(&self) -> Result<()> {
        let model = self.meta.str("tokenizer.ggml.model")?;
        if !TOKENIZERS.contains(&model) {
            return Err(self.bad(format!(
                "the tokenizer `{}` is not known (known: llama, gpt2)",
                model.escape_debug().take(40).collect::<String>()
            )));
        }
        if model == "none" {
            return Ok(());
        }
        let tokens = match self.meta.opt_array("tokenizer.ggml.tokens")? {
            Some(Array::Str(tokens)) if !tokens.is_empty() => tokens.len(),
            _ => return Err(self.bad("`tokenizer.ggml.tokens` must list the tokens")),
        };
        for key in ["tokenizer.ggml.scores", "tokenizer.ggml.token_type"] {
            if self
                .meta
                .opt_array(key)?
                .is_some_and(|array| array.len() < tokens)
            {
                return Err(self.bad(format!(
                    "`{key}` is shorter than the list of {tokens} tokens"
                )));
            }
        }
        Ok(())
    }

    /// Norms and biases are F32 (kernels know no other), matrices of a type with kernels.
    fn check_tensors(&self) -> Result<()> {
        for tensor in self.file.tensors() {
            let ok = match tensor.dims.len() {
                1 => tensor.ggml_type == F32,
                _ => is_weight_type(tensor.ggml_type),
            };
            if !ok {
                return Err(self.bad(format!(
                    "the tensor `{}` cannot be {}: convert the model again",
                    tensor.name,
                    tensor.type_name()
                )));
            }
        }
        Ok(())
    }
}
