//! The architectures that can be generated, as data: an entry each, of `pieces`.
//!
//! Names and shapes are those that llama.cpp's `src/models/<name>.cpp` asks for.

mod dense;
mod experts;
mod latent;
mod recurrent;

use self::dense::*;
use self::experts::*;
use self::latent::*;
use self::recurrent::*;
use super::parts::Shape;
use super::pieces::{GEMMA4, PLAIN};

macro_rules! shapes {
    ($($(#[$doc:meta])* $variant:ident: $shape:expr;)*) => {
        /// The architectures that can be generated: `general.architecture`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum SynthArch {
            $($(#[$doc])* $variant,)*
        }

        impl SynthArch {
            /// Those that tests take where not every one is needed.
            pub const COMMON: [Self; 7] = [
                Self::Llama,
                Self::Qwen2,
                Self::Qwen3,
                Self::Qwen3Moe,
                Self::Gemma2,
                Self::Gemma3,
                Self::Phi3,
            ];

            /// Every architecture.
            pub const ALL: [Self; [$(stringify!($variant)),*].len()] = [$(Self::$variant),*];

            pub(super) const fn shape(self) -> &'static Shape {
                match self {
                    $(Self::$variant => const { &$shape },)*
                }
            }
        }
    };
}

shapes! {
    /// Llama, Mistral, `SmolLM` and kin.
    Llama: PLAIN;
    /// Biases on query, key and value.
    Qwen2: QWEN2;
    /// Norms on query and key heads.
    Qwen3: QWEN3;
    /// As `Qwen3`, with a mixture of experts.
    Qwen3Moe: QWEN3_MOE;
    /// Post-norms, soft caps, sliding window in every other layer, tied.
    Gemma2: GEMMA2;
    /// Post-norms, query and key norms, sliding window in five of six layers, tied.
    Gemma3: GEMMA3;
    /// Fused query-key-value and gate-up, long and short rope factors.
    Phi3: PHI3;
    /// Tied, and scaled at the input.
    Gemma: GEMMA;
    /// Layers of two kinds of heads, whose sliding ones are more; post-norms, tied.
    Gemma4: GEMMA4;
    /// The same with experts beside the feed-forward. By its name the one without is made.
    Gemma4Moe: GEMMA4_MOE;
    /// Attention sinks, experts with biases, every other layer slides.
    GptOss: GPT_OSS;
    /// Attention grows sharper with the position.
    Mistral3: MISTRAL3;
    /// No rotation in every fourth layer.
    SmolLm3: SMOL_LM3;
    /// Scales at the input, at branches, in attention and at the output.
    Granite: GRANITE;
    /// As `Granite`, with experts, one of them shared.
    GraniteMoe: GRANITE_MOE;
    /// Post-norms alone, norms over all heads, three of four layers slide, and rotate by another base.
    Olmo2: OLMO2;
    /// Biases on query, key and value.
    SeedOss: SEED_OSS;
    /// `Qwen3` with positions in sections, and layers that images enter.
    Qwen3Vl: QWEN3_VL;
    /// The same with experts.
    Qwen3VlMoe: QWEN3_VL_MOE;
    /// As llama.
    Ernie45: ERNIE45;
    /// A dense layer, then experts, one of them shared.
    Ernie45Moe: ERNIE45_MOE;
    /// Heads are normed after the rotation.
    HunyuanDense: HUNYUAN_DENSE;
    /// `Qwen2` with experts, one of them shared and gated.
    Qwen2Moe: QWEN2_MOE;
    /// `Qwen2` with positions in sections.
    Qwen2Vl: QWEN2_VL;
    /// Attention and feed-forward side by side, layer norms; full layers do not rotate.
    Cohere2: COHERE2;
    /// The same without a window.
    CommandR: COMMAND_R;
    /// Post-norms alone, norms on query and key heads.
    Exaone4: EXAONE4;
    /// Scales that follow from the numbers of layers and values.
    MiniCpm: MINI_CPM;
    /// A feed-forward without a gate.
    Arcee: ARCEE;
    /// A feed-forward whose curve each layer has its own numbers for.
    Apertus: APERTUS;
    /// Layer norms and biases everywhere.
    StarCoder2: STAR_CODER2;
    /// Layer norms; a quarter of each head is rotated.
    StableLm: STABLE_LM;
    /// `Phi3` with experts, and biases at the norms and the output.
    PhiMoe: PHI_MOE;
    /// Norms over all heads, of which half is rotated; experts are chosen with a bias.
    MiniMaxM2: MINI_MAX_M2;
    /// Groups of experts, a shared one, a dense layer first, and a layer behind the last.
    BailingMoe2: BAILING_MOE2;
    /// Norms before and behind, half of each head is rotated, a layer behind the last.
    Glm4: GLM4;
    /// A dense layer first, a shared expert, a layer behind the last.
    Glm4Moe: GLM4_MOE;
    /// Latent attention; a dense layer first, a shared expert, a layer behind the last.
    DeepSeek2: DEEPSEEK2;
    /// The same with queries from one matrix, and every head's keys and values in the cache. By its name the
    /// one before is made.
    DeepSeek2Lite: DEEPSEEK2_LITE;
    /// A dense layer first, a shared expert, as many key as query heads.
    Dots1: DOTS1;
    /// Experts are chosen before attention; every fourth layer, from the first on, sees everything and
    /// does not rotate.
    SmallThinker: SMALL_THINKER;
    /// Experts in every other layer, one of them shared; every fourth layer does not rotate.
    Llama4: LLAMA4;
    /// Gated delta nets, and every other layer attends, half of what its queries' matrix gives being a
    /// gate; a layer behind the last.
    Qwen35: QWEN35;
    /// The same with experts, one of them shared and gated.
    Qwen35Moe: QWEN35_MOE;
    /// Short convolutions, and every other layer attends.
    Lfm2: LFM2;
    /// The same with a dense layer, then experts.
    Lfm2Moe: LFM2_MOE;
    /// As `Granite`, but every other layer is Mamba 2.
    GraniteHybrid: GRANITE_HYBRID;
    /// As `Qwen35Moe`, with two matrices of the delta net in one.
    Qwen3Next: QWEN3_NEXT;
    /// Kimi delta attention, and every other layer attends latently; a dense layer first, a shared expert.
    KimiLinear: KIMI_LINEAR;
    /// Mamba 2 alone.
    Mamba2: MAMBA2_ALONE;
    /// Attention and Mamba 2 side by side in every layer.
    FalconH1: FALCON_H1;
    /// Layers of a Mamba, attention or a feed-forward alone.
    NemotronH: NEMOTRON_H;
    /// The same with experts, one of them shared.
    NemotronHMoe: NEMOTRON_H_MOE;
}
