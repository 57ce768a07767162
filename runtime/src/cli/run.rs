//! `jupiter run`: one prompt, one answer.

use std::future::pending;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use clap::builder::BoolishValueParser;
use futures::StreamExt;
use jupiter::event::Event;
use jupiter::signals::Signals;
use jupiter::terminal::{AnswerPrinter, timing_line};
use jupiter::{ChatMessage, Prompt, TokenStream, text_file};

use super::answer_args::AnswerArgs;
use super::args::CommonArgs;
use super::leave::ExitCode;
use super::output::{self, UsageError};
use super::start;

/// Flags of `run`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  jupiter run -p 'What is a lidar?'
  jupiter run -m model.gguf -p 'Why is the sky blue?' -n 128
  jupiter run -m model.gguf --stages 2 --processes --temp 0 -f question.txt
  echo 'Once upon a time' | jupiter run -m model.gguf --split 4,12 --raw -p - --json")]
pub(crate) struct RunArgs {
    /// The prompt; - reads it from stdin
    #[arg(
        short,
        long,
        env = "JUPITER_PROMPT",
        value_name = "TEXT",
        allow_hyphen_values = true
    )]
    prompt: Option<String>,

    /// File that holds the prompt
    #[arg(short, long, env = "JUPITER_FILE", value_name = "FILE")]
    file: Option<PathBuf>,

    /// How the model should behave [short: -sys]
    #[arg(long, env = "JUPITER_SYSTEM_PROMPT", value_name = "TEXT")]
    system_prompt: Option<String>,

    /// Continue the prompt as it is, without the model's chat template
    #[arg(long, env = "JUPITER_RAW", value_parser = BoolishValueParser::new())]
    raw: bool,

    /// Read the names of control tokens in a raw prompt as these tokens: a chat format by hand
    #[arg(long, env = "JUPITER_SPECIAL", value_parser = BoolishValueParser::new())]
    special: bool,

    /// Print one JSON object a line: a `token` each, at last `done` or `error`
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    answer: AnswerArgs,
}

pub(crate) async fn execute(common: &CommonArgs, args: &RunArgs) -> anyhow::Result<ExitCode> {
    let answered = answer(common, args).await;
    if let (true, Err(error)) = (args.json, &answered) {
        let message = &output::one_line(error);
        let told = error.downcast_ref::<jupiter::Error>();
        output::json_line(&Event::Error {
            message,
            retry_after_ms: told.and_then(jupiter::Error::retry_after_ms),
        })?;
    }
    answered.map(|()| ExitCode::SUCCESS)
}

async fn answer(common: &CommonArgs, args: &RunArgs) -> anyhow::Result<()> {
    let prompt = prompt(args)?;
    let options = args.answer.options()?;
    let pipeline = args.answer.pipeline(common);
    start::with_pipeline(pipeline, Signals::stop()?, async |pipeline| {
        let options = args.answer.complete(options, pipeline);
        let stream = pipeline.runtime.client().generate(prompt, options).await?;
        if args.json {
            print_json(stream).await
        } else {
            print(stream).await
        }
    })
    .await
}

/// Prints an answer as it comes, and what it took.
async fn print(stream: TokenStream) -> anyhow::Result<()> {
    // Ctrl-C ends the program, which drops the stream.
    let answer = AnswerPrinter::stdout().print(stream, pending()).await?;
    if let Some(done) = answer.done {
        output::note(&timing_line(&done));
    }
    Ok(())
}

/// Prints the parts of an answer as they come, one JSON object a line.
async fn print_json(mut stream: TokenStream) -> anyhow::Result<()> {
    while let Some(item) = stream.next().await {
        output::json_line(&Event::from(&item?))?;
    }
    Ok(())
}

/// The prompt from whichever place it is in.
fn prompt(args: &RunArgs) -> anyhow::Result<Prompt> {
    let text = match (&args.prompt, &args.file) {
        (Some(_), Some(_)) => {
            return Err(UsageError("two prompts: give -p or -f, not both".into()).into());
        }
        (None, None) => return Err(UsageError("no prompt: give -p TEXT or -f FILE".into()).into()),
        (Some(text), None) if text == "-" => {
            let text = text_file::read_from(std::io::stdin().lock());
            without_last_break(text.context("the prompt on stdin")?)
        }
        (Some(text), None) => text.clone(),
        (None, Some(path)) => {
            let text = text_file::read(path);
            without_last_break(text.with_context(|| format!("prompt file {}", path.display()))?)
        }
    };
    let is_empty = if args.raw {
        text.is_empty()
    } else {
        text.trim().is_empty()
    };
    if is_empty {
        anyhow::bail!("the prompt is empty: give some text with -p, -f or on stdin");
    }
    if args.special && !args.raw {
        return Err(UsageError("--special is for a raw prompt: add --raw".into()).into());
    }
    if args.raw {
        if args.system_prompt.is_some() {
            return Err(UsageError("a raw prompt has no place for --system-prompt".into()).into());
        }
        return Ok(match args.special {
            true => Prompt::special(text),
            false => Prompt::raw(text),
        });
    }
    let system = args.system_prompt.iter().map(ChatMessage::system);
    let messages: Vec<_> = system.chain([ChatMessage::user(text)]).collect();
    Ok(Prompt::chat(messages))
}

/// Text without the line break that ends it.
fn without_last_break(mut text: String) -> String {
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_loses_its_last_line_break_only() {
        assert_eq!(without_last_break("a\n\nb\r\n".into()), "a\n\nb");
        assert_eq!(without_last_break("a\n\n".into()), "a\n");
    }
}
