//! Architectures with recurrent layers, beside some that attend.

use crate::synth::parts::LayerTensor::{Bare, Bias, Gain, Matrix, Table};
use crate::synth::parts::Size::{
    Embd, Head, Heads, Just, Kv, Mamba, MambaIn, Qkv, Query, ThreeEmbd, TwoEmbd, TwoHeads, TwoQuery,
};
use crate::synth::parts::{Key, MAMBA_STATE, Mean, Shape, Std, Value};
use crate::synth::pieces::*;

/// A matrix for each head, as wide as high: as many heads as query heads, in as many groups as there are
/// key heads.
const DELTA_NET: Parts = &[
    Matrix("attn_qkv", [Embd, Qkv], Std::Read),
    Matrix("attn_gate", [Embd, Query], Std::Read),
    Table("ssm_conv1d", [Just(CONVOLUTION), Qkv], Std::Read),
    Bias("ssm_dt", Heads),
    Bare("ssm_a", &[Heads], -0.5),
    Matrix("ssm_beta", [Embd, Heads], Std::Read),
    Matrix("ssm_alpha", [Embd, Heads], Std::Read),
    Gain("ssm_norm", Head, Mean::One),
    Matrix("ssm_out", [Query, Embd], Std::Out),
];
/// The same, two matrices in one.
const DELTA_NET_OF_PAIRS: Parts = &[
    DELTA_NET[0],
    DELTA_NET[1],
    DELTA_NET[2],
    DELTA_NET[3],
    DELTA_NET[4],
    Matrix("ssm_ba", [Embd, TwoHeads], Std::Read),
    DELTA_NET[7],
    DELTA_NET[8],
];
/// Half of what the queries' matrix gives is a gate.
const GATED_QKV: Parts = &[
    Matrix("attn_q", [Embd, TwoQuery], Std::Read),
    Matrix("attn_k", [Embd, Kv], Std::Read),
    Matrix("attn_v", [Embd, Kv], Std::Read),
];
const SHORT_CONVOLUTION: Parts = &[
    Table("shortconv.conv", [Just(SHORT), Embd], Std::Read),
    Matrix("shortconv.in_proj", [Embd, ThreeEmbd], Std::Read),
    Matrix("shortconv.out_proj", [Embd, Embd], Std::Out),
];
const MAMBA2: Parts = &[
    Matrix("ssm_in", [Embd, MambaIn], Std::Read),
    Table("ssm_conv1d", [Just(CONVOLUTION), Mamba], Std::Read),
    Bias("ssm_conv1d", Mamba),
    Bias("ssm_dt", Heads),
    Bare("ssm_a", &[Just(1), Heads], -0.5),
    Bare("ssm_d", &[Just(1), Heads], 1.0),
    Gain("ssm_norm", TwoEmbd, Mean::One),
    Matrix("ssm_out", [TwoEmbd, Embd], Std::Out),
];

/// Positions of a convolution.
pub(super) const CONVOLUTION: u32 = 4;
const SHORT: u32 = 3;

/// Every other layer attends.
const INTERVAL: Key = ("full_attention_interval", Value::U32(2));
const DELTA_NET_KEYS: [Key; 5] = [
    ("ssm.conv_kernel", Value::U32(CONVOLUTION)),
    (
        "ssm.inner_size",
        Value::Of(|spec| Some(spec.n_head * spec.head_width())),
    ),
    ("ssm.state_size", Value::Of(|spec| Some(spec.head_width()))),
    ("ssm.time_step_rank", Value::Of(|spec| Some(spec.n_head))),
    ("ssm.group_count", Value::Of(|spec| Some(spec.n_head_kv))),
];
const MAMBA2_KEYS: [Key; 5] = [
    ("ssm.conv_kernel", Value::U32(CONVOLUTION)),
    ("ssm.inner_size", Value::Of(|spec| Some(2 * spec.n_embd))),
    ("ssm.state_size", Value::U32(MAMBA_STATE)),
    ("ssm.time_step_rank", Value::Of(|spec| Some(spec.n_head))),
    ("ssm.group_count", Value::U32(1)),
];
/// Layers without key heads do not attend.
const KEY_HEADS: Key = (
    "attention.head_count_kv",
    Value::Each(|spec, il| match is_even(il) {
        true => 0,
        false => spec.n_head_kv,
    }),
);

pub(super) const QWEN35: Shape = Shape {
    name: "qwen35",
    attention: &[NORM, GATED_QKV, HEAD_NORMS, OUT],
    others: &[(&[NORM, DELTA_NET], is_even)],
    feed_forward: &[POST_AS_PRE_NORM, GATED],
    next: &[NEXT],
    n_layer: 8,
    keys: &[&[INTERVAL, SECTIONS], &DELTA_NET_KEYS],
    ..QWEN
};

pub(super) const QWEN35_MOE: Shape = Shape {
    name: "qwen35moe",
    feed_forward: &[POST_AS_PRE_NORM, EXPERTS, SHARED_GATE, SHARED],
    keys: &[
        &[INTERVAL, SECTIONS],
        &DELTA_NET_KEYS,
        &[N_EXPERT, N_USED, EXPERT_FF, SHARED_FF],
    ],
    ..QWEN35
};

pub(super) const QWEN3_NEXT: Shape = Shape {
    name: "qwen3next",
    others: &[(&[NORM, DELTA_NET_OF_PAIRS], is_even)],
    next: &[],
    keys: &[
        &[INTERVAL],
        &DELTA_NET_KEYS,
        &[N_EXPERT, N_USED, EXPERT_FF, SHARED_FF],
    ],
    ..QWEN35_MOE
};

pub(super) const FALCON_H1: Shape = Shape {
    name: "falcon-h1",
    attention: &[NORM, QKV, OUT, MAMBA2],
    feed_forward: &[&[Bare("ffn_norm", &[Embd], 1.0)], GATED],
    keys: &[&MAMBA2_KEYS],
    ..PLAIN
};

pub(super) const MAMBA2_ALONE: Shape = Shape {
    name: "mamba2",
    attention: &[NORM, MAMBA2],
    feed_forward: &[],
    keys: &[
        &[
            ("attention.head_count", Value::U32(0)),
            ("attention.head_count_kv", Value::U32(0)),
            ("feed_forward_length", Value::U32(0)),
        ],
        &MAMBA2_KEYS,
    ],
    ..PLAIN
};

pub(super) const LFM2: Shape = Shape {
    name: "lfm2",
    attention: &[NORM, QKV_TO_NORM, HEAD_NORMS, OUT],
    others: &[(&[NORM, SHORT_CONVOLUTION], is_even)],
    keys: &[&[WINDOW, KEY_HEADS, ("shortconv.l_cache", Value::U32(SHORT))]],
    output_norm: "token_embd_norm",
    n_layer: 8,
    ..QWEN
};

pub(super) const LFM2_MOE: Shape = Shape {
    name: "lfm2moe",
    feed_forward: &[FF_NORM, EXPERTS, CHOICE_BIAS],
    dense: (&[FF_NORM, GATED], is_first),
    keys: &[&[
        KEY_HEADS,
        ("shortconv.l_cache", Value::U32(SHORT)),
        N_EXPERT,
        N_USED,
        EXPERT_FF,
        ONE_DENSE,
        SIGMOID,
    ]],
    ..LFM2
};

pub(super) const GRANITE_HYBRID: Shape = Shape {
    name: "granitehybrid",
    others: &[(&[NORM, MAMBA2], is_even)],
    keys: &[&[KEY_HEADS], &GRANITE_KEYS, &MAMBA2_KEYS],
    scales: |_| GRANITE_SCALES,
    n_layer: 8,
    ..PLAIN
};

/// A Mamba layer, a feed-forward, one that attends, a feed-forward.
pub(super) const NEMOTRON_H: Shape = Shape {
    name: "nemotron_h",
    others: &[(&[NORM, MAMBA2], is_fourth), (&[NORM], is_odd)],
    feed_forward: &[UNGATED],
    dense: (&[], is_even),
    keys: &[&NEMOTRON_KEYS, &MAMBA2_KEYS],
    n_layer: 16,
    ..PLAIN
};

pub(super) const NEMOTRON_H_MOE: Shape = Shape {
    name: "nemotron_h_moe",
    feed_forward: &[UNGATED_EXPERTS, CHOICE_BIAS, UNGATED_SHARED],
    keys: &[
        &NEMOTRON_KEYS,
        &MAMBA2_KEYS,
        &[N_EXPERT, N_USED, EXPERT_FF, SHARED_FF],
    ],
    ..NEMOTRON_H
};

/// Layers have key heads, or a feed-forward, or neither.
const NEMOTRON_KEYS: [Key; 3] = [
    (
        "attention.head_count_kv",
        Value::Each(|spec, il| match il % 4 == 2 {
            true => spec.n_head_kv,
            false => 0,
        }),
    ),
    (
        "feed_forward_length",
        Value::Each(|spec, il| if is_odd(il) { spec.n_ff } else { 0 }),
    ),
    ("attention.layer_norm_epsilon", Value::F32(1e-5)),
];

pub(super) fn is_even(il: u32) -> bool {
    il.is_multiple_of(2)
}

fn is_odd(il: u32) -> bool {
    !is_even(il)
}

fn is_fourth(il: u32) -> bool {
    il.is_multiple_of(4)
}
