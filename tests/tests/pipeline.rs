//! The golden rule: a model in stages writes what the whole model writes, through Planner, Stages
//! and Verifier on the in-memory link.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use jupiter_actors::RequestId;
use jupiter_actors::planner::SplitPolicy;
use jupiter_actors::request::{FinishReason, GenerateRequest};
use jupiter_models::sampling::SamplingParams;
use jupiter_models::synth::{self, SynthArch, SynthSpec, SynthType};
use jupiter_models::{LayerRange, Token};
use jupiter_tests::cluster::{Cluster, ClusterSpec, read};
use jupiter_tests::model::{
    greedy_text, ranges_between, sampled_text, scratch, tiny_model, tiny_spec,
};

const N_TOKENS: u32 = 64;

fn prompt() -> Vec<Token> {
    (60..81).collect()
}

/// A six-layer model of an architecture.
fn six_layers(arch: SynthArch) -> Result<PathBuf> {
    let path = scratch().join(format!("{arch}-6.gguf"));
    let tied = SynthSpec::new(arch).tied;
    let spec = SynthSpec {
        arch,
        n_layer: 6,
        tied,
        ty: SynthType::F32,
        ..tiny_spec()
    };
    let spec = SynthSpec {
        n_expert: SynthSpec::new(arch).n_expert,
        ..spec
    };
    let spec = SynthSpec {
        n_expert_used: SynthSpec::new(arch).n_expert_used,
        ..spec
    };
    let spec = SynthSpec {
        n_swa: SynthSpec::new(arch).n_swa,
        ..spec
    };
    synth::write(&spec, &path, &mut |_, _| {})?;
    Ok(path)
}

/// Runs the prompt through stages cut as asked and compares with the whole model.
async fn check(model: &Path, expected: &[Token], ranges: Vec<LayerRange>) -> Result<()> {
    let mut spec = ClusterSpec::new(model, ranges.len() as u32);
    spec.split = SplitPolicy::Ranges(ranges.clone());
    let mut cluster = Cluster::start(&spec).await?;
    let answer = read(cluster.ask(&prompt(), N_TOKENS)).await?;
    let done = answer.end?;
    ensure!(
        answer.tokens == expected,
        "{:?}, expected {expected:?}",
        answer.tokens
    );
    ensure!(
        (done.n_prompt, done.n_eval) == (21, expected.len() as u32),
        "{done:?}"
    );
    ensure!(done.stages.iter().map(|s| s.layers).eq(ranges), "{done:?}");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_architecture_and_cut_writes_the_same() -> Result<()> {
    for arch in SynthArch::COMMON {
        let model = six_layers(arch)?;
        let expected = greedy_text(&model, &prompt(), N_TOKENS as usize)?;
        let mut cuts: Vec<Vec<u32>> = (1..6).map(|cut| vec![cut]).collect();
        cuts.extend([vec![], vec![2, 4], vec![1, 5], vec![1, 2, 3, 4, 5]]);
        for cuts in cuts {
            let ranges = ranges_between(&cuts, 6);
            let what = || format!("{arch}, cut at {cuts:?}");
            check(&model, &expected, ranges).await.with_context(what)?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_that_share_the_pipeline_do_not_touch_each_other() -> Result<()> {
    let model = tiny_model()?;
    let mut cluster = Cluster::start(&ClusterSpec::new(&model, 2)).await?;
    let prompts: Vec<Vec<Token>> = (0..9).map(|i| (40 + i..60 + 4 * i).collect()).collect();
    let asked: Vec<_> = prompts
        .iter()
        .map(|prompt| cluster.ask(prompt, 24))
        .collect();
    for (prompt, events) in prompts.iter().zip(asked) {
        let answer = read(events).await?;
        answer.end?;
        ensure!(
            answer.tokens == greedy_text(&model, prompt, 24)?,
            "{prompt:?}"
        );
    }
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seeded_text_is_the_same_in_stages_and_alone() -> Result<()> {
    let model = tiny_model()?;
    let sampling = SamplingParams {
        seed: 7,
        temperature: 1.5,
        grammar: Some("root ::= [ -~]*".into()),
        ..SamplingParams::default()
    };
    let expected = sampled_text(&model, &prompt(), 32, &sampling)?;
    ensure!(
        expected != greedy_text(&model, &prompt(), 32)?,
        "it was sampled"
    );
    for n_stages in [1, 2] {
        let mut cluster = Cluster::start(&ClusterSpec::new(&model, n_stages)).await?;
        let mut request = GenerateRequest::new(RequestId(0), prompt());
        request.n_predict = Some(32);
        request.sampling = sampling.clone();
        let answer = read(cluster.submit(request)).await?;
        let end = answer.end?;
        ensure!(
            answer.tokens == expected,
            "{n_stages} stages: {:?}, expected {expected:?}; {end:?}",
            answer.tokens
        );
        cluster.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_grammar_ends_its_request_only() -> Result<()> {
    let model = tiny_model()?;
    let mut cluster = Cluster::start(&ClusterSpec::new(&model, 2)).await?;
    let mut request = GenerateRequest::new(RequestId(0), prompt());
    request.sampling.grammar = Some("root ::= (".into());
    let bad = cluster.submit(request);
    let good = cluster.ask(&prompt(), 8);
    let error = read(bad)
        .await?
        .end
        .err()
        .context("it was answered")?
        .to_string();
    ensure!(error.contains("grammar"), "{error}");
    let answer = read(good).await?;
    ensure!(answer.end?.reason == FinishReason::Length, "unhurt");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_turn_of_a_conversation_continues_the_cells_of_the_last() -> Result<()> {
    let model = tiny_model()?;
    let mut cluster = Cluster::start(&ClusterSpec::new(&model, 2)).await?;
    let mut prompt = prompt();
    for turn in 0..3 {
        let mut request = GenerateRequest::new(RequestId(0), prompt.clone());
        request.n_predict = Some(8);
        request.sampling.temperature = 0.0;
        let answer = read(cluster.submit(request)).await?;
        answer.end?;
        let steps = cluster.status().await?.steps.n_steps;
        // 21 tokens in three chunks and 8 answers, then two chunks for what is new each time.
        ensure!(
            steps <= 3 + 8 + turn * (2 + 8),
            "turn {turn}: {steps} steps"
        );
        prompt.extend(answer.tokens);
        prompt.extend([70, 71, 72]);
    }
    cluster.stop().await;
    Ok(())
}
