#![allow(clippy::unwrap_used)]
use super::*;

#[test]
fn defaults_fit_every_type() {
    for arch in SynthArch::ALL {
        for ty in SynthType::ALL {
            SynthSpec {
                ty,
                ..SynthSpec::new(arch)
            }
            .validate()
            .unwrap();
        }
        let named: SynthArch = arch.name().parse().unwrap();
        assert_eq!(named.name(), arch.name());
    }
    assert_eq!("q4_k".parse::<SynthType>().unwrap(), SynthType::Q4K);
    assert!(
        "q4".parse::<SynthType>()
            .unwrap_err()
            .to_string()
            .contains("Q4_0, Q4_1")
    );
}

#[test]
fn impossible_wishes_are_refused_in_one_line() {
    let llama = SynthSpec::new(SynthArch::Llama);
    let moe = SynthSpec::new(SynthArch::Qwen3Moe);
    let gemma = SynthSpec::new(SynthArch::Gemma2);
    let check = |spec: SynthSpec, part: &str| {
        let error = spec.validate().expect_err(part).to_string();
        assert!(error.contains(part) && !error.contains('\n'), "{error}");
    };
    check(
        SynthSpec {
            n_layer: 0,
            ..llama.clone()
        },
        "layers must be 1 to 512, not 0",
    );
    check(
        SynthSpec {
            n_layer: 513,
            ..llama.clone()
        },
        "layers",
    );
    check(
        SynthSpec {
            n_embd: 0,
            ..llama.clone()
        },
        "embd must be",
    );
    check(
        SynthSpec {
            n_embd: 255,
            ..llama.clone()
        },
        "not a multiple of 4 heads",
    );
    check(
        SynthSpec {
            n_embd: 20,
            ..llama.clone()
        },
        "take a small even number",
    );
    check(
        SynthSpec {
            n_embd_head: Some(0),
            ..llama.clone()
        },
        "a head of 0",
    );
    check(
        SynthSpec {
            n_embd_head: Some(u32::MAX),
            ..llama.clone()
        },
        "a head of",
    );
    check(
        SynthSpec {
            n_head_kv: 3,
            ..llama.clone()
        },
        "do not share 3 kv-heads",
    );
    check(
        SynthSpec {
            n_head_kv: 8,
            ..llama.clone()
        },
        "do not share 8 kv-heads",
    );
    check(
        SynthSpec {
            n_head: 0,
            ..llama.clone()
        },
        "heads must be",
    );
    check(
        SynthSpec {
            n_ff: 0,
            ..llama.clone()
        },
        "ff must be",
    );
    check(
        SynthSpec {
            n_vocab: 299,
            ..llama.clone()
        },
        "vocab must be 300 to",
    );
    check(
        SynthSpec {
            n_vocab: u32::MAX,
            ..llama.clone()
        },
        "vocab must be",
    );
    check(
        SynthSpec {
            n_ctx_train: 0,
            ..llama.clone()
        },
        "context length",
    );
    check(
        SynthSpec {
            ty: SynthType::Q4K,
            n_ff: 384,
            ..llama.clone()
        },
        "Q4_K needs ff to be a multiple of 256, not 384",
    );
    check(
        SynthSpec {
            ty: SynthType::Q4_0,
            n_embd: 48,
            ..llama.clone()
        },
        "Q4_0 needs embd to be a multiple of 32, not 48",
    );
    check(
        SynthSpec {
            n_embd: MAX_WIDTH,
            n_ff: MAX_WIDTH,
            ..llama
        },
        "GiB",
    );
    check(
        SynthSpec {
            n_embd_head: Some(32),
            ..SynthSpec::new(SynthArch::Qwen2)
        },
        "takes no head width",
    );
    check(
        SynthSpec {
            n_expert_used: 9,
            ..moe.clone()
        },
        "9 of 8 experts",
    );
    check(
        SynthSpec {
            n_expert: 0,
            n_expert_used: 0,
            ..moe.clone()
        },
        "experts",
    );
    check(
        SynthSpec {
            rope_freqs: true,
            ..moe
        },
        "rope_freqs are for llama",
    );
    check(
        SynthSpec {
            tied: false,
            ..gemma.clone()
        },
        "ties its embeddings",
    );
    check(SynthSpec { n_swa: 0, ..gemma }, "sliding window");
}
