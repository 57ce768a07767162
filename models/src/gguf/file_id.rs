//! Which file it is, and whether it is still what was opened.
//!
//! A copy can keep name, size and time of the last write (`cp -p`, `rsync -a`, `tar`), and
//! fine-tunes of one model have equal sizes. Nothing but the system sets the time of the last
//! change, and every write sets it.

use std::fs::{self, Metadata};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{GgufFile, bad};
use crate::{ModelError, Result};

/// The coarsest clock of a file system (FAT's): a second write within it may leave the same times.
const CLOCK_TICK: Duration = Duration::from_secs(2);

/// A file, and the state of its bytes as far as the system tells it without reading them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileId {
    device: u64,
    inode: u64,
    n_bytes: u64,
    /// Nanoseconds since 1970 of the last write; whoever copies may set it.
    written: i128,
    /// Nanoseconds since 1970 of the last change of bytes, links or permissions.
    changed: i128,
}

impl FileId {
    #[cfg(unix)]
    pub(crate) fn new(about: &Metadata) -> FileId {
        use std::os::unix::fs::MetadataExt;
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        FileId {
            device: about.dev(),
            inode: about.ino(),
            n_bytes: about.len(),
            written: ns(about.mtime(), about.mtime_nsec()),
            changed: ns(about.ctime(), about.ctime_nsec()),
        }
    }

    /// Without inodes a new file is told by the time of its creation.
    #[cfg(not(unix))]
    pub(crate) fn new(about: &Metadata) -> FileId {
        let written = about.modified().map_or(0, since_1970);
        FileId {
            device: 0,
            inode: 0,
            n_bytes: about.len(),
            written,
            changed: about.created().map_or(0, since_1970).max(written),
        }
    }

    /// As bytes, for a key.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let words = [self.device, self.inode, self.n_bytes].map(u64::to_le_bytes);
        let times = [self.written, self.changed].map(i128::to_le_bytes);
        [words.concat(), times.concat()].concat()
    }

    /// Whether every later write leaves another identity: the last change is longer ago than a
    /// tick of the file system's clock.
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        since_1970(now) - self.changed >= CLOCK_TICK.as_nanos() as i128
    }

    /// Whether both are one file that nobody wrote to in between, as far as the time of the last
    /// write tells. New links and permissions are no writes.
    fn is_same_write(&self, other: &FileId) -> bool {
        let about = |id: &FileId| (id.device, id.inode, id.n_bytes, id.written);
        about(self) == about(other)
    }
}

fn since_1970(time: SystemTime) -> i128 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as i128)
}

/// What lies at `path` now.
fn id_at(path: &Path) -> Option<FileId> {
    fs::metadata(path).ok().map(|about| FileId::new(&about))
}

impl GgufFile {
    /// Checks that the time of the last write to the opened file is what it was. Takes a system
    /// call, no reading.
    ///
    /// # Errors
    /// [`ModelError::BadGguf`] that says so.
    pub fn check_unwritten(&self) -> Result<()> {
        self.parts().try_for_each(GgufFile::check_part_unwritten)
    }

    fn check_part_unwritten(&self) -> Result<()> {
        match self.id_now()?.is_same_write(&self.inner.id) {
            true => Ok(()),
            false => Err(self.was_written()),
        }
    }

    /// Checks that the bytes of the opened file are what they were, also where a copy keeps the
    /// time of the last write. A file that was removed, or replaced by another of its name, is
    /// still what it was.
    ///
    /// # Errors
    /// [`ModelError::BadGguf`] that says so.
    pub(crate) fn check_unchanged(&self) -> Result<()> {
        self.parts().try_for_each(GgufFile::check_part_unchanged)
    }

    fn check_part_unchanged(&self) -> Result<()> {
        self.check_part_unwritten()?;
        let opened = self.inner.id;
        // The name that it lost is the change.
        let lost_its_name = || id_at(self.path()).is_none_or(|at| at.inode != opened.inode);
        match self.id_now()? == opened || lost_its_name() {
            true => Ok(()),
            false => Err(self.was_written()),
        }
    }

    /// Checks that its path still leads to the file that was opened, or to one of the same bytes:
    /// llama.cpp opens files by their paths.
    ///
    /// # Errors
    /// [`ModelError::BadGguf`] that says so.
    pub fn check_current(&self) -> Result<()> {
        let (path, opened) = (self.path(), self.inner.id);
        let now = id_at(path);
        // Of a model in parts it is not asked again which bytes are there.
        for part in &self.inner.rest {
            part.check_current()?;
        }
        let is_current = now == Some(opened)
            || match self.inner.content_hash.get() {
                Some(hash) => GgufFile::open(path)
                    .and_then(|file| file.content_hash())
                    .is_ok_and(|now| now == *hash),
                None => now.is_some_and(|now| now.is_same_write(&opened)),
            };
        match is_current {
            true => Ok(()),
            false => Err(bad(
                path,
                "another file has taken its place while it is in use: start again to use that one",
            )),
        }
    }

    fn id_now(&self) -> Result<FileId> {
        let about = self.inner.file.metadata();
        about
            .map(|about| FileId::new(&about))
            .map_err(|source| ModelError::Io {
                path: self.path().to_owned(),
                source,
            })
    }

    fn was_written(&self) -> ModelError {
        bad(
            self.path(),
            "it was written to while it is in use: start again when the new file is complete",
        )
    }
}
