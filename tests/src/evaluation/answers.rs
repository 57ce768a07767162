//! Held-out questions, answered by the model in a pipeline of two stages, and judged.

use std::path::Path;

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt};
use jupiter::{Client, FinishReason, GenerateOptions, OutlineMode, Prompt, Runtime, StreamItem};
use jupiter_models::default_model;
use jupiter_models::sampling::SamplingParams;
use jupiter_models::text::ChatMessage;
use jupiter_world::{AnswerKind, Example, Kind, Score, Split, World};

use super::SEED;

/// Answers written at the same time.
pub(super) const PARALLEL: u32 = 8;
/// Tokens of context for each of them: four long turns.
const CTX_PER_ANSWER: u32 = 1024;
/// No answer of the generator is longer; one that goes on has not ended by itself.
const MOST_TOKENS: u32 = 400;

/// The verdicts of many answers, summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answers judged.
    pub answers: u32,
    /// Of them, those that the model ended itself.
    pub ended: u32,
    /// Those of the right form.
    pub valid: u32,
    /// Those valid, complete and with nothing foreign.
    pub perfect: u32,
    /// Those with something foreign in them.
    pub with_foreign: u32,
    /// Those that are commands.
    pub commands: u32,
    /// Things due, over all answers.
    pub due: u32,
    /// Of them, those found.
    pub found: u32,
}

impl Tally {
    fn add(&mut self, score: Score, ended: bool) {
        self.answers += 1;
        self.ended += u32::from(ended);
        self.valid += u32::from(score.valid);
        self.perfect += u32::from(score.is_perfect());
        self.with_foreign += u32::from(score.foreign > 0);
        self.due += score.due;
        self.found += score.found;
    }
}

/// The model of `path` in two stages inside this program.
///
/// # Errors
/// When it cannot run.
pub async fn start(path: &Path) -> Result<Runtime> {
    let runtime = Runtime::builder()
        .model(path)
        .stages(2)
        .parallel(PARALLEL)
        .ctx(PARALLEL * CTX_PER_ANSWER)
        .start()
        .await?;
    runtime.ready().await?;
    Ok(runtime)
}

/// Answers and judges `n` held-out examples of `kind`. `on_miss` gets every example that is not perfect,
/// and its answer.
///
/// # Errors
/// When a request fails.
pub async fn judge(
    client: &Client,
    world: &World,
    kind: Kind,
    n: u64,
    on_miss: &mut dyn FnMut(&Example, &str),
) -> Result<Tally> {
    let answers = (0..n).map(|index| async move {
        let example = world.example_of(kind, Split::HeldOut, SEED, index);
        let (answer, ended) = answer(client, messages(&example), greedy()).await?;
        anyhow::Ok((example, answer, ended))
    });
    let mut answers = futures::stream::iter(answers).buffered(PARALLEL as usize);
    let mut tally = Tally::default();
    while let Some((example, answer, ended)) = answers.try_next().await? {
        let score = example.check.score(&answer);
        tally.add(score, ended);
        tally.commands += u32::from(world.kind_of(&answer) == AnswerKind::Command);
        if !score.is_perfect() || !ended {
            on_miss(&example, &answer);
        }
    }
    Ok(tally)
}

/// The conversation up to the last question.
pub(super) fn messages(example: &Example) -> Vec<ChatMessage> {
    let mut messages: Vec<ChatMessage> = example
        .turns
        .iter()
        .flat_map(|turn| {
            [
                ChatMessage::user(&turn.user),
                ChatMessage::assistant(&turn.assistant),
            ]
        })
        .collect();
    messages.pop();
    messages
}

/// The likeliest answer in one piece.
pub(super) fn greedy() -> GenerateOptions {
    GenerateOptions {
        n_predict: Some(MOST_TOKENS),
        // As the client asks the default model.
        sampling: SamplingParams {
            logit_bias: vec![default_model::caution()],
            ..SamplingParams::greedy()
        },
        outline: Some(OutlineMode::Off),
        ..GenerateOptions::default()
    }
}

/// What the model answers, and whether it ended by itself.
///
/// # Errors
/// When the request fails.
pub async fn answer(
    client: &Client,
    messages: Vec<ChatMessage>,
    options: GenerateOptions,
) -> Result<(String, bool)> {
    let prompt = Prompt::chat(messages);
    let mut stream = client.generate(prompt, options).await?;
    let mut text = String::new();
    while let Some(item) = stream.next().await {
        match item? {
            StreamItem::Token { text: part, .. } => text += &part,
            StreamItem::Done(done) => return Ok((text, done.reason == FinishReason::Stop)),
            StreamItem::Thought { .. } | StreamItem::Outline { .. } | StreamItem::Branch(_) => {}
        }
    }
    Err(anyhow::anyhow!("the answer has no end")).context(text)
}
