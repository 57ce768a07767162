//! The words in which an architecture's facts are told: see `table`.

/// An architecture whose layer ranges are proven to compute what the whole model computes.
#[derive(Debug, PartialEq)]
pub struct Architecture {
    /// Its `general.architecture`.
    pub name: &'static str,
    /// Models of it that people know.
    pub models: &'static str,
    /// What token embeddings are multiplied with before the first layer.
    pub(crate) input_scale: InputScale,
    /// Whether the graph aborts when hidden states are fed in.
    pub(crate) takes_only_tokens: bool,
    /// Layers that see only a window of the past.
    pub(crate) sliding: Option<Sliding>,
    /// Layers that keep a state of the past, and not its keys and values.
    pub(crate) recurrent: Option<Recurrent>,
    /// Graphs with facts that hang on a layer's number take only ranges that begin at a multiple of
    /// it; 1 for all others.
    pub(crate) cut_step: u32,
    /// Which layers differ where `cut_step` is not 1.
    pub(crate) cut_step_why: &'static str,
    /// Whether all heads share one narrow vector of each position, and how queries then come about.
    pub(crate) latent: Option<Latent>,
    /// The fewest layers of a range, and of a model.
    pub(crate) min_layers: u32,
    /// Layer counts by which llama.cpp chooses constants: neither such a model nor such a range.
    pub(crate) special_lengths: &'static [u32],
    /// Models with so many layers or more have tensors that a shorter slice would not load.
    pub(crate) whole_from: Option<u32>,
    /// Whether the first `leading_dense_block_count` layers have no experts.
    pub(crate) leading_dense: bool,
    /// Whether layers behind the last one may guess tokens ahead (`nextn_predict_layers`); they are
    /// left out.
    pub(crate) next_tokens: bool,
    /// Whether such a layer can be run for its guesses: its graph is known, and proven.
    pub(crate) mtp: bool,
    /// Whether the graph computes what the output head sees of rows without logits too (`h_nextn`).
    pub(crate) all_states: bool,
    /// Whether `residual_scale` follows from the number of layers where the file gives none
    /// (minicpm.cpp).
    pub(crate) residual_by_depth: bool,
    /// Whether `expert_gating_func` follows from the number of layers where the file gives none
    /// (deepseek2.cpp).
    pub(crate) gating_by_depth: bool,
    /// Keys without the architecture's name that may hold an element for each layer.
    pub(crate) bare_layer_keys: &'static [&'static str],
    /// Keys for images, which slices do without.
    pub(crate) dropped_keys: &'static [&'static str],
    /// Whether `rope_freqs.weight` is loaded only where a layer sees everything.
    pub(crate) has_full_rope_freqs: bool,
    /// Whether layers may differ in key heads and feed-forward, and sliding ones in the width of heads
    /// (`*_swa`), which the file then tells.
    pub(crate) has_uneven_layers: bool,
    /// Whether all heads together are as wide as the hidden state.
    pub(crate) square_heads: bool,
    /// Whether the graph takes it that there are as many key heads as query heads.
    pub(crate) has_all_kv_heads: bool,
    /// Whether rope may rotate a part of the head; the others assert that it is all.
    pub(crate) partial_rope: bool,
    /// Whether positions have sections (`rope.dimension_sections`), one at least above 0.
    pub(crate) sections: bool,
    /// The name that the graph gives what leaves a layer (`cb(cur, "l_out", il)`).
    pub(crate) output_node: &'static str,
    /// The key of the norms' epsilon; none where the graph reads none.
    pub(crate) epsilon: Option<&'static str>,
    /// Tensors of each layer that the loader does without, and the graph does not.
    pub(crate) needed: &'static [&'static str],
    /// Whether every model of it is a mixture of experts.
    pub(crate) needs_experts: bool,
    /// Whether the file says how experts are chosen: without it llama.cpp aborts
    /// (`expert_gating_func`).
    pub(crate) needs_gating: bool,
    /// Whether experts may be in groups.
    pub(crate) grouped_experts: bool,
    /// Keys of numbers that are divided by, or scale all: above 0 where they are there.
    pub(crate) positive_keys: &'static [&'static str],
    /// Whether every layer with experts has shared ones, which the graph adds unasked.
    pub(crate) needs_shared: bool,
    /// Whether every layer from the leading dense ones on has experts: the loader takes that for
    /// granted, the graph asks `interleave_moe_layer_step`.
    pub(crate) expert_step_is_one: bool,
}

/// What token embeddings are multiplied with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum InputScale {
    /// Nothing.
    One,
    /// The square root of their width, tokens only.
    Root,
    /// The same; the graph does it to hidden states that are fed in as well (`inp_scaled`), so the
    /// engine puts the input back after that node.
    RootOfAll,
    /// The number at `embedding_scale`, or this one; the graph does it to all input, so slices have
    /// the number 1 there (`build_inp_embd` in llama-graph.cpp).
    Key(Option<f32>),
}

/// Which layers slide, and what that means for slices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sliding {
    /// Where the window comes from.
    pub(crate) window: Window,
    /// The period of the pattern where the file gives none.
    pub(crate) period: u32,
    /// Which layer of a period does not slide: the first, or the last.
    pub(crate) dense_first: bool,
    /// What a slice without a sliding layer needs.
    pub(crate) without: Without,
    /// Whether a model without a window may be cut, and then anywhere.
    pub(crate) is_cut_unwindowed: bool,
}

/// Where the length of the window comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Window {
    /// The file; without the key, or with 0, no layer slides.
    Given,
    /// The file, which must give it: layers slide in any case.
    Required,
    /// The file, or else this; layers slide in any case.
    Or(u32),
    /// This, if the file gives any above 0.
    FixedIfGiven(u32),
    /// This, unless the file gives 0.
    FixedUnlessZero(u32),
}

/// What a slice in which no layer slides needs: with a window and no sliding layer llama.cpp aborts
/// (`create_memory` asserts `is_swa_any`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Without {
    /// No window: the graph is then that of full layers.
    NoWindow,
    /// A window that never reaches, as the graph always has one; rope is that of full layers.
    Endless,
    /// It cannot be: full layers differ in more.
    Impossible,
}

/// How queries come about where keys and values come from a narrow vector (multi-head latent attention).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Latent {
    /// From one matrix.
    OneQueryMatrix,
    /// From one matrix in models of so many layers, of that vocabulary where one is told (`is_lite` in
    /// deepseek2.cpp). All others say how many values lie between two matrices (`q_lora_rank`; 0: there is
    /// one), and where there are two no stage has such a count.
    OneQueryMatrixAt(&'static [(u32, Option<u32>)]),
}

/// Which layers are recurrent (`is_recr` in llama-hparams.cpp), and what their state is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Recurrent {
    /// Which.
    pub(crate) layers: RecurrentLayers,
    /// Of which kind their state is.
    pub(crate) state: State,
}

/// Which layers are recurrent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum RecurrentLayers {
    /// Those that `attention.recurrent_layers` names; else all but every so many'th, as
    /// `full_attention_interval` says, or this number.
    AllButEvery(u32),
    /// Those without key heads.
    WithoutKeyHeads,
    /// Those without key heads and without a feed-forward; layers have one of the three.
    WithoutEither,
    /// All, and all attend too.
    All,
    /// All, and none attends.
    Only,
}

/// What a recurrent layer keeps of a sequence, in f32 (`n_embd_r` and `n_embd_s` in
/// llama-hparams.cpp).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    /// The last inputs of a convolution of `shortconv.l_cache` positions.
    ShortConvolution,
    /// Those of a convolution, and a matrix for each head: gated delta nets, whose heads are as wide as
    /// they are high.
    DeltaNet,
    /// The same of any width: Mamba 2.
    Mamba2,
    /// The same, twice as wide as the hidden state.
    TwiceWide,
    /// Those of three convolutions, of as many heads as attend, and a matrix for each head (Kimi delta
    /// attention).
    KimiDelta,
}

impl RecurrentLayers {
    /// Whether all layers are of one kind.
    pub(super) fn are_alike(self) -> bool {
        matches!(self, RecurrentLayers::All | RecurrentLayers::Only)
    }
}

impl State {
    /// Tensors of a recurrent layer that the loader does without, and the graph does not.
    pub(crate) fn needed(self) -> &'static [&'static str] {
        match self {
            State::ShortConvolution | State::KimiDelta => &[],
            State::DeltaNet => &["attn_qkv.weight", "attn_gate.weight"],
            State::Mamba2 | State::TwiceWide => &["ssm_conv1d.bias"],
        }
    }
}

pub(crate) const RMS: &str = "attention.layer_norm_rms_epsilon";
pub(crate) const LAYER_NORM: &str = "attention.layer_norm_epsilon";

/// What nearly all graphs call what leaves a layer.
pub(crate) const PLAIN_OUTPUT: &str = "l_out";

/// An architecture without peculiarities.
pub(super) const PLAIN: Architecture = Architecture {
    name: "",
    models: "",
    input_scale: InputScale::One,
    takes_only_tokens: false,
    sliding: None,
    recurrent: None,
    cut_step: 1,
    cut_step_why: "",
    latent: None,
    min_layers: 1,
    special_lengths: &[],
    whole_from: None,
    leading_dense: false,
    next_tokens: false,
    mtp: false,
    all_states: false,
    residual_by_depth: false,
    gating_by_depth: false,
    bare_layer_keys: &[],
    dropped_keys: &[],
    has_full_rope_freqs: false,
    has_uneven_layers: false,
    square_heads: false,
    has_all_kv_heads: false,
    partial_rope: false,
    sections: false,
    output_node: PLAIN_OUTPUT,
    epsilon: Some(RMS),
    needed: &[],
    needs_experts: false,
    needs_gating: false,
    grouped_experts: false,
    positive_keys: &[],
    needs_shared: false,
    expert_step_is_one: false,
};

/// The usual sliding window: the file gives it, three of four layers slide.
pub(super) const THREE_OF_FOUR: Sliding = Sliding {
    window: Window::Given,
    period: 4,
    dense_first: false,
    without: Without::NoWindow,
    is_cut_unwindowed: true,
};
