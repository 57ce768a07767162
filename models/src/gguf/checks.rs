//! What llama.cpp asserts of a model's metadata and tensors, checked before it can abort the process.

use super::info::{MAX_LAYERS, MAX_WIDTH, ModelInfo, Reader};
use super::{Array, TensorInfo};
use crate::Result;
use crate::architecture::{Architecture, LAYER_NORM, RMS, RecurrentLayers};
use crate::llama::dequantize::is_weight_type;
use crate::llama::quantize::F32;

/// The scalings that `llama_rope_scaling_type_from_string` knows.
const ROPE_SCALINGS: [&str; 4] = ["none", "linear", "yarn", "longrope"];
/// The tokenizers of the proven architectures: SentencePiece, byte-pair, both, and a slice's own.
const TOKENIZERS: [&str; 4] = ["llama", "gpt2", "gemma4", "none"];

/// What may differ between layers.
pub(super) const PER_LAYER: [&str; 5] = [
    "expert_used_count",
    "expert_feed_forward_length",
    "attention.head_count",
    "attention.head_count_kv",
    "feed_forward_length",
];

impl Reader<'_> {
    /// Every condition that llama.cpp asserts for the supported architectures, so that a hostile
    /// file gets a message instead of an abort.
    pub(super) fn check(&self, arch: &Architecture, info: &ModelInfo) -> Result<()> {
        self.check_layers(arch, info)?;
        self.check_heads(arch, info)?;
        self.check_experts(arch, info)?;
        self.check_tensors()?;
        self.check_needed(arch, info)?;
        self.check_norm_and_attention(arch)?;
        self.check_numbers(arch, info)?;
        if let Some(swa) = &info.sliding_window
            && !swa.layers.contains(&true)
        {
            return Err(self.bad("a sliding window is set, but no layer slides"));
        }
        let n_next = self.opt_bounded("nextn_predict_layers", 0, MAX_LAYERS)?;
        if !arch.next_tokens && n_next.unwrap_or(0) > 0 {
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
    fn check_layers(&self, arch: &Architecture, info: &ModelInfo) -> Result<()> {
        if info.n_layer < arch.min_layers {
            return Err(self.bad(format!(
                "it has {} layers: {} models have at least {}",
                info.n_layer, arch.name, arch.min_layers
            )));
        }
        let mut is_there = vec![false; info.n_blocks as usize];
        for layer in self.file.tensors().iter().filter_map(TensorInfo::layer) {
            match is_there.get_mut(layer as usize) {
                Some(is_there) => *is_there = true,
                None => {
                    return Err(self.bad(format!(
                        "`{}` is {}, but tensors of layer {layer} are there: convert the model again",
                        self.key("block_count"),
                        info.n_blocks
                    )));
                }
            }
        }
        match is_there.iter().position(|&is_there| !is_there) {
            Some(layer) => Err(self.bad(format!(
                "`{}` is {}, but no tensor of layer {layer} is there: convert the model again",
                self.key("block_count"),
                info.n_blocks
            ))),
            None => Ok(()),
        }
    }

    fn check_norm_and_attention(&self, arch: &Architecture) -> Result<()> {
        if let Some(epsilon) = arch.epsilon {
            self.meta.f32(&self.key(epsilon))?;
        }
        // Some graphs take the one that there is.
        for epsilon in [LAYER_NORM, RMS] {
            let value = self.meta.opt_f32(&self.key(epsilon))?;
            if value.is_some_and(|value| !value.is_finite() || value < 0.0) {
                return Err(self.bad(format!("`{epsilon}` must be a number from 0 on")));
            }
        }
        if self.meta.opt_bool(&self.key("attention.causal"))? == Some(false) {
            return Err(self.bad("it does not attend causally: an encoder cannot generate text"));
        }
        Ok(())
    }

    /// Numbers that all is scaled by, and positions of several sections.
    fn check_numbers(&self, arch: &Architecture, info: &ModelInfo) -> Result<()> {
        for suffix in arch.positive_keys {
            let key = self.key(suffix);
            let value = self.meta.opt_f32(&key)?;
            if value.is_some_and(|value| !value.is_finite() || value <= 0.0) {
                return Err(self.bad(format!("`{key}` must be a number above 0")));
            }
        }
        // The input is as many times as wide (`n_embd_inp` in llama-hparams.cpp).
        self.opt_bounded("n_deepstack_layers", 0, info.n_layer)?;
        if arch.sections {
            let key = self.key("rope.dimension_sections");
            let sections = self.meta.opt_u32_per_layer(&key, 4)?.unwrap_or_default();
            let is_four = self
                .meta
                .opt_array(&key)?
                .is_none_or(|array| array.len() == 4);
            let sum = sections
                .iter()
                .fold(0, |sum: u32, &n| sum.saturating_add(n));
            if !is_four || sum == 0 || sum > MAX_WIDTH {
                return Err(self.bad(format!(
                    "`{key}` must hold four numbers, one of them above 0"
                )));
            }
        }
        Ok(())
    }

    fn check_heads(&self, arch: &Architecture, info: &ModelInfo) -> Result<()> {
        if info.n_head.len() != info.n_layer as usize {
            return Err(self.bad(format!("`{}` is missing", self.key("attention.head_count"))));
        }
        self.check_head_counts(info)?;
        if !(0..info.n_layer as usize).any(|il| info.attends(il)) {
            return Ok(());
        }
        if arch.has_all_kv_heads && info.n_head != info.n_head_kv {
            return Err(self.bad(format!(
                "{} models have as many key-value heads as heads",
                arch.name
            )));
        }
        self.check_equal_layers(arch, info)?;
        if let Some(latent) = info.latent {
            return self.check_latent(info, latent);
        }
        // Their loaders take the attention to be as wide as the hidden state.
        let width = u64::from(info.n_embd_head_k) * u64::from(info.n_head[0]);
        if arch.square_heads && width != u64::from(info.n_embd) {
            return Err(self.bad(format!(
                "{} heads of {} values are not the {} values of a hidden state",
                info.n_head[0], info.n_embd_head_k, info.n_embd
            )));
        }
        let full = [info.n_embd_head_k, info.n_embd_head_v];
        let sliding = [info.n_embd_head_k_swa, info.n_embd_head_v_swa];
        let n_rot = self.check_widths(arch, full, "rope.dimension_count", full[0])?;
        let n_rot_swa = self.check_widths(arch, sliding, "rope.dimension_count_swa", n_rot)?;
        if arch.has_uneven_layers {
            // All but the pattern of the window: a number of it would be taken for all layers.
            let pattern = self.key("attention.sliding_window_pattern");
            if self.meta.opt_array(&pattern)?.is_none() {
                return Err(self.bad(format!("the key `{pattern}` is missing")));
            }
            // A quantized cache rotates heads of such widths, by what the first layer has
            // (`build_input_k_rot` in llama-kv-cache.cpp).
            if [full[0], sliding[0]].iter().any(|width| width % 64 != 0) {
                return Err(self.bad(format!(
                    "heads of {} and {} values: multiples of 64 are possible",
                    full[0], sliding[0]
                )));
            }
            self.opt_bounded("attention.shared_kv_layers", 0, info.n_layer - 2)?;
            self.bounded("attention.key_length_swa", 1, MAX_WIDTH)?;
            self.bounded("attention.value_length_swa", 1, MAX_WIDTH)?;
        } else if sliding != full {
            return Err(self.bad(
                "`attention.key_length_swa` or `attention.value_length_swa` differs from the other \
                 layers' heads",
            ));
        } else if n_rot != n_rot_swa {
            return Err(self.bad("`rope.dimension_count_swa` differs from the other layers'"));
        }
        Ok(())
    }

    fn check_head_counts(&self, info: &ModelInfo) -> Result<()> {
        for (il, (&n_head, &n_head_kv)) in info.n_head.iter().zip(&info.n_head_kv).enumerate() {
            if !info.attends(il) {
                continue;
            }
            let plausible = |n: u32| (1..=MAX_WIDTH).contains(&n);
            if !plausible(n_head) || !plausible(n_head_kv) || n_head % n_head_kv != 0 {
                return Err(self.bad(format!(
                    "layer {il} has {n_head} heads and {n_head_kv} key-value heads: \
                     the first must be a multiple of the second"
                )));
            }
        }
        Ok(())
    }

    /// Checks the widths of keys and values, and how much of a key is rotated, which it gives.
    fn check_widths(
        &self,
        arch: &Architecture,
        [head, head_v]: [u32; 2],
        n_rot: &str,
        default: u32,
    ) -> Result<u32> {
        if head == 0 || head != head_v {
            return Err(self.bad(format!(
                "keys of {head} and values of {head_v} values a head: they must be equal and above 0"
            )));
        }
        let key = n_rot;
        let n_rot = self.opt_bounded(key, 0, MAX_WIDTH)?.unwrap_or(default);
        let partly = arch.partial_rope && n_rot <= head;
        if n_rot == 0 || n_rot % 2 != 0 || (n_rot != head && !partly) {
            return Err(self.bad(format!("`{key}` {n_rot} does not fit heads of {head}")));
        }
        Ok(n_rot)
    }

    /// llama.cpp's graphs of these architectures take the first layer's numbers for all layers.
    fn check_equal_layers(&self, arch: &Architecture, info: &ModelInfo) -> Result<()> {
        let n_equal = if arch.has_uneven_layers {
            2
        } else {
            PER_LAYER.len()
        };
        // Layers of one part each have no number for the others.
        let has_single_parts = (arch.recurrent)
            .is_some_and(|recurrent| recurrent.layers == RecurrentLayers::WithoutEither);
        for suffix in &PER_LAYER[..n_equal] {
            let mut values = self.per_layer(suffix, info.n_layer)?.unwrap_or_default();
            if *suffix == "attention.head_count_kv" {
                // Of those that attend.
                let mut il = 0..;
                values.retain(|_| il.next().is_none_or(|il| info.attends(il)));
            } else if has_single_parts {
                values.retain(|&n| n > 0);
            }
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

    fn check_tokenizer(&self) -> Result<()> {
        let model = self.meta.str("tokenizer.ggml.model")?;
        if !TOKENIZERS.contains(&model) {
            return Err(self.bad(format!(
                "the tokenizer `{}` is not known (known: llama, gpt2, gemma4)",
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

    /// Tensors without which a graph would end the process, though the loader does without.
    fn check_needed(&self, arch: &Architecture, info: &ModelInfo) -> Result<()> {
        for il in 0..info.n_layer as usize {
            let of_state = arch.recurrent.filter(|_| info.recurs(il));
            let of_state = of_state.map_or(&[][..], |recurrent| recurrent.state.needed());
            for suffix in arch.needed.iter().chain(of_state) {
                let name = format!("blk.{il}.{suffix}");
                self.needs(&name)?;
            }
            // Experts of fewer values than the hidden state, between two matrices (nemotron-h.cpp).
            let has_experts = |name: &str| self.file.tensor(&format!("blk.{il}.{name}")).is_some();
            let is_latent = self
                .opt_bounded("moe_latent_size", 0, MAX_WIDTH)?
                .unwrap_or(0)
                > 0;
            if arch.needs_shared && has_experts("ffn_gate_inp.weight") {
                for matrix in ["gate", "up", "down"] {
                    self.needs(&format!("blk.{il}.ffn_{matrix}_shexp.weight"))?;
                }
            }
            if is_latent && has_experts("ffn_gate_inp.weight") {
                self.needs(&format!("blk.{il}.ffn_latent_down.weight"))?;
                self.needs(&format!("blk.{il}.ffn_latent_up.weight"))?;
            }
        }
        Ok(())
    }

    pub(super) fn needs(&self, tensor: &str) -> Result<&TensorInfo> {
        let missing = || self.bad(format!("the tensor `{tensor}` is missing"));
        self.file.tensor(tensor).ok_or_else(missing)
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
