//! The file of `--timeline`.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context;
use jupiter::timeline::Page;

use super::output::UsageError;

/// Where the page goes, known to be a place that can be written.
pub(crate) struct TimelineFile {
    path: PathBuf,
    format: Format,
}

#[derive(Clone, Copy)]
enum Format {
    Html,
    Json,
}

impl TimelineFile {
    /// Looks whether the file can be written, before anything is measured for it. What is in it
    /// stays until then.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let format = match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("html" | "htm") => Format::Html,
            Some("json") => Format::Json,
            _ => {
                let path = path.display();
                let how = format!("--timeline {path}: the name has to end in .html or .json");
                return Err(UsageError(how).into());
            }
        };
        let is_new = !path.exists();
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.with_context(|| cannot_write(path))?;
        if is_new {
            fs::remove_file(path).with_context(|| cannot_write(path))?;
        }
        Ok(Self {
            path: path.to_owned(),
            format,
        })
    }

    pub(crate) fn write(&self, page: &Page) -> anyhow::Result<()> {
        let text = match self.format {
            Format::Html => page.html(),
            Format::Json => page.json(),
        };
        fs::write(&self.path, text).with_context(|| cannot_write(&self.path))
    }
}

fn cannot_write(path: &Path) -> String {
    let path = path.display();
    format!("--timeline {path}: cannot be written, name a file in a folder that can be")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn files_are_checked_without_leaving_or_changing_any() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for good in ["new.html", "new.JSON", "new.htm"] {
            TimelineFile::open(&path(good)).unwrap();
            assert!(!path(good).exists(), "{good}");
        }
        fs::write(path("old.html"), "old").unwrap();
        TimelineFile::open(&path("old.html")).unwrap();
        assert_eq!(fs::read(path("old.html")).unwrap(), b"old");
        fs::create_dir(path("folder.html")).unwrap();
        for bad in ["folder.html", "no/new.html", "new", "new.svg", "html"] {
            assert!(TimelineFile::open(&path(bad)).is_err(), "{bad}");
        }
    }
}
