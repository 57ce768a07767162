//! Every proven architecture, cut wherever it may be: greedy tokens and all logits on the way are
//! those of the whole model. Some with every type and a long text, the others with one.

use jupiter_models::architecture::ARCHITECTURES;
use jupiter_models::engine::EngineParams;
use jupiter_models::gguf::KvDtype;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::synth::{SynthArch, SynthSpec, SynthType};

use crate::kit::{Model, Trace, assert_same_bits, params, prompt};

const N_VOCAB: u32 = 320;
/// Longer than the models' sliding window, and not a multiple of the chunk.
const N_PROMPT: usize = 52;
const CHUNK: usize = 24;
const N_TOKENS: usize = 64;
/// Where the prompt, longer than the window too, is most of the text.
const N_FEW_TOKENS: usize = 20;

/// Types that people use, and those without blocks.
const TYPES: [SynthType; 5] = [
    SynthType::F32,
    SynthType::F16,
    SynthType::Q8_0,
    SynthType::Q4_0,
    SynthType::Q4KM,
];

/// Of six layers: whole, two, three and uneven stages, and every single cut.
const CUTS: [&[u32]; 8] = [&[], &[1], &[2], &[3], &[4], &[5], &[2, 4], &[1, 5]];

fn spec(arch: SynthArch, ty: SynthType) -> SynthSpec {
    // Some types take rows of 256 values; the others may be smaller.
    let n_embd = ty.block().max(128);
    let n_ff = if arch.has_experts() {
        n_embd
    } else {
        2 * n_embd
    };
    SynthSpec {
        n_embd,
        n_ff,
        n_vocab: N_VOCAB,
        n_expert: 4,
        n_swa: 16,
        ty,
        // Both kinds of head occur.
        tied: arch.tied().unwrap_or(ty == SynthType::Q8_0),
        rope_freqs: arch == SynthArch::Llama,
        ..SynthSpec::new(arch)
    }
}

fn assert_parity(spec: &SynthSpec, params: &EngineParams, cuts: &[&[u32]]) {
    assert_parity_of(&Model::new(spec), spec, params, cuts, N_TOKENS);
}

fn assert_parity_of(
    model: &Model,
    spec: &SynthSpec,
    params: &EngineParams,
    cuts: &[&[u32]],
    n_tokens: usize,
) {
    let prompt = prompt(N_PROMPT, N_VOCAB);
    let expected = model.reference(params).greedy(&prompt, CHUNK, n_tokens);
    let distinct: std::collections::BTreeSet<_> = expected.tokens.iter().collect();
    assert!(
        distinct.len() > 3,
        "a model that repeats itself shows nothing: {:?}",
        expected.tokens
    );
    for cuts in cuts {
        let what = format!("{} {} cut at {cuts:?}", spec.arch, spec.ty);
        let got = model
            .pipeline(cuts, spec.n_layer, params)
            .greedy(&prompt, CHUNK, n_tokens);
        assert_same_trace(&got, &expected, &what);
    }
}

fn assert_same_trace(got: &Trace, expected: &Trace, what: &str) {
    assert_eq!(got.tokens, expected.tokens, "{what}");
    assert_eq!(got.steps.len(), expected.steps.len(), "{what}");
    for (i, (got, expected)) in got.steps.iter().zip(&expected.steps).enumerate() {
        assert_same_bits(got, expected, &format!("{what}, step {i}"));
    }
}

/// One test for each architecture, so that a failure names it.
macro_rules! parity_of_every_cut {
    ($($name:ident: $arch:ident,)*) => {$(
        #[test]
        fn $name() {
            for ty in TYPES {
                for kernels in [KernelChoice::Auto, KernelChoice::Off] {
                    let params = EngineParams {
                        kernels,
                        ..params()
                    };
                    assert_parity(&spec(SynthArch::$arch, ty), &params, &CUTS);
                }
            }
        }
    )*};
}

parity_of_every_cut! {
    llama: Llama,
    qwen2: Qwen2,
    qwen3: Qwen3,
    qwen3moe: Qwen3Moe,
    gemma2: Gemma2,
    gemma3: Gemma3,
    phi3: Phi3,
}

/// The same with one type, at every cut that is allowed, with both kinds of cache and kernels.
macro_rules! parity_of_every_allowed_cut {
    ($($name:ident: $arch:ident $ty:ident,)*) => {
        $(
            #[test]
            fn $name() {
                assert_parity_everywhere(SynthArch::$arch, SynthType::$ty);
            }
        )*

        #[test]
        fn every_proven_architecture_is_tested() {
            let tested = [$(SynthArch::$arch),*];
            let names: Vec<_> = tested.iter().chain(&SynthArch::COMMON).map(|a| a.name()).collect();
            for arch in ARCHITECTURES {
                assert!(names.contains(&arch.name), "{}", arch.name);
            }
        }
    };
}

parity_of_every_allowed_cut! {
    gemma: Gemma Q8_0,
    gemma4: Gemma4 Q8_0,
    gemma4_moe: Gemma4Moe Q4_0,
    gpt_oss: GptOss Mxfp4,
    mistral3: Mistral3 Q4_0,
    smollm3: SmolLm3 Q8_0,
    granite: Granite Q4_0,
    granitemoe: GraniteMoe Q8_0,
    olmo2: Olmo2 Q4_0,
    seed_oss: SeedOss Q8_0,
    qwen3vl: Qwen3Vl Q4_0,
    qwen3vlmoe: Qwen3VlMoe Q8_0,
    ernie4_5: Ernie45 F16,
    ernie4_5_moe: Ernie45Moe Q4_0,
    hunyuan_dense: HunyuanDense Q8_0,
    qwen2moe: Qwen2Moe Q4_0,
    qwen2vl: Qwen2Vl Q8_0,
    cohere2: Cohere2 Q4_0,
    command_r: CommandR Q8_0,
    exaone4: Exaone4 Q4_0,
    minicpm: MiniCpm Q8_0,
    arcee: Arcee Q4_0,
    apertus: Apertus F32,
    starcoder2: StarCoder2 Q8_0,
    stablelm: StableLm Q4_0,
    phimoe: PhiMoe Q8_0,
    minimax_m2: MiniMaxM2 Q4_0,
    bailingmoe2: BailingMoe2 Q8_0,
    glm4: Glm4 Q8_0,
    glm4moe: Glm4Moe Q4_0,
    deepseek2: DeepSeek2 Q4_0,
    deepseek2_lite: DeepSeek2Lite Q8_0,
    dots1: Dots1 Q4_0,
    smallthinker: SmallThinker Q8_0,
    llama4: Llama4 Q4_0,
    qwen35: Qwen35 Q4_0,
    qwen35moe: Qwen35Moe Q8_0,
    lfm2: Lfm2 Q8_0,
    lfm2moe: Lfm2Moe Q4_0,
    granitehybrid: GraniteHybrid Q4_0,
    qwen3next: Qwen3Next Q4_0,
    kimi_linear: KimiLinear Q4_0,
    mamba2: Mamba2 Q8_0,
    falcon_h1: FalconH1 Q8_0,
    nemotron_h: NemotronH Q4_0,
    nemotron_h_moe: NemotronHMoe Q8_0,
}

fn assert_parity_everywhere(arch: SynthArch, ty: SynthType) {
    let spec = spec(arch, ty);
    let model = Model::new(&spec);
    let cuts = model.cut_lists();
    assert!(!cuts.is_empty());
    let cuts: Vec<&[u32]> = cuts.iter().map(Vec::as_slice).collect();
    let q8 = EngineParams {
        type_k: KvDtype::Q8_0,
        type_v: KvDtype::Q8_0,
        ..params()
    };
    let plain = EngineParams {
        kernels: KernelChoice::Off,
        ..params()
    };
    for params in [params(), q8, plain] {
        assert_parity_of(&model, &spec, &params, &cuts, N_FEW_TOKENS);
    }
}

#[test]
fn every_type_is_cut() {
    for ty in SynthType::ALL {
        assert_parity(&spec(SynthArch::Llama, ty), &params(), &[&[2, 4]]);
    }
}

#[test]
fn every_layer_a_stage() {
    for arch in [SynthArch::Gemma2, SynthArch::Gemma3, SynthArch::Llama] {
        assert_parity(&spec(arch, SynthType::F16), &params(), &[&[1, 2, 3, 4, 5]]);
    }
}

#[test]
fn a_period_of_the_sliding_window_is_cut_anywhere() {
    // Two periods of gemma3, of which only layers 5 and 11 see everything.
    let spec = SynthSpec {
        n_layer: 12,
        ..spec(SynthArch::Gemma3, SynthType::F32)
    };
    let cuts: Vec<[u32; 1]> = (1..12).map(|cut| [cut]).collect();
    let cuts: Vec<&[u32]> = cuts.iter().map(<[u32; 1]>::as_slice).collect();
    assert_parity(&spec, &params(), &cuts);
}

#[test]
fn quantized_caches_and_plain_attention_agree_too() {
    let q8 = EngineParams {
        type_k: KvDtype::Q8_0,
        type_v: KvDtype::Q8_0,
        ..params()
    };
    let plain = EngineParams {
        flash_attention: false,
        ..params()
    };
    for arch in [SynthArch::Llama, SynthArch::Gemma2] {
        for params in [&q8, &plain] {
            assert_parity(&spec(arch, SynthType::F16), params, &[&[3], &[1, 4]]);
        }
    }
}
