//! The folder for files that can be made again.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

use etcetera::BaseStrategy;
use tempfile::NamedTempFile;

/// A temporary file younger than this may have a writer that has not locked it yet.
const SWEEP_AGE: Duration = Duration::from_secs(60);

/// Where cached files go: `$JUPITER_CACHE`, or `jupiter` in the XDG cache folder
/// (`$XDG_CACHE_HOME`, else `~/.cache`), or in the temporary folder when there is no home.
pub fn cache_root() -> PathBuf {
    if let Some(dir) = std::env::var_os("JUPITER_CACHE").filter(|dir| !dir.is_empty()) {
        return PathBuf::from(dir);
    }
    etcetera::base_strategy::choose_base_strategy()
        .map_or_else(|_| std::env::temp_dir(), |base| base.cache_dir())
        .join("jupiter")
}

/// A file to be written in `dir` and renamed, named `prefix` and something random. It is locked
/// while it is open; what a killed process left there is removed first.
pub(crate) fn temporary(dir: &Path, prefix: &str) -> io::Result<NamedTempFile> {
    sweep(dir, prefix, SWEEP_AGE);
    let file = tempfile::Builder::new().prefix(prefix).tempfile_in(dir)?;
    // On file systems without locks nothing is ever swept.
    let _ = file.as_file().try_lock();
    Ok(file)
}

/// Says, once, that what was found out of a model cannot be kept at `path`.
pub(crate) fn tell_unwritable(path: &Path, error: &io::Error) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        tracing::warn!(
            "cache folder {}: nothing can be kept there ({error}), so every start takes as long as \
             the first: set JUPITER_CACHE to a folder that can be written",
            path.parent().unwrap_or(path).display()
        );
    });
}

/// Removes the temporary files of `dir` that are old and that nobody holds. What cannot be looked
/// at stays: the next one tries again.
fn sweep(dir: &Path, prefix: &str, min_age: Duration) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_string_lossy().starts_with(prefix);
        let age = entry
            .metadata()
            .and_then(|m| m.modified())
            .map(|at| at.elapsed());
        let is_old = matches!(age, Ok(Ok(age)) if age >= min_age);
        if is_ours && is_old && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_is_being_written_stays() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(".slice-left");
        fs::write(&left, "half a slice").unwrap();
        let other = dir.path().join("slice");
        fs::write(&other, "a slice").unwrap();
        let writing = temporary(dir.path(), ".slice-").unwrap();
        assert!(left.exists(), "too young to tell");
        sweep(dir.path(), ".slice-", Duration::ZERO);
        assert!(!left.exists() && other.exists() && writing.path().exists());
    }
}
