//! The tensors of a model, and the scale that each is filled with.
//!
//! Scales keep the model in the regime of a trained one, whatever its size:
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

use super::parts::{LayerTensor, Mean, Scales, Shape, Size, Std};
use super::{SynthSpec, tokenizer};
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
/// Biases, and other numbers that are added to something.
const BIAS: Fill = Fill::Random { std: 0.2 };
/// Factors.
const ONES: Fill = Fill::Gain {
    mean: 1.0,
    signed: false,
};

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
    let shape = spec.arch.shape();
    let mut plan = Plan {
        spec,
        shape,
        scales: (shape.scales)(spec),
        tensors: Vec::new(),
    };
    plan.ends();
    for il in 0..spec.n_layer {
        let (dense, is_dense) = shape.dense;
        let other = shape.others.iter().find(|(_, is_other)| is_other(il));
        plan.parts(il, other.map_or(shape.attention, |(others, _)| others));
        plan.parts(
            il,
            if is_dense(il) {
                dense
            } else {
                shape.feed_forward
            },
        );
    }
    if !shape.next.is_empty() {
        for parts in [shape.attention, shape.feed_forward, shape.next] {
            plan.parts(spec.n_layer, parts);
        }
    }
    plan.tensors
}

struct Plan<'a> {
    spec: &'a SynthSpec,
    shape: &'static Shape,
    scales: Scales,
    tensors: Vec<SynthTensor>,
}

impl Plan<'_> {
    /// Embedding, output norm and head, rope factors.
    fn ends(&mut self) {
        let spec = self.spec;
        let n_embd = spec.n_embd as f32;
        let size = if spec.tied {
            TIED_EMBEDDING_STD
        } else {
            EMBEDDING_STD
        };
        let std = size / self.scales.embedding;
        let logit_std = LOGIT_STD / self.scales.logits;
        let rows = [spec.n_embd, spec.n_vocab];
        let control_scale = if spec.tied { TIED_CONTROL_SCALE } else { 1.0 };
        self.matrix(
            "token_embd.weight",
            &rows,
            Fill::Vocabulary { std, control_scale },
        );
        let mean = if spec.tied {
            logit_std / (std * n_embd.sqrt())
        } else {
            1.0
        };
        let gain = Fill::Gain {
            mean,
            signed: spec.tied,
        };
        let norm = self.shape.output_norm;
        self.small(&format!("{norm}.weight"), spec.n_embd, gain);
        let [norm_bias, output_bias] = self.shape.output_biases;
        if norm_bias {
            self.small(&format!("{norm}.bias"), spec.n_embd, BIAS);
        }
        if !spec.tied {
            let fill = Fill::Vocabulary {
                std: logit_std / n_embd.sqrt(),
                control_scale: 0.0,
            };
            self.matrix("output.weight", &rows, fill);
        }
        if output_bias {
            self.small("output.bias", spec.n_vocab, BIAS);
        }
        self.rope_factors();
    }

    fn rope_factors(&mut self) {
        let n_pairs = self.spec.head_width() / self.shape.rope_share / 2;
        let n_full = Size::FullHead.of(self.spec) / 2;
        let (llama, phi) = (self.spec.rope_freqs, self.shape.has_rope_factors);
        let gemma = self.shape.has_full_rope_freqs;
        for (is_there, name, n_pairs, to) in [
            (llama, "rope_freqs.weight", n_pairs, 8.0),
            (gemma, "rope_freqs.weight", n_full, 8.0),
            (phi, "rope_factors_long.weight", n_pairs, 32.0),
            (phi, "rope_factors_short.weight", n_pairs, 2.0),
        ] {
            if is_there {
                self.small(name, n_pairs, Fill::RopeFactors { to });
            }
        }
    }

    /// The tensors of layer `il` that `groups` tell.
    fn parts(&mut self, il: u32, groups: &[&[LayerTensor]]) {
        for &part in groups.iter().copied().flatten() {
            self.part(il, part);
        }
    }

    fn part(&mut self, il: u32, part: LayerTensor) {
        let spec = self.spec;
        let of = |size: Size| size.of(spec);
        let random = |std| Fill::Random { std };
        match part {
            LayerTensor::Matrix(name, [from, to], std) => {
                let std = self.std(of(from), std);
                self.layer(il, name, &[of(from), of(to)], random(std));
            }
            LayerTensor::Heads(name, [from, to], std) => {
                let std = self.std(of(from), std);
                let dims = [of(from), of(to), spec.n_head];
                self.layer(il, name, &dims, random(std));
            }
            LayerTensor::Experts(name, [from, to], std) => {
                let std = self.std(of(from), std);
                let dims = [of(from), of(to), spec.n_expert];
                self.layer(il, name, &dims, random(std));
            }
            LayerTensor::Table(name, [from, to], std) => {
                let std = self.std(of(from), std);
                let name = format!("blk.{il}.{name}.weight");
                self.push(name, &[of(from), of(to)], quantize::F32, random(std));
            }
            LayerTensor::Gain(name, size, mean) => {
                let mean = match mean {
                    Mean::One => 1.0,
                    Mean::Depth => self.depth(),
                    Mean::Score => SCORE_STD.sqrt(),
                    Mean::BareScore => SCORE_STD.sqrt() / (of(size) as f32).powf(0.25),
                };
                let signed = false;
                let name = format!("blk.{il}.{name}.weight");
                self.small(&name, of(size), Fill::Gain { mean, signed });
            }
            LayerTensor::Bias(name, size) => {
                self.small(&format!("blk.{il}.{name}.bias"), of(size), BIAS)
            }
            LayerTensor::ExpertBias(name, size) => {
                let name = format!("blk.{il}.{name}.bias");
                self.push(name, &[of(size), spec.n_expert], quantize::F32, BIAS);
            }
            LayerTensor::Scale(name, size) => {
                self.small(&format!("blk.{il}.{name}.scale"), of(size), ONES);
            }
            LayerTensor::Factor(name) => {
                self.small(&format!("blk.{il}.{name}.weight"), 1, ONES);
            }
            LayerTensor::Numbers(name, size) => {
                self.small(&format!("blk.{il}.{name}.weight"), of(size), BIAS);
            }
            LayerTensor::Bare(name, sizes, mean) => {
                let signed = false;
                let dims: Vec<u32> = sizes.iter().map(|&size| of(size)).collect();
                let fill = Fill::Gain { mean, signed };
                self.push(format!("blk.{il}.{name}"), &dims, quantize::F32, fill);
            }
        }
    }

    /// The standard deviation of a matrix whose rows have `n` values.
    fn std(&self, n: u32, std: Std) -> f32 {
        let root = (n as f32).sqrt();
        let score = SCORE_STD.sqrt();
        match std {
            Std::Read => 1.0 / root,
            Std::Score => 1.0 / root * score,
            Std::Out => self.depth() / root,
            Std::OutOfScore => self.depth() / (score * root),
            Std::Down => self.depth() / (GATED_RMS * root),
        }
    }

    /// What a branch may add to the residual stream.
    fn depth(&self) -> f32 {
        1.0 / (2.0 * self.spec.n_layer as f32).sqrt() / self.scales.branch
    }

    fn layer(&mut self, il: u32, name: &str, dims: &[u32], fill: Fill) {
        let ggml_type = self.spec.ty.of_matrix(name, Some(il), self.spec.n_layer);
        let ggml_type = fitting(ggml_type, dims[0]);
        self.push(format!("blk.{il}.{name}.weight"), dims, ggml_type, fill);
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

/// What rows of `n` values can be where they are no whole blocks of that type: some of the narrow ones of
/// latent attention are not, and get more bits in published files too.
fn fitting(ggml_type: u32, n: u32) -> u32 {
    let fits = |ty: &u32| quantize::row_size(*ty, n as usize).is_some();
    let narrower = [ggml_type, quantize::Q8_0].into_iter().find(fits);
    narrower.unwrap_or(quantize::F16)
}

/// Whether row `row` of a vocabulary tensor belongs to a control token.
pub(super) fn is_control_row(row: u64) -> bool {
    tokenizer::CONTROL_IDS.contains(&row)
}
