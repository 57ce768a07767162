//! Writes GGUF files with ggml's own `gguf_*` functions; tensor data is streamed by the caller.

use std::collections::HashSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::ptr::NonNull;

use llama_cpp_sys_2 as sys;

use super::gguf_metadata::{ALIGNMENT_KEY, c_string};
use super::quantize::{type_name, type_traits};
use super::summed::SummedFile;
use crate::{ModelError, Result};

/// `GGUF_DEFAULT_ALIGNMENT`: what a context without `general.alignment` pads tensors to.
const ALIGNMENT: u64 = 32;
/// `GGML_MAX_NAME`: a tensor's name and its NUL.
const MAX_TENSOR_NAME: usize = 64;
/// `GGML_MAX_DIMS`.
const MAX_DIMS: usize = 4;
/// Most bytes of one file, so that offsets stay far from overflow in C: 16 TiB.
const MAX_DATA_BYTES: u64 = 1 << 44;

/// A GGUF file in the making: metadata, then tensors, then [`GgufWriter::write`].
pub struct GgufWriter {
    pub(super) context: NonNull<sys::gguf_context>,
    tensors: Vec<Tensor>,
    names: HashSet<String>,
    data_bytes: u64,
}

// SAFETY: a gguf_context owns all it points to and has no thread affinity; methods that change it
// take &mut self.
unsafe impl Send for GgufWriter {}

/// A tensor as it will lie in the data section.
struct Tensor {
    name: String,
    offset: u64,
    n_bytes: u64,
}

/// Takes the bytes of one tensor in order; see [`GgufWriter::write`].
pub struct TensorSink<'a> {
    out: &'a mut dyn Write,
    path: &'a Path,
    name: &'a str,
    n_bytes: u64,
    n_left: u64,
}

impl GgufWriter {
    /// An empty file: no metadata, no tensors.
    ///
    /// # Errors
    /// When memory is lacking.
    pub fn new() -> Result<Self> {
        // SAFETY: gguf_init_empty has no preconditions; gguf_free in Drop releases it.
        let context = NonNull::new(unsafe { sys::gguf_init_empty() })
            .ok_or_else(|| llama("gguf_init_empty failed".to_owned()))?;
        Ok(Self {
            context,
            tensors: Vec::new(),
            names: HashSet::new(),
            data_bytes: 0,
        })
    }

    /// A file with all metadata of the one at `path`, and none of its tensors.
    ///
    /// `general.alignment` is left out: what is written here has the default alignment.
    /// `path` must be a file that our own reader has checked.
    ///
    /// # Errors
    /// When ggml cannot read the file.
    pub fn copy_metadata_of(path: &Path) -> Result<Self> {
        let c_path = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| bad(format!("{}: a path cannot hold a NUL byte", path.display())))?;
        let params = sys::gguf_init_params {
            no_alloc: true,
            ctx: std::ptr::null_mut(),
        };
        let mut writer = Self::new()?;
        // SAFETY: c_path is NUL-terminated and outlives the call; a null ctx asks for no tensors.
        let source = unsafe { sys::gguf_init_from_file(c_path.as_ptr(), params) };
        if source.is_null() {
            return Err(ModelError::BadGguf {
                path: path.to_owned(),
                what: "ggml cannot read its metadata".to_owned(),
            });
        }
        // SAFETY: both contexts are live and distinct; gguf_set_kv copies, so source can be freed.
        unsafe {
            sys::gguf_set_kv(writer.context.as_ptr(), source);
            sys::gguf_free(source);
        }
        writer.remove(&c_string("a key", ALIGNMENT_KEY)?);
        Ok(writer)
    }

    /// Adds a tensor of `dims` (ggml's order: the row's length first) behind those before it.
    ///
    /// # Errors
    /// A duplicate, empty or too long name; an unknown type; no dims, more than 4, or an empty
    /// one; rows that are not whole blocks; more bytes than a file may have.
    pub fn add_tensor(&mut self, name: &str, ggml_type: u32, dims: &[u64]) -> Result<()> {
        let c_name = c_string("a tensor name", name)?;
        if name.is_empty() || name.len() >= MAX_TENSOR_NAME {
            return Err(bad(format!("tensor name `{name}` must have 1 to 63 bytes")));
        }
        if self.names.contains(name) {
            return Err(bad(format!("tensor `{name}` was added twice")));
        }
        let n_bytes = tensor_bytes(name, ggml_type, dims)?;
        let data_bytes = (self.data_bytes + n_bytes).next_multiple_of(ALIGNMENT);
        if data_bytes > MAX_DATA_BYTES {
            return Err(bad(format!(
                "tensor `{name}`: the file would exceed 16 TiB"
            )));
        }
        self.add_checked(&c_name, ggml_type, dims)?;
        self.names.insert(name.to_owned());
        self.tensors.push(Tensor {
            name: name.to_owned(),
            offset: self.data_bytes,
            n_bytes,
        });
        self.data_bytes = data_bytes;
        Ok(())
    }

    /// Number of tensors added so far.
    pub fn n_tensors(&self) -> usize {
        self.tensors.len()
    }

    /// Bytes of all tensors added so far, with padding: what remains to be streamed.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Writes the whole file: metadata, then what `data` gives for each tensor, in order of adding.
    /// Gives the BLAKE3 hash of all that was written.
    ///
    /// `data(index, name, sink)` must put exactly the tensor's bytes into the sink, or call
    /// [`TensorSink::hole`]. What `file` held before is dropped; `path` only serves messages.
    /// The file is not synced.
    ///
    /// # Errors
    /// What `data` returns, a tensor with too few or too many bytes, a failing file system.
    pub fn write(
        &self,
        file: &mut File,
        path: &Path,
        data: &mut dyn FnMut(usize, &str, &mut TensorSink<'_>) -> Result<()>,
    ) -> Result<blake3::Hash> {
        let io = |source| ModelError::Io {
            path: path.to_owned(),
            source,
        };
        let metadata = self.metadata_bytes();
        let data_start = metadata.len() as u64;
        let mut out = SummedFile::new(file).map_err(io)?;
        out.write_all(&metadata).map_err(io)?;
        for (index, tensor) in self.tensors.iter().enumerate() {
            out.skip_to(data_start + tensor.offset).map_err(io)?;
            write_tensor(index, tensor, &mut out, path, data)?;
        }
        out.skip_to(data_start + self.data_bytes).map_err(io)?;
        out.finish().map_err(io)
    }

    /// The header, metadata and tensor index as bytes, padded to where the data starts.
    fn metadata_bytes(&self) -> Vec<u8> {
        // SAFETY: the context is live; gguf_get_meta_data writes gguf_get_meta_size bytes.
        unsafe {
            let mut bytes = vec![0u8; sys::gguf_get_meta_size(self.context.as_ptr())];
            sys::gguf_get_meta_data(self.context.as_ptr(), bytes.as_mut_ptr().cast());
            bytes
        }
    }

    /// Adds a tensor whose name, type and dims have been checked.
    fn add_checked(&mut self, name: &CString, ggml_type: u32, dims: &[u64]) -> Result<()> {
        let ne: Vec<i64> = dims.iter().map(|&n| n as i64).collect();
        // SAFETY: the ggml context has room for one tensor's header, and no_alloc keeps it from
        // allocating data; type, number of dims and the product of dims were checked against what
        // ggml_new_tensor asserts. gguf_add_tensor copies the header, so the context can go; the
        // name is new and shorter than GGML_MAX_NAME.
        unsafe {
            let context = sys::ggml_init(sys::ggml_init_params {
                mem_size: sys::ggml_tensor_overhead(),
                mem_buffer: std::ptr::null_mut(),
                no_alloc: true,
            });
            if context.is_null() {
                return Err(llama("ggml_init failed".to_owned()));
            }
            let tensor = sys::ggml_new_tensor(context, ggml_type, ne.len() as i32, ne.as_ptr());
            sys::ggml_set_name(tensor, name.as_ptr());
            sys::gguf_add_tensor(self.context.as_ptr(), tensor);
            sys::ggml_free(context);
        }
        Ok(())
    }
}

impl Drop for GgufWriter {
    fn drop(&mut self) {
        // SAFETY: the context came from gguf_init_empty and is freed once.
        unsafe { sys::gguf_free(self.context.as_ptr()) };
    }
}

impl TensorSink<'_> {
    /// Bytes that this tensor still lacks.
    pub fn n_left(&self) -> u64 {
        self.n_left
    }

    /// Appends `bytes` to the tensor.
    ///
    /// # Errors
    /// More bytes than the tensor has, or a failing file system.
    pub fn put(&mut self, bytes: &[u8]) -> Result<()> {
        let n = bytes.len() as u64;
        if n > self.n_left {
            return Err(self.wrong_size(self.n_bytes - self.n_left + n));
        }
        self.out.write_all(bytes).map_err(|source| ModelError::Io {
            path: self.path.to_owned(),
            source,
        })?;
        self.n_left -= n;
        Ok(())
    }

    /// Leaves the rest of the tensor as a hole: it reads as zeroes and takes no room on disk.
    pub fn hole(&mut self) {
        // What comes next is written at its offset.
        self.n_left = 0;
    }

    fn wrong_size(&self, got: u64) -> ModelError {
        bad(format!(
            "tensor `{}` has {} bytes, not {got}",
            self.name, self.n_bytes
        ))
    }
}

fn write_tensor<'a>(
    index: usize,
    tensor: &'a Tensor,
    out: &'a mut dyn Write,
    path: &'a Path,
    data: &mut dyn FnMut(usize, &str, &mut TensorSink<'_>) -> Result<()>,
) -> Result<()> {
    let n_bytes = tensor.n_bytes;
    let mut sink = TensorSink {
        out,
        path,
        name: &tensor.name,
        n_bytes,
        n_left: n_bytes,
    };
    data(index, &tensor.name, &mut sink)?;
    if sink.n_left > 0 {
        return Err(sink.wrong_size(n_bytes - sink.n_left));
    }
    Ok(())
}

/// Bytes of a tensor, after every check that `ggml_new_tensor` and the loader would make.
fn tensor_bytes(name: &str, ggml_type: u32, dims: &[u64]) -> Result<u64> {
    let Some(traits) = type_traits(ggml_type) else {
        return Err(bad(format!(
            "tensor `{name}` has the unknown {}",
            type_name(ggml_type)
        )));
    };
    if dims.is_empty() || dims.len() > MAX_DIMS || dims.contains(&0) {
        return Err(bad(format!(
            "tensor `{name}` must have 1 to 4 dims above 0, not {dims:?}"
        )));
    }
    if !dims[0].is_multiple_of(traits.block_values as u64) {
        return Err(bad(format!(
            "tensor `{name}`: rows of {} values cannot be {}, take a multiple of {}",
            dims[0], traits.name, traits.block_values
        )));
    }
    let row_bytes = (dims[0] / traits.block_values as u64).checked_mul(traits.block_bytes as u64);
    dims[1..]
        .iter()
        .try_fold(row_bytes, |bytes, &n| Some(bytes?.checked_mul(n)))
        .flatten()
        .filter(|&bytes| bytes <= MAX_DATA_BYTES)
        .ok_or_else(|| bad(format!("tensor `{name}` of {dims:?} would exceed 16 TiB")))
}

pub(super) fn bad(what: String) -> ModelError {
    ModelError::BadInput { what }
}

fn llama(what: String) -> ModelError {
    ModelError::Llama { what }
}

#[cfg(test)]
mod tests;
