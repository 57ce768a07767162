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

mod checks;
mod content_hash;
mod cursor;
mod file_id;
mod info;
mod kind;
mod metadata;
mod parse;
mod tensor;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::llama::mapping::FileMapping;
use crate::{ModelError, Result};

use self::file_id::FileId;
pub use info::{KvDtype, ModelInfo, SlidingWindow};
pub use metadata::{Array, Metadata, Value};
pub use tensor::TensorInfo;

/// A GGUF file whose header was checked, with its tensor data mapped.
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
}

impl GgufFile {
    /// Opens and checks the file at `path`: version 2 or 3, little endian, not split in parts.
    ///
    /// # Errors
    /// A file that cannot be read ([`ModelError::Io`]), or whose lengths, counts, types or offsets
    /// do not hold together ([`ModelError::BadGguf`]). Nothing is allocated on the word of a
    /// header: each length is compared with the bytes that remain.
    pub fn open(path: impl AsRef<Path>) -> Result<GgufFile> {
        let path = path.as_ref();
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
        let index = parsed
            .tensors
            .iter()
            .enumerate()
            .map(|(i, t)| (t.name.clone(), i))
            .collect();
        Ok(GgufFile {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                id: FileId::new(&about),
                file,
                mapping,
                metadata: parsed.metadata,
                tensors: parsed.tensors,
                index,
                content_hash: OnceLock::new(),
            }),
        })
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
        let bytes = self.inner.mapping.bytes();
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
        let fits = offset
            .checked_add(out.len() as u64)
            .is_some_and(|end| end <= tensor.n_bytes);
        let read = if fits {
            read_exact_at(&self.inner.file, out, tensor.offset + offset)
        } else {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "read beyond a tensor",
            ))
        };
        read.map_err(|source| ModelError::Io {
            path: self.inner.path.clone(),
            source,
        })
    }

    /// The file's bytes from `offset` on; mapped, not read.
    pub(crate) fn bytes_from(&self, offset: u64) -> &[u8] {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        self.inner.mapping.bytes().get(offset..).unwrap_or_default()
    }

    /// Length of the file in bytes.
    pub fn n_bytes(&self) -> u64 {
        self.inner.mapping.bytes().len() as u64
    }
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
