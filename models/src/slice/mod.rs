//! A range of layers as a small GGUF that llama.cpp loads unpatched, cached by content.
//!
//! ```text
//! <cache folder>/<first 32 digits of the model's hash>-<start>-<end>-v<format>.gguf
//! ```
//! What goes into the file is in `recipe.rs`. It is written under a temporary name in the same
//! folder, synced and renamed: a reader sees all of it or nothing, and two processes that slice at
//! once each rename their own, equal copy.

mod recipe;
mod sliding;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use self::recipe::Recipe;
use crate::architecture::{check_splittable, check_supported};
use crate::cache::{self, cache_root};
use crate::gguf::{GgufFile, ModelInfo};
use crate::split::check_range;
use crate::{LayerRange, ModelError, Result};

/// Changes when the same range would be written differently, so that older files are not used.
const FORMAT: u32 = 1;
/// Digits of the model's hash in a file's name; the whole hash is in the file.
const NAME_DIGITS: usize = 32;
/// Bytes of one read from the model.
const COPY_BYTES: usize = 1 << 20;
/// `GGUF_DEFAULT_ALIGNMENT`, with which slices are written.
const ALIGNMENT: u64 = 32;

/// The folder of the cached slices.
#[derive(Clone, Debug)]
pub struct SliceCache {
    dir: PathBuf,
    hashes: PathBuf,
    allow_unproven: bool,
}

/// A range of layers in a file that llama.cpp can load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageSlice {
    /// The file: a cached slice, or the model itself where the range is all of it.
    pub path: PathBuf,
    /// The layers.
    pub range: LayerRange,
    /// Layers of the whole model.
    pub n_layer_total: u32,
    /// Width of the hidden state.
    pub n_embd: u32,
}

impl StageSlice {
    /// Whether it takes tokens.
    pub fn is_first(&self) -> bool {
        self.range.start == 0
    }

    /// Whether it gives logits.
    pub fn is_last(&self) -> bool {
        self.range.end == self.n_layer_total
    }

    /// Whether it is all of the model, uncut.
    pub fn is_whole(&self) -> bool {
        self.is_first() && self.is_last()
    }
}

impl SliceCache {
    /// A cache in `dir`, which is created when it is needed.
    pub fn new(dir: impl Into<PathBuf>) -> SliceCache {
        let dir = dir.into();
        SliceCache {
            hashes: dir.join("hashes"),
            dir,
            allow_unproven: false,
        }
    }

    /// The cache of this user: `slices` in `$JUPITER_CACHE`, else in `jupiter` of the XDG cache
    /// folder.
    pub fn default_dir() -> SliceCache {
        let root = cache_root();
        SliceCache {
            dir: root.join("slices"),
            hashes: root.join("hashes"),
            allow_unproven: false,
        }
    }

    /// Whether architectures that no parity test covers are tried.
    #[must_use]
    pub fn allow_unproven(mut self, allow: bool) -> SliceCache {
        self.allow_unproven = allow;
        self
    }

    /// The layers `range` of `model`, from the cache or written to it. `progress` gets the bytes
    /// that are written and their total.
    ///
    /// # Errors
    /// An architecture that is not supported, a range that is not in the model, a model that
    /// cannot be cut; a folder that cannot be written, and [`ModelError::NoSpace`]. Then no file
    /// is left behind.
    pub fn slice(
        &self,
        model: &GgufFile,
        range: LayerRange,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<StageSlice> {
        let info = ModelInfo::from_gguf(model)?;
        check_supported(&info, self.allow_unproven)?;
        check_range(range, info.n_layer)?;
        check_splittable(&info, range)?;
        let slice = |path| StageSlice {
            path,
            range,
            n_layer_total: info.n_layer,
            n_embd: info.n_embd,
        };
        if range == info.all_layers() {
            return Ok(slice(model.path().to_owned()));
        }
        let hash = model.content_hash_in(&self.hashes)?;
        let path = self.path(&hash, range);
        if is_complete(&path, &hash, range) {
            return Ok(slice(path));
        }
        let recipe = Recipe::new(model, &info, range, &hash)?;
        self.write(model, &recipe, &path, progress)
            .map_err(|error| self.no_space(error, &recipe))?;
        Ok(slice(path))
    }

    fn path(&self, hash: &str, range: LayerRange) -> PathBuf {
        let hash = &hash[..NAME_DIGITS.min(hash.len())];
        self.dir.join(format!(
            "{hash}-{}-{}-v{FORMAT}.gguf",
            range.start, range.end
        ))
    }

    fn write(
        &self,
        model: &GgufFile,
        recipe: &Recipe,
        path: &Path,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<()> {
        let io = |source| ModelError::Io {
            path: self.dir.clone(),
            source,
        };
        fs::create_dir_all(&self.dir).map_err(io)?;
        // Dropped on every error, which removes it.
        let mut temporary = cache::temporary(&self.dir, ".slice-").map_err(io)?;
        let mut buffer = vec![0; COPY_BYTES];
        let mut done = 0;
        progress(0, recipe.copied_bytes());
        recipe
            .writer
            .write(temporary.as_file_mut(), path, &mut |index, _, sink| {
                let part = &recipe.parts[index];
                let Some(n_bytes) = part.copied_bytes else {
                    sink.hole();
                    return Ok(());
                };
                let tensor = &model.tensors()[part.source];
                let mut at = 0;
                while at < n_bytes {
                    let n = (n_bytes - at).min(COPY_BYTES as u64) as usize;
                    model.read_tensor(tensor, at, &mut buffer[..n])?;
                    sink.put(&buffer[..n])?;
                    at += n as u64;
                    done += n as u64;
                    progress(done, recipe.copied_bytes());
                }
                Ok(())
            })?;
        temporary.as_file().sync_all().map_err(io)?;
        temporary.persist(path).map_err(|error| io(error.error))?;
        // The name outlives a power failure only when the folder is synced too; some file systems
        // cannot, and then the slice is written again.
        if let Ok(dir) = File::open(&self.dir) {
            let _ = dir.sync_all();
        }
        Ok(())
    }

    /// Turns what the file system says of a full disk into what a user can do.
    fn no_space(&self, error: ModelError, recipe: &Recipe) -> ModelError {
        match error {
            ModelError::Io { source, .. }
                if matches!(
                    source.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                ModelError::NoSpace {
                    dir: self.dir.clone(),
                    needed_mb: recipe.copied_bytes().div_ceil(1_000_000),
                }
            }
            other => other,
        }
    }
}

/// Whether the file at `path` is that slice, all of it.
fn is_complete(path: &Path, hash: &str, range: LayerRange) -> bool {
    let Ok(file) = GgufFile::open(path) else {
        return false;
    };
    let meta = file.metadata();
    let number = |key| meta.opt_u32(key).ok().flatten();
    let end = file
        .tensors()
        .last()
        .map(|t| (t.offset + t.n_bytes).next_multiple_of(ALIGNMENT));
    number(recipe::KEY_START) == Some(range.start)
        && number(recipe::KEY_END) == Some(range.end)
        && meta.opt_str(recipe::KEY_HASH).ok().flatten() == Some(hash)
        && end == Some(file.n_bytes())
}

#[cfg(test)]
mod tests;
