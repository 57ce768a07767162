//! How many tokens a step brings when they are guessed ahead: long answers to held-out questions by
//! the model's own sources, and text that repeats its prompt by n-grams.

use std::path::Path;

use anyhow::{Result, bail};
use futures::StreamExt;
use jupiter::{
    Client, DraftChoice, GenerateOptions, OutlineMode, Prompt, Runtime, SpeculationParams,
    SpeculationUsage, StreamItem,
};
use jupiter_models::sampling::SamplingParams;
use jupiter_world::{Kind, Split, World};

use super::SEED;
use super::answers::messages;

/// No answer of the generator is longer.
const MOST_TOKENS: u32 = 400;

/// The model, its draft model and its heads in the folder `files`, in two stages, for one answer at
/// a time.
///
/// # Errors
/// When they cannot run.
pub async fn start(files: &Path) -> Result<Runtime> {
    let runtime = Runtime::builder()
        .model(files.join("robot-q8_0.gguf"))
        .draft_model(files.join("robot-draft-q8_0.gguf"))
        .medusa(files.join("robot-medusa-q8_0.gguf"))
        .stages(2)
        .parallel(1)
        .start()
        .await?;
    runtime.ready().await?;
    Ok(runtime)
}

/// Tokens a step of long answers with guesses of `source`, over `n` held-out questions, in the shapes
/// that pay on this machine.
///
/// # Errors
/// When a request fails.
pub async fn long_answers(
    client: &Client,
    world: &World,
    source: DraftChoice,
    n: u64,
) -> Result<f64> {
    let mut steps = Steps::default();
    for index in 0..n {
        let example = world.example_of(Kind::Long, Split::HeldOut, SEED, index);
        let prompt = Prompt::chat(messages(&example));
        steps.add(&answer(client, prompt, source.clone(), None, None).await?);
    }
    Ok(steps.tokens_per_step())
}

/// Tokens a step where the answer has to repeat the prompt, by n-grams, over `n` texts, one step at a
/// time.
///
/// # Errors
/// When a request fails.
pub async fn repetitions(client: &Client, world: &World, n: u64) -> Result<f64> {
    let mut steps = Steps::default();
    for index in 0..n {
        let example = world.example_of(Kind::Long, Split::HeldOut, SEED, index);
        let Some(turn) = example.turns.last() else {
            continue;
        };
        let text = &turn.assistant;
        let literal = text.replace('\\', "\\\\").replace('"', "\\\"");
        let grammar = format!("root ::= \"{}\"", literal.replace('\n', "\\n"));
        let prompt = Prompt::text(format!("Repeat this: {text}"));
        let done = answer(client, prompt, DraftChoice::Ngram, Some(1), Some(grammar));
        steps.add(&done.await?);
    }
    Ok(steps.tokens_per_step())
}

/// Steps and tokens of many answers.
#[derive(Default)]
struct Steps {
    n_steps: u32,
    n_tokens: u32,
}

impl Steps {
    fn add(&mut self, usage: &SpeculationUsage) {
        self.n_steps += usage.n_steps;
        self.n_tokens += usage.n_tokens;
    }

    fn tokens_per_step(&self) -> f64 {
        f64::from(self.n_tokens) / f64::from(self.n_steps.max(1))
    }
}

async fn answer(
    client: &Client,
    prompt: Prompt,
    source: DraftChoice,
    in_flight: Option<u32>,
    grammar: Option<String>,
) -> Result<SpeculationUsage> {
    let options = GenerateOptions {
        n_predict: Some(MOST_TOKENS),
        sampling: SamplingParams {
            grammar,
            ..SamplingParams::greedy()
        },
        speculation: Some(SpeculationParams {
            source,
            in_flight,
            ..SpeculationParams::default()
        }),
        outline: Some(OutlineMode::Off),
        ..GenerateOptions::default()
    };
    let mut stream = client.generate(prompt, options).await?;
    while let Some(item) = stream.next().await {
        if let StreamItem::Done(done) = item? {
            return Ok(done.speculation.unwrap_or_default());
        }
    }
    bail!("the answer has no end")
}
