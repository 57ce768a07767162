//! Faults of the link and of the actors, from seeds that replay: every answer is the right text,
//! or a clear error where too many frames are lost; nothing hangs.
//!
//! `JUPITER_FAULT_SEED=n cargo test --test faults` runs one seed.

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use jupiter_actors::message::HeadsId;
use jupiter_actors::planner::{PlannerMessage, SplitPolicy};
use jupiter_actors::request::DraftChoice;
use jupiter_models::Token;
use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::synth::SynthArch;
use jupiter_tests::cluster::{Answer, Cluster, ClusterSpec, EngineFault, read};
use jupiter_tests::guesses::{guessing, oracle};
use jupiter_tests::model::{greedy_text, tiny_model, tiny_model_of};
use jupiter_tests::network::FaultRates;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const N_SEEDS: u64 = 200;
/// For each other kind of memory.
const N_MEMORY_SEEDS: u64 = 50;
const N_TOKENS: u32 = 16;

/// Three prompts of different lengths, asked at once; the texts that they have to bring.
fn prompts() -> [Vec<Token>; 3] {
    [
        (40..45).collect(),
        (60..90).collect(),
        (100..112).rev().collect(),
    ]
}

fn expected(model: &Path) -> Result<Vec<Vec<Token>>> {
    prompts()
        .iter()
        .map(|prompt| greedy_text(model, prompt, N_TOKENS as usize))
        .collect()
}

/// The faults that a seed stands for.
fn spec(seed: u64, model: &Path) -> ClusterSpec {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut spec = ClusterSpec::new(model, 1 + rng.random_range(0..3));
    spec.seed = seed;
    spec.step_timeout_ms = 400;
    match seed % 4 {
        0 => {
            spec.rates = FaultRates {
                repeat: 0.1,
                delay: 0.05,
                ..FaultRates::default()
            }
        }
        1 => {
            spec.rates = FaultRates {
                drop: 0.03,
                damage: 0.03,
                ..FaultRates::default()
            }
        }
        2 => {
            let faults = [
                EngineFault::Panic,
                EngineFault::ShortLogits,
                EngineFault::Refuse,
            ];
            let mut fault = || (rng.random_range(0..60), faults[rng.random_range(0..3)]);
            spec.engine_faults = vec![fault(), fault(), fault()];
        }
        _ => {
            spec.rates = FaultRates {
                drop: 0.01,
                repeat: 0.02,
                delay: 0.01,
                damage: 0.01,
            };
            spec.engine_faults = vec![(rng.random_range(0..60), EngineFault::Panic)];
        }
    }
    spec.n_faults = 4;
    spec
}

/// The first `n`, or the one that the environment names.
fn seeds(n: u64) -> Result<Range<u64>> {
    match std::env::var("JUPITER_FAULT_SEED") {
        Ok(only) => Ok(only.parse()?).map(|seed: u64| seed..seed + 1),
        Err(_) => Ok(0..n),
    }
}

/// Asks all prompts at once, each with another source of guesses; which, the seed says.
async fn ask_all(cluster: &mut Cluster, seed: u64, expected: &[Vec<Token>]) -> Result<Vec<Answer>> {
    let asked: Vec<_> = (seed..)
        .zip(prompts().iter().zip(expected))
        .map(|(which, (prompt, answer))| {
            let source = match which % 4 {
                0 => DraftChoice::None,
                1 => oracle(prompt, answer, 0.7, seed),
                2 => oracle(prompt, answer, 1.0, seed),
                _ => DraftChoice::Auto,
            };
            cluster.ask_guessing(prompt, N_TOKENS, guessing(source, None))
        })
        .collect();
    let mut answers = Vec::new();
    for events in asked {
        answers.push(read(events).await?);
    }
    Ok(answers)
}

#[track_caller]
fn assert_texts(answers: &[Answer], expected: &[Vec<Token>]) -> Result<()> {
    for (answer, expected) in answers.iter().zip(expected) {
        answer
            .end
            .as_ref()
            .map_err(|error| anyhow::anyhow!("failed: {error}"))?;
        ensure!(
            &answer.tokens == expected,
            "{:?}, expected {expected:?}",
            answer.tokens
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_seed_ends_with_the_right_text() -> Result<()> {
    assert_every_seed(&tiny_model()?, N_SEEDS).await
}

/// One test for each kind of memory, so that a failure names it.
macro_rules! every_seed_of_memory {
    ($($name:ident: $arch:ident,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() -> Result<()> {
            assert_every_seed(&tiny_model_of(SynthArch::$arch)?, N_MEMORY_SEEDS).await
        }
    )*};
}

every_seed_of_memory! {
    sliding_windows: Gemma3,
    delta_nets: Qwen35,
    short_convolutions: Lfm2,
    mamba2: GraniteHybrid,
    states_alone: Mamba2,
    latent_vectors: DeepSeek2,
    latent_vectors_and_deltas: KimiLinear,
}

async fn assert_every_seed(model: &Path, n: u64) -> Result<()> {
    let expected = expected(model)?;
    for seed in seeds(n)? {
        let replay = || format!("JUPITER_FAULT_SEED={seed} replays this");
        let mut spec = spec(seed, model);
        spec.draft = Some(tiny_model()?);
        let has_block = ModelInfo::from_gguf(&GgufFile::open(model)?)?.has_mtp();
        spec.heads = has_block.then_some(HeadsId::Mtp);
        let mut cluster = Cluster::start(&spec).await.with_context(replay)?;
        let answers = ask_all(&mut cluster, seed, &expected)
            .await
            .with_context(replay)?;
        assert_texts(&answers, &expected).with_context(replay)?;
        cluster.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_of_an_answer_end_with_the_right_text_too() -> Result<()> {
    let shared: Vec<Token> = (70..82).collect();
    let own = |i: Token| vec![90 + i; 1 + i as usize];
    let prompts: Vec<Vec<Token>> = (0..5).map(|i| [shared.clone(), own(i)].concat()).collect();
    let model = tiny_model()?;
    let text = |prompt: &Vec<Token>| greedy_text(&model, prompt, N_TOKENS as usize);
    let expected = prompts.iter().map(text).collect::<Result<Vec<_>>>()?;
    for seed in seeds(N_SEEDS / 2)? {
        let replay = || format!("JUPITER_FAULT_SEED={seed} replays this");
        let mut cluster = Cluster::start(&spec(seed, &model))
            .await
            .with_context(replay)?;
        let events = cluster.ask_parts(&prompts, N_TOKENS, |i| {
            let acceptance = [0.0, 0.7, 1.0][seed as usize % 3];
            let source = match i % 2 {
                0 => DraftChoice::None,
                _ => oracle(&prompts[i], &expected[i], acceptance, seed),
            };
            guessing(source, None)
        });
        let mut answers = Vec::new();
        for events in events {
            answers.push(read(events).await.with_context(replay)?);
        }
        assert_texts(&answers, &expected).with_context(replay)?;
        cluster.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losses_beyond_recovery_end_in_a_clear_error() -> Result<()> {
    let mut spec = ClusterSpec::new(&tiny_model()?, 2);
    spec.step_timeout_ms = 100;
    spec.n_faults = u32::MAX;
    spec.rates.drop = 0.7;
    let mut cluster = Cluster::start(&spec).await?;
    let answer = read(cluster.ask(&prompts()[1], N_TOKENS)).await?;
    let error = answer
        .end
        .err()
        .context("it answered with most frames lost")?
        .to_string();
    ensure!(
        error.contains("gave up after") && error.contains("the last fault"),
        "{error}"
    );
    let written = greedy_text(&tiny_model()?, &prompts()[1], N_TOKENS as usize)?;
    ensure!(
        written.starts_with(&answer.tokens),
        "what came before the error is right"
    );
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_and_a_lost_planner_cost_no_token() -> Result<()> {
    let mut spec = ClusterSpec::new(&tiny_model()?, 3);
    spec.n_nodes = 3;
    spec.split = SplitPolicy::Stages(3);
    let mut cluster = Cluster::start(&spec).await?;
    let mut first = cluster.ask(&prompts()[0], N_TOKENS);
    // In the middle of the answer, not before it.
    first.recv().await.context("no token")?;
    cluster.lose(2);
    let mut second = cluster.ask(&prompts()[1], 1 + N_TOKENS);
    second.recv().await.context("no token")?;
    cluster.kill_planner();
    let expected = expected(&tiny_model()?)?;
    let (first, second) = (read(first).await?, read(second).await?);
    ensure!(
        first.tokens == expected[0][1..],
        "{:?}, expected {:?}",
        first.tokens,
        expected[0]
    );
    let written = greedy_text(&tiny_model()?, &prompts()[1], 1 + N_TOKENS as usize)?;
    ensure!(
        second.tokens == written[1..],
        "{:?}, expected {written:?}",
        second.tokens
    );
    let nodes: Vec<_> = cluster
        .status()
        .await?
        .stages
        .into_iter()
        .map(|s| s.node.0)
        .collect();
    ensure!(nodes == ["node-0", "node-0", "node-1"], "{nodes:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_stream_frees_its_place() -> Result<()> {
    let mut spec = ClusterSpec::new(&tiny_model()?, 2);
    (spec.n_parallel, spec.n_branches, spec.engine.n_seq_max) = (1, 0, 3);
    let mut cluster = Cluster::start(&spec).await?;
    let mut endless = cluster.ask(&prompts()[1], 400);
    endless.recv().await.context("no token")?;
    let waiting = cluster.ask(&prompts()[0], N_TOKENS);
    drop(endless);
    assert_texts(&[read(waiting).await?], &expected(&tiny_model()?)?[..1])?;
    let mut cancelled = cluster.ask(&prompts()[1], 400);
    cancelled.recv().await.context("no token")?;
    cluster.tell(PlannerMessage::Cancel(jupiter_actors::RequestId(2)));
    let waiting = cluster.ask(&prompts()[0], N_TOKENS);
    assert_texts(&[read(waiting).await?], &expected(&tiny_model()?)?[..1])?;
    cluster.stop().await;
    Ok(())
}
