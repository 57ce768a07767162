//! Published Medusa heads (arXiv 2401.10774) as a GGUF that `jupiter_models::medusa` reads.
//!
//! Their file is the state dict of a list of heads, each a residual block and a linear layer
//! without bias (FasterDecoding/Medusa, `medusa/model/medusa_model.py`). Of head `k`, counted from
//! 0: `k.0.linear.weight`, shape (`n_embd`, `n_embd`), and `k.0.linear.bias` (`n_embd`), for
//! `h = x + silu(linear x)`; `k.1.weight`, shape (`n_vocab`, `n_embd`), for the logits. `x` is the
//! model's last state after its norm. Such a file holds a row for each output, as ggml does, so no
//! matrix is turned. From the state at position `t`, head `k` learns the token at `t + 2 + k`
//! (`medusa/train/train_legacy.py`) and the model's own head that at `t + 1`: the heads are counted
//! as ours are.
//!
//! text-generation-inference and TensorRT-LLM load the same names, the latter from ModelOpt's files
//! behind `medusa_heads.`; in the file of a whole model they stand behind `medusa_head.`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use candle_core::{DType, Tensor};
use jupiter_models::ModelError;
use jupiter_models::llama::TensorSink;
use jupiter_models::llama::quantize::{F16, F32, Q8_0, quantize_rows, row_size, type_name};

use crate::export::{self, MatrixType, MedusaSize};
use crate::weights::{TensorInfo, WeightFile};

/// As many as `jupiter_models::medusa` reads, and more than anyone trains.
const MAX_HEADS: usize = 16;
/// What may stand before a head's number.
const PREFIXES: [&str; 3] = ["model.", "medusa_head.", "medusa_heads."];
/// The tensors of a head: as published, and in ours.
const PARTS: [(&str, &str); 3] = [
    ("0.linear.weight", "block.weight"),
    ("0.linear.bias", "block.bias"),
    ("1.weight", "output.weight"),
];
/// Values converted at a time: 16 MiB of f32.
const CHUNK_VALUES: usize = 1 << 22;
/// Largest number in f16.
const MAX_F16: f32 = 65504.0;

/// Writes the heads of the file `input` as the GGUF `output`, with matrices of type `matrices`.
///
/// # Errors
/// One line that names the file: no heads, heads of another make, tensors that do not fit each
/// other or cannot be `matrices`, damaged files, full disks. Then `output` is what it was before.
pub(crate) fn convert(input: &Path, output: &Path, matrices: MatrixType) -> Result<MedusaSize> {
    let file = WeightFile::open(input)?;
    let heads = find_heads(file.tensors())
        .and_then(|heads| {
            let (n_embd, name) = (heads.size.n_embd, type_name(matrices.ggml()));
            ensure!(
                row_size(matrices.ggml(), n_embd).is_some(),
                "rows of {n_embd} values are not whole blocks of {name}: ask for --type f16"
            );
            Ok(heads)
        })
        .map_err(|error| anyhow!("{}: {error:#}", input.display()))?;
    let file_name = input.file_name().unwrap_or_default().to_string_lossy();
    let title = format!("Medusa heads from {file_name}");
    let half = half_written(output);
    let mut out = File::create(&half).map_err(|error| {
        let output = output.display();
        anyhow!("{output}: {error}: name a file in a folder that can be written")
    })?;
    write(&file, &heads, &title, matrices, &mut out, &half)
        .and_then(|()| fs::rename(&half, output).with_context(|| output.display().to_string()))
        .map_err(|error| {
            // What went wrong before says more than that this fails as well.
            let _ = fs::remove_file(&half);
            anyhow!("{}: {error:#}", input.display())
        })?;
    Ok(heads.size)
}

/// The heads of a file.
struct Heads {
    size: MedusaSize,
    /// The tensors of each head, in the order of [`PARTS`].
    names: Vec<[String; PARTS.len()]>,
}

/// Finds the heads among `tensors`, and checks that they are all there and fit each other.
fn find_heads(tensors: &BTreeMap<String, TensorInfo>) -> Result<Heads> {
    let mut heads: BTreeMap<usize, BTreeMap<&str, &str>> = BTreeMap::new();
    for name in tensors.keys() {
        let Some((k, part)) = head_and_part(name) else {
            continue;
        };
        if let Some(other) = heads.entry(k).or_default().insert(part, name) {
            bail!("`{other}` and `{name}` are the same part of head {k}: keep one of them");
        }
    }
    ensure!(
        !heads.is_empty(),
        "no Medusa head (`0.0.linear.weight` and so on) among its {} tensors: take \
         medusa_lm_head.safetensors or medusa_lm_head.pt",
        tensors.len()
    );
    if let Some(k) = (0..heads.len()).find(|k| !heads.contains_key(k)) {
        bail!(
            "head {k} is missing, though later ones are there: take the file that holds them all"
        );
    }
    ensure!(
        heads.len() <= MAX_HEADS,
        "{} heads, more than {MAX_HEADS}: leave out the last ones, they guess worst",
        heads.len()
    );
    let names = heads
        .iter()
        .map(|(&k, parts)| parts_of_head(k, parts))
        .collect::<Result<Vec<_>>>()?;
    let size = common_size(tensors, &names)?;
    Ok(Heads { size, names })
}

/// The number of the head that tensor `name` is of, and which part of it.
fn head_and_part(name: &str) -> Option<(usize, &str)> {
    let bare = PREFIXES.iter().fold(name, |rest, prefix| {
        rest.strip_prefix(prefix).unwrap_or(rest)
    });
    let (head, part) = bare.split_once('.')?;
    Some((head.parse().ok()?, part))
}

/// The names of the tensors of head `k` in the order of [`PARTS`]; it may have no others.
fn parts_of_head(k: usize, parts: &BTreeMap<&str, &str>) -> Result<[String; PARTS.len()]> {
    for (part, name) in parts {
        let is_known = PARTS.iter().any(|(known, _)| known == part);
        let is_block = part.split_once('.').is_some_and(|(layer, part)| {
            layer.parse::<usize>().is_ok_and(|layer| layer > 0) && part.starts_with("linear.")
        });
        ensure!(
            !is_block,
            "head {k} has more than one residual block (`{name}`): take heads whose config.json \
             says \"medusa_num_layers\": 1"
        );
        ensure!(
            is_known,
            "`{name}` is no part of a Medusa head with one residual block: take heads of that \
             kind that are not quantized"
        );
    }
    let mut names: [String; PARTS.len()] = Default::default();
    for (name, (part, _)) in names.iter_mut().zip(PARTS) {
        let found = parts.get(part).with_context(|| {
            format!(
                "head {k} lacks `{k}.{part}`: take a complete file, of heads that do not share \
                 their model's output matrix"
            )
        })?;
        (*found).clone_into(name);
    }
    Ok(names)
}

/// Width and vocabulary of the first head, which all must have.
fn common_size(
    tensors: &BTreeMap<String, TensorInfo>,
    names: &[[String; PARTS.len()]],
) -> Result<MedusaSize> {
    let first_dim = |part: usize| tensors[&names[0][part]].dims.first().copied().unwrap_or(0);
    let size = MedusaSize {
        n_heads: names.len(),
        n_embd: first_dim(0),
        n_vocab: first_dim(2),
    };
    let (n_embd, n_vocab) = (size.n_embd, size.n_vocab);
    let expected: [&[usize]; PARTS.len()] = [&[n_embd, n_embd], &[n_embd], &[n_vocab, n_embd]];
    for (name, expected) in names.iter().flat_map(|names| names.iter().zip(expected)) {
        let info = &tensors[name];
        ensure!(
            info.dims == expected && !expected.contains(&0),
            "`{name}` has shape {:?}, but {expected:?} would fit the first head of width {n_embd} \
             and vocabulary {n_vocab}: take a file whose heads are of one model",
            info.dims
        );
        ensure!(
            info.dtype.is_some(),
            "`{name}` is neither f32, f16 nor bf16: take heads that are not quantized"
        );
    }
    Ok(size)
}

/// Where a file lies until it is whole.
fn half_written(output: &Path) -> PathBuf {
    let mut name = OsString::from(output);
    name.push(".part");
    name.into()
}

fn write(
    file: &WeightFile,
    heads: &Heads,
    title: &str,
    matrices: MatrixType,
    out: &mut File,
    path: &Path,
) -> Result<()> {
    let mut writer = export::medusa_metadata(title, None, &heads.size, matrices)?;
    let mut sources = Vec::new();
    for (k, names) in heads.names.iter().enumerate() {
        for (name, (_, part)) in names.iter().zip(PARTS) {
            let dims = &file.tensors()[name].dims;
            let ggml_dims: Vec<u64> = dims.iter().rev().map(|&n| n as u64).collect();
            let ggml_type = match *ggml_dims {
                [_] => F32,
                _ => matrices.ggml(),
            };
            writer.add_tensor(&format!("medusa.{k}.{part}"), ggml_type, &ggml_dims)?;
            sources.push((name, ggml_type));
        }
    }
    writer.write(out, path, &mut |index, _, sink| {
        let (name, ggml_type) = sources[index];
        file.read(name)
            .and_then(|tensor| put(&tensor, name, ggml_type, sink))
            .map_err(|error| ModelError::BadInput {
                what: format!("{error:#}"),
            })
    })?;
    Ok(())
}

/// Converts `tensor` some rows at a time.
fn put(tensor: &Tensor, name: &str, ggml_type: u32, sink: &mut TensorSink<'_>) -> Result<()> {
    let n_per_row = tensor.dims().last().copied().context("no dimensions")?;
    let rows = tensor.reshape(((), n_per_row))?;
    let (n_rows, step) = (rows.dim(0)?, (CHUNK_VALUES / n_per_row).max(1));
    for start in (0..n_rows).step_by(step) {
        let chunk = rows.narrow(0, start, step.min(n_rows - start))?;
        let values = chunk
            .to_dtype(DType::F32)?
            .flatten_all()?
            .to_vec1::<f32>()?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            bail!("`{name}` holds the value {value}: it is damaged, download it again");
        }
        if let Some(value) = values.iter().find(|v| v.abs() > largest(ggml_type)) {
            let type_name = type_name(ggml_type);
            bail!("`{name}` holds {value}, too much for {type_name}: ask for --type f32");
        }
        sink.put(&quantize_rows(ggml_type, &values, n_per_row)?)?;
    }
    Ok(())
}

/// Largest absolute value that a type can hold.
fn largest(ggml_type: u32) -> f32 {
    match ggml_type {
        F16 => MAX_F16,
        // Whole numbers up to 127, times a factor in f16.
        Q8_0 => 127.0 * MAX_F16,
        _ => f32::MAX,
    }
}

#[cfg(test)]
mod tests;
