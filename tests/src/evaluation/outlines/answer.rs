//! One answer, plain or point by point, and when its words came.

use std::time::Instant;

use anyhow::{Result, bail};
use futures::StreamExt;
use jupiter::outline::Outline;
use jupiter::{
    Client, Config, DraftChoice, FinishReason, GenerateOptions, OutlineMode, Prompt, Runtime,
    Settings, SpeculationParams, StreamItem, Worker,
};
use jupiter_models::sampling::SamplingParams;
use jupiter_models::text::ChatMessage;

/// No answer of the generator is longer, with titles.
const MOST_TOKENS: u32 = 600;

/// How an answer is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// Point by point, or in one piece.
    pub is_outlined: bool,
    /// Whether tokens are guessed ahead as is configured by default, or not at all.
    pub guesses: bool,
}

impl Way {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self::new(false, false),
        Self::new(true, false),
        Self::new(false, true),
        Self::new(true, true),
    ];

    const fn new(is_outlined: bool, guesses: bool) -> Self {
        Self {
            is_outlined,
            guesses,
        }
    }
}

/// An answer as its reader sees it. Times are milliseconds from the question.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The text in order.
    pub text: String,
    /// Its points, if it has any.
    pub outline: Option<Outline>,
    /// When all points were known.
    pub outline_ms: Option<f64>,
    /// When the text in order began.
    pub first_word_ms: f64,
    /// When its last piece came.
    pub last_word_ms: f64,
    /// Whether the model ended it, or every point of it, by itself.
    pub ended: bool,
}

/// The default model in two stages of one thread each inside this program.
///
/// # Errors
/// When it cannot run.
pub async fn start() -> Result<Runtime> {
    // No file is named: the default model is asked for outlines in words of its own.
    let runtime = Runtime::builder().stages(2).threads(1).parallel(1);
    let runtime = runtime.start().await?;
    runtime.ready().await?;
    Ok(runtime)
}

/// The same with its stages on two nodes, as `--outline auto` wants them.
///
/// # Errors
/// When it cannot run.
pub async fn start_spread() -> Result<(Runtime, Worker)> {
    let cluster = format!("spread-{}", std::process::id());
    let runtime = Runtime::builder()
        .cluster(&cluster)
        .listen(["tcp/127.0.0.1:0"])
        .workers(1)
        .plan("even")
        .threads(1)
        .parallel(1);
    let runtime = runtime.start().await?;
    let mut settings = Settings::default();
    settings.network.cluster = Some(cluster);
    settings.network.node = Some("second".into());
    settings.network.connect = runtime.endpoints().to_vec();
    settings.engine.threads = Some(1);
    let worker = Worker::start(Config::from_settings(settings)?).await?;
    runtime.ready().await?;
    Ok((runtime, worker))
}

/// Asks for an answer, greedily, and reads it to its end.
///
/// # Errors
/// When the request fails.
pub async fn write(client: &Client, chat: &[ChatMessage], way: Way) -> Result<Answer> {
    let outline = match way.is_outlined {
        true => OutlineMode::On,
        false => OutlineMode::Off,
    };
    write_as(client, chat, outline, way.guesses).await
}

/// The same, where the question may decide whether it is written point by point.
///
/// # Errors
/// When the request fails.
pub async fn write_as(
    client: &Client,
    chat: &[ChatMessage],
    outline: OutlineMode,
    guesses: bool,
) -> Result<Answer> {
    let no_guesses = SpeculationParams {
        source: DraftChoice::None,
        ..SpeculationParams::default()
    };
    let options = GenerateOptions {
        n_predict: Some(MOST_TOKENS),
        sampling: SamplingParams::greedy(),
        speculation: (!guesses).then_some(no_guesses),
        outline: Some(outline),
        ..GenerateOptions::default()
    };
    let asked = Instant::now();
    let ms = || asked.elapsed().as_secs_f64() * 1000.0;
    let mut stream = client.generate(Prompt::chat(chat), options).await?;
    let mut answer = Answer {
        text: String::new(),
        outline: None,
        outline_ms: None,
        first_word_ms: 0.0,
        last_word_ms: 0.0,
        ended: false,
    };
    while let Some(item) = stream.next().await {
        match item? {
            StreamItem::Token { text, .. } if !text.is_empty() => {
                answer.last_word_ms = ms();
                if answer.text.is_empty() {
                    answer.first_word_ms = answer.last_word_ms;
                }
                answer.text += &text;
            }
            StreamItem::Outline {
                outline,
                is_complete: true,
            } => {
                answer.outline_ms = Some(ms());
                answer.outline = Some(outline);
            }
            StreamItem::Done(done) => {
                answer.ended = done.reason == FinishReason::Stop;
                return Ok(answer);
            }
            StreamItem::Token { .. }
            | StreamItem::Thought { .. }
            | StreamItem::Outline { .. }
            | StreamItem::Branch(_) => {}
        }
    }
    bail!("the answer has no end: {}", answer.text)
}
