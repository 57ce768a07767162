//! What a file holds, as one name: BLAKE3 of all its bytes, computed once.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{GgufFile, read_exact_at};
use crate::cache::{self, cache_root};
use crate::{ModelError, Result};

/// One read; large enough that the hash, not the system call, takes the time.
const READ_BYTES: usize = 1 << 20;
/// Hexadecimal digits of a BLAKE3 hash.
const HASH_DIGITS: usize = 64;

impl GgufFile {
    /// BLAKE3 of the file's bytes, 64 hexadecimal digits; of a model in parts that of all hashes.
    ///
    /// Reading a large model takes seconds, so the answer is kept in the cache folder, as long as
    /// neither path, inode, size nor the times of the last write and change are others. A cache
    /// folder that cannot be written only costs time.
    ///
    /// # Errors
    /// When the file cannot be read, or is written to meanwhile.
    pub fn content_hash(&self) -> Result<String> {
        self.content_hash_in(&cache_root().join("hashes"))
    }

    /// [`GgufFile::content_hash`] with its memory in `dir`.
    pub(crate) fn content_hash_in(&self, dir: &Path) -> Result<String> {
        if let Some(hash) = self.inner.content_hash.get() {
            return Ok(hash.clone());
        }
        let now = SystemTime::now();
        let hashes = self
            .parts()
            .map(|part| part.hash_of(part.n_bytes(), dir, now));
        let hashes = hashes.collect::<Result<Vec<String>>>()?;
        // Of a model in parts it is the hash of their hashes.
        let hash = match &hashes[..] {
            [only] => only.clone(),
            all => blake3::hash(all.concat().as_bytes()).to_hex().to_string(),
        };
        Ok(self.inner.content_hash.get_or_init(|| hash).clone())
    }

    /// BLAKE3 of the file's first `n_bytes`, remembered in `dir`.
    pub(crate) fn hash_of(&self, n_bytes: u64, dir: &Path, now: SystemTime) -> Result<String> {
        let memo = self.memo_path(n_bytes, dir);
        let remembered = memo.as_ref().and_then(|memo| fs::read_to_string(memo).ok());
        if let Some(hash) = remembered.filter(|hash| is_hash(hash)) {
            return Ok(hash);
        }
        let hash = hash_file(&self.inner.file, n_bytes).map_err(|source| ModelError::Io {
            path: self.inner.path.clone(),
            source,
        })?;
        self.check_unchanged()?;
        if let Some(memo) = memo.filter(|_| self.inner.id.is_settled(now)) {
            remember(&memo, &hash);
        }
        Ok(hash)
    }

    /// Where the hash of this file, as it is, would be remembered.
    fn memo_path(&self, n_bytes: u64, dir: &Path) -> Option<PathBuf> {
        let path = fs::canonicalize(&self.inner.path).ok()?;
        let mut key = blake3::Hasher::new();
        key.update(path.as_os_str().as_encoded_bytes());
        key.update(&self.inner.id.to_bytes());
        key.update(&n_bytes.to_le_bytes());
        Some(dir.join(key.finalize().to_hex().as_str()))
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == HASH_DIGITS && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Reads through the file and not the mapping, so that a large model does not become resident.
fn hash_file(file: &File, n_bytes: u64) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut at = 0;
    while at < n_bytes {
        let n = (n_bytes - at).min(READ_BYTES as u64) as usize;
        read_exact_at(file, &mut buffer[..n], at)?;
        hasher.update(&buffer[..n]);
        at += n as u64;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

/// Writes beside and renames, so that a second process never reads half a hash.
fn remember(memo: &Path, hash: &str) {
    let write = || -> io::Result<()> {
        let dir = memo.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir)?;
        let mut temporary = cache::temporary(dir, ".hash-")?;
        temporary.write_all(hash.as_bytes())?;
        temporary.persist(memo).map_err(|error| error.error)?;
        Ok(())
    };
    if let Err(error) = write() {
        cache::tell_unwritable(memo, &error);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::gguf::tests::{Header, write_file};

    /// The hash of a file that nobody has written to for long.
    fn later(path: &Path, memos: &Path) -> String {
        let file = GgufFile::open(path).unwrap();
        let now = SystemTime::now() + Duration::from_secs(60);
        file.hash_of(file.n_bytes(), memos, now).unwrap()
    }

    fn memos(dir: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn the_hash_is_remembered_until_the_file_changes() {
        let dir = tempfile::tempdir().unwrap();
        let memory = dir.path().join("hashes");
        let path = dir.path().join("model.gguf");
        write_file(&path, &Header::default().bytes());
        let expected = |path| blake3::hash(&fs::read(path).unwrap()).to_hex().to_string();

        // The clock may not have moved on: the next write could leave the same times.
        let file = GgufFile::open(&path).unwrap();
        assert_eq!(file.content_hash_in(&memory).unwrap(), expected(&path));
        assert!(memos(&memory).is_empty());

        assert_eq!(later(&path, &memory), expected(&path));
        // A planted memo shows that the file is not read again.
        let found = memos(&memory);
        let [memo] = &found[..] else {
            panic!("{found:?}")
        };
        fs::write(memo, "0".repeat(HASH_DIGITS)).unwrap();
        assert_eq!(later(&path, &memory), "0".repeat(HASH_DIGITS));
        // Half a memo is not believed.
        fs::write(memo, "0".repeat(7)).unwrap();
        assert_eq!(later(&path, &memory), expected(&path));

        let mut changed = Header::default().bytes();
        changed.push(7);
        write_file(&path, &changed);
        assert_eq!(later(&path, &memory), expected(&path));
    }

    /// Puts other bytes at `path`, of the same length and the same time of the last write.
    fn swap(path: &Path, in_place: bool) {
        let before = fs::metadata(path).unwrap();
        let mut bytes = fs::read(path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        let other = path.with_extension("new");
        write_file(if in_place { path } else { &other }, &bytes);
        let at = if in_place { path } else { &other };
        let file = File::options().write(true).open(at).unwrap();
        file.set_modified(before.modified().unwrap()).unwrap();
        if !in_place {
            fs::rename(&other, path).unwrap();
        }
        let after = fs::metadata(path).unwrap();
        assert_eq!(after.len(), before.len());
        assert_eq!(after.modified().unwrap(), before.modified().unwrap());
    }

    #[test]
    #[cfg(unix)]
    fn another_file_of_the_same_path_size_and_time_has_its_own_hash() {
        use std::os::unix::fs::MetadataExt;
        for in_place in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let memory = dir.path().join("hashes");
            let path = dir.path().join("model.gguf");
            write_file(&path, &Header::default().bytes());
            let open = || GgufFile::open(&path).unwrap();
            let (named, unnamed, first) = (open(), open(), later(&path, &memory));
            assert_eq!(named.content_hash_in(&memory).unwrap(), first);
            named.check_current().unwrap();
            let (empty, now) = (dir.path().join("empty"), SystemTime::now());
            let scratch = dir.path().join("scratch");
            let changed = |path| fs::metadata(path).unwrap().ctime_nsec();
            fs::write(&scratch, "").unwrap();
            while changed(&scratch) == changed(&path) {
                fs::write(&scratch, "the file system's clock moves on").unwrap();
            }
            swap(&path, in_place);
            let second = later(&path, &memory);
            assert_ne!(second, first);
            let bytes = fs::read(&path).unwrap();
            assert_eq!(second, blake3::hash(&bytes).to_hex().to_string());

            // Who has the old one open is told, and never takes the new bytes for the old ones.
            let told = |checked: Result<()>| checked.unwrap_err().to_string();
            assert!(told(named.check_current()).contains("another file has taken its place"));
            if in_place {
                assert!(told(unnamed.check_unchanged()).contains("written to"));
                assert!(unnamed.hash_of(unnamed.n_bytes(), &empty, now).is_err());
            } else {
                unnamed.check_unchanged().unwrap();
                let hash = unnamed.hash_of(unnamed.n_bytes(), &empty, now);
                assert_eq!(hash.unwrap(), first);
            }
        }
    }

    #[test]
    fn links_and_permissions_are_no_new_bytes_and_a_write_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.gguf");
        write_file(&path, &Header::default().bytes());
        let file = GgufFile::open(&path).unwrap();
        fs::hard_link(&path, dir.path().join("backup")).unwrap();
        let mut permissions = fs::metadata(&path).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&path, permissions.clone()).unwrap();
        file.check_unwritten().unwrap();
        file.check_current().unwrap();

        let at = SystemTime::UNIX_EPOCH;
        File::open(&path).unwrap().set_modified(at).unwrap();
        let told = file.check_unwritten().unwrap_err().to_string();
        assert!(told.contains("start again"), "{told}");
    }
}
