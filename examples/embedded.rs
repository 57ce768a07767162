//! The library in ten lines: a model in two stages inside this program, and one answer.
//!
//! ```sh
//! cargo run --example embedded -- model.gguf 'Why is the sky blue?'
//! ```

use std::io::Write;

use futures::StreamExt;
use jupiter::{GenerateOptions, Prompt, Runtime, StreamItem};

async fn answer(model: &str, text: &str) -> anyhow::Result<()> {
    let runtime = Runtime::builder().model(model).stages(2).start().await?;
    let options = GenerateOptions {
        n_predict: Some(128),
        ..GenerateOptions::default()
    };
    let mut stream = runtime
        .client()
        .generate(Prompt::text(text), options)
        .await?;
    while let Some(item) = stream.next().await {
        match item? {
            StreamItem::Token { text, .. } => write!(std::io::stdout(), "{text}")?,
            StreamItem::Done(done) => writeln!(std::io::stdout(), "\n({} tokens)", done.n_eval)?,
        }
    }
    runtime.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, model, text] = arguments.as_slice() else {
        eprintln!("usage: embedded MODEL.gguf PROMPT");
        return 2.into();
    };
    if let Err(error) = answer(model, text).await {
        eprintln!("error: {error}");
        return 1.into();
    }
    0.into()
}
