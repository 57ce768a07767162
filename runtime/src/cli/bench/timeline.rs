//! The file of `--timeline`, and what it shows.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::Context;
use jupiter::timeline::{Page, Section, from_trace};

use super::report::Measured;
use crate::cli::output::UsageError;

/// Where the page goes, known to be a place that can be written.
pub(super) struct TimelineFile {
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
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
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

    pub(super) fn write(&self, page: &Page) -> anyhow::Result<()> {
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

/// The best run of each test.
pub(super) fn page(measured: &Measured) -> Page {
    let stages = measured.stage_names();
    let tests = [(true, &measured.pp), (false, &measured.tg)];
    let branches = measured.outline.as_ref().map(|outline| Section {
        title: outline.title(),
        timelines: vec![from_trace("measured", &stages, &measured.outline_steps)],
    });
    let sections = tests.into_iter().filter_map(|(is_prompt, test)| {
        let test = test.as_ref()?;
        let best = test.best()?;
        let prediction = |plan| measured.prediction(plan, is_prompt, best).timeline;
        let predicted = measured.plan.as_deref().map(prediction);
        let timelines = [from_trace("measured", &stages, &best.steps)];
        Some(Section {
            title: format!("{}, the best of {}", test.name, test.pipeline.len()),
            timelines: timelines.into_iter().chain(predicted).collect(),
        })
    });
    Page {
        title: format!(
            "{}: {} stages, {} threads each, chunks of {}",
            measured.model,
            stages.len(),
            measured.n_threads,
            measured.chunk
        ),
        sections: sections.chain(branches).collect(),
    }
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
