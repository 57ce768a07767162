//! Parts of one answer, written side by side, are each as if it were alone.

use anyhow::{Result, ensure};
use jupiter_actors::planner::SplitPolicy;
use jupiter_actors::request::{Completion, DraftChoice, SpeculationParams};
use jupiter_models::Token;
use jupiter_tests::cluster::{Cluster, ClusterSpec, medusa, read};
use jupiter_tests::guesses::{guessing, oracle, random_heads};
use jupiter_tests::model::{greedy_text, scratch, tiny_model};

const N_SHARED: usize = 21;
const N_TOKENS: u32 = 24;

/// So many prompts that share their beginning.
fn prompts(n: usize) -> Vec<Vec<Token>> {
    let shared: Vec<Token> = (60..81).collect();
    let own = |i: usize| (0..3 + i % 4).map(move |at| (100 + (7 * i + at) % 200) as Token);
    (0..n)
        .map(|i| shared.iter().copied().chain(own(i)).collect())
        .collect()
}

fn expected(prompts: &[Vec<Token>], n: u32) -> Result<Vec<Vec<Token>>> {
    let model = tiny_model()?;
    prompts
        .iter()
        .map(|prompt| greedy_text(&model, prompt, n as usize))
        .collect()
}

/// What each part took; it has written its text.
async fn write(
    cluster: &mut Cluster,
    prompts: &[Vec<Token>],
    texts: &[Vec<Token>],
    speculation: impl Fn(usize) -> SpeculationParams,
) -> Result<Vec<Completion>> {
    let n = texts[0].len() as u32;
    let mut done = Vec::new();
    let events = cluster.ask_parts(prompts, n, speculation);
    for (i, (events, text)) in events.into_iter().zip(texts).enumerate() {
        let answer = read(events).await?;
        ensure!(
            answer.tokens == *text,
            "part {i}: {:?}, expected {text:?}",
            answer.tokens
        );
        done.push(answer.end?);
    }
    Ok(done)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_part_is_as_if_it_were_alone() -> Result<()> {
    let prompts = prompts(6);
    let texts = expected(&prompts, N_TOKENS)?;
    for n_stages in 1..=4 {
        let mut spec = ClusterSpec::new(&tiny_model()?, n_stages);
        let heads = random_heads(&tiny_model()?, scratch().join("branch-heads.gguf"))?;
        spec.heads = Some(medusa(heads));
        spec.draft = Some(tiny_model()?);
        let mut cluster = Cluster::start(&spec).await?;
        let source = |which: usize, i: usize| match which {
            0 => DraftChoice::None,
            1 => DraftChoice::Auto,
            _ => oracle(&prompts[i], &texts[i], 0.7, i as u64),
        };
        for which in 0..3 {
            let done = write(&mut cluster, &prompts, &texts, |i| {
                guessing(source(which, i), None)
            });
            let done = done.await?;
            let n_cached = done.iter().map(|done| done.n_cached as usize);
            let n_cached: Vec<usize> = n_cached.collect();
            ensure!(
                n_cached == [0, N_SHARED, N_SHARED, N_SHARED, N_SHARED, N_SHARED],
                "{n_cached:?}"
            );
        }
        cluster.stop().await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parts_go_on_when_a_node_is_lost() -> Result<()> {
    let mut spec = ClusterSpec::new(&tiny_model()?, 3);
    spec.n_nodes = 3;
    spec.split = SplitPolicy::Stages(3);
    let mut cluster = Cluster::start(&spec).await?;
    let prompts = prompts(5);
    let texts = expected(&prompts, N_TOKENS)?;
    let none = |_| guessing(DraftChoice::None, None);
    let mut events = cluster.ask_parts(&prompts, N_TOKENS, none);
    // In the middle of the answer, not before it.
    let first = events[4].recv().await;
    ensure!(first.is_some());
    cluster.lose(2);
    // A Planner that is killed before it has heard of it would have to find out for itself.
    cluster.status().await?;
    let second = events[0].recv().await;
    ensure!(second.is_some());
    cluster.kill_planner();
    let mut n_replays = 0;
    for (i, events) in events.into_iter().enumerate() {
        let answer = read(events).await?;
        n_replays += answer.end?.n_replays;
        let text = &texts[i];
        ensure!(text.ends_with(&answer.tokens) && answer.tokens.len() + 1 >= text.len());
    }
    ensure!(n_replays > 0, "they were replayed");
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_two_parts_take_turns_where_ten_have_room() -> Result<()> {
    let prompts = prompts(32);
    let texts = expected(&prompts, 20)?;
    let mut spec = ClusterSpec::new(&tiny_model()?, 2);
    spec.n_branches = 32;
    spec.engine.n_seq_max = spec.n_parallel + spec.n_branches;
    // 21 cells that all share, and at most 26 of each part: ten of them fit.
    spec.engine.n_ctx = 288;
    let mut cluster = Cluster::start(&spec).await?;
    let none = |_| guessing(DraftChoice::None, None);
    write(&mut cluster, &prompts, &texts, none).await?;
    cluster.stop().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vanished_client_leaves_the_cluster_to_others() -> Result<()> {
    let mut cluster = Cluster::start(&ClusterSpec::new(&tiny_model()?, 2)).await?;
    let prompts = prompts(6);
    let none = |_| guessing(DraftChoice::None, None);
    let mut endless = cluster.ask_parts(&prompts, 60, none);
    ensure!(endless[0].recv().await.is_some());
    drop(endless);
    let texts = expected(&prompts, N_TOKENS)?;
    write(&mut cluster, &prompts, &texts, none).await?;
    let status = cluster.status().await?;
    ensure!((status.n_live, status.n_waiting) == (0, 0));
    cluster.stop().await;
    Ok(())
}
