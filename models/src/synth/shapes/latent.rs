//! Architectures whose heads come from one narrow vector of each position.

use super::recurrent::{CONVOLUTION, is_even};
use crate::synth::parts::LayerTensor::{Bare, Bias, Gain, Heads, Matrix};
use crate::synth::parts::Size::{
    Embd, Head, Just, Latent, LatentKey, LatentQuery, Query, TwoQuery,
};
use crate::synth::parts::{Key, Mean, Shape, Size, Std, Value};
use crate::synth::pieces::*;

/// Half of a query is rotated, so queries are twice as wide as a head's value.
const QUERY: Parts = &[
    Matrix("attn_q_a", [Embd, LatentQuery], Std::Read),
    Gain("attn_q_a_norm", LatentQuery, Mean::One),
    Matrix("attn_q_b", [LatentQuery, TwoQuery], Std::Score),
];
const ONE_QUERY_MATRIX: Parts = &[Matrix("attn_q", [Embd, TwoQuery], Std::Score)];
const LATENT: Parts = &[
    Matrix("attn_kv_a_mqa", [Embd, LatentKey], Std::Read),
    Gain("attn_kv_a_norm", Latent, Mean::One),
];
const ABSORBED: Parts = &[
    Heads("attn_k_b", [Head, Latent], Std::Read),
    Heads("attn_v_b", [Latent, Head], Std::Read),
];
const KEYS_AND_VALUES: Parts = &[Matrix("attn_kv_b", [Latent, TwoQuery], Std::Read)];

/// Kimi delta attention: a convolution each of queries, keys and values, and a matrix for each head.
const KIMI_DELTA: Parts = &[
    Matrix("attn_q", [Embd, Query], Std::Read),
    Matrix("attn_k", [Embd, Query], Std::Read),
    Matrix("attn_v", [Embd, Query], Std::Read),
    Bare("ssm_conv1d_q.weight", KIMI_CONVOLUTION, 0.5),
    Bare("ssm_conv1d_k.weight", KIMI_CONVOLUTION, 0.5),
    Bare("ssm_conv1d_v.weight", KIMI_CONVOLUTION, 0.5),
    Matrix("ssm_f_a", [Embd, Head], Std::Read),
    Matrix("ssm_f_b", [Head, Query], Std::Read),
    Matrix("ssm_beta", [Embd, Size::Heads], Std::Read),
    Bare("ssm_a", &[Just(1), Size::Heads], -0.5),
    Bias("ssm_dt", Query),
    Matrix("ssm_g_a", [Embd, Head], Std::Read),
    Matrix("ssm_g_b", [Head, Query], Std::Read),
    Gain("ssm_norm", Head, Mean::One),
];
const KIMI_CONVOLUTION: &[Size] = &[Just(CONVOLUTION), Just(1), Query];

const LATENT_RANK: Key = (
    "attention.kv_lora_rank",
    Value::Of(|spec| Some(Latent.of(spec))),
);
const ROTATED: Key = (
    "rope.dimension_count",
    Value::Of(|spec| Some(Head.of(spec))),
);

/// What is cached, and the heads that are made of it.
const ABSORBED_KEYS: [Key; 4] = [
    (
        "attention.key_length",
        Value::Of(|spec| Some(LatentKey.of(spec))),
    ),
    (
        "attention.value_length",
        Value::Of(|spec| Some(Latent.of(spec))),
    ),
    (
        "attention.key_length_mla",
        Value::Of(|spec| Some(2 * Head.of(spec))),
    ),
    (
        "attention.value_length_mla",
        Value::Of(|spec| Some(Head.of(spec))),
    ),
];
/// Experts behind the first layer, one of which all share.
const ROUTED: [Key; 5] = [N_EXPERT, N_USED, EXPERT_FF, ONE_SHARED, ONE_DENSE];

/// By so many layers models with one query matrix are known; others have to say it.
const N_LITE: u32 = 27;

pub(super) const DEEPSEEK2: Shape = Shape {
    name: "deepseek2",
    attention: &[NORM, QUERY, LATENT, ABSORBED, OUT],
    feed_forward: &[FF_NORM, EXPERTS, CHOICE_BIAS, SHARED],
    dense: (&[FF_NORM, GATED], is_first),
    next: &[NEXT],
    keys: &[
        &[LATENT_RANK, ROTATED],
        &ABSORBED_KEYS,
        &[
            (
                "attention.q_lora_rank",
                Value::Of(|spec| Some(LatentQuery.of(spec))),
            ),
            ("attention.head_count_kv", Value::U32(1)),
        ],
        &ROUTED,
        &[SIGMOID, ("expert_weights_norm", Value::Bool(true))],
    ],
    ..PLAIN
};

pub(super) const DEEPSEEK2_LITE: Shape = Shape {
    attention: &[NORM, ONE_QUERY_MATRIX, LATENT, KEYS_AND_VALUES, OUT],
    feed_forward: &[FF_NORM, EXPERTS, SHARED],
    next: &[],
    keys: &[
        &[
            LATENT_RANK,
            ROTATED,
            (
                "attention.key_length",
                Value::Of(|spec| Some(2 * Head.of(spec))),
            ),
            (
                "attention.q_lora_rank",
                Value::Of(|spec| (spec.n_layer != N_LITE).then_some(0)),
            ),
        ],
        &ROUTED,
        &[
            ("rope.scaling.type", Value::Str("yarn")),
            ("rope.scaling.factor", Value::F32(4.0)),
            ("rope.scaling.original_context_length", Value::U32(64)),
            ("rope.scaling.yarn_log_multiplier", Value::F32(0.07)),
        ],
    ],
    n_layer: N_LITE,
    has_all_kv_heads: true,
    ..DEEPSEEK2
};

pub(super) const KIMI_LINEAR: Shape = Shape {
    name: "kimi-linear",
    attention: &[NORM, ONE_QUERY_MATRIX, LATENT, ABSORBED, OUT],
    others: &[(&[NORM, KIMI_DELTA, OUT], is_even)],
    feed_forward: &[FF_NORM, EXPERTS, CHOICE_BIAS, SHARED],
    dense: (&[FF_NORM, GATED], is_first),
    keys: &[
        &[LATENT_RANK, ROTATED],
        &ABSORBED_KEYS,
        &[
            (
                "attention.head_count_kv",
                Value::Each(|_, il| u32::from(!is_even(il))),
            ),
            ("ssm.conv_kernel", Value::U32(CONVOLUTION)),
            ("kda.head_dim", Value::Of(|spec| Some(Head.of(spec)))),
        ],
        &ROUTED,
        &[SIGMOID],
    ],
    tied: Some(false),
    n_layer: 8,
    ..PLAIN
};
