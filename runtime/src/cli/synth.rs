//! `jupiter synth`: a model with random weights.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::terminal::ProgressBars;
use jupiter_models::synth::{self, SynthArch, SynthSpec, SynthType};
use serde::Serialize;

use super::args::positive;
use super::leave::ExitCode;
use super::output;
use super::table::bytes;

/// Flags of `synth`. What is not given is that of a tiny model.
#[derive(Args, Debug)]
#[command(after_help = "\
The weights are random, so the text means nothing; size, speed and memory are those of a trained
model of the same shape. The same flags give the same file, byte for byte.

Examples:
  jupiter synth -o tiny.gguf
  jupiter synth --arch llama --layers 16 --embd 1024 --heads 16 --kv-heads 8 --ff 4096 \\
                --vocab 32000 --type q4_0 --seed 7 -o bench.gguf")]
pub(crate) struct SynthArgs {
    /// Architecture, as `jupiter models` lists them
    #[arg(
        long,
        env = "JUPITER_ARCH",
        value_name = "NAME",
        default_value = "llama"
    )]
    arch: SynthArch,

    /// Layers
    #[arg(long, env = "JUPITER_LAYERS", value_name = "N", value_parser = positive())]
    layers: Option<u32>,

    /// Width of the hidden states
    #[arg(long, env = "JUPITER_EMBD", value_name = "N", value_parser = positive())]
    embd: Option<u32>,

    /// Query heads of a layer
    #[arg(long, env = "JUPITER_HEADS", value_name = "N", value_parser = positive())]
    heads: Option<u32>,

    /// Key and value heads of a layer
    #[arg(long, env = "JUPITER_KV_HEADS", value_name = "N", value_parser = positive())]
    kv_heads: Option<u32>,

    /// Width of the feed-forward layers
    #[arg(long, env = "JUPITER_FF", value_name = "N", value_parser = positive())]
    ff: Option<u32>,

    /// Tokens of the vocabulary
    #[arg(long, env = "JUPITER_VOCAB", value_name = "N", value_parser = positive())]
    vocab: Option<u32>,

    /// Type of the weights, as q8_0, q4_0 or q4_k_m
    #[arg(
        long = "type",
        env = "JUPITER_TYPE",
        value_name = "TYPE",
        default_value = "f16"
    )]
    ty: SynthType,

    /// Seed of the weights
    #[arg(long, env = "JUPITER_SEED", value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Where to write the model
    #[arg(short, long, env = "JUPITER_OUTPUT", value_name = "FILE")]
    output: PathBuf,

    /// Print a JSON object
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

#[derive(Serialize)]
struct Written<'a> {
    path: &'a std::path::Path,
    bytes: u64,
}

pub(crate) fn execute(args: &SynthArgs) -> anyhow::Result<ExitCode> {
    let bars = ProgressBars::new();
    let what = format!("writing {}", args.output.display());
    synth::write(&spec(args), &args.output, &mut |done, total| {
        bars.bytes(&what, done, total)
    })?;
    bars.clear();
    let metadata = std::fs::metadata(&args.output);
    let bytes_written = metadata
        .with_context(|| format!("{}", args.output.display()))?
        .len();
    if args.json {
        output::json_line(&Written {
            path: &args.output,
            bytes: bytes_written,
        })?;
    } else {
        let line = format!(
            "wrote {} ({})\n",
            args.output.display(),
            bytes(bytes_written)
        );
        output::text(&line)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn spec(args: &SynthArgs) -> SynthSpec {
    let mut spec = SynthSpec::new(args.arch);
    let wishes = [
        (args.layers, &mut spec.n_layer),
        (args.embd, &mut spec.n_embd),
        (args.heads, &mut spec.n_head),
        (args.kv_heads, &mut spec.n_head_kv),
        (args.ff, &mut spec.n_ff),
        (args.vocab, &mut spec.n_vocab),
    ];
    for (wish, field) in wishes {
        *field = wish.unwrap_or(*field);
    }
    spec.ty = args.ty;
    spec.seed = args.seed;
    spec
}
