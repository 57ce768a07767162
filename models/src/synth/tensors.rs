//! Each architecture's tensors, and the scale that each is filled with.
//!
//! Names and shapes are those that llama.cpp's `src/models/<arch>.cpp` asks for. Scales keep the
//! model in the regime of a trained one, whatever its size:
//!
//! - A matrix that reads n values of unit size has a standard deviation of 1/sqrt(n).
//! - What a branch adds to the residual stream shrinks by 1/sqrt(2 n_layer): all branches together
//!   add about as much as one would, and rounding does not grow from layer to layer. Gemma's
//!   post-norms would undo that in `wo` and `ffn_down`, so there the post-norm's gain carries it.
//! - The embedding is no larger than what the layers add, so that the next token depends on the
//!   context and greedy text does not fall into a short cycle at once.
//! - With tied embeddings the head would favour the token just read (a row's product with itself
//!   is large): the output norm's gain has random signs, which makes that product vanish.
//! - Control tokens end a text by chance in a random model. Their rows of the head are zero; where
//!   it is the embedding too, they are small instead, so that the token still has a direction.

use super::{SynthArch, SynthSpec, tokenizer};
use crate::llama::quantize;

/// Standard deviation of the logits: a trained model's spread.
const LOGIT_STD: f32 = 2.5;
/// Size of an embedded token as it enters the first layer: about what all layers add to it.
const EMBEDDING_STD: f32 = 1.0;
/// The same with tied embeddings: the table times itself is symmetric, so where the last token
/// decides the next, greedy text soon goes to and fro between two tokens (seen at 1.0).
const TIED_EMBEDDING_STD: f32 = 0.5;
/// Standard deviation of attention scores: some keys stand out, none takes all.
const SCORE_STD: f32 = 1.5;
/// Root mean square of `silu(x) * y` for normal x and y: what `ffn_down` reads.
const GATED_RMS: f32 = 0.6;
/// What control tokens' rows of a tied embedding are scaled by.
const TIED_CONTROL_SCALE: f32 = 0.1;
/// Standard deviation of qwen2's biases.
const BIAS_STD: f32 = 0.2;

/// A tensor to generate.
#[derive(Clone, Debug)]
pub(super) struct SynthTensor {
    /// Name in the file.
    pub name: String,
    /// Shape in ggml's order: values of a row first.
    pub dims: Vec<u64>,
    /// Its `ggml_type`.
    pub ggml_type: u32,
    /// What it holds.
    pub fill: Fill,
}

/// How values come about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fill {
    /// Zero mean, standard deviation `std`.
    Random { std: f32 },
    /// As `Random`, one row a token; rows of control tokens are scaled by `control_scale`.
    Vocabulary { std: f32, control_scale: f32 },
    /// A norm's gain: `mean` with a tenth of deviation, with random signs if `signed`.
    Gain { mean: f32, signed: bool },
    /// Rope factors that grow geometrically from 1 to `to`.
    RopeFactors { to: f32 },
}

impl SynthTensor {
    /// Bytes in the file.
    pub(super) fn n_bytes(&self) -> u64 {
        let row = quantize::row_size(self.ggml_type, self.dims[0] as usize).unwrap_or(0) as u64;
        self.dims[1..]
            .iter()
            .fold(row, |bytes, &n| bytes.saturating_mul(n))
    }
}

/// All tensors of the model, in file order.
pub(super) fn plan(spec: &SynthSpec) -> Vec<SynthTensor> {
    let mut plan = Plan {
        spec,
        tensors: Vec::new(),
    };
    plan.ends();
    for il in 0..spec.n_layer {
        plan.attention(il);
        plan.feed_forward(il);
    }
    plan.tensors
}

struct Plan<'a> {
    spec: &'a SynthSpec,
    tensors: Vec<SynthTensor>,
}

impl Plan<'_> {
    /// Embedding, output norm and head, rope factors.
    fn ends(&mut self) {
        let spec = self.spec;
        let n_embd = spec.n_embd as f32;
        // Gemma multiplies embedded tokens by sqrt(n_embd).
        let scale = if spec.arch.is_gemma() {
            n_embd.sqrt()
        } else {
            1.0
        };
        let std = if spec.tied {
            TIED_EMBEDDING_STD
        } else {
            EMBEDDING_STD
        } / scale;
        let rows = [spec.n_embd, spec.n_vocab];
        let control_scale = if spec.tied { TIED_CONTROL_SCALE } else { 1.0 };
        self.matrix(
            "token_embd.weight",
            &rows,
            Fill::Vocabulary { std, control_scale },
        );
        let mean = if spec.tied {
            LOGIT_STD / (std * n_embd.sqrt())
        } else {
            1.0
        };
        self.small(
            "output_norm.weight",
            spec.n_embd,
            Fill::Gain {
                mean,
                signed: spec.tied,
            },
        );
        if !spec.tied {
            let std = LOGIT_STD / n_embd.sqrt();
            self.matrix(
                "output.weight",
                &rows,
                Fill::Vocabulary {
                    std,
                    control_scale: 0.0,
                },
            );
        }
        let n_pairs = spec.head_width() / 2;
        if spec.rope_freqs {
            self.small("rope_freqs.weight", n_pairs, Fill::RopeFactors { to: 8.0 });
        }
        if spec.arch == SynthArch::Phi3 {
            self.small(
                "rope_factors_long.weight",
                n_pairs,
                Fill::RopeFactors { to: 32.0 },
            );
            self.small(
                "rope_factors_short.weight",
                n_pairs,
                Fill::RopeFactors { to: 2.0 },
            );
        }
    }

    fn attention(&mut self, il: u32) {
        let spec = self.spec;
        let SynthSpec {
            arch,
            n_embd,
            n_head,
            n_head_kv,
            ..
        } = *spec;
        let width = spec.head_width();
        let (n_q, n_kv) = (n_head * width, n_head_kv * width);
        let read = 1.0 / (n_embd as f32).sqrt();
        let score = SCORE_STD.sqrt();
        let head_norms = matches!(
            arch,
            SynthArch::Qwen3 | SynthArch::Qwen3Moe | SynthArch::Gemma3
        );
        self.gain(il, "attn_norm", n_embd, 1.0);
        if arch == SynthArch::Phi3 {
            // One matrix has one scale; queries and keys share it with values.
            let std = read * score;
            self.layer(
                il,
                "attn_qkv",
                &[n_embd, n_q + 2 * n_kv],
                Fill::Random { std },
            );
        } else {
            // Where heads are normed, the norm's gain sets the score instead.
            let std = if head_norms { read } else { read * score };
            self.layer(il, "attn_q", &[n_embd, n_q], Fill::Random { std });
            self.layer(il, "attn_k", &[n_embd, n_kv], Fill::Random { std });
            self.layer(il, "attn_v", &[n_embd, n_kv], Fill::Random { std: read });
        }
        if arch == SynthArch::Qwen2 {
            for (name, n) in [("attn_q", n_q), ("attn_k", n_kv), ("attn_v", n_kv)] {
                self.small(
                    &format!("blk.{il}.{name}.bias"),
                    n,
                    Fill::Random { std: BIAS_STD },
                );
            }
        }
        if head_norms {
            self.gain(il, "attn_q_norm", width, score);
            self.gain(il, "attn_k_norm", width, score);
        }
        // Phi's values came out larger by the factor that its scores needed.
        let values = if arch == SynthArch::Phi3 { score } else { 1.0 };
        let std = self.depth() / (values * (n_q as f32).sqrt());
        self.layer(il, "attn_output", &[n_q, n_embd], Fill::Random { std });
        if arch.is_gemma() {
            self.gain(il, "post_attention_norm", n_embd, self.depth());
        }
    }

    fn feed_forward(&mut self, il: u32) {
        let SynthSpec {
            arch,
            n_embd,
            n_ff,
            n_expert,
            ..
        } = *self.spec;
        let up = Fill::Random {
            std: 1.0 / (n_embd as f32).sqrt(),
        };
        let down = Fill::Random {
            std: self.depth() / (GATED_RMS * (n_ff as f32).sqrt()),
        };
        self.gain(il, "ffn_norm", n_embd, 1.0);
        match arch {
            SynthArch::Qwen3Moe => {
                let name = format!("blk.{il}.ffn_gate_inp.weight");
                self.push(name, &[n_embd, n_expert], quantize::F32, up);
                self.layer(il, "ffn_gate_exps", &[n_embd, n_ff, n_expert], up);
                self.layer(il, "ffn_down_exps", &[n_ff, n_embd, n_expert], down);
                self.layer(il, "ffn_up_exps", &[n_embd, n_ff, n_expert], up);
            }
            SynthArch::Phi3 => {
                self.layer(il, "ffn_up", &[n_embd, 2 * n_ff], up);
                self.layer(il, "ffn_down", &[n_ff, n_embd], down);
            }
            _ => {
                self.layer(il, "ffn_gate", &[n_embd, n_ff], up);
                self.layer(il, "ffn_down", &[n_ff, n_embd], down);
                self.layer(il, "ffn_up", &[n_embd, n_ff], up);
            }
        }
        if arch.is_gemma() {
            self.gain(il, "post_ffw_norm", n_embd, self.depth());
        }
    }

    /// What a branch may add to the residual stream.
    fn depth(&self) -> f32 {
        1.0 / (2.0 * self.spec.n_layer as f32).sqrt()
    }

    fn layer(&mut self, il: u32, name: &str, dims: &[u32], fill: Fill) {
        let ggml_type = self.spec.ty.of_matrix(name, Some(il), self.spec.n_layer);
        self.push(format!("blk.{il}.{name}.weight"), dims, ggml_type, fill);
    }

    fn gain(&mut self, il: u32, name: &str, n: u32, mean: f32) {
        self.small(
            &format!("blk.{il}.{name}.weight"),
            n,
            Fill::Gain {
                mean,
                signed: false,
            },
        );
    }

    fn matrix(&mut self, name: &str, dims: &[u32], fill: Fill) {
        let ggml_type = self.spec.ty.of_matrix(name, None, self.spec.n_layer);
        self.push(name.to_owned(), dims, ggml_type, fill);
    }

    fn small(&mut self, name: &str, n: u32, fill: Fill) {
        self.push(name.to_owned(), &[n], quantize::F32, fill);
    }

    fn push(&mut self, name: String, dims: &[u32], ggml_type: u32, fill: Fill) {
        let dims = dims.iter().map(|&n| u64::from(n)).collect();
        self.tensors.push(SynthTensor {
            name,
            dims,
            ggml_type,
            fill,
        });
    }
}

/// Whether row `row` of a vocabulary tensor belongs to a control token.
pub(super) fn is_control_row(row: u64) -> bool {
    tokenizer::CONTROL_IDS.contains(&row)
}
