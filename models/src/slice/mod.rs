//! A range of layers as a small GGUF that llama.cpp loads unpatched, cached by content.
//!
//! ```text
//! <cache folder>/<first 32 digits of the model's hash>-<start>-<end>-v<format>.gguf
//! ```
//! What goes into the file is in `recipe.rs`; its last 32 bytes are the BLAKE3 hash of all before
//! them, which GGUF readers do not look at. It is written under a temporary name in the same
//! folder, synced and renamed: a reader sees all of it or nothing, and two processes that slice at
//! once each rename their own, equal copy.
//!
//! A cached slice is used when it is of the same model, by the hash of all the model's bytes, and
//! when its own bytes have its sum. The sum is computed when the slice is used for the first time
//! after it was written, and again only when the file's inode, size or times are others: so whatever
//! is written into a slice is noticed, and a slice of gigabytes is read once more than it must.
//! What a disk forgets by itself, without a write, is not noticed.

mod layer_facts;
mod recipe;
mod sliding;

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use self::recipe::Recipe;
use crate::architecture::check_splittable;
use crate::cache::{self, cache_root};
use crate::gguf::{GgufFile, ModelInfo, check_mtp};
use crate::split::check_range;
use crate::{LayerRange, ModelError, Result};

/// Changes when the same range would be written differently, so that older files are not used.
const FORMAT: u32 = 3;
/// Digits of the model's hash in a file's name; the whole hash is in the file.
const NAME_DIGITS: usize = 32;
/// Bytes of one read from the model.
const COPY_BYTES: usize = 1 << 20;
/// Bytes of the sum at the end of a slice.
const SUM_BYTES: u64 = blake3::OUT_LEN as u64;
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

    /// Whether models are cut whose architecture no parity test covers, where nothing is known against
    /// it.
    #[must_use]
    pub fn allow_unproven(mut self, allow: bool) -> SliceCache {
        self.allow_unproven = allow;
        self
    }

    /// The layers `range` of `model`, from the cache or written to it. `progress` gets the bytes
    /// that are written and their total.
    ///
    /// # Errors
    /// An architecture that cannot be run, a range that is not in the model, or that it cannot be cut
    /// into; a model file that was replaced or written to since it was opened;
    /// [`ModelError::CacheFolder`] and [`ModelError::NoSpace`]. Then no file is left behind.
    pub fn slice(
        &self,
        model: &GgufFile,
        range: LayerRange,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<StageSlice> {
        let info = ModelInfo::from_gguf(model)?;
        check_range(range, info.n_layer)?;
        check_splittable(&info, range, self.allow_unproven)?;
        let slice = |path| StageSlice {
            path,
            range,
            n_layer_total: info.n_layer,
            n_embd: info.n_embd,
        };
        if range == info.all_layers() {
            return Ok(slice(model.path().to_owned()));
        }
        self.cached(model, &info, range, progress).map(slice)
    }

    /// The block behind the last layer of `model` that guesses tokens ahead, with embedding and output
    /// head where it has none of its own, from the cache or written to it; and the bytes in the file that are
    /// no holes.
    ///
    /// # Errors
    /// [`ModelError::BadInput`] where there is none that could be run; else as [`SliceCache::slice`].
    pub fn mtp(&self, model: &GgufFile) -> Result<(PathBuf, u64)> {
        let info = ModelInfo::from_gguf(model)?;
        if !info.has_mtp() {
            return Err(ModelError::BadInput {
                what: format!(
                    "{}: it has no block for multi-token prediction that can be run",
                    model.path().display()
                ),
            });
        }
        check_mtp(model, &info)?;
        let range = LayerRange::new(info.n_layer, info.n_blocks);
        let path = self.cached(model, &info, range, &mut |_, _| ())?;
        let recipe = Recipe::new(model, &info, range, "")?;
        Ok((path, recipe.copied_bytes()))
    }

    fn cached(
        &self,
        model: &GgufFile,
        info: &ModelInfo,
        range: LayerRange,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<PathBuf> {
        let hash = model.content_hash_in(&self.hashes)?;
        let path = self.path(&hash, range);
        if !self.is_whole(&path, &hash, range) {
            let recipe = Recipe::new(model, info, range, &hash)?;
            self.write(model, &recipe, &path, progress)
                .map_err(|error| self.explain(error, model, &recipe))?;
        }
        Ok(path)
    }

    /// Whether the file at `path` is that slice, with the bytes that were written into it.
    fn is_whole(&self, path: &Path, hash: &str, range: LayerRange) -> bool {
        let Ok(file) = GgufFile::open(path) else {
            return false;
        };
        let is_whole = is_of(&file, hash, range) && has_its_sum(&file, &self.hashes);
        if !is_whole {
            tracing::warn!(
                "{}: this cached slice was altered: writing it anew",
                path.display()
            );
        }
        is_whole
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
        let sum = recipe
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
        // What was read has to be what was hashed.
        model.check_unchanged()?;
        model.check_current()?;
        let file = temporary.as_file_mut();
        file.seek(SeekFrom::End(0)).map_err(io)?;
        file.write_all(sum.as_bytes()).map_err(io)?;
        file.sync_all().map_err(io)?;
        temporary.persist(path).map_err(|error| io(error.error))?;
        // The name outlives a power failure only when the folder is synced too; some file systems
        // cannot, and then the slice is written again.
        if let Ok(dir) = File::open(&self.dir) {
            let _ = dir.sync_all();
        }
        Ok(())
    }

    /// Turns what the file system says of the cache folder into what a user can do.
    fn explain(&self, error: ModelError, model: &GgufFile, recipe: &Recipe) -> ModelError {
        let dir = self.dir.clone();
        match error {
            ModelError::Io { path, source } if path != model.path() => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ModelError::NoSpace {
                    dir,
                    needed_mb: recipe.copied_bytes().div_ceil(1_000_000),
                },
                _ => ModelError::CacheFolder {
                    dir,
                    what: format!("layers {}", recipe.range),
                    source,
                },
            },
            other => other,
        }
    }
}

/// Whether the file says that it is that slice, and has its length.
fn is_of(file: &GgufFile, hash: &str, range: LayerRange) -> bool {
    let meta = file.metadata();
    let number = |key| meta.opt_u32(key).ok().flatten();
    let end = file
        .tensors()
        .last()
        .map(|t| (t.offset + t.n_bytes).next_multiple_of(ALIGNMENT) + SUM_BYTES);
    number(recipe::KEY_START) == Some(range.start)
        && number(recipe::KEY_END) == Some(range.end)
        && meta.opt_str(recipe::KEY_HASH).ok().flatten() == Some(hash)
        && end == Some(file.n_bytes())
}

/// Whether the last bytes of `file` are the hash of all others. `hashes` remembers.
fn has_its_sum(file: &GgufFile, hashes: &Path) -> bool {
    let n_summed = file.n_bytes().saturating_sub(SUM_BYTES);
    let sum = file.hash_of(n_summed, hashes, SystemTime::now());
    let sum = sum.ok().and_then(|sum| blake3::Hash::from_hex(sum).ok());
    sum.is_some_and(|sum| file.bytes_from(n_summed) == sum.as_bytes())
}

#[cfg(test)]
mod tests;
