//! What a configuration file says. Read here and not by the crate `config`, which takes regular files
//! only, and reads them again for each use: a pipe can be read once.

use std::path::Path;

use config::{FileFormat, Format, Map, Source, Value};

use crate::error::{ConfigError, Result};
use crate::text_file;

/// Keys and values, each of which knows the file's name.
#[derive(Clone, Debug)]
pub(super) struct Table(Map<String, Value>);

impl Table {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = text_file::read(path)
            .map_err(|error| ConfigError::file("configuration file", path, error))?;
        let name = path.display().to_string();
        match Format::parse(&FileFormat::Toml, Some(&name), &text) {
            Ok(table) => Ok(Self(table)),
            Err(cause) => {
                let uri = Some(name);
                Err(one_line(config::ConfigError::FileParse { uri, cause }).into())
            }
        }
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}

impl Source for Table {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// The parser draws pictures over several lines; its words fit in one.
pub(super) fn one_line(error: config::ConfigError) -> ConfigError {
    let text = error.to_string();
    let words = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with('|'));
    ConfigError::Value(words.collect::<Vec<_>>().join(" "))
}
