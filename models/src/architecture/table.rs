//! The architectures whose cuts are proven, as data: an entry each.
//!
//! Long: it is a table, an entry for each.
//!
//! The facts are read from llama.cpp's `src/models/<name>.cpp` at the pinned version. An entry gets
//! in here with a generated model (`synth`) and the parity tests, which take both from this table.

use super::facts::{
    Architecture, InputScale, LAYER_NORM, Latent, PLAIN, Recurrent, RecurrentLayers, Sliding,
    State, THREE_OF_FOUR, Window, Without,
};

/// All of them, by how they came in.
pub static ARCHITECTURES: &[Architecture] = &[
    Architecture {
        name: "llama",
        models: "Llama 1 to 3, Mistral, Mixtral, SmolLM2",
        ..PLAIN
    },
    Architecture {
        name: "qwen2",
        models: "Qwen 2 and 2.5",
        square_heads: true,
        ..PLAIN
    },
    Architecture {
        name: "qwen3",
        models: "Qwen 3",
        ..PLAIN
    },
    Architecture {
        name: "qwen3moe",
        models: "Qwen 3 A3B, A22B",
        ..PLAIN
    },
    Architecture {
        name: "gemma2",
        models: "Gemma 2",
        input_scale: InputScale::RootOfAll,
        sliding: Some(Sliding {
            window: Window::Or(4096),
            period: 2,
            without: Without::Endless,
            ..THREE_OF_FOUR
        }),
        // The 27B one has another attention scale.
        special_lengths: &[46],
        partial_rope: true,
        ..PLAIN
    },
    Architecture {
        name: "gemma3",
        models: "Gemma 3",
        input_scale: InputScale::Root,
        sliding: Some(Sliding {
            period: 6,
            ..THREE_OF_FOUR
        }),
        special_lengths: &[62],
        partial_rope: true,
        ..PLAIN
    },
    Architecture {
        name: "phi3",
        models: "Phi 3, 3.5 and 4",
        square_heads: true,
        partial_rope: true,
        needed: &["attn_qkv.weight"],
        ..PLAIN
    },
    Architecture {
        name: "gemma",
        models: "Gemma 1, CodeGemma",
        input_scale: InputScale::RootOfAll,
        partial_rope: true,
        ..PLAIN
    },
    Architecture {
        name: "gemma4",
        models: "Gemma 4 26B A4B and 31B; E2B and E4B uncut",
        input_scale: InputScale::Root,
        sliding: Some(Sliding {
            window: Window::Required,
            period: 6,
            // Full layers have wider heads.
            without: Without::Impossible,
            ..THREE_OF_FOUR
        }),
        // `create_memory` in llama-model.cpp asserts it.
        min_layers: 2,
        has_full_rope_freqs: true,
        has_uneven_layers: true,
        partial_rope: true,
        ..PLAIN
    },
    Architecture {
        name: "gpt-oss",
        models: "gpt-oss",
        sliding: Some(Sliding {
            window: Window::Required,
            period: 2,
            without: Without::Endless,
            ..THREE_OF_FOUR
        }),
        needs_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "mistral3",
        models: "Ministral 3",
        ..PLAIN
    },
    Architecture {
        name: "smollm3",
        models: "SmolLM3",
        cut_step: 4,
        cut_step_why: ", as every fourth layer does not rotate",
        ..PLAIN
    },
    Architecture {
        name: "granite",
        models: "Granite 3 and 4, dense",
        input_scale: InputScale::Key(None),
        dropped_keys: &["deepstack_mapping"],
        positive_keys: &["logit_scale"],
        ..PLAIN
    },
    Architecture {
        name: "granitemoe",
        models: "Granite 3, with experts",
        input_scale: InputScale::Key(None),
        positive_keys: &["logit_scale"],
        ..PLAIN
    },
    Architecture {
        name: "olmo2",
        models: "OLMo 2 and 3",
        sliding: Some(THREE_OF_FOUR),
        square_heads: true,
        ..PLAIN
    },
    Architecture {
        name: "seed_oss",
        models: "Seed-OSS",
        ..PLAIN
    },
    Architecture {
        name: "qwen3vl",
        models: "Qwen 3 VL, text",
        dropped_keys: &["n_deepstack_layers"],
        sections: true,
        ..PLAIN
    },
    Architecture {
        name: "qwen3vlmoe",
        models: "Qwen 3 VL A3B, A22B, text",
        dropped_keys: &["n_deepstack_layers"],
        sections: true,
        needs_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "ernie4_5",
        models: "ERNIE 4.5, dense",
        ..PLAIN
    },
    Architecture {
        name: "ernie4_5-moe",
        models: "ERNIE 4.5 A3B, A47B",
        leading_dense: true,
        needs_experts: true,
        expert_step_is_one: true,
        ..PLAIN
    },
    Architecture {
        name: "hunyuan-dense",
        models: "Hunyuan, dense",
        ..PLAIN
    },
    Architecture {
        name: "qwen2moe",
        models: "Qwen 1.5 and 2, with experts",
        square_heads: true,
        needs_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "qwen2vl",
        models: "Qwen 2 and 2.5 VL, text",
        square_heads: true,
        sections: true,
        epsilon: None,
        ..PLAIN
    },
    Architecture {
        name: "cohere2",
        models: "Command R7B, Command A",
        sliding: Some(Sliding {
            window: Window::Required,
            // Only sliding layers rotate.
            without: Without::Impossible,
            ..THREE_OF_FOUR
        }),
        square_heads: true,
        partial_rope: true,
        epsilon: Some(LAYER_NORM),
        ..PLAIN
    },
    Architecture {
        name: "command-r",
        models: "Command R",
        whole_from: Some(64),
        square_heads: true,
        partial_rope: true,
        epsilon: Some(LAYER_NORM),
        ..PLAIN
    },
    Architecture {
        name: "exaone4",
        models: "EXAONE 4 1.2B",
        // The 32B one has a sliding window.
        special_lengths: &[64],
        square_heads: true,
        ..PLAIN
    },
    Architecture {
        name: "minicpm",
        models: "MiniCPM 1 and 2",
        input_scale: InputScale::Key(Some(12.0)),
        residual_by_depth: true,
        positive_keys: &["logit_scale"],
        ..PLAIN
    },
    Architecture {
        name: "arcee",
        models: "AFM 4.5B",
        ..PLAIN
    },
    Architecture {
        name: "apertus",
        models: "Apertus",
        bare_layer_keys: &["xielu.alpha_n", "xielu.alpha_p", "xielu.beta", "xielu.eps"],
        ..PLAIN
    },
    Architecture {
        name: "starcoder2",
        models: "StarCoder 2",
        square_heads: true,
        epsilon: Some(LAYER_NORM),
        ..PLAIN
    },
    Architecture {
        name: "stablelm",
        models: "StableLM 2",
        square_heads: true,
        partial_rope: true,
        epsilon: Some(LAYER_NORM),
        ..PLAIN
    },
    Architecture {
        name: "phimoe",
        models: "Phi 3.5 MoE",
        square_heads: true,
        partial_rope: true,
        needs_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "minimax-m2",
        models: "MiniMax M2",
        partial_rope: true,
        needs_experts: true,
        needs_gating: true,
        ..PLAIN
    },
    Architecture {
        name: "bailingmoe2",
        models: "Ling 2, Ring 2",
        leading_dense: true,
        next_tokens: true,
        square_heads: true,
        partial_rope: true,
        needs_experts: true,
        needs_gating: true,
        grouped_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "glm4",
        models: "GLM 4 9B and 32B",
        takes_only_tokens: true,
        next_tokens: true,
        partial_rope: true,
        ..PLAIN
    },
    Architecture {
        name: "glm4moe",
        models: "GLM 4.5, 4.6 and 4.7, Air too",
        takes_only_tokens: true,
        leading_dense: true,
        next_tokens: true,
        mtp: true,
        partial_rope: true,
        needs_experts: true,
        needs_shared: true,
        ..PLAIN
    },
    Architecture {
        name: "deepseek2",
        models: "DeepSeek V2 and V3, GLM 4.7 Flash, Kanana 2",
        // 16B Lite and GigaChat 3 10B, and Kanana 2.
        latent: Some(Latent::OneQueryMatrixAt(&[
            (26, None),
            (27, None),
            (48, Some(128_256)),
        ])),
        leading_dense: true,
        next_tokens: true,
        mtp: true,
        gating_by_depth: true,
        partial_rope: true,
        needs_experts: true,
        needs_shared: true,
        grouped_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "dots1",
        models: "dots.llm1",
        has_all_kv_heads: true,
        leading_dense: true,
        needs_experts: true,
        needs_gating: true,
        ..PLAIN
    },
    Architecture {
        name: "smallthinker",
        models: "SmallThinker",
        sliding: Some(Sliding {
            window: Window::FixedIfGiven(4096),
            dense_first: true,
            without: Without::Impossible,
            ..THREE_OF_FOUR
        }),
        // As many layers as a step: then every one rotates.
        special_lengths: &[4],
        cut_step: 4,
        cut_step_why: ", as every fourth layer does not rotate",
        needs_experts: true,
        needs_gating: true,
        ..PLAIN
    },
    Architecture {
        name: "llama4",
        models: "Llama 4",
        sliding: Some(Sliding {
            window: Window::FixedUnlessZero(8192),
            without: Without::Impossible,
            is_cut_unwindowed: false,
            ..THREE_OF_FOUR
        }),
        cut_step: 4,
        cut_step_why: ", as every fourth layer does not rotate",
        // A graph without such a layer aborts.
        min_layers: 4,
        needs_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "qwen35",
        models: "Qwen 3.5",
        recurrent: Some(DELTA_NET),
        next_tokens: true,
        mtp: true,
        all_states: true,
        partial_rope: true,
        sections: true,
        ..PLAIN
    },
    Architecture {
        name: "qwen35moe",
        models: "Qwen 3.5 A3B, A10B, A17B",
        recurrent: Some(DELTA_NET),
        next_tokens: true,
        mtp: true,
        all_states: true,
        partial_rope: true,
        sections: true,
        needs_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "lfm2",
        models: "LFM 2",
        recurrent: Some(SHORT_CONVOLUTION),
        square_heads: true,
        ..PLAIN
    },
    Architecture {
        name: "lfm2moe",
        models: "LFM 2 A1B, A2B",
        recurrent: Some(SHORT_CONVOLUTION),
        leading_dense: true,
        square_heads: true,
        needs_experts: true,
        needs_gating: true,
        ..PLAIN
    },
    Architecture {
        name: "granitehybrid",
        models: "Granite 4 Micro, Tiny and Small",
        input_scale: InputScale::Key(None),
        recurrent: Some(Recurrent {
            layers: RecurrentLayers::WithoutKeyHeads,
            state: State::TwiceWide,
        }),
        positive_keys: &["logit_scale"],
        ..PLAIN
    },
    Architecture {
        name: "qwen3next",
        models: "Qwen 3 Next, Qwen 3 Coder Next",
        recurrent: Some(DELTA_NET),
        next_tokens: true,
        partial_rope: true,
        needs_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "kimi-linear",
        models: "Kimi Linear",
        recurrent: Some(Recurrent {
            layers: RecurrentLayers::WithoutKeyHeads,
            state: State::KimiDelta,
        }),
        latent: Some(Latent::OneQueryMatrix),
        leading_dense: true,
        needs_experts: true,
        needs_gating: true,
        needs_shared: true,
        grouped_experts: true,
        ..PLAIN
    },
    Architecture {
        name: "mamba2",
        models: "Mamba 2, Codestral Mamba",
        recurrent: Some(Recurrent {
            layers: RecurrentLayers::Only,
            state: State::Mamba2,
        }),
        ..PLAIN
    },
    Architecture {
        name: "falcon-h1",
        models: "Falcon H1",
        recurrent: Some(Recurrent {
            layers: RecurrentLayers::All,
            state: State::Mamba2,
        }),
        ..PLAIN
    },
    Architecture {
        name: "nemotron_h",
        models: "Nemotron Nano 9B and 12B v2, Nemotron H",
        ..NEMOTRON_H
    },
    Architecture {
        name: "nemotron_h_moe",
        models: "Nemotron 3 Nano",
        needs_experts: true,
        ..NEMOTRON_H
    },
];

/// Its graph calls something else "l_out".
const NEMOTRON_H: Architecture = Architecture {
    recurrent: Some(Recurrent {
        layers: RecurrentLayers::WithoutEither,
        state: State::Mamba2,
    }),
    output_node: "nemotron_h_block_out",
    // No layer rotates.
    partial_rope: true,
    epsilon: Some(LAYER_NORM),
    ..PLAIN
};

const DELTA_NET: Recurrent = Recurrent {
    layers: RecurrentLayers::AllButEvery(4),
    state: State::DeltaNet,
};
const SHORT_CONVOLUTION: Recurrent = Recurrent {
    layers: RecurrentLayers::WithoutKeyHeads,
    state: State::ShortConvolution,
};
