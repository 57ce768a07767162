//! Random-weight models: real GGUF files for tests and benchmarks, made instead of downloaded.
//!
//! They load in llama.cpp, tokenize any text, answer through a chat template, and behave
//! numerically like trained models: activations stay bounded, residual branches shrink with depth,
//! logits have a natural spread, and the next token depends on the whole context. What they say
//! means nothing, and their metadata says so.
//!
//! The same [`SynthSpec`] always gives the same bytes, on any machine and any number of cores.
//!
//! # Layout
//!
//! - `shapes`: the architectures, as data of `pieces`, in the words of `parts`
//! - `kinds`: names, and tensor types
//! - `spec`: what to make, and which wishes are refused
//! - `tensors`: the tensors of a shape and how each is filled
//! - `weights`: the values, seeded per tensor
//! - `tokenizer`: byte-level BPE of any size
//! - `metadata`: the keys that llama.cpp reads
//! - `scripted`: models that say a known text

mod kinds;
mod metadata;
mod parts;
mod pieces;
mod scripted;
mod shapes;
mod spec;
mod tensors;
mod tokenizer;
mod weights;

use std::path::Path;

use crate::llama::{GgufWriter, TensorSink};
use crate::{ModelError, Result};

pub use kinds::SynthType;
pub use metadata::CHATML;
pub use scripted::{ScriptedSpec, ScriptedTokenizer};
pub use shapes::SynthArch;
pub use spec::SynthSpec;
use tensors::SynthTensor;

/// Writes the model that `spec` describes to `path`, replacing what was there.
///
/// It is written to a temporary file in the same folder and renamed, so that `path` is either
/// whole or untouched. Memory stays at a few chunks of a quarter of a million values, whatever
/// the model's size. `progress(done, total)` counts bytes of tensor data.
///
/// # Errors
/// What [`SynthSpec::validate`] refuses; a file system that fails or is full.
pub fn write(spec: &SynthSpec, path: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
    spec.validate()?;
    let tensors = tensors::plan(spec);
    let mut writer = GgufWriter::new()?;
    metadata::set_all(spec, &mut writer)?;
    for tensor in &tensors {
        writer.add_tensor(&tensor.name, tensor.ggml_type, &tensor.dims)?;
    }

    let total = writer.data_bytes();
    let mut done = 0;
    progress(0, total);
    write_file(&writer, path, &mut |index, sink| {
        stream(&tensors[index], spec.seed, sink, &mut |n| {
            done += n;
            progress(done, total);
        })
    })?;
    progress(total, total);
    Ok(())
}

/// Writes what `writer` holds and the tensors of `data` beside `path`, then renames it.
fn write_file(
    writer: &GgufWriter,
    path: &Path,
    data: &mut dyn FnMut(usize, &mut TensorSink<'_>) -> Result<()>,
) -> Result<()> {
    let io = |source| ModelError::Io {
        path: path.to_owned(),
        source,
    };
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let mut temporary = temporary_file(folder.unwrap_or(Path::new("."))).map_err(io)?;
    writer.write(temporary.as_file_mut(), path, &mut |index, _, sink| {
        data(index, sink)
    })?;
    temporary.persist(path).map_err(|error| io(error.error))?;
    Ok(())
}

/// A file with the usual permissions: tempfile's default hides it from other users.
fn temporary_file(folder: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".synth-").suffix(".gguf.part");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder)
}

/// Generates a tensor chunk by chunk, a few chunks at a time on as many threads.
fn stream(
    tensor: &SynthTensor,
    seed: u64,
    sink: &mut TensorSink<'_>,
    wrote: &mut dyn FnMut(u64),
) -> Result<()> {
    let n_threads = std::thread::available_parallelism().map_or(1, usize::from);
    let n_chunks = weights::n_chunks(tensor);
    let mut next = 0;
    while next < n_chunks {
        let group: Vec<u64> = (next..n_chunks.min(next + n_threads as u64)).collect();
        next += group.len() as u64;
        for bytes in weights::chunks(tensor, seed, &group) {
            let bytes = bytes?;
            sink.put(&bytes)?;
            wrote(bytes.len() as u64);
        }
    }
    Ok(())
}
