//! `jupiter bench`: speed and memory of a pipeline, beside plain llama.cpp on the whole model.
//!
//! The tests are those of llama-bench: `pp` computes a prompt of random tokens, `tg` generates
//! from an empty context. Pipeline and baseline take turns, so that both see the same weather.

mod answer;
mod baseline;
mod branches;
mod load;
mod measure;
mod predict;
mod random_tokens;
mod report;
mod resident;
mod rows;
mod speculative;
mod statistics;
mod timeline;

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::config::{DraftSettings, ModelSettings};

use super::args::{CommonArgs, ProcessArgs, StageArgs, positive};
use super::leave::ExitCode;
use super::output::{self, UsageError};
use super::timeline_file::TimelineFile;
use branches::Outlined;
use load::LoadArgs;
use speculative::InFlight;
pub(crate) use speculative::Speculative;

/// Flags of `bench`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  jupiter bench -m model.gguf --stages 2 -t 1 --baseline
  jupiter bench -m model.gguf --stages 2 --processes -t 1 -p 1024 -n 64 --chunk 128 --baseline --json
  jupiter bench -m model.gguf --stages 2 --timeline bench.html
  jupiter bench -m model.gguf --rows 1,2,4,8,16,64,512 --baseline
  jupiter bench -m model.gguf --stages 2 --processes -t 1 -p 0 -n 256 --speculative oracle:0.8
  jupiter bench -m model.gguf --stages 2 --processes -t 1 -p 0 -n 0 --branches 6 --branch-tokens 48
  jupiter bench -m model.gguf --stages 2 --processes -t 1 -p 0 -n 0 --branches 6 --outline-tokens 24
  jupiter bench -m model.gguf --stages 2 --processes -t 1 --slowdowns 1,2.5 --plan auto --predict
  jupiter bench -m model.gguf --stages 2 --processes -t 1 -np 16 --load 0.5,1,2 --lengths lognormal")]
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

    /// Measure the devices first, and show what their profiles predict beside what is measured
    #[arg(long, env = "JUPITER_PREDICT", value_parser = BoolishValueParser::new())]
    predict: bool,

    /// Slow the stage processes down by these factors, in their order, as `1,2.5`
    #[arg(
        long,
        env = "JUPITER_SLOWDOWNS",
        value_name = "FACTORS",
        value_delimiter = ',',
        requires = "processes"
    )]
    slowdowns: Vec<f64>,

    /// Let the stage processes send through links of this rate, as `100mbit`
    #[arg(
        long,
        env = "JUPITER_LINK_RATE",
        value_name = "RATE",
        requires = "processes"
    )]
    link_rate: Option<String>,

    /// Let the stage processes send through links of this latency, as `5ms`
    #[arg(
        long,
        env = "JUPITER_LINK_LATENCY",
        value_name = "TIME",
        requires = "processes"
    )]
    link_latency: Option<String>,

    /// Write what stages and links did in the best run of each test: FILE.html for a browser,
    /// FILE.json for Perfetto
    #[arg(long, env = "JUPITER_TIMELINE", value_name = "FILE")]
    timeline: Option<PathBuf>,

    /// Measure generation with guesses of this source too, in turns with plain generation; an
    /// oracle knows the text and is right so often
    #[arg(
        long,
        env = "JUPITER_SPECULATIVE",
        value_name = "ngram|draft|medusa|mtp|auto|oracle:P"
    )]
    speculative: Option<Speculative>,

    /// Most steps of an answer on their way at once, for --speculative
    #[arg(
        long,
        env = "JUPITER_IN_FLIGHT",
        value_name = "N|auto",
        default_value = "auto"
    )]
    in_flight: InFlight,

    /// Measure so many branches of an outlined answer side by side too, in turns with the same
    /// number of tokens in one sequence
    #[arg(long, env = "JUPITER_BRANCHES", value_name = "N", value_parser = positive())]
    branches: Option<u32>,

    /// Tokens of each branch, for --branches
    #[arg(
        long,
        env = "JUPITER_BRANCH_TOKENS",
        value_name = "N",
        default_value_t = 48,
        value_parser = positive()
    )]
    branch_tokens: u32,

    /// Tokens of an outline that is written first, for --branches: each branch begins when its line is
    /// there
    #[arg(
        long,
        env = "JUPITER_OUTLINE_TOKENS",
        value_name = "N",
        default_value_t = 0,
        requires = "branches",
        conflicts_with = "predict"
    )]
    outline_tokens: u32,

    /// Measure steps of so many rows instead, in the whole model, as `1,2,4,8`
    #[arg(
        long,
        env = "JUPITER_ROWS",
        value_name = "N,..",
        value_delimiter = ',',
        value_parser = positive(),
        conflicts_with_all = ["processes", "stages", "split", "predict", "timeline", "speculative",
            "branches"]
    )]
    rows: Vec<u32>,

    #[command(flatten)]
    load: LoadArgs,

    #[command(flatten)]
    drafts: DraftSettings,

    #[command(flatten)]
    model: ModelSettings,

    #[command(flatten)]
    stages: StageArgs,

    #[command(flatten)]
    process: ProcessArgs,
}

impl BenchArgs {
    /// The outlined answer that is measured, if any.
    fn outlined(&self) -> Option<Outlined> {
        self.branches.map(|n_branches| Outlined {
            n_outline: self.outline_tokens,
            n_branches,
            n_tokens: self.branch_tokens,
        })
    }
}

pub(crate) async fn execute(common: &CommonArgs, args: &BenchArgs) -> anyhow::Result<ExitCode> {
    if !args.rows.is_empty() {
        let report = rows::measure(common, args).await?;
        match args.json {
            true => output::json_line(&report)?,
            false => output::text(&report.table())?,
        }
        return Ok(ExitCode::SUCCESS);
    }
    if !args.load.load.is_empty() {
        for report in load::measure(common, args).await? {
            match args.json {
                true => output::json_line(&report)?,
                false => output::text(&format!("{}\n", report.tables()))?,
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.n_prompt == 0 && args.n_gen == 0 && args.branches.is_none() {
        let how = "nothing to measure: -p or -n has to be above 0, or --branches given";
        return Err(UsageError(how.into()).into());
    }
    if let Some(outlined) = args.outlined() {
        outlined.check()?;
    }
    let file = args
        .timeline
        .as_deref()
        .map(TimelineFile::open)
        .transpose()?;
    let measured = measure::measure(common, args).await?;
    if let Some(file) = file {
        file.write(&timeline::page(&measured))?;
    }
    if args.json {
        output::json_line(&measured.report())?;
    } else {
        output::text(&measured.tables())?;
    }
    Ok(ExitCode::SUCCESS)
}
