//! Generated models are real ones: llama.cpp loads them, computes with them and tokenizes any text.
#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::OnceLock;

use jupiter_models::synth::{self, SynthArch, SynthSpec, SynthType};
use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;
use proptest::prelude::*;

/// Longer than the sliding windows of the specs below, so that they matter.
const N_GREEDY: usize = 64;

#[test]
fn every_architecture_and_type_loads_and_computes_finite_logits() {
    for arch in SynthArch::ALL {
        let is_common = SynthArch::COMMON.contains(&arch);
        let types = if is_common {
            &SynthType::ALL[..]
        } else {
            &[SynthType::Q4_0]
        };
        for &ty in types {
            // As few layers as have all kinds.
            let spec = SynthSpec {
                ty,
                n_layer: if is_common { 2 } else { 4 },
                n_vocab: 320,
                ..SynthSpec::new(arch)
            };
            with_model(&spec, |model| {
                assert_eq!(model.n_vocab(), 320, "{arch} {ty}");
                assert_eq!(model.n_layer(), spec.n_layer);
                let mut context = context(model);
                let logits = prompt(&mut context, &[1, 2, 3, 260]);
                assert!(logits.iter().all(|l| l.is_finite()), "{arch} {ty}");
                let std = standard_deviation(&logits);
                assert!(
                    (1.0..5.0).contains(&std),
                    "{arch} {ty}: logits spread by {std}"
                );
            });
        }
    }
}

#[test]
fn variants_load_too() {
    let llama = SynthSpec {
        n_layer: 2,
        n_vocab: 320,
        ..SynthSpec::new(SynthArch::Llama)
    };
    let phi3 = SynthSpec::new(SynthArch::Phi3);
    for spec in [
        SynthSpec {
            rope_freqs: true,
            tied: true,
            ..llama.clone()
        },
        SynthSpec {
            n_embd_head: Some(32),
            n_head_kv: 1,
            ..llama.clone()
        },
        SynthSpec {
            n_embd: 96,
            n_head: 3,
            n_head_kv: 3,
            n_ff: 160,
            ..llama
        },
        // A context of 256 is then above the original one: the long factors are taken.
        SynthSpec {
            n_ctx_train: 100,
            n_layer: 1,
            ..phi3
        },
    ] {
        with_model(&spec, |model| {
            let logits = prompt(&mut context(model), &[1, 2]);
            assert!(logits.iter().all(|l| l.is_finite()), "{spec:?}");
        });
    }
}

#[test]
fn greedy_text_runs_on_without_end_and_without_locking_into_one_token() {
    let mut specs: Vec<_> = SynthArch::ALL.map(SynthSpec::new).into();
    specs.push(SynthSpec {
        tied: true,
        ..SynthSpec::new(SynthArch::Qwen2)
    });
    for mut spec in specs {
        // A tiny vocabulary is where a cycle comes soonest and control tokens are likeliest.
        for n_vocab in [300, 2000] {
            spec.n_vocab = n_vocab;
            with_model(&spec, |model| {
                let text = greedy(
                    model,
                    &model.vocab().tokenize(b"Once upon a time", true, true),
                );
                let distinct: HashSet<_> = text.iter().collect();
                println!("{} {n_vocab}: {} distinct", spec.arch, distinct.len());
                assert!(distinct.len() >= 8, "{} {n_vocab}: {text:?}", spec.arch);
                let end = text.iter().position(|&t| model.vocab().is_eog(t));
                assert_eq!(end, None, "{} {n_vocab}", spec.arch);
            });
        }
    }
}

#[test]
fn the_next_token_depends_on_more_than_the_last_one() {
    for arch in SynthArch::ALL {
        with_model(&SynthSpec::new(arch), |model| {
            let one = prompt(&mut context(model), &[300, 301, 302, 400]);
            let other = prompt(&mut context(model), &[500, 601, 702, 400]);
            let difference: Vec<f32> = one.iter().zip(&other).map(|(a, b)| a - b).collect();
            let moved = standard_deviation(&difference);
            assert!(moved > 0.5, "{arch}: logits moved by {moved}");
        });
    }
}

#[test]
fn the_same_spec_gives_the_same_bytes_and_another_seed_others() {
    let spec = SynthSpec {
        n_layer: 2,
        ..SynthSpec::new(SynthArch::Qwen3)
    };
    let folder = tempfile::tempdir().unwrap();
    let hash = |spec: &SynthSpec| {
        let path = folder.path().join("model.gguf");
        let mut last = (0, 0);
        synth::write(spec, &path, &mut |done, total| last = (done, total)).unwrap();
        assert_eq!(last.0, last.1);
        assert!(last.1 >= spec.n_bytes());
        blake3::hash(&std::fs::read(path).unwrap())
    };
    let first = hash(&spec);
    assert_eq!(first, hash(&spec));
    assert_ne!(first, hash(&SynthSpec { seed: 2, ..spec }));
    assert_eq!(
        std::fs::read_dir(&folder).unwrap().count(),
        1,
        "temporary files stay behind"
    );
}

#[test]
fn failures_leave_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let spec = SynthSpec::new(SynthArch::Llama);
    let absent = folder.path().join("absent/model.gguf");
    let error = synth::write(&spec, &absent, &mut |_, _| ()).unwrap_err();
    assert!(error.to_string().contains("absent"), "{error}");
    let bad = SynthSpec { n_head: 3, ..spec };
    assert!(synth::write(&bad, &folder.path().join("model.gguf"), &mut |_, _| ()).is_err());
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn any_text_comes_back_from_its_tokens() {
    for n_vocab in [300, 5000] {
        let spec = SynthSpec {
            n_vocab,
            n_layer: 1,
            ..SynthSpec::new(SynthArch::Llama)
        };
        with_model(&spec, |model| {
            let back = |text: &str| {
                let tokens = model.vocab().tokenize(text.as_bytes(), false, false);
                (tokens.len(), bytes(model, &tokens))
            };
            for text in [
                "",
                " ",
                "\n\n\t",
                "Hello, world!",
                "naïve 🤖🇧🇪 日本",
                "<|im_end|>",
                "x\u{0}y",
            ] {
                assert_eq!(back(text).1, text.as_bytes(), "{text:?}");
            }
            let (n_tokens, _) = back(" the of and to the of and to");
            assert!(n_tokens <= 12, "words are not merged: {n_tokens} tokens");
            proptest!(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }, |(text in any::<String>())| {
                prop_assert_eq!(back(&text).1, text.as_bytes());
            });
        });
    }
}

#[test]
fn controls_and_the_chat_template_are_there() {
    with_model(
        &SynthSpec {
            n_layer: 1,
            ..SynthSpec::new(SynthArch::Phi3)
        },
        |model| {
            let vocab = model.vocab();
            let tokens = vocab.tokenize(b"<|im_start|>user", false, true);
            assert_eq!(tokens[0], LlamaToken(257));
            assert!(vocab.is_control(tokens[0]) && !vocab.is_eog(tokens[0]));
            assert_eq!(vocab.eos(), LlamaToken(258));
            assert!(vocab.is_eog(LlamaToken(256)) && vocab.is_eog(LlamaToken(258)));
            assert!(!vocab.should_add_bos());
            let template = model.chat_template(None).unwrap();
            assert!(
                template
                    .to_string()
                    .unwrap()
                    .contains("<|im_start|>assistant")
            );
            assert!(
                model
                    .meta_val_str("general.description")
                    .unwrap()
                    .contains("random weights")
            );
        },
    );
}

fn with_model(spec: &SynthSpec, check: impl FnOnce(&LlamaModel)) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    synth::write(spec, &path, &mut |_, _| ()).unwrap();
    check(&load(&path));
}

fn backend() -> &'static LlamaBackend {
    static BACKEND: OnceLock<LlamaBackend> = OnceLock::new();
    BACKEND.get_or_init(|| {
        let mut backend = LlamaBackend::init().unwrap();
        backend.void_logs();
        backend
    })
}

fn load(path: &Path) -> LlamaModel {
    LlamaModel::load_from_file(backend(), path, &LlamaModelParams::default()).unwrap()
}

fn context(model: &LlamaModel) -> LlamaContext<'_> {
    let params = LlamaContextParams::default()
        .with_n_ctx(NonZeroU32::new(256))
        .with_n_threads(1)
        .with_n_threads_batch(1);
    model.new_context(backend(), params).unwrap()
}

/// Logits after the last token of a fresh context's prompt.
fn prompt(context: &mut LlamaContext<'_>, tokens: &[i32]) -> Vec<f32> {
    let mut batch = LlamaBatch::new(tokens.len(), 1);
    for (pos, &token) in tokens.iter().enumerate() {
        batch
            .add(LlamaToken(token), pos as i32, &[0], pos + 1 == tokens.len())
            .unwrap();
    }
    context.decode(&mut batch).unwrap();
    context.get_logits_ith(tokens.len() as i32 - 1).to_vec()
}

fn greedy(model: &LlamaModel, tokens: &[LlamaToken]) -> Vec<LlamaToken> {
    let mut context = context(model);
    let ids: Vec<i32> = tokens.iter().map(|t| t.0).collect();
    let mut logits = prompt(&mut context, &ids);
    let mut text = Vec::new();
    let mut batch = LlamaBatch::new(1, 1);
    for pos in ids.len()..ids.len() + N_GREEDY {
        let best = (0..logits.len())
            .max_by(|&a, &b| logits[a].total_cmp(&logits[b]))
            .unwrap();
        text.push(LlamaToken(best as i32));
        batch.clear();
        batch
            .add(LlamaToken(best as i32), pos as i32, &[0], true)
            .unwrap();
        context.decode(&mut batch).unwrap();
        logits = context.get_logits_ith(0).to_vec();
    }
    text
}

fn bytes(model: &LlamaModel, tokens: &[LlamaToken]) -> Vec<u8> {
    let vocab = model.vocab();
    tokens
        .iter()
        .flat_map(|&token| vocab.token_to_piece(token, true, None))
        .collect()
}

fn standard_deviation(values: &[f32]) -> f32 {
    let n = values.len() as f32;
    let mean = values.iter().sum::<f32>() / n;
    (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n).sqrt()
}
