//! A chatbot on a pipeline of two stages inside this program; zenoh carries the activations.
//!
//! ```sh
//! cargo run --example chatbot                                    # talk
//! cargo run --example chatbot -- --prompt 'What is a lidar?'     # one answer
//! cargo run --example chatbot -- --model model.gguf --stages 3   # with a model of your own
//! ```
//!
//! Without `--model` the small model answers that is embedded in the library. It needs no network
//! and knows one thing, a mobile robot and the devices around it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use jupiter::terminal::{ChatEnd, Conversation, DEFAULT_MODEL_NOTICE, ProgressBars, tell};
use jupiter::{ClusterStatus, GenerateOptions, Runtime};

/// A chatbot on a pipeline of stages inside this program.
#[derive(Debug, Parser)]
struct Args {
    /// Answer this and end; without it, talk
    #[arg(short, long, env = "JUPITER_PROMPT")]
    prompt: Option<String>,
    /// The model, a GGUF file; without it the small default model
    #[arg(short, long, env = "JUPITER_MODEL")]
    model: Option<PathBuf>,
    /// Stages to cut the model into
    #[arg(long, env = "JUPITER_STAGES", default_value_t = 2)]
    stages: u32,
    /// Most tokens of an answer; without it, until the model ends
    #[arg(short, long, env = "JUPITER_N_PREDICT")]
    n_predict: Option<u32>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(jupiter::environment::parse()).await {
        Ok(code) => code,
        Err(error) => {
            tell(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bars = Arc::new(ProgressBars::new());
    let mut builder = Runtime::builder();
    match args.model {
        Some(model) => builder = builder.model(model),
        None => eprintln!("{DEFAULT_MODEL_NOTICE}"),
    }
    let runtime = builder
        .stages(args.stages)
        .parallel(1)
        .progress(bars.clone())
        .start()
        .await?;
    bars.clear();
    describe(&runtime.status().await?);

    let client = runtime.client();
    let options = GenerateOptions {
        n_predict: args.n_predict,
        ..client.default_options()
    };
    let mut conversation = Conversation::new(client, options, None).show_timing(true);
    let ended = match &args.prompt {
        Some(prompt) => conversation.say(prompt).await.map(|()| ChatEnd::Left),
        None => conversation.run().await,
    };
    drop(conversation);
    runtime.shutdown().await;
    Ok(if ended? == ChatEnd::Left {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Says which stage holds which layers.
fn describe(status: &ClusterStatus) {
    for stage in &status.stages {
        tell(&format!(
            "stage {}: layers {} on node {}",
            stage.stage, stage.layers, stage.node
        ));
    }
    eprintln!("zenoh carries the activations from stage to stage.");
}
