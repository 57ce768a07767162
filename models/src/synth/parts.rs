//! The words in which an architecture's tensors and keys are told: see `shapes`.

use super::SynthSpec;

/// One side of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    /// Of the hidden state.
    Embd,
    /// Twice that.
    TwoEmbd,
    /// Three times that.
    ThreeEmbd,
    /// So many.
    Just(u32),
    /// All query heads.
    Query,
    /// Twice that.
    TwoQuery,
    /// All key heads, or all value heads.
    Kv,
    /// Query, key and value heads.
    Qkv,
    /// One head.
    Head,
    /// One head of a layer that sees everything, where those have wider ones.
    FullHead,
    /// All its query heads.
    FullQuery,
    /// All its key heads, half as many.
    FullKv,
    /// The number of query heads.
    Heads,
    /// Twice that.
    TwoHeads,
    /// The feed-forward layer, or one expert's.
    Ff,
    /// Twice that.
    TwoFf,
    /// The number of experts.
    Experts,
    /// The narrow vector of a latent attention: twice a head.
    Latent,
    /// The same with the rotated values that all heads share.
    LatentKey,
    /// What queries come from there.
    LatentQuery,
    /// What the convolution of a Mamba layer reads.
    Mamba,
    /// The same, with a gate and a time step for each head.
    MambaIn,
}

/// Values in a state of a Mamba layer, for each of its inner ones.
pub(super) const MAMBA_STATE: u32 = 16;

impl Size {
    pub(super) fn of(self, spec: &SynthSpec) -> u32 {
        let width = spec.head_width();
        match self {
            Size::Embd => spec.n_embd,
            Size::TwoEmbd => 2 * spec.n_embd,
            Size::ThreeEmbd => 3 * spec.n_embd,
            Size::Just(n) => n,
            Size::TwoQuery => 2 * spec.n_head * width,
            Size::Query => spec.n_head * width,
            Size::Kv => spec.n_head_kv * width,
            Size::Qkv => (spec.n_head + 2 * spec.n_head_kv) * width,
            Size::Head => width,
            Size::FullHead => 2 * width,
            Size::FullQuery => spec.n_head * 2 * width,
            Size::FullKv => full_kv_heads(spec) * 2 * width,
            Size::Heads => spec.n_head,
            Size::TwoHeads => 2 * spec.n_head,
            Size::Ff => spec.n_ff,
            Size::TwoFf => 2 * spec.n_ff,
            Size::Experts => spec.n_expert,
            Size::Latent => 2 * width,
            Size::LatentKey => 3 * width,
            Size::LatentQuery => spec.n_embd / 2,
            Size::Mamba => 2 * spec.n_embd + 2 * MAMBA_STATE,
            Size::MambaIn => 4 * spec.n_embd + 2 * MAMBA_STATE + spec.n_head,
        }
    }
}

/// Key heads of a layer that sees everything, where those have fewer and wider ones.
pub(super) fn full_kv_heads(spec: &SynthSpec) -> u32 {
    (spec.n_head_kv / 2).max(1)
}

/// How large the values of a matrix are; what `tensors` says of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Std {
    /// Reads values of unit size.
    Read,
    /// As `Read`, and what it gives is multiplied with itself to a score.
    Score,
    /// Adds to the residual stream what it reads from values of unit size.
    Out,
    /// As `Out`, from values that came out of a `Score` matrix.
    OutOfScore,
    /// As `Out`, from what a gate lets through.
    Down,
}

/// The mean of a norm's gain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mean {
    /// 1.
    One,
    /// What a branch may add to the residual stream.
    Depth,
    /// The root of the size of a score.
    Score,
    /// The same, where scores are not divided by the root of a head's width.
    BareScore,
}

/// A tensor of a layer: `blk.<i>.<name>.weight`, or `.bias`.
#[derive(Clone, Copy, Debug)]
pub(super) enum LayerTensor {
    /// A matrix.
    Matrix(&'static str, [Size; 2], Std),
    /// A matrix for each head.
    Heads(&'static str, [Size; 2], Std),
    /// A matrix for each expert.
    Experts(&'static str, [Size; 2], Std),
    /// A matrix that stays f32: what chooses experts, and what makes a state.
    Table(&'static str, [Size; 2], Std),
    /// A norm's gain.
    Gain(&'static str, Size, Mean),
    /// A bias.
    Bias(&'static str, Size),
    /// A bias for each expert.
    ExpertBias(&'static str, Size),
    /// A factor for each value: `.scale`.
    Scale(&'static str, Size),
    /// A factor for all: `.weight`.
    Factor(&'static str),
    /// Random numbers that are no bias: `.weight`.
    Numbers(&'static str, Size),
    /// Numbers about this one, by the bare name.
    Bare(&'static str, &'static [Size], f32),
}

/// A key of the architecture: `<arch>.<name>`.
pub(super) type Key = (&'static str, Value);

/// What it holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// A number.
    U32(u32),
    /// A number.
    F32(f32),
    /// Yes or no.
    Bool(bool),
    /// A text.
    Str(&'static str),
    /// A number that follows from the model's sizes; without it no key is set.
    Of(fn(&SynthSpec) -> Option<u32>),
    /// Several.
    All(fn(&SynthSpec) -> Vec<u32>),
    /// A number for each layer.
    Each(fn(&SynthSpec, u32) -> u32),
    /// Yes or no for each layer.
    EachBool(fn(u32) -> bool),
    /// A number for each layer, from its own number; the key has no architecture in front.
    Layers(fn(u32) -> f32),
}

/// Groups of tensors, in the order of the file.
pub(super) type Groups = &'static [&'static [LayerTensor]];
/// The same for some layers, and which these are.
pub(super) type SomeLayers = (Groups, fn(u32) -> bool);

/// An architecture to generate.
pub(super) struct Shape {
    pub(super) name: &'static str,
    /// The attention of a layer.
    pub(super) attention: Groups,
    /// That of layers that do it differently: that see everything, are recurrent, or do not attend at all.
    pub(super) others: &'static [SomeLayers],
    /// Its feed-forward.
    pub(super) feed_forward: Groups,
    /// That of layers without experts.
    pub(super) dense: SomeLayers,
    /// A layer behind the last that guesses tokens ahead, if it has one.
    pub(super) next: Groups,
    /// The keys that not all have.
    pub(super) keys: &'static [&'static [Key]],
    /// Epsilon of the norms, and whether they take the mean away.
    pub(super) epsilon: f32,
    pub(super) has_layer_norm: bool,
    /// Base of the rotation.
    pub(super) rope_base: f32,
    /// The share of a head that is rotated: one in so many.
    pub(super) rope_share: u32,
    /// Rope factors for layers that see everything.
    pub(super) has_full_rope_freqs: bool,
    /// Rope factors for long and short contexts.
    pub(super) has_rope_factors: bool,
    /// The name of the norm before the output.
    pub(super) output_norm: &'static str,
    /// Output norm and output have a bias.
    pub(super) output_biases: [bool; 2],
    /// Whether the embedding is always, or never, the output head.
    pub(super) tied: Option<bool>,
    /// What embedded tokens, branches and logits are multiplied with.
    pub(super) scales: fn(&SynthSpec) -> Scales,
    /// Width of a head of a small model, where not the rest of the sizes decides it.
    pub(super) n_embd_head: Option<u32>,
    /// Layers of a small model.
    pub(super) n_layer: u32,
    /// Whether there are as many key as query heads.
    pub(super) has_all_kv_heads: bool,
}

/// What the graph multiplies with, so that weights can make up for it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scales {
    pub(super) embedding: f32,
    pub(super) branch: f32,
    pub(super) logits: f32,
}

impl Shape {
    /// Whether it has experts.
    pub(super) fn has_experts(&self) -> bool {
        let mut parts = self.feed_forward.iter().copied().flatten();
        parts.any(|part| matches!(part, LayerTensor::Experts(..)))
    }

    /// Whether some layers see only a window.
    pub(super) fn has_window(&self) -> bool {
        let mut keys = self.keys.iter().copied().flatten();
        keys.any(|(name, _)| *name == "attention.sliding_window")
    }
}
