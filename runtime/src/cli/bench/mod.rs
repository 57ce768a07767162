//! `jupiter bench`: speed and memory of a pipeline, beside plain llama.cpp on the whole model.
//!
//! The tests are those of llama-bench: `pp` computes a prompt of random tokens, `tg` generates
//! from an empty context. Pipeline and baseline take turns, so that both see the same weather.

mod baseline;
mod measure;
mod report;
mod resident;

use std::process::ExitCode;

use clap::Args;
use clap::builder::BoolishValueParser;

use super::args::{CommonArgs, EngineArgs, ProcessArgs, SplitArgs, positive};
use super::output::{self, UsageError};

/// Flags of `bench`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  jupiter bench -m model.gguf --stages 2 -t 1 --baseline
  jupiter bench -m model.gguf --stages 2 --processes -t 1 -p 1024 -n 64 --chunk 128 --baseline --json")]
pub(crate) struct BenchArgs {
    /// Tokens of the prompt test; 0 leaves it out
    #[arg(
        short = 'p',
        long,
        env = "JUPITER_N_PROMPT",
        value_name = "N",
        default_value_t = 512
    )]
    n_prompt: u32,

    /// Tokens of the generation test; 0 leaves it out
    #[arg(
        short = 'n',
        long,
        env = "JUPITER_N_GEN",
        value_name = "N",
        default_value_t = 64
    )]
    n_gen: u32,

    /// How often each test runs
    #[arg(
        short,
        long,
        env = "JUPITER_REPETITIONS",
        value_name = "N",
        default_value_t = 5,
        value_parser = positive()
    )]
    repetitions: u32,

    /// Do the same work with plain llama.cpp on the whole model, in turns, on -t threads
    #[arg(long, env = "JUPITER_BASELINE", value_parser = BoolishValueParser::new())]
    baseline: bool,

    /// Seed of the random tokens
    #[arg(
        short,
        long,
        env = "JUPITER_SEED",
        value_name = "N",
        default_value_t = 1
    )]
    seed: u64,

    /// Print one JSON object
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    split: SplitArgs,

    #[command(flatten)]
    process: ProcessArgs,
}

pub(crate) async fn execute(common: &CommonArgs, args: &BenchArgs) -> anyhow::Result<ExitCode> {
    if args.n_prompt == 0 && args.n_gen == 0 {
        return Err(UsageError("nothing to measure: -p or -n has to be above 0".into()).into());
    }
    let measured = measure::measure(common, args).await?;
    if args.json {
        output::json_line(&measured.report())?;
    } else {
        output::text(&measured.tables())?;
    }
    Ok(ExitCode::SUCCESS)
}
