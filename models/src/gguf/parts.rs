//! A model in several files, as `llama-gguf-split` writes them: `NAME-00001-of-00003.gguf` and its
//! siblings. The first one has the metadata, each has some of the tensors.

use std::collections::HashMap;
use std::path::Path;

use super::cursor::Outcome;
use super::metadata::Metadata;
use super::{GgufFile, bad};
use crate::Result;

/// Keys that only such files have.
pub(crate) const PART_KEYS: [&str; 3] = ["split.no", "split.count", "split.tensors.count"];

/// Which part of how many a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// From 0 on.
    no: u32,
    count: u32,
    /// Tensors of all parts together, where that is told.
    n_tensors: Option<u32>,
}

impl Part {
    /// What the metadata says; none of a model in one file.
    pub(super) fn of(metadata: &Metadata) -> Outcome<Option<Part>> {
        let number = |key| metadata.opt_u32(key).map_err(|error| error.to_string());
        let count = number("split.count")?.unwrap_or(0);
        let part = Part {
            no: number("split.no")?.unwrap_or(0),
            count,
            n_tensors: number("split.tensors.count")?,
        };
        if count > 1 && part.no >= count {
            return Err(format!(
                "it says that it is part {} of {count}: download it again",
                u64::from(part.no) + 1
            ));
        }
        Ok((count > 1).then_some(part))
    }
}

impl GgufFile {
    /// The parts behind `first`, which is part `part`; opened and checked against one another.
    ///
    /// # Errors
    /// A file that is not the first part, one that is missing, and parts that are not of one model.
    pub(super) fn rest_of(first: &GgufFile, part: Part) -> Result<Vec<GgufFile>> {
        let path = first.path();
        let count = part.count;
        let Some(stem) = stem(path, part) else {
            return Err(bad(
                path,
                format!(
                    "it is part {} of {count}: name the first one, and keep the names that end in \
                     {}",
                    part.no + 1,
                    ending(0, count)
                ),
            ));
        };
        if part.no != 0 {
            return Err(bad(
                path,
                format!(
                    "it is part {} of {count}: name the first one, {stem}{}",
                    part.no + 1,
                    ending(0, count)
                ),
            ));
        }
        let mut rest = Vec::new();
        for no in 1..count {
            let sibling = path.with_file_name(format!("{stem}{}", ending(no, count)));
            rest.push(open_sibling(first, &sibling, no, part)?);
        }
        check_tensors(first, &rest, part)?;
        Ok(rest)
    }
}

/// Opens part `no` and checks that it belongs to `first`.
fn open_sibling(first: &GgufFile, path: &Path, no: u32, part: Part) -> Result<GgufFile> {
    let count = part.count;
    if !path.exists() {
        return Err(bad(
            first.path(),
            format!(
                "part {} of {count} is missing: put {} beside it",
                no + 1,
                path.file_name().unwrap_or_default().to_string_lossy()
            ),
        ));
    }
    let (file, its_part) = GgufFile::open_part(path)?;
    let says = its_part.map(|its| (its.no, its.count));
    if says != Some((no, count)) {
        let what = match its_part {
            Some(its) => format!("part {} of {}", its.no + 1, its.count),
            None => "no part of a model".into(),
        };
        return Err(bad(
            path,
            format!(
                "it is {what}, not part {} of {count} as its name says: download it again",
                no + 1
            ),
        ));
    }
    let key = "general.architecture";
    let theirs = file.metadata().get(key);
    if theirs.is_some() && theirs != first.metadata().get(key) {
        return Err(bad(
            path,
            "it is a part of another model: download it again",
        ));
    }
    Ok(file)
}

/// Each tensor is in one part, and none is missing.
fn check_tensors(first: &GgufFile, rest: &[GgufFile], part: Part) -> Result<()> {
    let mut part_of: HashMap<&str, usize> = HashMap::new();
    for (no, file) in std::iter::once(first).chain(rest).enumerate() {
        for tensor in file.tensors() {
            if let Some(other) = part_of.insert(&tensor.name, no) {
                return Err(bad(
                    first.path(),
                    format!(
                        "the tensor `{}` is in part {} and in part {}: download them again",
                        tensor.name,
                        other + 1,
                        no + 1
                    ),
                ));
            }
        }
    }
    match part.n_tensors.filter(|&n| n as usize != part_of.len()) {
        None => Ok(()),
        Some(n) => Err(bad(
            first.path(),
            format!(
                "its {} parts hold {} tensors, expected {n}: they are not of one model, download them \
                 again",
                part.count,
                part_of.len()
            ),
        )),
    }
}

/// How the name of part `no` of `count` ends (`llama_split_path` in llama.h).
fn ending(no: u32, count: u32) -> String {
    format!("-{:05}-of-{count:05}.gguf", no + 1)
}

/// The name of the file without that ending; none where it has another.
fn stem(path: &Path, part: Part) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    name.strip_suffix(&ending(part.no, part.count))
        .map(str::to_owned)
}
