//! Groups of tensors and keys of which `shapes` puts architectures together.

use super::SynthSpec;
use super::parts::LayerTensor::{
    Bias, ExpertBias, Experts, Factor, Gain, Matrix, Numbers, Scale, Table,
};
use super::parts::{Key, LayerTensor, Mean, Scales, Shape, Size, Std, Value, full_kv_heads};
use Size::{Embd, Ff, FullHead, FullKv, FullQuery, Head, Heads, Kv, Qkv, Query, TwoEmbd, TwoFf};

pub(super) type Parts = &'static [LayerTensor];

pub(super) const NORM: Parts = &[Gain("attn_norm", Embd, Mean::One)];
pub(super) const NORM_BIAS: Parts = &[Bias("attn_norm", Embd)];
pub(super) const QKV: Parts = &[
    Matrix("attn_q", [Embd, Query], Std::Score),
    Matrix("attn_k", [Embd, Kv], Std::Score),
    Matrix("attn_v", [Embd, Kv], Std::Read),
];
/// Where heads are normed, the norm's gain sets the score instead.
pub(super) const QKV_TO_NORM: Parts = &[
    Matrix("attn_q", [Embd, Query], Std::Read),
    Matrix("attn_k", [Embd, Kv], Std::Read),
    Matrix("attn_v", [Embd, Kv], Std::Read),
];
/// One matrix has one scale; queries and keys share it with values.
pub(super) const FUSED_QKV: Parts = &[Matrix("attn_qkv", [Embd, Qkv], Std::Score)];
pub(super) const FUSED_QKV_TO_NORM: Parts = &[Matrix("attn_qkv", [Embd, Qkv], Std::Read)];
pub(super) const QKV_BIAS: Parts = &[
    Bias("attn_q", Query),
    Bias("attn_k", Kv),
    Bias("attn_v", Kv),
];
pub(super) const HEAD_NORMS: Parts = &[
    Gain("attn_q_norm", Head, Mean::Score),
    Gain("attn_k_norm", Head, Mean::Score),
];
pub(super) const ALL_HEADS_NORMS: Parts = &[
    Gain("attn_q_norm", Query, Mean::Score),
    Gain("attn_k_norm", Kv, Mean::Score),
];
pub(super) const OUT: Parts = &[Matrix("attn_output", [Query, Embd], Std::Out)];
pub(super) const OUT_OF_SCORE: Parts = &[Matrix("attn_output", [Query, Embd], Std::OutOfScore)];
pub(super) const OUT_BIAS: Parts = &[Bias("attn_output", Embd)];
pub(super) const SINKS: Parts = &[Numbers("attn_sinks", Heads)];
pub(super) const POST_NORM: Parts = &[Gain("post_attention_norm", Embd, Mean::Depth)];
/// The norm before the feed-forward, by another name.
pub(super) const POST_AS_PRE_NORM: Parts = &[Gain("post_attention_norm", Embd, Mean::One)];

pub(super) const FF_NORM: Parts = &[Gain("ffn_norm", Embd, Mean::One)];
pub(super) const FF_NORM_BIAS: Parts = &[Bias("ffn_norm", Embd)];
pub(super) const GATED: Parts = &[
    Matrix("ffn_gate", [Embd, Ff], Std::Read),
    Matrix("ffn_down", [Ff, Embd], Std::Down),
    Matrix("ffn_up", [Embd, Ff], Std::Read),
];
pub(super) const FUSED_GATED: Parts = &[
    Matrix("ffn_up", [Embd, TwoFf], Std::Read),
    Matrix("ffn_down", [Ff, Embd], Std::Down),
];
pub(super) const UNGATED: Parts = &[
    Matrix("ffn_down", [Ff, Embd], Std::Down),
    Matrix("ffn_up", [Embd, Ff], Std::Read),
];
pub(super) const UNGATED_BIAS: Parts = &[Bias("ffn_down", Embd), Bias("ffn_up", Ff)];
pub(super) const POST_FF_NORM: Parts = &[Gain("post_ffw_norm", Embd, Mean::Depth)];
pub(super) const EXPERTS: Parts = &[
    Table("ffn_gate_inp", [Embd, Size::Experts], Std::Read),
    Experts("ffn_gate_exps", [Embd, Ff], Std::Read),
    Experts("ffn_down_exps", [Ff, Embd], Std::Down),
    Experts("ffn_up_exps", [Embd, Ff], Std::Read),
];
pub(super) const UNGATED_EXPERTS: Parts = &[EXPERTS[0], EXPERTS[2], EXPERTS[3]];
pub(super) const EXPERTS_BIAS: Parts = &[
    Bias("ffn_gate_inp", Size::Experts),
    ExpertBias("ffn_gate_exps", Ff),
    ExpertBias("ffn_down_exps", Embd),
    ExpertBias("ffn_up_exps", Ff),
];
pub(super) const CHOICE_BIAS: Parts = &[Bias("exp_probs_b", Size::Experts)];
pub(super) const SHARED: Parts = &[
    Matrix("ffn_gate_shexp", [Embd, Ff], Std::Read),
    Matrix("ffn_down_shexp", [Ff, Embd], Std::Down),
    Matrix("ffn_up_shexp", [Embd, Ff], Std::Read),
];
pub(super) const UNGATED_SHARED: Parts = &[SHARED[1], SHARED[2]];
pub(super) const SHARED_GATE: Parts = &[Numbers("ffn_gate_inp_shexp", Embd)];
/// Scores are not divided by the root of the width.
pub(super) const BARE_HEAD_NORMS: Parts = &[
    Gain("attn_q_norm", Head, Mean::BareScore),
    Gain("attn_k_norm", Head, Mean::BareScore),
];
/// Wider heads, whose values are their keys.
pub(super) const FULL_ATTENTION: Parts = &[
    Matrix("attn_q", [Embd, FullQuery], Std::Read),
    Matrix("attn_k", [Embd, FullKv], Std::Read),
    Gain("attn_q_norm", FullHead, Mean::BareScore),
    Gain("attn_k_norm", FullHead, Mean::BareScore),
    Matrix("attn_output", [FullQuery, Embd], Std::Out),
];
pub(super) const OUT_SCALE: Parts = &[Factor("layer_output_scale")];
/// Experts beside the feed-forward, gate and up in one.
pub(super) const EXPERTS_BESIDE: Parts = &[
    Table("ffn_gate_inp", [Embd, Size::Experts], Std::Read),
    Scale("ffn_gate_inp", Embd),
    Gain("pre_ffw_norm_2", Embd, Mean::One),
    Gain("post_ffw_norm_1", Embd, Mean::One),
    Gain("post_ffw_norm_2", Embd, Mean::One),
    Experts("ffn_gate_up_exps", [Embd, TwoFf], Std::Read),
    Experts("ffn_down_exps", [Ff, Embd], Std::Down),
];
pub(super) const NEXT: Parts = &[
    Matrix("nextn.eh_proj", [TwoEmbd, Embd], Std::Read),
    Gain("nextn.enorm", Embd, Mean::One),
    Gain("nextn.hnorm", Embd, Mean::One),
];
pub(super) const NEXT_NORM: Parts = &[Gain("layer_output_norm", Embd, Mean::One)];

pub(super) const WINDOW: Key = (
    "attention.sliding_window",
    Value::Of(|spec| Some(spec.n_swa).filter(|&n| n > 0)),
);
pub(super) const N_EXPERT: Key = ("expert_count", Value::Of(|spec| Some(spec.n_expert)));
pub(super) const N_USED: Key = (
    "expert_used_count",
    Value::Of(|spec| Some(spec.n_expert_used)),
);
pub(super) const EXPERT_FF: Key = (
    "expert_feed_forward_length",
    Value::Of(|spec| Some(spec.n_ff)),
);
pub(super) const SHARED_FF: Key = (
    "expert_shared_feed_forward_length",
    Value::Of(|spec| Some(spec.n_ff)),
);
pub(super) const ONE_SHARED: Key = ("expert_shared_count", Value::U32(1));
pub(super) const SIGMOID: Key = ("expert_gating_func", Value::U32(2));
pub(super) const ONE_DENSE: Key = ("leading_dense_block_count", Value::U32(1));
/// Pairs of values that turn with the first, second and third position.
pub(super) const SECTIONS: Key = (
    "rope.dimension_sections",
    Value::All(|spec| {
        let pairs = spec.head_width() / 2;
        vec![pairs - 2 * (pairs / 3), pairs / 3, pairs / 3, 0]
    }),
);

pub(super) const UNSCALED: Scales = Scales {
    embedding: 1.0,
    branch: 1.0,
    logits: 1.0,
};
/// As the granite entry's keys say.
pub(super) const GRANITE_SCALES: Scales = Scales {
    embedding: 12.0,
    branch: 0.5,
    logits: 0.25,
};
pub(super) const GRANITE_KEYS: [Key; 4] = [
    ("embedding_scale", Value::F32(12.0)),
    ("residual_scale", Value::F32(0.5)),
    ("logit_scale", Value::F32(4.0)),
    ("attention.scale", Value::F32(0.2)),
];

/// Of three layers the last one sees everything, with half as many and twice as wide key heads.
pub(super) const GEMMA4_KEYS: [Key; 11] = [
    WINDOW,
    (
        "attention.sliding_window_pattern",
        Value::EachBool(|il| !is_third(il)),
    ),
    (
        "attention.head_count_kv",
        Value::Each(|spec, il| match is_third(il) {
            true => full_kv_heads(spec),
            false => spec.n_head_kv,
        }),
    ),
    (
        "attention.key_length",
        Value::Of(|spec| Some(2 * spec.head_width())),
    ),
    (
        "attention.value_length",
        Value::Of(|spec| Some(2 * spec.head_width())),
    ),
    (
        "attention.key_length_swa",
        Value::Of(|spec| Some(spec.head_width())),
    ),
    (
        "attention.value_length_swa",
        Value::Of(|spec| Some(spec.head_width())),
    ),
    (
        "rope.dimension_count",
        Value::Of(|spec| Some(2 * spec.head_width())),
    ),
    (
        "rope.dimension_count_swa",
        Value::Of(|spec| Some(spec.head_width())),
    ),
    ("rope.freq_base_swa", Value::F32(10_000.0)),
    ("embedding_length_per_layer_input", Value::U32(0)),
];

pub(super) fn is_third(il: u32) -> bool {
    il % 3 == 2
}

pub(super) fn root_of_width(spec: &SynthSpec) -> Scales {
    Scales {
        embedding: (spec.n_embd as f32).sqrt(),
        ..UNSCALED
    }
}

pub(super) fn is_first(il: u32) -> bool {
    il < 1
}

/// `llama`, and what the others have where they say nothing else.
pub(super) const PLAIN: Shape = Shape {
    name: "llama",
    attention: &[NORM, QKV, OUT],
    others: &[],
    feed_forward: &[FF_NORM, GATED],
    dense: (&[], |_| false),
    next: &[],
    keys: &[],
    epsilon: 1e-5,
    has_layer_norm: false,
    rope_base: 500_000.0,
    rope_share: 1,
    has_full_rope_freqs: false,
    has_rope_factors: false,
    output_norm: "output_norm",
    output_biases: [false, false],
    tied: None,
    scales: |_| UNSCALED,
    n_embd_head: None,
    n_layer: 6,
    has_all_kv_heads: false,
};

pub(super) const QWEN: Shape = Shape {
    epsilon: 1e-6,
    rope_base: 1_000_000.0,
    ..PLAIN
};

/// Two groups of experts, of which one is chosen, where there are experts enough.
pub(super) fn groups(spec: &SynthSpec) -> Option<u32> {
    let half = spec.n_expert / 2;
    let fits = spec.n_expert.is_multiple_of(2) && half >= 2 && spec.n_expert_used <= half;
    fits.then_some(half)
}

/// Layers that images enter; text does without.
pub(super) const DEEPSTACK: Key = ("n_deepstack_layers", Value::U32(2));

/// Contexts above the original length take the long factors, the others the short.
pub(super) const LONG_ROPE: &[Key] = &[
    (
        "rope.scaling.original_context_length",
        Value::Of(|spec| Some(spec.n_ctx_train.div_ceil(2))),
    ),
    ("rope.scaling.attn_factor", Value::F32(1.1)),
];

pub(super) const GEMMA4: Shape = Shape {
    name: "gemma4",
    attention: &[NORM, QKV_TO_NORM, BARE_HEAD_NORMS, OUT, POST_NORM],
    others: &[(&[NORM, FULL_ATTENTION, POST_NORM], is_third)],
    feed_forward: &[FF_NORM, GATED, POST_FF_NORM, OUT_SCALE],
    keys: &[&GEMMA4_KEYS],
    tied: Some(true),
    scales: root_of_width,
    has_full_rope_freqs: true,
    n_embd_head: Some(64),
    ..QWEN
};
