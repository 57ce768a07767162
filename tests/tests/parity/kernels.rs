//! Our kernels compute what llama.cpp's do, but for rounding.

use jupiter_models::engine::EngineParams;
use jupiter_models::kernels::KernelChoice;
use jupiter_models::synth::{SynthArch, SynthType};

use crate::kit::{Model, params, prompt, rows};

const N_VOCAB: u32 = 320;
const N_PROMPT: usize = 40;

/// Most distance of the logits, as a share of their size. Both round activations to 8 bits, each in
/// its own way, and every layer adds to it; floats are only added in another order.
fn bound(arch: SynthArch, ty: SynthType) -> f64 {
    match ty {
        SynthType::F32 if arch == SynthArch::Llama => 1e-3,
        // Some add norms, whose sums over the f16 cache differ more.
        SynthType::F32 => 2e-3,
        // llama.cpp rounds activations to the type of the weights.
        SynthType::F16 => 5e-3,
        SynthType::Bf16 => 3e-2,
        _ => 5e-2,
    }
}

fn assert_close(arch: SynthArch, ty: SynthType) {
    let model = Model::of_any_type(arch, ty, N_VOCAB);
    let logits = |kernels: KernelChoice| {
        let params = EngineParams {
            kernels,
            ..params()
        };
        let prompt = prompt(N_PROMPT, N_VOCAB);
        model.reference(&params).step(&rows(&[0], 0, &prompt, true))
    };
    let (ours, theirs) = (logits(KernelChoice::Auto), logits(KernelChoice::Off));
    let square = |x: f64| x * x;
    let size: f64 = theirs.data.iter().map(|x| square(f64::from(*x))).sum();
    let pairs = theirs.data.iter().zip(&ours.data);
    let distance: f64 = pairs
        .map(|(a, b)| square(f64::from(*a) - f64::from(*b)))
        .sum();
    let share = (distance / size).sqrt();
    eprintln!("{arch} {ty}: {share:.5}");
    assert!(
        share < bound(arch, ty),
        "{arch} {ty}: {share} of the logits' size"
    );
}

#[test]
fn logits_of_every_type_are_llama_cpps_but_for_rounding() {
    for ty in SynthType::ALL {
        assert_close(SynthArch::Llama, ty);
    }
}

#[test]
fn logits_of_every_architecture_are_llama_cpps_but_for_rounding() {
    for arch in SynthArch::ALL {
        // Of this one llama.cpp's own kernels make no numbers in floats.
        if arch != SynthArch::Qwen2Moe {
            assert_close(arch, SynthType::F32);
        }
        assert_close(arch, SynthType::Q4_0);
    }
    for arch in SynthArch::COMMON {
        assert_close(arch, SynthType::Q4KM);
    }
}
