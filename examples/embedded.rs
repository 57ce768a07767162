//! The library in ten lines: a model in two stages inside this program, and one answer.
//!
//! ```sh
//! cargo run --example embedded -- 'What is a lidar?'                      # the default model
//! cargo run --example embedded -- 'Why is the sky blue?' model.gguf       # one of yours
//! ```

use std::io::Write;

use futures::StreamExt;
use jupiter::terminal::{tell, text_for};
use jupiter::{GenerateOptions, Prompt, Runtime, StreamItem};

async fn answer(text: &str, model: Option<&str>) -> anyhow::Result<()> {
    let mut builder = Runtime::builder().stages(2);
    if let Some(model) = model {
        builder = builder.model(model);
    }
    let runtime = builder.start().await?;
    let client = runtime.client();
    let options = GenerateOptions {
        n_predict: Some(128),
        ..client.default_options()
    };
    let mut stream = client.generate(Prompt::text(text), options).await?;
    while let Some(item) = stream.next().await {
        match item? {
            StreamItem::Token { text, .. } => {
                // On a terminal escape sequences of the model are shown, not sent.
                let mut stdout = std::io::stdout();
                write!(stdout, "{}", text_for(&stdout, &text))?;
            }
            StreamItem::Done(done) => writeln!(std::io::stdout(), "\n({} tokens)", done.n_eval)?,
            // How the points of a long answer grow side by side: all of it comes as tokens too.
            StreamItem::Outline { .. } | StreamItem::Branch(_) => {}
            // What a model thinks before it answers.
            StreamItem::Thought { .. } => {}
        }
    }
    runtime.shutdown().await;
    Ok(())
}

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (text, model) = match arguments.as_slice() {
        [text] => (text, None),
        [text, model] => (text, Some(model.as_str())),
        _ => {
            eprintln!("usage: embedded PROMPT [MODEL.gguf]");
            return 2.into();
        }
    };
    if let Err(error) = answer(text, model).await {
        tell(&format!("error: {error}"));
        return 1.into();
    }
    0.into()
}
