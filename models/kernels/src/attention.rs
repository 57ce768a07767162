//! Attention over the cells of a KV cache, with the same bits for a row whatever shares its step.
//!
//! Does what ggml's `GGML_OP_FLASH_ATTN_EXT` does (ops.cpp, `ggml_compute_forward_flash_attn_ext`),
//! but a row's result depends on its query and on the cells that it sees, in their order, only: not on
//! other rows, on where cells lie, on cells that the row does not see (whatever they hold), on the
//! padding of the cache, on threads, or on the instruction set. [`scalar`] defines the bits.
//!
//! A tile of (row, head) pairs that read the same head of the cache shares the work of reading and
//! converting it. Its softmax takes two passes, so that no running maximum enters the bits: the scores
//! of the whole tile lie in the caller's work memory.
//!
//! # Layout
//! - [`scalar`]: one row and head at a time; what the others are tested against.
//! - `split`: which pairs a thread takes, and which cells a tile reads.
//! - `lanes`, `x86`, `neon`: vectors of an instruction set.
//! - `functions`: exponential and tangent, the same on all of them.
//! - `tile`, `scores`, `values`, `work`: a tile's steps, and its memory.
//! - `source`: the types of K and V.

mod functions;
mod lanes;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod scalar;
mod scores;
mod source;
mod split;
mod tile;
mod values;
mod work;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

use crate::{InstructionSet, WeightType};

/// -inf in half precision: what the mask says of cells that a row does not see.
const HIDDEN: u16 = 0xFC00;

/// The keys or the values of a cache: a vector for each cell and each of its heads.
#[derive(Clone, Copy, Debug)]
pub struct Cells {
    /// The vector of cell 0, head 0. Not transposed: the values of a vector follow each other.
    pub data: *const u8,
    /// F16, BF16, F32 or Q8_0.
    pub kind: WeightType,
    /// Values of a vector (`ne[0]`).
    pub len: usize,
    /// Bytes from a cell to the next (`nb[1]`).
    pub cell_stride: usize,
    /// Bytes from a head to the next (`nb[2]`).
    pub head_stride: usize,
}

/// An attention: `output[row][head] = softmax(scale * q[row][head] . K + mask[row]) * V`.
///
/// Query head `h` reads head `h / (n_heads / n_kv_heads)` of the cache.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Query rows (`q.ne[1]`).
    pub n_rows: usize,
    /// Query heads (`q.ne[2]`); a multiple of `n_kv_heads`.
    pub n_heads: usize,
    /// Heads of the cache (`k.ne[2]`).
    pub n_kv_heads: usize,
    /// Cells of the cache that the mask speaks of (`k.ne[1]`).
    pub n_cells: usize,
    /// Queries, F32: `k.len` values for each row and head.
    pub q: *const u8,
    /// Bytes from a row of `q` to the next (`q.nb[1]`).
    pub q_row_stride: usize,
    /// Bytes from a head of `q` to the next (`q.nb[2]`).
    pub q_head_stride: usize,
    /// Keys.
    pub k: Cells,
    /// Values; `v.len` may differ from `k.len`.
    pub v: Cells,
    /// F16, `n_cells` values for each row, or null: all rows see all cells. A row sees the cells where
    /// it is greater than -inf; the value times the head's slope is added to the score.
    pub mask: *const u8,
    /// Bytes from a row of `mask` to the next (`mask.nb[1]`).
    pub mask_stride: usize,
    /// What dot products are multiplied with (`op_params[0]`).
    pub scale: f32,
    /// Greater than 0: heads have the slopes of ALiBi (`op_params[1]`); otherwise slopes are 1.
    pub max_bias: f32,
    /// Not 0: scores are `softcap * tanh(score / softcap)` before the mask is added (`op_params[2]`).
    pub softcap: f32,
    /// A score for each head that takes part in the softmax without a value (`src[4]`).
    pub sinks: Option<&'a [f32]>,
    /// The order in which values are added up: each cell once. `None`: ascending. Must not depend on
    /// where cells lie: [`order_of`] makes it from the order of writing.
    pub order: Option<&'a [u32]>,
    /// Results, F32: `v.len` values for each row and head.
    pub output: *mut u8,
    /// Bytes from a row of `output` to the next (`dst.nb[2]`).
    pub output_row_stride: usize,
    /// Bytes from a head of `output` to the next (`dst.nb[1]`).
    pub output_head_stride: usize,
}

// SAFETY: the pointers are only followed by `compute`, whose contract covers other threads.
unsafe impl Send for Attention<'_> {}
// SAFETY: as above.
unsafe impl Sync for Attention<'_> {}

/// The cells in ascending order of their stamps (cells of equal stamps in ascending order), or `None`
/// where they lie so already. A stamp says when a cell was written, for instance as a count of writes:
/// within a sequence it must grow with the position. Made once for each step.
pub fn order_of(stamps: &[u64]) -> Option<Vec<u32>> {
    if stamps.is_sorted() {
        return None;
    }
    let mut cells: Vec<u32> = (0..stamps.len() as u32).collect();
    // Stable, and fast where the stamps are a few ascending runs.
    cells.sort_by_key(|&cell| stamps[cell as usize]);
    Some(cells)
}

impl Attention<'_> {
    /// Whether `compute` takes it: types of K and V, and dimensions that fit each other.
    pub fn is_supported(&self) -> bool {
        let takes = |cells: &Cells| {
            use WeightType::{Bf16, F16, F32, Q8_0};
            matches!(cells.kind, F16 | Bf16 | F32 | Q8_0)
                && cells.kind.row_bytes(cells.len).is_some()
                && cells.len > 0
        };
        takes(&self.k)
            && takes(&self.v)
            && self.n_kv_heads > 0
            && self.n_heads > 0
            && self.n_heads.is_multiple_of(self.n_kv_heads)
            && self.n_cells < u32::MAX as usize
            && self.sinks.is_none_or(|s| s.len() == self.n_heads)
            && self.order.is_none_or(|o| o.len() == self.n_cells)
    }

    /// Bytes of work memory that each part needs, a multiple of 64; the same for all instruction sets.
    pub fn work_bytes(&self) -> usize {
        work::Work::bytes(self)
    }

    /// Computes part `part` of `n_parts`. Parts do not wait for each other and may run in any order.
    ///
    /// # Panics
    /// Where the processor lacks `set`.
    ///
    /// # Safety
    /// `is_supported` holds. The pointers are valid for what the strides and counts say: q, K, V and mask
    /// for reads (of all cells, seen or not), and nobody writes there meanwhile; `output` for writes, and
    /// nobody reads or writes it meanwhile but other parts of the same call. q, output and K or V in F32
    /// are aligned to 4 bytes, mask and K or V in other types to 2. `order` holds each cell once. `work`
    /// is aligned to 64 bytes, valid for `work_bytes` and not used by anyone else meanwhile.
    pub unsafe fn compute(&self, set: InstructionSet, part: usize, n_parts: usize, work: *mut u8) {
        assert!(set.is_available(), "the processor lacks {set}");
        // SAFETY: the caller's contract is theirs, and the processor has the instructions.
        unsafe {
            match set {
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx512Vnni => x86::compute_avx512(self, part, n_parts, work),
                #[cfg(target_arch = "x86_64")]
                InstructionSet::Avx2 | InstructionSet::AvxVnni => {
                    x86::compute_avx2(self, part, n_parts, work)
                }
                #[cfg(target_arch = "aarch64")]
                InstructionSet::NeonDotprod | InstructionSet::NeonI8mm => {
                    neon::compute(self, part, n_parts, work)
                }
                _ => scalar::compute(self, part, n_parts),
            }
        }
    }

    /// Heads of the query for each head of the cache.
    fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// (row, query head) of a pair: pairs of one head of the cache are numbered by row, then by head.
    fn row_and_head(&self, kv_head: usize, pair: usize) -> (usize, usize) {
        let group = self.group();
        (pair / group, kv_head * group + pair % group)
    }

    /// What the mask is multiplied with for a head: 1, or the slope of ALiBi.
    fn slope(&self, head: usize) -> f32 {
        if self.max_bias <= 0.0 {
            return 1.0;
        }
        let power = 1usize << self.n_heads.ilog2();
        let step = if head < power {
            (head + 1) as f64
        } else {
            (2 * (head - power) + 1) as f64 / 2.0
        };
        (-f64::from(self.max_bias) * step / power as f64).exp2() as f32
    }

    /// What dot products are multiplied with before the tangent, if there is one.
    fn dot_scale(&self) -> f32 {
        if self.softcap == 0.0 {
            self.scale
        } else {
            self.scale / self.softcap
        }
    }

    /// # Safety
    /// As for `compute`; row and head are there.
    unsafe fn query(&self, row: usize, head: usize) -> *const f32 {
        // SAFETY: the caller's contract.
        unsafe {
            self.q
                .add(row * self.q_row_stride + head * self.q_head_stride)
                .cast()
        }
    }

    /// # Safety
    /// As for `compute`; the row is there and the mask not null.
    unsafe fn mask_row(&self, row: usize) -> *const u16 {
        // SAFETY: the caller's contract.
        unsafe { self.mask.add(row * self.mask_stride).cast() }
    }

    /// # Safety
    /// As for `compute`; row and head are there.
    unsafe fn result(&self, row: usize, head: usize) -> *mut f32 {
        // SAFETY: the caller's contract.
        unsafe {
            self.output
                .add(row * self.output_row_stride + head * self.output_head_stride)
                .cast()
        }
    }
}

impl Cells {
    /// Bytes of a vector.
    fn bytes(&self) -> usize {
        self.len / self.kind.block_len() * self.kind.block_bytes()
    }

    /// The vector of a cell.
    ///
    /// # Safety
    /// Head and cell are there.
    unsafe fn vector(&self, kv_head: usize, cell: usize) -> *const u8 {
        // SAFETY: the caller's contract.
        unsafe {
            self.data
                .add(cell * self.cell_stride + kv_head * self.head_stride)
        }
    }
}
