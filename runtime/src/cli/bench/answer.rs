//! How a benchmark has a pipeline answer.

use futures::StreamExt;
use jupiter::{
    Client, Completion, DraftChoice, GenerateOptions, Prompt, SamplingParams, SpeculationParams,
    StageUsage, StreamItem,
};
use jupiter_models::Token;

/// Greedily, to the last token asked for; without `speculation` nothing is guessed.
pub(super) fn options(n_predict: u32, speculation: Option<SpeculationParams>) -> GenerateOptions {
    let none = SpeculationParams {
        source: DraftChoice::None,
        ..SpeculationParams::default()
    };
    GenerateOptions {
        n_predict: Some(n_predict),
        sampling: SamplingParams::greedy(),
        ignore_eos: true,
        speculation: Some(speculation.unwrap_or(none)),
        ..GenerateOptions::default()
    }
}

/// What the answer took, and its tokens.
pub(super) async fn complete(
    client: &Client,
    prompt: Vec<Token>,
    options: GenerateOptions,
) -> anyhow::Result<(Completion, Vec<Token>)> {
    let mut stream = client.generate(Prompt::tokens(prompt), options).await?;
    let mut tokens = Vec::new();
    while let Some(item) = stream.next().await {
        match item? {
            StreamItem::Token { id, .. } | StreamItem::Thought { id, .. } => tokens.extend(id),
            StreamItem::Outline { .. } | StreamItem::Branch(_) => {}
            StreamItem::Done(done) => {
                ensure_whole(&done)?;
                return Ok((done, tokens));
            }
        }
    }
    anyhow::bail!("the answer broke off")
}

/// By stage, what answers took of it together, in milliseconds.
pub(super) fn busy_ms(done: &[Completion], of: impl Fn(&StageUsage) -> f64) -> Vec<f64> {
    let n_stages = done.iter().map(|done| done.stages.len()).max();
    let of_stage = |at: usize| done.iter().filter_map(move |done| done.stages.get(at));
    let stages = 0..n_stages.unwrap_or_default();
    stages.map(|at| of_stage(at).map(&of).sum()).collect()
}

/// # Errors
/// When something was computed again, which is no measurement.
pub(super) fn ensure_whole(done: &Completion) -> anyhow::Result<()> {
    anyhow::ensure!(done.n_replays == 0, "a stage failed during the measurement");
    Ok(())
}
