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
const VERSION: u32 = 3;
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;
    use crate::profile::{LayerProfile, LayerShape, Noise, RowCurve};

    fn key() -> Key {
        Key {
            version: VERSION,
            device: "a board, 4 cores".into(),
            host: "robot-1".into(),
            model: "ab".repeat(32),
            n_threads: 4,
            type_k: KvDtype::F16,
            type_v: KvDtype::F16,
            flash_attention: true,
            kernels: None,
            n_gpu_layers: 0,
            n_rows: 512,
            n_cells: 2048,
            slowdown: 1.0,
        }
    }

    fn shapes() -> ModelProfile {
        let layer = LayerShape {
            class: 0,
            weight_bytes: 1,
            kv_bytes_per_token: 1,
        };
        ModelProfile {
            layers: vec![layer; 4],
            embedding_bytes: 1,
            head_bytes: 1,
            tied_head: false,
            buffer_bytes: 1,
            n_embd: 4,
            bytes_per_value: 4.0,
            cuts: Default::default(),
        }
    }

    fn profile(ms: f64) -> ComputeProfile {
        ComputeProfile {
            layers: vec![LayerProfile {
                rows: RowCurve::new(&[(1, ms), (2, 1.0 / 3.0 + ms)]),
                context_ms: 0.0,
                tile_context_ms: 0.0,
            }],
            step_ms: 0.1,
            embedding_ms: 0.0,
            head: RowCurve::new(&[(1, 1.0)]),
            noise: Noise::default(),
        }
    }

    /// The answer for `key`, and whether it was measured.
    fn ask(dir: &Path, key: &Key, ms: f64) -> (ComputeProfile, bool) {
        let was_measured = Cell::new(false);
        let found = cached_in(dir, key, &shapes(), || {
            was_measured.set(true);
            Ok(profile(ms))
        });
        (found.unwrap(), was_measured.get())
    }

    #[test]
    fn what_was_measured_is_found_again_bit_by_bit() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ask(dir.path(), &key(), 0.1), (profile(0.1), true));
        assert_eq!(ask(dir.path(), &key(), 7.0), (profile(0.1), false));
    }

    #[test]
    fn everything_that_counts_is_in_the_key() {
        let dir = tempfile::tempdir().unwrap();
        ask(dir.path(), &key(), 0.1);
        let changes: [fn(&mut Key); 13] = [
            |key| key.version += 1,
            |key| key.device = "another".into(),
            |key| key.host = "robot-2".into(),
            |key| key.model = "cd".repeat(32),
            |key| key.n_threads = 2,
            |key| key.type_k = KvDtype::Q8_0,
            |key| key.type_v = KvDtype::Q8_0,
            |key| key.flash_attention = false,
            |key| key.kernels = Some("avx2".into()),
            |key| key.n_gpu_layers = 9,
            |key| key.n_rows = 128,
            |key| key.n_cells = 256,
            |key| key.slowdown = 2.5,
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut other = key();
            change(&mut other);
            assert!(ask(dir.path(), &other, 2.0).1, "change {i}");
        }
        assert!(!ask(dir.path(), &key(), 2.0).1);
    }

    #[test]
    fn damaged_files_are_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(key().file_name());
        ask(dir.path(), &key(), 0.1);
        let whole = fs::read_to_string(&path).unwrap();
        let damaged = [
            whole[..whole.len() / 2].to_owned(),
            String::new(),
            whole.replace("\"ms\": 0.1", "\"ms\": -0.1"),
            whole.replace("\"rows\": 1", "\"rows\": 3"),
            whole.replace("robot-1", "robot-2"),
        ];
        for text in damaged {
            assert_ne!(text, whole);
            fs::write(&path, &text).unwrap();
            assert!(ask(dir.path(), &key(), 0.1).1, "{text}");
            assert!(!ask(dir.path(), &key(), 0.1).1);
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_costs_only_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "not a folder").unwrap();
        assert!(ask(&file, &key(), 0.1).1);
        assert!(ask(&file, &key(), 0.1).1);
    }

    /// Measured while the machine was busy.
    fn doubtful(ms: f64) -> ComputeProfile {
        let noise = Noise {
            waited: 0.4,
            ..Noise::default()
        };
        ComputeProfile {
            noise,
            ..profile(ms)
        }
    }

    #[test]
    fn a_doubtful_profile_is_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let busy = cached_in(dir.path(), &key(), &shapes(), || Ok(doubtful(7.0)));
        assert_eq!(busy.unwrap(), doubtful(7.0));
        assert_eq!(ask(dir.path(), &key(), 0.1), (profile(0.1), true));
        assert_eq!(ask(dir.path(), &key(), 9.0), (profile(0.1), false));
    }

    #[test]
    fn a_wrong_profile_is_forgotten_and_another_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        ask(dir.path(), &key(), 0.1);
        forget(dir.path(), &key(), &profile(7.0));
        assert!(!ask(dir.path(), &key(), 9.0).1);
        forget(dir.path(), &key(), &profile(0.1));
        assert!(ask(dir.path(), &key(), 9.0).1);
    }

    #[test]
    fn who_waited_takes_a_doubtful_profile_too_but_not_an_old_one() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path(), &key(), &doubtful(7.0));
        let newer =
            |old: Option<ComputeProfile>| super::newer(dir.path(), &key(), &shapes(), old.as_ref());
        assert_eq!(newer(Some(doubtful(7.0))), None);
        assert_eq!(newer(Some(doubtful(8.0))), Some(doubtful(7.0)));
        assert_eq!(newer(None), Some(doubtful(7.0)));
    }

    #[test]
    fn who_waits_for_the_lock_finds_the_others_profile() {
        let dir = tempfile::tempdir().unwrap();
        let measuring = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                measuring.wait();
                ask(dir.path(), &key(), 9.0)
            });
            let first = cached_in(dir.path(), &key(), &shapes(), || {
                measuring.wait();
                let lock = File::open(dir.path().join(LOCK)).unwrap();
                assert!(lock.try_lock().is_err());
                Ok(profile(0.1))
            });
            assert_eq!(first.unwrap(), profile(0.1));
            assert_eq!(second.join().unwrap(), (profile(0.1), false));
        });
    }
}
