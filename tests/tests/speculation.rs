//! Guessing ahead never changes a text: every source, shape, cut and depth in flight.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use jupiter_actors::RequestId;
use jupiter_actors::message::HeadsId;
use jupiter_actors::planner::SplitPolicy;
use jupiter_actors::request::{
    Completion, DraftChoice, GenerateRequest, SpeculationParams, SpeculationUsage,
};
use jupiter_models::Token;
use jupiter_models::default_model::{self, DefaultFile};
use jupiter_models::gguf::GgufFile;
use jupiter_models::sampling::SamplingParams;
use jupiter_models::synth::{self, SynthArch, SynthSpec, SynthType};
use jupiter_models::text::{ChatMessage, ChatTemplate, Vocabulary};
use jupiter_tests::cluster::{Cluster, ClusterSpec, medusa, read};
use jupiter_tests::guesses::{guessing, oracle, random_heads};
use jupiter_tests::model::{greedy_text, ranges_between, scratch, tiny_model, tiny_spec};

const N_TOKENS: u32 = 40;

fn prompt() -> Vec<Token> {
    // It repeats itself, so that there is something to look up.
    (60..70).chain(60..70).chain(60..64).collect()
}

/// A four-layer model of an architecture.
fn four_layers(arch: SynthArch) -> Result<PathBuf> {
    let path = scratch().join(format!("{arch}-4.gguf"));
    let own = SynthSpec::new(arch);
    let spec = SynthSpec {
        arch,
        tied: own.tied,
        n_expert: own.n_expert,
        n_expert_used: own.n_expert_used,
        n_swa: own.n_swa,
        ty: SynthType::F32,
        ..tiny_spec()
    };
    synth::write(&spec, &path, &mut |_, _| {})?;
    Ok(path)
}

/// Answers within which a block has been loaded.
const MOST_ANSWERS: u32 = 2000;

/// All sources, and how often each is right.
fn sources(answer: &[Token]) -> Vec<(&'static str, DraftChoice)> {
    let oracle = |acceptance| oracle(&prompt(), answer, acceptance, 3);
    vec![
        ("nobody", DraftChoice::None),
        ("n-grams", DraftChoice::Ngram),
        ("never right", oracle(0.0)),
        ("often right", oracle(0.8)),
        ("always right", oracle(1.0)),
        ("heads", DraftChoice::Medusa),
        ("draft model", DraftChoice::Model),
        ("all of them", DraftChoice::Auto),
    ]
}

async fn answer(
    cluster: &mut Cluster,
    speculation: SpeculationParams,
    sampling: SamplingParams,
) -> Result<(Vec<Token>, Completion)> {
    let mut request = GenerateRequest::new(RequestId(0), prompt());
    request.n_predict = Some(N_TOKENS);
    request.sampling = sampling;
    request.speculation = Some(speculation);
    let answer = read(cluster.submit(request)).await?;
    Ok((answer.tokens, answer.end?))
}

/// Every source brings `expected`, with one step at a time and with several.
async fn check(spec: &ClusterSpec, expected: &[Token]) -> Result<()> {
    let mut cluster = Cluster::start(spec).await?;
    let mut n_drafted = 0;
    for (name, source) in sources(expected) {
        for in_flight in [Some(1), None] {
            let params = guessing(source.clone(), in_flight);
            let greedy = SamplingParams::greedy();
            let (tokens, done) = answer(&mut cluster, params, greedy).await?;
            let what = || format!("{name}, {in_flight:?} in flight");
            ensure!(
                tokens == expected,
                "{}: {tokens:?}, expected {expected:?}",
                what()
            );
            n_drafted += done.speculation.map_or(0, |used| used.n_drafted);
        }
    }
    ensure!(n_drafted > 0, "nothing was guessed");
    cluster.stop().await;
    Ok(())
}

fn spec(model: &Path, cuts: &[u32], draft: &Path) -> Result<ClusterSpec> {
    let ranges = ranges_between(cuts, 4);
    let mut spec = ClusterSpec::new(model, ranges.len() as u32);
    spec.split = SplitPolicy::Ranges(ranges);
    let stem = model.file_stem().context("a name")?.to_string_lossy();
    let heads = scratch().join(format!("{stem}-heads.gguf"));
    spec.heads = Some(medusa(random_heads(model, heads)?));
    spec.draft = Some(draft.to_owned());
    Ok(spec)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_source_writes_the_same_on_every_architecture() -> Result<()> {
    // It has the same vocabulary as all of them, and agrees with one.
    let draft = tiny_model()?;
    for arch in SynthArch::COMMON {
        let model = four_layers(arch)?;
        let expected = greedy_text(&model, &prompt(), N_TOKENS as usize)?;
        for cuts in [vec![], vec![2], vec![1, 2, 3]] {
            let what = || format!("{arch}, cut at {cuts:?}");
            let spec = spec(&model, &cuts, &draft)?;
            check(&spec, &expected).await.with_context(what)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampled_text_with_a_grammar_and_penalties_is_the_same_too() -> Result<()> {
    let model = tiny_model()?;
    let mut cluster = Cluster::start(&spec(&model, &[2], &model)?).await?;
    for seed in 0..20 {
        let sampling = SamplingParams {
            seed,
            temperature: 1.2,
            repeat_penalty: 1.3,
            grammar: (seed % 2 == 0).then(|| "root ::= [ -~]*".into()),
            ..SamplingParams::default()
        };
        let none = guessing(DraftChoice::None, None);
        let (expected, _) = answer(&mut cluster, none, sampling.clone()).await?;
        for (name, source) in sources(&expected) {
            let (tokens, _) =
                answer(&mut cluster, guessing(source, None), sampling.clone()).await?;
            ensure!(
                tokens == expected,
                "seed {seed}, {name}: {tokens:?}, expected {expected:?}"
            );
        }
    }
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_default_model_says_the_same_with_its_own_sources() -> Result<()> {
    let model = default_model::path(DefaultFile::Model)?;
    let vocabulary = std::sync::Arc::new(Vocabulary::load(&model)?);
    let template =
        ChatTemplate::from_gguf(&jupiter_models::gguf::GgufFile::open(&model)?, &vocabulary)?;
    let template = template.context("a template")?;
    let mut spec = ClusterSpec::new(&model, 2);
    spec.heads = Some(medusa(default_model::path(DefaultFile::Medusa)?));
    spec.draft = Some(default_model::path(DefaultFile::Draft)?);
    let mut cluster = Cluster::start(&spec).await?;
    let mut n_guessed = [0; 2];
    for question in [
        "What is a lidar?",
        "How do I charge the robot?",
        "List three sensors.",
    ] {
        let messages = [ChatMessage::user(question)];
        let prompt = vocabulary.tokenize_chat(&template, &messages)?;
        let mut texts = Vec::new();
        for (at, source) in [DraftChoice::None, DraftChoice::Medusa, DraftChoice::Model]
            .into_iter()
            .enumerate()
        {
            let params = guessing(source, Some(1));
            let done = read(cluster.ask_guessing(&prompt, 60, params)).await?;
            if let Some(used) = done.end?.speculation {
                n_guessed[at - 1] += used.n_drafted;
            }
            texts.push(done.tokens);
        }
        ensure!(
            texts.iter().all(|text| *text == texts[0]),
            "{question}: {texts:?}"
        );
    }
    ensure!(n_guessed.iter().all(|&n| n > 0), "guesses: {n_guessed:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_models_own_block_writes_the_same_and_is_right_where_it_knows() -> Result<()> {
    for (arch, knows) in [
        (SynthArch::Qwen35, false),
        (SynthArch::Qwen35, true),
        (SynthArch::Qwen35Moe, false),
        (SynthArch::Glm4Moe, false),
        (SynthArch::DeepSeek2, false),
    ] {
        let model = scratch().join(format!("{arch}-block-{knows}.gguf"));
        let own = SynthSpec::new(arch);
        let spec = SynthSpec {
            n_layer: 8,
            ty: if knows {
                SynthType::F32
            } else {
                SynthType::Q4_0
            },
            arch,
            n_expert: own.n_expert,
            n_expert_used: own.n_expert_used,
            ..tiny_spec()
        };
        synth::write(&spec, &model, &mut |_, _| {})?;
        if knows {
            make_knowing(&model)?;
        }
        let expected = greedy_text(&model, &prompt(), N_TOKENS as usize)?;
        let mut spec = ClusterSpec::new(&model, 2);
        spec.heads = Some(HeadsId::Mtp);
        let mut cluster = Cluster::start(&spec).await?;
        // The block is loaded once the stage computes, so the first answers go without.
        let is_used = |used: &SpeculationUsage| match knows {
            // Siblings of right guesses are wrong.
            true => used.tokens_per_step() > 2.5,
            false => used.n_drafted > 0,
        };
        let mut was_used = false;
        for i in 0..MOST_ANSWERS {
            let (source, in_flight) = match i % 3 {
                0 => (DraftChoice::Mtp, Some(1)),
                1 => (DraftChoice::Mtp, None),
                _ => (DraftChoice::Auto, None),
            };
            let params = guessing(source, in_flight);
            let greedy = SamplingParams::greedy();
            let (tokens, done) = answer(&mut cluster, params, greedy).await?;
            ensure!(
                tokens == expected,
                "{arch}: {tokens:?}, expected {expected:?}"
            );
            was_used |= in_flight == Some(1) && done.speculation.as_ref().is_some_and(is_used);
            if was_used && i >= 3 {
                break;
            }
        }
        ensure!(was_used, "{arch}: the block guessed nothing, or wrong");
        cluster.stop().await;
    }
    Ok(())
}

/// Changes a generated model of 32-bit weights: the next token follows from the last one alone, and the block
/// behind the last layer reads nothing but that token, so that its guesses are right.
fn make_knowing(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileExt;
    let (changes, file) = {
        let model = GgufFile::open(path)?;
        let adds = ["attn_output", "ssm_out", "ffn_down"];
        let mut changes = Vec::new();
        for tensor in model.tensors() {
            let mut values = vec![0f32; (tensor.n_bytes / 4) as usize];
            if tensor.name.contains("nextn.eh_proj") {
                let width = tensor.dims[0] as usize;
                (0..width / 2).for_each(|i| values[i * width + i] = 1.0);
            } else if !adds.iter().any(|name| tensor.name.contains(name)) {
                continue;
            }
            let bytes: Vec<u8> = values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            changes.push((tensor.offset, bytes));
        }
        (changes, std::fs::OpenOptions::new().write(true).open(path)?)
    };
    for (offset, bytes) in changes {
        file.write_all_at(&bytes, offset)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_cannot_be_used_costs_no_answer() -> Result<()> {
    let model = tiny_model()?;
    let expected = greedy_text(&model, &prompt(), N_TOKENS as usize)?;
    let mut spec = spec(&model, &[2], Path::new("no/such/draft.gguf"))?;
    spec.heads = Some(medusa("no/such/heads.gguf"));
    check(&spec, &expected).await?;
    // A draft model with another vocabulary.
    let other = scratch().join("other-vocabulary.gguf");
    let larger = SynthSpec {
        n_vocab: 400,
        seed: 9,
        ..tiny_spec()
    };
    synth::write(&larger, &other, &mut |_, _| {})?;
    spec.draft = Some(other);
    check(&spec, &expected).await
}
