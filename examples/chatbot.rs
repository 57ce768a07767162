//! A chatbot on a pipeline of two stages inside this program; zenoh carries the activations.
//!
//! ```sh
//! cargo run --example chatbot                                    # talk
//! cargo run --example chatbot -- --prompt 'Hello'                # one answer
//! cargo run --example chatbot -- --model model.gguf --stages 3   # with a model of your own
//! ```
//!
//! Without `--model` it makes one with random weights, once, in the cache folder: the way of the
//! words through the stages is real, what they say means nothing.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use jupiter::terminal::{ChatEnd, Conversation, ProgressBars};
use jupiter::{ClusterStatus, GenerateOptions, Runtime};
use jupiter_models::cache_root;
use jupiter_models::synth::{self, SynthArch, SynthSpec, SynthType};

/// Longest answer of the generated model, which knows no end: a few lines are enough to see it.
const RANDOM_ANSWER_TOKENS: u32 = 64;

/// A chatbot on a pipeline of stages inside this program.
#[derive(Debug, Parser)]
struct Args {
    /// Answer this and end; without it, talk
    #[arg(short, long, env = "JUPITER_PROMPT")]
    prompt: Option<String>,
    /// The model, a GGUF file; without it one with random weights is made
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
    match run(Args::parse()).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let bars = Arc::new(ProgressBars::new());
    let mut n_predict = args.n_predict;
    let model = match args.model {
        Some(model) => model,
        None => {
            n_predict = n_predict.or(Some(RANDOM_ANSWER_TOKENS));
            random_model(&bars)?
        }
    };
    let runtime = Runtime::builder()
        .model(model)
        .stages(args.stages)
        .parallel(1)
        .progress(bars.clone())
        .start()
        .await?;
    bars.clear();
    describe(&runtime.status().await?);

    let options = GenerateOptions {
        n_predict,
        ..GenerateOptions::default()
    };
    let mut conversation = Conversation::new(runtime.client(), options, None).show_timing(true);
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
        eprintln!(
            "stage {}: layers {} on node {}",
            stage.stage, stage.layers, stage.node
        );
    }
    eprintln!("zenoh carries the activations from stage to stage.");
}

/// A small model with random weights from the cache folder, made there the first time.
fn random_model(bars: &ProgressBars) -> anyhow::Result<PathBuf> {
    eprintln!(
        "No --model given: this is a generated model. Its weights are random, so what it says is \
         nonsense."
    );
    let spec = SynthSpec {
        n_layer: 8,
        n_vocab: 4096,
        ty: SynthType::Q8_0,
        ..SynthSpec::new(SynthArch::Llama)
    };
    let path = cache_root().join(format!("random-{}-{}-layers.gguf", spec.arch, spec.n_layer));
    if !path.exists() {
        let folder = cache_root();
        std::fs::create_dir_all(&folder)
            .map_err(|error| anyhow::anyhow!("{}: {error}", folder.display()))?;
        synth::write(&spec, &path, &mut |done, total| {
            bars.bytes("making a model", done, total)
        })?;
    }
    Ok(path)
}
