//! Many requests where memory is short, and many that begin alike: each is as if it were alone.

use std::path::Path;

use anyhow::{Result, ensure};
use jupiter_actors::RequestId;
use jupiter_actors::request::{Completion, GenerateRequest};
use jupiter_models::Token;
use jupiter_models::synth::SynthArch;
use jupiter_tests::cluster::{Cluster, ClusterSpec, read};
use jupiter_tests::model::{greedy_text, tiny_model, tiny_model_of};

const N_TOKENS: usize = 24;

/// A cluster of two stages for `n` requests at once, with `n_ctx` cells.
fn spec(model: &Path, n: u32, n_ctx: u32) -> ClusterSpec {
    let mut spec = ClusterSpec::new(model, 2);
    let n_others = spec.engine.n_seq_max - spec.n_parallel;
    (spec.n_parallel, spec.engine.n_seq_max) = (n, n + n_others);
    spec.engine.n_ctx = n_ctx;
    spec
}

fn request(prompt: &[Token]) -> GenerateRequest {
    let mut request = GenerateRequest::new(RequestId(0), prompt.to_vec());
    request.n_predict = Some(N_TOKENS as u32);
    request.sampling.temperature = 0.0;
    request
}

/// Asks all prompts at once; what each took, when all have the texts that they have alone.
async fn answer_all(
    cluster: &mut Cluster,
    model: &Path,
    prompts: &[Vec<Token>],
) -> Result<Vec<Completion>> {
    let asked = prompts.iter().map(|prompt| cluster.submit(request(prompt)));
    let asked: Vec<_> = asked.collect();
    let mut done = Vec::new();
    for (prompt, events) in prompts.iter().zip(asked) {
        let answer = read(events).await?;
        let text = greedy_text(model, prompt, N_TOKENS)?;
        ensure!(answer.tokens == text, "{:?}, not {text:?}", answer.tokens);
        done.push(answer.end?);
    }
    Ok(done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_requests_complete_in_a_context_for_eight() -> Result<()> {
    let prompts: Vec<Vec<Token>> = (0..32)
        .map(|i| (0..8).map(|at| 60 + (i * 7 + at) % 200).collect())
        .collect();
    let model = tiny_model()?;
    let mut cluster = Cluster::start(&spec(&model, 32, 256)).await?;
    let done = answer_all(&mut cluster, &model, &prompts).await?;
    let n_preempted: u64 = done.iter().map(|done| u64::from(done.n_preempted)).sum();
    ensure!(n_preempted > 0, "nobody had to give way");
    ensure!(cluster.status().await?.n_preempted == n_preempted);
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sixteen_requests_begin_with_is_computed_once() -> Result<()> {
    const N_SHARED: usize = 200;
    const N_OWN: usize = 3;
    let shared: Vec<Token> = (0..N_SHARED as Token).map(|at| 60 + at).collect();
    let own = |i: Token| (0..N_OWN as Token).map(move |at| 70 + 11 * i + at);
    let prompts: Vec<Vec<Token>> = (0..16)
        .map(|i| shared.iter().copied().chain(own(i)).collect())
        .collect();
    // With a cache of keys, with states beside it, and with states alone.
    for arch in [SynthArch::Llama, SynthArch::Qwen35, SynthArch::Mamba2] {
        let model = tiny_model_of(arch)?;
        let mut cluster = Cluster::start(&spec(&model, 16, 1024)).await?;
        let done = answer_all(&mut cluster, &model, &prompts).await?;
        let n_computed = done
            .iter()
            .map(|done| (done.n_prompt - done.n_cached) as usize);
        let n_computed: usize = n_computed.sum();
        let least = N_SHARED + 16 * N_OWN;
        ensure!(
            n_computed <= least + N_SHARED / 4,
            "{arch}: {n_computed} rows of prompts"
        );
        cluster.stop().await;
    }
    Ok(())
}
