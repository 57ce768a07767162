//! What a file holds, as one name: BLAKE3 of all its bytes, computed once.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use super::GgufFile;
use crate::cache::{self, cache_root};
use crate::{ModelError, Result};

/// One read; large enough that the hash, not the system call, takes the time.
const READ_BYTES: usize = 1 << 20;
/// Hexadecimal digits of a BLAKE3 hash.
const HASH_DIGITS: usize = 64;

impl GgufFile {
    /// BLAKE3 of the file's bytes, 64 hexadecimal digits.
    ///
    /// Reading a large model takes seconds, so the answer is kept in the cache folder under the
    /// file's path, size and time of change. A cache folder that cannot be written only costs time.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn content_hash(&self) -> Result<String> {
        self.content_hash_in(&cache_root().join("hashes"))
    }

    /// [`GgufFile::content_hash`] with its memory in `dir`.
    pub(crate) fn content_hash_in(&self, dir: &Path) -> Result<String> {
        if let Some(hash) = self.inner.content_hash.get() {
            return Ok(hash.clone());
        }
        let memo = memo_path(dir, &self.inner.path, &self.inner.file);
        let remembered = memo.as_ref().and_then(|memo| fs::read_to_string(memo).ok());
        let hash = match remembered.filter(|hash| is_hash(hash)) {
            Some(hash) => hash,
            None => {
                let hash = hash_file(&self.inner.path)?;
                if let Some(memo) = memo {
                    remember(&memo, &hash);
                }
                hash
            }
        };
        Ok(self.inner.content_hash.get_or_init(|| hash).clone())
    }
}

/// Where the hash of this file, as it is now, would be remembered.
fn memo_path(dir: &Path, path: &Path, file: &File) -> Option<PathBuf> {
    let about = file.metadata().ok()?;
    let changed = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    let mut key = blake3::Hasher::new();
    key.update(fs::canonicalize(path).ok()?.as_os_str().as_encoded_bytes());
    key.update(&about.len().to_le_bytes());
    key.update(&changed.as_nanos().to_le_bytes());
    Some(dir.join(key.finalize().to_hex().as_str()))
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn hash_file(path: &Path) -> Result<String> {
    let io = |source| ModelError::Io {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(io)?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let n = file.read(&mut buffer).map_err(io)?;
        if n == 0 {
            return Ok(hasher.finalize().to_hex().to_string());
        }
        hasher.update(&buffer[..n]);
    }
}

/// Writes beside and renames, so that a second process never reads half a hash.
fn remember(memo: &Path, hash: &str) {
    let write = || -> std::io::Result<()> {
        let dir = memo.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let temporary = cache::temporary(dir, ".hash-")?;
        fs::write(temporary.path(), hash)?;
        temporary.persist(memo).map_err(|error| error.error)?;
        Ok(())
    };
    if let Err(error) = write() {
        tracing::debug!(%error, memo = %memo.display(), "the model's hash was not remembered");
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gguf::tests::{Header, write_file};

    #[test]
    fn the_hash_is_remembered_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let memos = dir.path().join("hashes");
        let path = dir.path().join("model.gguf");
        write_file(&path, &Header::default().bytes());
        let first = GgufFile::open(&path)
            .unwrap()
            .content_hash_in(&memos)
            .unwrap();
        assert_eq!(
            first,
            blake3::hash(&fs::read(&path).unwrap()).to_hex().to_string()
        );
        assert_eq!(fs::read_dir(&memos).unwrap().count(), 1);

        // A planted memo shows that the file is not read again.
        let memo = fs::read_dir(&memos)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        fs::write(&memo, "0".repeat(HASH_DIGITS)).unwrap();
        let second = GgufFile::open(&path)
            .unwrap()
            .content_hash_in(&memos)
            .unwrap();
        assert_eq!(second, "0".repeat(HASH_DIGITS));

        // Half a memo is not believed.
        fs::write(&memo, "0".repeat(7)).unwrap();
        assert_eq!(
            GgufFile::open(&path)
                .unwrap()
                .content_hash_in(&memos)
                .unwrap(),
            first
        );

        let mut changed = Header::default().bytes();
        changed.push(7);
        write_file(&path, &changed);
        let third = GgufFile::open(&path)
            .unwrap()
            .content_hash_in(&memos)
            .unwrap();
        assert_ne!(third, first);
    }
}
