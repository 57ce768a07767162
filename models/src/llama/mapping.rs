//! A file in memory: read-only, paged in when touched.

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

use super::residency::mappings_change;

/// A read-only mapping of a whole file.
pub struct FileMapping(Option<Mmap>);

impl FileMapping {
    /// Maps `file` as long as it is now.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the mapping is read-only and never handed out mutably. Model files and cached
        // slices are replaced by renaming, never written in place, so the bytes do not change
        // under the shared slice; a foreign program that truncates one causes SIGBUS, the
        // documented limit of every mapping (`GgufFile`).
        Ok(Self(Some(unsafe { MmapOptions::new().map(file)? })))
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }
}

impl Drop for FileMapping {
    fn drop(&mut self) {
        let _change = mappings_change();
        self.0 = None;
    }
}
