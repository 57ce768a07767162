//! Profiles kept from one start to the next.
//!
//! ```text
//! <cache folder>/profiles/<first 32 digits of the key's hash>.json   {"key": .., "profile": ..}
//! <cache folder>/profiles/lock                                       held while measuring
//! ```
//! The key is everything that a profile depends on. The lock is one for the machine: two
//! processes that measured at once would each find a device of half the speed. A profile that was
//! measured in a noisy moment serves only who waited for it; who comes later measures again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::measure::Limits;
use super::{ComputeProfile, ModelProfile, device_kind, measure};
use crate::Result;
use crate::cache::{self, cache_root};
use crate::engine::{Emulation, EngineParams};
use crate::gguf::{GgufFile, KvDtype};
use crate::slice::SliceCache;

/// Changes when the way of measuring does, so that older profiles are measured again.
const VERSION: u32 = 5;
/// Digits of the key's hash in a file's name; the whole key is in the file.
const NAME_DIGITS: usize = 32;
/// The lock's name in the folder.
const LOCK: &str = "lock";

/// What [`measure`] finds, from the cache when this device has measured the same before. A
/// process that finds another one measuring waits for it, and takes its result where that is the
/// same. A cache folder that cannot be used only costs time.
///
/// # Errors
/// See [`measure`].
pub fn measure_cached(
    model: &GgufFile,
    slices: &SliceCache,
    shapes: &ModelProfile,
    params: &EngineParams,
    emulation: Emulation,
    progress: &mut dyn FnMut(f32),
) -> Result<ComputeProfile> {
    emulation.check()?;
    let key = Key::new(model, params, emulation)?;
    cached_in(&folder(), &key, shapes, || {
        let profile = measure(model, slices, shapes, params, emulation, progress)?;
        if profile.noise.is_doubtful() {
            tracing::warn!(
                "this machine was busy while it was measured ({}): plans may be off until it is \
                 measured again, at the next start",
                profile.noise
            );
        }
        Ok(profile)
    })
}

/// Where profiles are kept.
pub(super) fn folder() -> PathBuf {
    cache_root().join("profiles")
}

/// What a profile depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    version: u32,
    device: String,
    host: String,
    /// Content hash, which holds the quantization.
    model: String,
    n_threads: u32,
    type_k: KvDtype,
    type_v: KvDtype,
    flash_attention: bool,
    /// Instructions of our kernels; none for llama.cpp's.
    kernels: Option<String>,
    n_gpu_layers: u32,
    /// Most rows and cells that were measured.
    n_rows: u32,
    n_cells: u32,
    slowdown: f64,
}

impl Key {
    pub(super) fn new(
        model: &GgufFile,
        params: &EngineParams,
        emulation: Emulation,
    ) -> Result<Key> {
        let limits = Limits::new(params);
        Ok(Key {
            version: VERSION,
            device: device_kind(),
            host: host(),
            model: model.content_hash()?,
            n_threads: params.n_threads,
            type_k: params.type_k,
            type_v: params.type_v,
            flash_attention: params.flash_attention,
            kernels: (params.kernels.kernels()?)
                .map(|kernels| kernels.instruction_set().to_string()),
            n_gpu_layers: params.n_gpu_layers,
            n_rows: limits.n_rows,
            n_cells: limits.n_cells,
            slowdown: emulation.slowdown,
        })
    }

    fn file_name(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        let hash = blake3::hash(&text).to_hex();
        format!("{}.json", &hash[..NAME_DIGITS])
    }
}

/// The name of this machine, which keeps a cache folder that several share apart; empty where
/// the system does not tell.
fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname");
    name.map_or(String::new(), |name| name.trim().to_owned())
}

/// A file of the cache.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    key: Key,
    profile: ComputeProfile,
}

/// The profile of `key` in `dir`, or what `measure` finds, which is kept there.
fn cached_in(
    dir: &Path,
    key: &Key,
    shapes: &ModelProfile,
    measure: impl FnOnce() -> Result<ComputeProfile>,
) -> Result<ComputeProfile> {
    let old = kept(dir, key, shapes);
    if let Some(profile) = old.as_ref().filter(|profile| !profile.noise.is_doubtful()) {
        return Ok(profile.clone());
    }
    let _lock = lock(dir);
    if let Some(profile) = newer(dir, key, shapes, old.as_ref()) {
        return Ok(profile);
    }
    let profile = measure()?;
    keep(dir, key, &profile);
    Ok(profile)
}

/// What another process has measured since there was `old`. Where that is doubtful, this one would
/// meet the same noise.
fn newer(
    dir: &Path,
    key: &Key,
    shapes: &ModelProfile,
    old: Option<&ComputeProfile>,
) -> Option<ComputeProfile> {
    kept(dir, key, shapes).filter(|new| Some(new) != old)
}

/// The only process of this machine that measures has this; none on file systems without locks.
fn lock(dir: &Path) -> Option<File> {
    let take = || -> io::Result<File> {
        fs::create_dir_all(dir)?;
        let file = File::create(dir.join(LOCK))?;
        file.lock()?;
        Ok(file)
    };
    take()
        .inspect_err(|error| {
            tracing::debug!(%error, dir = %dir.display(), "measuring without a lock");
        })
        .ok()
}

/// The profile in the file of `key`, if it is whole and of this key and model.
pub(super) fn kept(dir: &Path, key: &Key, shapes: &ModelProfile) -> Option<ComputeProfile> {
    let text = fs::read(dir.join(key.file_name())).ok()?;
    let entry: Entry = serde_json::from_slice(&text).ok()?;
    (entry.key == *key && is_usable(&entry.profile, shapes)).then_some(entry.profile)
}

/// Throws the profile of `key` away, if it is still this one: the machine is not as it says.
pub(super) fn forget(dir: &Path, key: &Key, profile: &ComputeProfile) {
    let path = dir.join(key.file_name());
    let entry = fs::read(&path).ok();
    let entry = entry.and_then(|text| serde_json::from_slice::<Entry>(&text).ok());
    if entry.is_some_and(|entry| entry.profile == *profile)
        && let Err(error) = fs::remove_file(&path)
    {
        tracing::warn!(%error, path = %path.display(), "a wrong profile stays: delete it");
    }
}

/// Whether measuring can have given this: every class, ascending points, times above 0.
fn is_usable(profile: &ComputeProfile, shapes: &ModelProfile) -> bool {
    let curves = profile.layers.iter().map(|layer| &layer.rows);
    let curves_fit = curves.chain([&profile.head]).all(|curve| {
        curve.points.first().is_some_and(|point| point.rows == 1)
            && curve.points.is_sorted_by(|a, b| a.rows < b.rows)
            && curve.points.iter().all(|p| p.ms.is_finite() && p.ms > 0.0)
    });
    let context = profile.layers.iter();
    let context = context.flat_map(|layer| [layer.context_ms, layer.tile_context_ms]);
    let noise = &profile.noise;
    let shares = [noise.spread, noise.waited, noise.stolen, noise.others];
    let others = context.chain([profile.step_ms, profile.embedding_ms]);
    let mut others = others.chain(shares);
    profile.layers.len() == shapes.representatives().len()
        && curves_fit
        && others.all(|ms| ms.is_finite() && ms >= 0.0)
}

/// Writes beside and renames, so that a second process never reads half a profile.
pub(super) fn keep(dir: &Path, key: &Key, profile: &ComputeProfile) {
    let write = || -> io::Result<()> {
        let entry = Entry {
            key: key.clone(),
            profile: profile.clone(),
        };
        fs::create_dir_all(dir)?;
        let temporary = cache::temporary(dir, ".profile-")?;
        serde_json::to_writer_pretty(temporary.as_file(), &entry)?;
        temporary.as_file().sync_all()?;
        temporary
            .persist(dir.join(key.file_name()))
            .map_err(|error| error.error)?;
        Ok(())
    };
    if let Err(error) = write() {
        tracing::warn!(%error, dir = %dir.display(), "the profile is measured again next time");
    }
}

#[cfg(test)]
mod tests;
