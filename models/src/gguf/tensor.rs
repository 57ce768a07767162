//! One entry of the tensor index.

use crate::llama::quantize::{row_size, type_name};

/// Where a tensor lies and how it is shaped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, e.g. `blk.3.attn_q.weight`.
    pub name: String,
    /// `ne` in ggml's order: the length of a row first; 1 to 4 dims above 0.
    pub dims: Vec<u64>,
    /// `enum ggml_type`; always one that ggml knows.
    pub ggml_type: u32,
    /// The part of the model that holds it; 0 for the first, or only, file.
    pub part: usize,
    /// First byte, counted from the start of that file.
    pub offset: u64,
    /// Bytes without padding.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// Bytes of one row of `dims[0]` values.
    pub fn row_bytes(&self) -> u64 {
        let n = self.dims.first().copied().unwrap_or(0) as usize;
        row_size(self.ggml_type, n).unwrap_or(0) as u64
    }

    /// Number of rows: the product of all dims but the first.
    pub fn n_rows(&self) -> u64 {
        self.dims.iter().skip(1).product()
    }

    /// The layer of a `blk.<i>.` tensor.
    pub fn layer(&self) -> Option<u32> {
        let (index, _) = self.name.strip_prefix("blk.")?.split_once('.')?;
        // Only the spelling that llama.cpp would produce counts: no sign, no leading zero.
        let layer: u32 = index.parse().ok()?;
        (layer.to_string() == index).then_some(layer)
    }

    /// The name of the type, e.g. `q4_0`.
    pub fn type_name(&self) -> String {
        type_name(self.ggml_type)
    }
}
