//! `jupiter pull`: a model of the Hugging Face hub into its cache; and the same for `-hf` of other verbs.

use anyhow::Context;
use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::Settings;
use jupiter::hub::{self, HubModel};
use jupiter::signals::Signals;
use jupiter::terminal::ProgressBars;

use super::args::CommonArgs;
use super::leave::ExitCode;
use super::output::{self, Interrupted};

/// Flags of `pull`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  jupiter pull ggml-org/gemma-3-1b-it-GGUF           its Q4_K_M, else its first file
  jupiter pull ggml-org/gemma-3-1b-it-GGUF:Q8_0
  jupiter chat -m $(jupiter pull --offline ggml-org/gemma-3-1b-it-GGUF)

The variables HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_ENDPOINT say what they say elsewhere.")]
pub(crate) struct PullArgs {
    /// The repository, and which of its quantizations
    #[arg(value_name = "USER/REPO[:QUANT]")]
    name: String,

    /// Which file of it, instead of a quantization [short: -hff]
    #[arg(long, env = "JUPITER_HF_FILE", value_name = "FILE")]
    hf_file: Option<String>,

    /// Only look what the cache has
    #[arg(long, env = "JUPITER_OFFLINE", value_parser = BoolishValueParser::new())]
    offline: bool,
}

/// Runs without handlers of signals: whatever is on the disk when Ctrl-C ends it is of use later.
pub(crate) fn execute(args: &PullArgs) -> anyhow::Result<ExitCode> {
    let mut model = HubModel::parse(&args.name)?;
    model.file.clone_from(&args.hf_file);
    let bars = ProgressBars::new();
    let path = hub::pull(&model, args.offline, &|what, done, total| {
        bars.bytes(what, done, total);
    });
    bars.clear();
    output::text(&format!("{}\n", path?.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// What the file, the environment and `flags` say, with the model's file here. Blocks.
pub(crate) fn settings_here(common: &CommonArgs, flags: &Settings) -> anyhow::Result<Settings> {
    let mut settings = Settings::load_here(common.config.as_deref(), flags)?;
    let bars = ProgressBars::new();
    settings.pull(&|what, done, total| bars.bytes(what, done, total))?;
    Ok(settings)
}

/// The same on a thread of its own, until a signal asks for the end.
pub(crate) async fn settings(common: &CommonArgs, flags: &Settings) -> anyhow::Result<Settings> {
    let mut stop = Signals::stop()?;
    let (common, flags) = (common.clone(), flags.clone());
    let pulled = tokio::task::spawn_blocking(move || settings_here(&common, &flags));
    tokio::select! {
        settings = pulled => settings.context("the download failed")?,
        () = stop.recv() => Err(Interrupted.into()),
    }
}
