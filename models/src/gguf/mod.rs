//! The metadata and tensor index of a GGUF file, checked before llama.cpp sees it.
//!
//! ```text
//! magic "GGUF" | version u32 | n_tensors u64 | n_kv u64
//! n_kv      x  key: string, type: u32, value
//! n_tensors x  name: string, n_dims: u32, dims: n_dims x u64, type: u32, offset: u64
//! padding to general.alignment (32 unless set)
//! the tensors' data, one after the other, each padded to the alignment
//! ```
//! A string is a u64 length and that many bytes; everything is little endian
//! (ggml/docs/gguf.md in the ggml repository).

mod block;
mod checks;
mod content_hash;
mod cursor;
mod experts;
mod file_id;
mod info;
mod kind;
mod latent;
mod metadata;
mod parse;
mod parts;
mod recurrent;
mod tensor;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::llama::mapping::FileMapping;
use crate::{ModelError, Result};

use self::file_id::FileId;
pub(crate) use self::parts::PART_KEYS;
use self::parts::Part;
pub use block::check_mtp;
pub use info::{KvDtype, ModelInfo, SlidingWindow};
pub use latent::LatentInfo;
pub use metadata::{Array, Metadata, Value};
pub use recurrent::RecurrentInfo;
pub use tensor::TensorInfo;

/// A GGUF file whose header was checked, with its tensor data mapped; of a model in parts all of them.
///
/// Clones share the mapping. As with every mapping, a file that another program shortens while it
/// is open faults on access.
#[derive(Clone)]
pub struct GgufFile {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    file: File,
    id: FileId,
    mapping: FileMapping,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    content_hash: OnceLock<String>,
    /// The parts behind this file, in order.
    rest: Vec<GgufFile>,
}

impl GgufFile {
    /// Opens and checks the file at `path`: version 2 or 3, little endian; with the first part of a
    /// model the others, which lie beside it.
    ///
    /// # Errors
    /// A file that cannot be read ([`ModelError::Io`]), or whose lengths, counts, types or offsets
    /// do not hold together ([`ModelError::BadGguf`]). Nothing is allocated on the word of a
    /// header: each length is compared with the bytes that remain.
    pub fn open(path: impl AsRef<Path>) -> Result<GgufFile> {
        let (first, part) = GgufFile::open_part(path.as_ref())?;
        let Some(part) = part else {
            return Ok(first);
        };
        let rest = GgufFile::rest_of(&first, part)?;
        let Some(mut inner) = Arc::into_inner(first.inner) else {
            unreachable!("nobody else has the file that was just opened");
        };
        for (no, file) in rest.iter().enumerate() {
            let of_part = |tensor: &TensorInfo| TensorInfo {
                part: no + 1,
                ..tensor.clone()
            };
            inner.tensors.extend(file.tensors().iter().map(of_part));
        }
        inner.index = index(&inner.tensors);
        inner.rest = rest;
        Ok(GgufFile {
            inner: Arc::new(inner),
        })
    }

    /// One file, whether it is all of a model or a part.
    fn open_part(path: &Path) -> Result<(GgufFile, Option<Part>)> {
        let io = |source| ModelError::Io {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(io)?;
        let about = file.metadata().map_err(io)?;
        if !about.is_file() {
            return Err(bad(path, "not a regular file"));
        }
        if about.len() == 0 {
            return Err(bad(path, "the file is empty: download it again"));
        }
        let mapping = FileMapping::new(&file).map_err(io)?;
        let parsed = parse::header(path, mapping.bytes()).map_err(|what| bad(path, what))?;
        let inner = Inner {
            path: path.to_owned(),
            id: FileId::new(&about),
            file,
            mapping,
            metadata: parsed.metadata,
            index: index(&parsed.tensors),
            tensors: parsed.tensors,
            content_hash: OnceLock::new(),
            rest: Vec::new(),
        };
        let inner = Arc::new(inner);
        Ok((GgufFile { inner }, parsed.part))
    }

    /// The file itself, and the parts behind it.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &GgufFile> {
        std::iter::once(self).chain(&self.inner.rest)
    }

    /// The file that holds `tensor`.
    fn part_of(&self, tensor: &TensorInfo) -> &GgufFile {
        let behind = tensor.part.checked_sub(1);
        behind.and_then(|i| self.inner.rest.get(i)).unwrap_or(self)
    }

    /// Where the file lies, as it was given to [`GgufFile::open`].
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// The key-value pairs of the header.
    pub fn metadata(&self) -> &Metadata {
        &self.inner.metadata
    }

    /// The tensors, in the order of their data.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.inner.tensors
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.inner.index.get(name).map(|&i| &self.inner.tensors[i])
    }

    /// The bytes of a tensor of this file, in ggml's layout; mapped, not read.
    pub fn tensor_bytes(&self, tensor: &TensorInfo) -> &[u8] {
        let bytes = self.part_of(tensor).inner.mapping.bytes();
        let start = usize::try_from(tensor.offset)
            .unwrap_or(usize::MAX)
            .min(bytes.len());
        let end = usize::try_from(tensor.n_bytes)
            .ok()
            .and_then(|n| start.checked_add(n))
            .map_or(bytes.len(), |end| end.min(bytes.len()));
        &bytes[start..end]
    }

    /// Fills `out` with the tensor's bytes from `offset` on, through the file and not the mapping,
    /// so that copying a large model does not make it resident.
    ///
    /// # Errors
    /// A failing read, or a range beyond the tensor.
    pub fn read_tensor(&self, tensor: &TensorInfo, offset: u64, out: &mut [u8]) -> Result<()> {
        let part = self.part_of(tensor);
        let fits = offset
            .checked_add(out.len() as u64)
            .is_some_and(|end| end <= tensor.n_bytes);
        let read = if fits {
            read_exact_at(&part.inner.file, out, tensor.offset + offset)
        } else {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "read beyond a tensor",
            ))
        };
        read.map_err(|source| ModelError::Io {
            path: part.inner.path.clone(),
            source,
        })
    }

    /// The file's bytes from `offset` on; mapped, not read.
    pub(crate) fn bytes_from(&self, offset: u64) -> &[u8] {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.inner.mapping.bytes().get(offset..).unwrap_or_default()
    }

    /// Length of the file in bytes, without the parts behind it.
    pub fn n_bytes(&self) -> u64 {
        self.inner.mapping.bytes().len() as u64
    }
}

/// Where each name is in the list.
fn index(tensors: &[TensorInfo]) -> HashMap<String, usize> {
    let named = tensors.iter().enumerate();
    named.map(|(i, tensor)| (tensor.name.clone(), i)).collect()
}

/// A [`ModelError::BadGguf`] about the file at `path`.
fn bad(path: &Path, what: impl Into<String>) -> ModelError {
    ModelError::BadGguf {
        path: path.to_owned(),
        what: what.into(),
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, offset)
}

#[cfg(not(unix))]
fn read_exact_at(mut file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.read_exact(out)
}

#[cfg(test)]
pub(crate) mod tests;
