//! Mixtures of experts.

use crate::synth::parts::{Shape, Value};
use crate::synth::pieces::*;

pub(super) const QWEN3_MOE: Shape = Shape {
    name: "qwen3moe",
    attention: &[NORM, QKV_TO_NORM, HEAD_NORMS, OUT],
    feed_forward: &[FF_NORM, EXPERTS],
    keys: &[&[N_EXPERT, N_USED, EXPERT_FF]],
    ..QWEN
};

pub(super) const GEMMA4_MOE: Shape = Shape {
    feed_forward: &[FF_NORM, GATED, POST_FF_NORM, EXPERTS_BESIDE, OUT_SCALE],
    keys: &[&GEMMA4_KEYS, &[N_EXPERT, N_USED, EXPERT_FF]],
    ..GEMMA4
};

pub(super) const GPT_OSS: Shape = Shape {
    name: "gpt-oss",
    attention: &[NORM, QKV, QKV_BIAS, OUT, OUT_BIAS, SINKS],
    feed_forward: &[POST_AS_PRE_NORM, EXPERTS, EXPERTS_BIAS],
    keys: &[&[WINDOW, N_EXPERT, N_USED, EXPERT_FF]],
    rope_base: 150_000.0,
    tied: Some(false),
    ..PLAIN
};

pub(super) const GRANITE_MOE: Shape = Shape {
    name: "granitemoe",
    feed_forward: &[FF_NORM, EXPERTS, SHARED],
    keys: &[&GRANITE_KEYS, &[N_EXPERT, N_USED, SHARED_FF]],
    scales: |_| GRANITE_SCALES,
    ..PLAIN
};

pub(super) const QWEN3_VL_MOE: Shape = Shape {
    name: "qwen3vlmoe",
    attention: &[NORM, QKV_TO_NORM, HEAD_NORMS, OUT],
    feed_forward: &[FF_NORM, EXPERTS],
    keys: &[&[SECTIONS, DEEPSTACK, N_EXPERT, N_USED, EXPERT_FF]],
    ..QWEN
};

pub(super) const ERNIE45_MOE: Shape = Shape {
    name: "ernie4_5-moe",
    feed_forward: &[FF_NORM, EXPERTS, CHOICE_BIAS, SHARED],
    dense: (&[FF_NORM, GATED], is_first),
    keys: &[&[
        N_EXPERT,
        N_USED,
        EXPERT_FF,
        SHARED_FF,
        ONE_DENSE,
        ("interleave_moe_layer_step", Value::U32(1)),
    ]],
    ..PLAIN
};

pub(super) const QWEN2_MOE: Shape = Shape {
    name: "qwen2moe",
    attention: &[NORM, QKV, QKV_BIAS, OUT],
    feed_forward: &[FF_NORM, EXPERTS, SHARED_GATE, SHARED],
    keys: &[&[N_EXPERT, N_USED, EXPERT_FF, SHARED_FF]],
    tied: Some(false),
    ..QWEN
};

pub(super) const PHI_MOE: Shape = Shape {
    name: "phimoe",
    attention: &[NORM, NORM_BIAS, QKV, QKV_BIAS, OUT, OUT_BIAS],
    feed_forward: &[FF_NORM, FF_NORM_BIAS, EXPERTS],
    keys: &[LONG_ROPE, &[N_EXPERT, N_USED]],
    rope_base: 10_000.0,
    has_rope_factors: true,
    output_biases: [true, true],
    tied: Some(false),
    ..PLAIN
};

pub(super) const MINI_MAX_M2: Shape = Shape {
    name: "minimax-m2",
    attention: &[NORM, QKV_TO_NORM, ALL_HEADS_NORMS, OUT],
    feed_forward: &[FF_NORM, EXPERTS, CHOICE_BIAS],
    keys: &[&[N_EXPERT, N_USED, EXPERT_FF, SIGMOID]],
    rope_share: 2,
    tied: Some(false),
    ..PLAIN
};

pub(super) const BAILING_MOE2: Shape = Shape {
    name: "bailingmoe2",
    attention: &[NORM, FUSED_QKV_TO_NORM, HEAD_NORMS, OUT],
    feed_forward: &[FF_NORM, EXPERTS, CHOICE_BIAS, SHARED],
    dense: (&[FF_NORM, GATED], is_first),
    next: &[NEXT, NEXT_NORM],
    keys: &[&[
        N_EXPERT,
        N_USED,
        EXPERT_FF,
        SHARED_FF,
        ONE_SHARED,
        SIGMOID,
        ONE_DENSE,
        (
            "expert_group_count",
            Value::Of(|spec| groups(spec).map(|_| 2)),
        ),
        (
            "expert_group_used_count",
            Value::Of(|spec| groups(spec).map(|_| 1)),
        ),
        ("expert_weights_scale", Value::F32(1.5)),
        ("expert_weights_norm", Value::Bool(true)),
    ]],
    rope_share: 2,
    tied: Some(false),
    ..PLAIN
};

pub(super) const GLM4_MOE: Shape = Shape {
    name: "glm4moe",
    attention: &[NORM, QKV_TO_NORM, QKV_BIAS, HEAD_NORMS, OUT],
    feed_forward: &[POST_AS_PRE_NORM, EXPERTS, CHOICE_BIAS, SHARED],
    dense: (&[POST_AS_PRE_NORM, GATED], is_first),
    next: &[NEXT],
    keys: &[&[
        N_EXPERT,
        N_USED,
        EXPERT_FF,
        ONE_SHARED,
        ONE_DENSE,
        ("expert_weights_norm", Value::Bool(true)),
    ]],
    rope_share: 2,
    ..PLAIN
};

pub(super) const DOTS1: Shape = Shape {
    name: "dots1",
    attention: &[NORM, QKV_TO_NORM, HEAD_NORMS, OUT],
    feed_forward: &[FF_NORM, EXPERTS, CHOICE_BIAS, SHARED],
    dense: (&[FF_NORM, GATED], is_first),
    keys: &[&[
        N_EXPERT,
        N_USED,
        EXPERT_FF,
        ONE_SHARED,
        SIGMOID,
        ONE_DENSE,
        ("expert_weights_norm", Value::Bool(true)),
    ]],
    tied: Some(false),
    has_all_kv_heads: true,
    ..PLAIN
};

pub(super) const SMALL_THINKER: Shape = Shape {
    name: "smallthinker",
    feed_forward: &[FF_NORM, EXPERTS],
    keys: &[&[WINDOW, N_EXPERT, N_USED, EXPERT_FF, SIGMOID]],
    n_layer: 20,
    ..PLAIN
};

pub(super) const LLAMA4: Shape = Shape {
    name: "llama4",
    feed_forward: &[FF_NORM, EXPERTS, SHARED],
    dense: (&[FF_NORM, GATED], |il| il.is_multiple_of(2)),
    keys: &[&[
        N_EXPERT,
        N_USED,
        EXPERT_FF,
        ("interleave_moe_layer_step", Value::U32(2)),
    ]],
    n_layer: 8,
    ..PLAIN
};
