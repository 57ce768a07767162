//! Architectures whose feed-forward is one.

use crate::synth::parts::{Scales, Shape, Value};
use crate::synth::pieces::*;

pub(super) const QWEN2: Shape = Shape {
    name: "qwen2",
    attention: &[NORM, QKV, QKV_BIAS, OUT],
    ..QWEN
};

pub(super) const QWEN3: Shape = Shape {
    name: "qwen3",
    attention: &[NORM, QKV_TO_NORM, HEAD_NORMS, OUT],
    ..QWEN
};

pub(super) const GEMMA2: Shape = Shape {
    name: "gemma2",
    attention: &[NORM, QKV, OUT, POST_NORM],
    feed_forward: &[FF_NORM, GATED, POST_FF_NORM],
    keys: &[&[
        WINDOW,
        ("attn_logit_softcapping", Value::F32(50.0)),
        ("final_logit_softcapping", Value::F32(30.0)),
    ]],
    epsilon: 1e-6,
    rope_base: 10_000.0,
    tied: Some(true),
    scales: root_of_width,
    ..PLAIN
};

pub(super) const GEMMA3: Shape = Shape {
    name: "gemma3",
    attention: &[NORM, QKV_TO_NORM, HEAD_NORMS, OUT, POST_NORM],
    feed_forward: &[FF_NORM, GATED, POST_FF_NORM],
    keys: &[&[WINDOW]],
    tied: Some(true),
    scales: root_of_width,
    ..QWEN
};

pub(super) const PHI3: Shape = Shape {
    name: "phi3",
    attention: &[NORM, FUSED_QKV, OUT_OF_SCORE],
    feed_forward: &[FF_NORM, FUSED_GATED],
    keys: &[LONG_ROPE],
    rope_base: 10_000.0,
    has_rope_factors: true,
    ..PLAIN
};

pub(super) const GEMMA: Shape = Shape {
    name: "gemma",
    epsilon: 1e-6,
    rope_base: 10_000.0,
    tied: Some(true),
    scales: root_of_width,
    ..PLAIN
};

pub(super) const MISTRAL3: Shape = Shape {
    name: "mistral3",
    keys: &[&[
        ("attention.temperature_scale", Value::F32(0.1)),
        ("rope.scaling.original_context_length", Value::U32(32)),
    ]],
    ..PLAIN
};

pub(super) const SMOL_LM3: Shape = Shape {
    name: "smollm3",
    n_layer: 8,
    ..PLAIN
};

pub(super) const GRANITE: Shape = Shape {
    name: "granite",
    keys: &[&GRANITE_KEYS],
    scales: |_| GRANITE_SCALES,
    ..PLAIN
};

pub(super) const OLMO2: Shape = Shape {
    name: "olmo2",
    attention: &[QKV_TO_NORM, ALL_HEADS_NORMS, OUT, POST_NORM],
    feed_forward: &[GATED, POST_FF_NORM],
    keys: &[&[
        WINDOW,
        ("rope.scaling.type", Value::Str("yarn")),
        ("rope.scaling.factor", Value::F32(4.0)),
        ("rope.scaling.original_context_length", Value::U32(64)),
    ]],
    tied: Some(false),
    n_layer: 8,
    ..PLAIN
};

pub(super) const SEED_OSS: Shape = Shape {
    name: "seed_oss",
    attention: &[NORM, QKV, QKV_BIAS, OUT],
    feed_forward: &[POST_AS_PRE_NORM, GATED],
    ..PLAIN
};

pub(super) const QWEN3_VL: Shape = Shape {
    name: "qwen3vl",
    attention: &[NORM, QKV_TO_NORM, HEAD_NORMS, OUT],
    keys: &[&[SECTIONS, DEEPSTACK]],
    ..QWEN
};

pub(super) const ERNIE45: Shape = Shape {
    name: "ernie4_5",
    ..PLAIN
};

pub(super) const HUNYUAN_DENSE: Shape = Shape {
    name: "hunyuan-dense",
    attention: &[NORM, QKV_TO_NORM, HEAD_NORMS, OUT],
    ..PLAIN
};

pub(super) const QWEN2_VL: Shape = Shape {
    name: "qwen2vl",
    attention: &[NORM, QKV, QKV_BIAS, OUT],
    keys: &[&[SECTIONS]],
    ..QWEN
};

pub(super) const COHERE2: Shape = Shape {
    name: "cohere2",
    feed_forward: &[GATED],
    keys: &[&[WINDOW, ("logit_scale", Value::F32(0.25))]],
    has_layer_norm: true,
    tied: Some(true),
    scales: |_| Scales {
        logits: 0.25,
        ..UNSCALED
    },
    n_layer: 8,
    ..PLAIN
};

pub(super) const COMMAND_R: Shape = Shape {
    name: "command-r",
    feed_forward: &[GATED],
    keys: &[&[("logit_scale", Value::F32(0.25))]],
    has_layer_norm: true,
    tied: Some(true),
    scales: |_| Scales {
        logits: 0.25,
        ..UNSCALED
    },
    ..PLAIN
};

pub(super) const EXAONE4: Shape = Shape {
    name: "exaone4",
    attention: &[QKV_TO_NORM, HEAD_NORMS, OUT, POST_NORM],
    feed_forward: &[GATED, POST_FF_NORM],
    ..QWEN
};

pub(super) const MINI_CPM: Shape = Shape {
    name: "minicpm",
    scales: |spec| Scales {
        embedding: 12.0,
        branch: 1.4 / (spec.n_layer as f32).sqrt(),
        logits: spec.n_embd as f32 / 256.0,
    },
    ..PLAIN
};

pub(super) const ARCEE: Shape = Shape {
    name: "arcee",
    feed_forward: &[FF_NORM, UNGATED],
    ..PLAIN
};

pub(super) const APERTUS: Shape = Shape {
    name: "apertus",
    attention: &[NORM, QKV_TO_NORM, HEAD_NORMS, OUT],
    feed_forward: &[FF_NORM, UNGATED],
    keys: &[&[
        ("xielu.alpha_n", Value::Layers(|il| 0.3 + 0.1 * il as f32)),
        ("xielu.alpha_p", Value::Layers(|il| 0.2 + 0.1 * il as f32)),
        ("xielu.beta", Value::Layers(|_| 0.5)),
        ("xielu.eps", Value::Layers(|_| -1e-6)),
    ]],
    tied: Some(false),
    ..PLAIN
};

pub(super) const STAR_CODER2: Shape = Shape {
    name: "starcoder2",
    attention: &[NORM, NORM_BIAS, QKV, QKV_BIAS, OUT, OUT_BIAS],
    feed_forward: &[FF_NORM, FF_NORM_BIAS, UNGATED, UNGATED_BIAS],
    has_layer_norm: true,
    output_biases: [true, false],
    ..PLAIN
};

pub(super) const STABLE_LM: Shape = Shape {
    name: "stablelm",
    attention: &[NORM, NORM_BIAS, QKV, OUT],
    feed_forward: &[FF_NORM, FF_NORM_BIAS, GATED],
    has_layer_norm: true,
    rope_share: 4,
    output_biases: [true, false],
    tied: Some(false),
    ..PLAIN
};

pub(super) const GLM4: Shape = Shape {
    name: "glm4",
    attention: &[NORM, QKV, QKV_BIAS, OUT, POST_NORM],
    feed_forward: &[FF_NORM, FUSED_GATED, POST_FF_NORM],
    next: &[NEXT],
    rope_share: 2,
    ..PLAIN
};
