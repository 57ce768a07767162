//! Every supported architecture and type, cut at every layer: 64 greedy tokens and all logits on
//! the way are those of the whole model.

use jupiter_models::engine::EngineParams;
use jupiter_models::gguf::KvDtype;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::synth::{SynthArch, SynthSpec, SynthType};

use crate::kit::{Model, Trace, assert_same_bits, params, prompt};

const N_LAYER: u32 = 6;
const N_VOCAB: u32 = 320;
/// Longer than the models' sliding window, and not a multiple of the chunk.
const N_PROMPT: usize = 52;
const CHUNK: usize = 24;
const N_TOKENS: usize = 64;

/// Types that people use, and those without blocks.
const TYPES: [SynthType; 5] = [
    SynthType::F32,
    SynthType::F16,
    SynthType::Q8_0,
    SynthType::Q4_0,
    SynthType::Q4KM,
];

/// Whole, two, three and uneven stages, and every single cut.
const CUTS: [&[u32]; 8] = [&[], &[1], &[2], &[3], &[4], &[5], &[2, 4], &[1, 5]];

fn spec(arch: SynthArch, ty: SynthType) -> SynthSpec {
    // Some types take rows of 256 values; the others may be smaller.
    let n_embd = ty.block().max(128);
    let n_ff = if arch == SynthArch::Qwen3Moe {
        n_embd
    } else {
        2 * n_embd
    };
    SynthSpec {
        n_layer: N_LAYER,
        n_embd,
        n_ff,
        n_vocab: N_VOCAB,
        n_expert: 4,
        n_swa: 16,
        ty,
        // Both kinds of head occur.
        tied: SynthSpec::new(arch).tied || ty == SynthType::Q8_0,
        rope_freqs: arch == SynthArch::Llama,
        ..SynthSpec::new(arch)
    }
}

fn assert_parity(spec: &SynthSpec, params: &EngineParams, cuts: &[&[u32]]) {
    let model = Model::new(spec);
    let prompt = prompt(N_PROMPT, N_VOCAB);
    let expected = model.reference(params).greedy(&prompt, CHUNK, N_TOKENS);
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
            .greedy(&prompt, CHUNK, N_TOKENS);
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
