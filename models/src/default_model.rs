//! The small model that needs no download: three files, embedded in the library.
//!
//! llama.cpp and the slices read files, so each is copied to the cache folder when it is first
//! asked for:
//!
//! ```text
//! <cache root>/default/<beginning of its BLAKE3>/<name>
//! ```
//!
//! The hash is in the path because a stage that is started again opens its file again: a copy must
//! not change below a running head when another version of the program brings another model.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::cache::{self, cache_root};
use crate::sampling::{Biased, LogitBias};
use crate::{ModelError, Result};

/// Lines of `<BLAKE3>  <name>`, as b3sum writes them.
const SUMS: &str = include_str!("../default/B3SUMS");
/// Digits of the hash in the path: enough to tell versions apart; the whole hash is checked.
const PATH_DIGITS: usize = 16;

/// A file of the default model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultFile {
    /// The model itself: GGUF of the llama architecture, Q8_0, with vocabulary and chat template.
    Model,
    /// A much smaller model with the same vocabulary, which drafts for it.
    Draft,
    /// Medusa heads that sit on the model's last hidden state.
    Medusa,
}

impl DefaultFile {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Model, Self::Draft, Self::Medusa];

    /// Its name, in models/default and in the cache.
    pub fn name(self) -> &'static str {
        match self {
            Self::Model => "robot-q8_0.gguf",
            Self::Draft => "robot-draft-q8_0.gguf",
            Self::Medusa => "robot-medusa-q8_0.gguf",
        }
    }

    fn bytes(self) -> &'static [u8] {
        match self {
            Self::Model => include_bytes!("../default/robot-q8_0.gguf"),
            Self::Draft => include_bytes!("../default/robot-draft-q8_0.gguf"),
            Self::Medusa => include_bytes!("../default/robot-medusa-q8_0.gguf"),
        }
    }
}

/// How much likelier than any other answer a command has to be before the default model gives one, as a logit: a
/// question that is taken for a command moves a robot, a command that is taken for a question is said again. With
/// 4 no held-out question became a command and no command was lost; with 8 one in fifty was.
const CAUTION: f32 = 4.0;

/// Makes a beginning of a command less likely.
pub fn caution() -> LogitBias {
    LogitBias {
        of: Biased::Text("{\"".to_owned()),
        bias: -CAUTION,
    }
}

/// The path of a file of the default model in the cache folder. It is written there if it is
/// missing, and written anew if it was altered. Blocks while it reads and writes a few megabytes.
///
/// # Errors
/// [`ModelError::DefaultModelAltered`] when the embedded bytes are not those that were committed,
/// [`ModelError::DefaultModelCache`] when the copy cannot be written.
pub fn path(file: DefaultFile) -> Result<PathBuf> {
    let hash = checked_hash(file.name(), file.bytes(), SUMS)?;
    let dir = cache_root().join("default").join(&hash[..PATH_DIGITS]);
    copy_in(&dir, file.name(), file.bytes(), &hash)
}

/// The hash of `bytes`, if it is the one that `sums` gives for `name`.
fn checked_hash(name: &'static str, bytes: &[u8], sums: &str) -> Result<String> {
    let hash = blake3::hash(bytes).to_hex().to_string();
    let mut lines = sums.lines().filter_map(|line| line.split_once("  "));
    if lines.any(|(sum, of)| of == name && sum == hash) {
        Ok(hash)
    } else {
        Err(ModelError::DefaultModelAltered { file: name })
    }
}

/// The copy of `bytes` in `dir`, which has the BLAKE3 `hash` when this returns.
fn copy_in(dir: &Path, name: &str, bytes: &[u8], hash: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(found) if blake3::hash(&found).to_hex().as_str() == hash => return Ok(path),
        Ok(_) => tracing::warn!(
            "{}: the default model's copy was altered: writing it anew",
            path.display()
        ),
        // Missing, most likely; what else is wrong with the folder shows when it is written.
        Err(_) => {}
    }
    write(dir, &path, bytes).map_err(|source| ModelError::DefaultModelCache {
        dir: dir.to_owned(),
        source,
    })?;
    Ok(path)
}

/// Writes beside and renames: whoever reads meanwhile has the old file or the new one, and of two
/// that write at once the last one wins, with the same bytes.
fn write(dir: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let mut temporary = cache::temporary(dir, ".default-")?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const BYTES: &[u8] = b"weights";

    fn hash() -> String {
        blake3::hash(BYTES).to_hex().to_string()
    }

    #[test]
    fn the_embedded_files_are_those_that_were_committed() {
        for file in DefaultFile::ALL {
            checked_hash(file.name(), file.bytes(), SUMS).unwrap();
        }
    }

    #[test]
    fn bytes_that_do_not_fit_their_sum_are_an_error_with_the_remedy() {
        let sums = format!("{}  a.gguf\n{}  b.gguf\n", "0".repeat(64), hash());
        assert_eq!(checked_hash("b.gguf", BYTES, &sums).unwrap(), hash());
        for name in ["a.gguf", "no.gguf"] {
            let error = checked_hash(name, BYTES, &sums).unwrap_err().to_string();
            assert!(error.contains(&format!("models/default/{name}")), "{error}");
            assert!(error.contains("git checkout -- models/default"), "{error}");
        }
    }

    #[test]
    fn a_missing_copy_is_written_and_an_altered_one_repaired() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("default");
        let copy = || copy_in(&dir, "m.gguf", BYTES, &hash()).unwrap();
        let path = copy();
        assert_eq!(fs::read(&path).unwrap(), BYTES);
        for altered in [&b"weighty"[..], b"", b"weights and more"] {
            fs::write(&path, altered).unwrap();
            assert_eq!(copy(), path);
            assert_eq!(fs::read(&path).unwrap(), BYTES);
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }

    #[test]
    fn a_good_copy_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = copy_in(dir.path(), "m.gguf", BYTES, &hash()).unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        copy_in(dir.path(), "m.gguf", BYTES, &hash()).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
    }

    #[test]
    fn many_at_once_all_get_the_whole_file() {
        let dir = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let path = copy_in(dir.path(), "m.gguf", BYTES, &hash()).unwrap();
                    assert_eq!(fs::read(path).unwrap(), BYTES);
                });
            }
        });
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named_with_the_remedies() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("file");
        fs::write(&dir, "no folder").unwrap();
        let error = copy_in(&dir, "m.gguf", BYTES, &hash()).unwrap_err();
        let error = error.to_string();
        for part in [dir.to_str().unwrap(), "JUPITER_CACHE", "-m FILE"] {
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }
}
