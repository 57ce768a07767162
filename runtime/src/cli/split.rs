//! `jupiter split`: the stages of a model as files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::config::{CutSettings, ModelSettings, Split};
use jupiter::stage_ranges;
use jupiter::terminal::ProgressBars;
use jupiter::{Config, Settings};
use jupiter_models::LayerRange;
use jupiter_models::gguf::GgufFile;
use jupiter_models::slice::SliceCache;
use serde::Serialize;

use super::args::CommonArgs;
use super::leave::ExitCode;
use super::output::{self, UsageError};
use super::table::{Align, bytes, markdown};

/// Flags of `split`.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  jupiter split -m model.gguf --stages 2 -o slices   slices/model-0-8.gguf, slices/model-8-16.gguf
  jupiter split -m model.gguf --split 4,12           only fills the cache, so that loading is quick")]
pub(crate) struct SplitVerbArgs {
    #[command(flatten)]
    model: ModelSettings,

    #[command(flatten)]
    cut: CutSettings,

    /// Write the slices into this folder; without it they go to the cache
    #[arg(short, long, env = "JUPITER_OUTPUT", value_name = "DIR")]
    output: Option<PathBuf>,

    /// Print one JSON object per slice
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,
}

/// One written slice.
#[derive(Debug, Serialize)]
struct Written {
    layers: [u32; 2],
    path: PathBuf,
    bytes: u64,
}

pub(crate) fn execute(common: &CommonArgs, args: &SplitVerbArgs) -> anyhow::Result<ExitCode> {
    let split = match (args.cut.stages, &args.cut.split) {
        (Some(n), None) => Split::Stages(n),
        (None, Some(counts)) => Split::Layers(counts.clone()),
        _ => return Err(UsageError("say how to cut: --stages 2, or --split 4,12".into()).into()),
    };
    let config = config(common, args)?;
    let (model, _) = config.open_model()?;
    let ranges = stage_ranges(
        &model,
        &split,
        config.pipeline.objective,
        config.model.allow_unproven,
    )?;
    let bars = ProgressBars::new();
    let written = ranges
        .iter()
        .map(|range| {
            write_slice(
                &model,
                *range,
                args.output.as_deref(),
                config.model.allow_unproven,
                &bars,
            )
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    bars.clear();
    if args.json {
        written.iter().try_for_each(output::json_line)?;
    } else {
        output::text(&table(&written))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// With the model that the flag, its variable or the configuration file names, else the default one.
fn config(common: &CommonArgs, args: &SplitVerbArgs) -> anyhow::Result<Config> {
    let flags = Settings {
        model: args.model.clone(),
        cut: args.cut.clone(),
        ..Settings::default()
    };
    let config = Config::from_settings(super::pull::settings_here(common, &flags)?)?;
    output::tell_default_model(common, &config);
    Ok(config)
}

/// Writes one slice into the cache, or under a readable name into `dir`.
fn write_slice(
    model: &GgufFile,
    range: LayerRange,
    dir: Option<&Path>,
    allow_unproven: bool,
    bars: &ProgressBars,
) -> anyhow::Result<Written> {
    let what = format!("slicing layers {range}");
    let mut progress = |done, total| bars.bytes(&what, done, total);
    let path = match dir {
        None => {
            let cache = SliceCache::default_dir().allow_unproven(allow_unproven);
            cache.slice(model, range, &mut progress)?.path
        }
        Some(dir) => {
            fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
            // In the same file system, so that the finished slice is renamed and stays sparse.
            let unfinished = tempfile::Builder::new()
                .prefix(".jupiter-split-")
                .tempdir_in(dir)
                .with_context(|| format!("{}", dir.display()))?;
            let cache = SliceCache::new(unfinished.path()).allow_unproven(allow_unproven);
            let slice = cache.slice(model, range, &mut progress)?.path;
            if slice.starts_with(unfinished.path()) {
                let path = dir.join(slice_name(model.path(), range));
                // Whoever may read the model may read a part of it.
                let permissions = fs::metadata(model.path()).map(|model| model.permissions());
                permissions
                    .and_then(|permissions| fs::set_permissions(&slice, permissions))
                    .and_then(|()| fs::rename(&slice, &path))
                    .with_context(|| format!("{}", path.display()))?;
                path
            } else {
                // The range is the whole model: its own file serves.
                slice
            }
        }
    };
    let bytes = fs::metadata(&path)
        .with_context(|| format!("{}", path.display()))?
        .len();
    Ok(Written {
        layers: [range.start, range.end],
        path,
        bytes,
    })
}

/// `model-0-8.gguf` for layers 0..8 of `model.gguf`.
fn slice_name(model: &Path, range: LayerRange) -> String {
    let stem = model
        .file_stem()
        .map_or_else(|| "model".into(), |stem| stem.to_string_lossy());
    format!("{stem}-{}-{}.gguf", range.start, range.end)
}

fn table(written: &[Written]) -> String {
    let columns = [
        ("stage", Align::Right),
        ("layers", Align::Left),
        ("size", Align::Right),
        ("file", Align::Left),
    ];
    let row = |(i, slice): (usize, &Written)| {
        vec![
            i.to_string(),
            format!("{}..{}", slice.layers[0], slice.layers[1]),
            bytes(slice.bytes),
            slice.path.display().to_string(),
        ]
    };
    markdown(
        &columns,
        &written.iter().enumerate().map(row).collect::<Vec<_>>(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_named_by_model_and_layers() {
        assert_eq!(
            slice_name(Path::new("/a/b.gguf"), LayerRange::new(4, 16)),
            "b-4-16.gguf"
        );
    }
}
