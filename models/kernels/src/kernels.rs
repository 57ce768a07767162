//! What callers see of the kernels: rows of activations are quantized, then multiplied with groups of rows
//! of weights.

use std::ops::Range;

#[cfg(target_arch = "aarch64")]
use crate::arm;
use crate::forms::Form;
use crate::panels::{self, MAX_TILE, PanelRow};
#[cfg(target_arch = "x86_64")]
use crate::x86;
use crate::{GROUP, InstructionSet, Shape, WeightType, scalar};

/// Bytes of weights that stay in the second-level cache while the tiles of a step pass over them.
const CHUNK_BYTES: usize = 192 << 10;

/// How far ahead a tile that is the only one fetches its group of weights.
const AHEAD: usize = 8192;

/// The kernels of one instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernels {
    set: InstructionSet,
}

/// A product of one group of weights with one tile of activations.
pub(crate) struct Tile<'a> {
    /// The packed group, valid for [`Form::group_bytes`].
    pub(crate) group: *const u8,
    /// The panel of the tile, aligned to 4 bytes.
    pub(crate) panel: *const u8,
    pub(crate) n_cols: usize,
    /// Rows of weights that there are: [`GROUP`], or fewer in the last group of a matrix.
    pub(crate) n_rows: usize,
    /// For each row of activations where its `n_rows` outputs go.
    pub(crate) outputs: &'a [*mut f32],
    /// What to fetch into the cache meanwhile. Never read: it may be any address.
    #[allow(dead_code)]
    pub(crate) ahead: *const u8,
    /// Bytes to fetch from there.
    #[allow(dead_code)]
    pub(crate) ahead_bytes: usize,
}

/// Multiplies one tile.
///
/// # Safety
/// As [`Tile`] says; the processor has the instruction set.
pub(crate) type TileKernel = unsafe fn(&Tile<'_>);

/// Quantizes a row, as [`panels::quantize_row`].
pub(crate) type Quantizer = unsafe fn(Form, &[f32], PanelRow);

impl Kernels {
    /// The fastest kernels that this processor can run.
    pub fn best() -> Self {
        Self {
            set: InstructionSet::best(),
        }
    }

    /// The kernels of this instruction set, or `None` where the processor lacks it.
    pub fn with(set: InstructionSet) -> Option<Self> {
        set.is_available().then_some(Self { set })
    }

    /// Its instruction set.
    pub fn instruction_set(self) -> InstructionSet {
        self.set
    }

    /// Most rows of a tile.
    fn max_tile(self) -> usize {
        #[cfg(target_arch = "x86_64")]
        return x86::max_tile(self.set);
        #[cfg(target_arch = "aarch64")]
        return arm::max_tile(self.set);
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        MAX_TILE
    }

    /// How rows are quantized.
    fn quantizer(self) -> Quantizer {
        #[cfg(target_arch = "x86_64")]
        if let Some(quantizer) = x86::quantizer(self.set) {
            return quantizer;
        }
        #[cfg(target_arch = "aarch64")]
        if let Some(quantizer) = arm::quantizer(self.set) {
            return quantizer;
        }
        panels::quantize_row
    }

    /// The tile of `m` rows, or `None` for plain Rust's.
    fn tile(self, weights: WeightType, m: usize) -> Option<TileKernel> {
        #[cfg(target_arch = "x86_64")]
        return x86::tile(self.set, weights, m);
        #[cfg(target_arch = "aarch64")]
        return arm::tile(self.set, weights, m);
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        None
    }

    /// Quantizes `row`, which is row `i` of the `n` of a step, into `panels`. Threads may share the rows.
    /// The panels are read by the kernels of the same instruction set only.
    ///
    /// # Panics
    /// Where `row` is no whole number of blocks, or `i` is not below `n`.
    ///
    /// # Safety
    /// `panels` is aligned to 64 bytes and valid for [`panel_bytes`](crate::panel_bytes) of `row.len()` columns
    /// and `n` rows, and nobody else reads or writes row `i` of it meanwhile.
    pub unsafe fn quantize_row(
        self,
        weights: WeightType,
        row: &[f32],
        i: usize,
        n: usize,
        panels: *mut u8,
    ) {
        assert!(i < n, "row {i} of {n}");
        assert!(
            row.len().is_multiple_of(weights.block_len()),
            "{} columns",
            row.len()
        );
        let form = Form::of(weights);
        let (first, m) = panels::tile_of(i, n, self.max_tile());
        let slot = PanelRow {
            panel: panels.wrapping_add(first * panels::row_bytes(form, row.len())),
            m,
            i: i - first,
        };
        // SAFETY: the tiles before take the rows before `first`, so the slot is in the caller's panels.
        unsafe { self.quantizer()(form, row, slot) }
    }

    /// Multiplies: `output(r)[c]` becomes the product of row `r` of the activations and row `c` of the weights, for
    /// each of the `n` rows and each row of weights in `groups` (of [`GROUP`] rows each; the last may have
    /// fewer). `output` is called once for each row and tile, and says where the row's `n_rows` values go.
    /// Threads may share the groups.
    ///
    /// # Panics
    /// Where the kernels do not take the matrix, or `groups` reaches beyond it.
    ///
    /// # Safety
    /// `packed` holds what [`pack`](crate::pack) wrote for this type and shape. `panels` holds what
    /// [`quantize_row`](Self::quantize_row) of these kernels wrote for this type and all `n` rows.
    /// `output(r)` is valid for `n_rows` values, and nobody else touches those of `groups` meanwhile.
    // Long: one nest of loops, each of which needs what those around it have found.
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn matmul(
        self,
        weights: WeightType,
        shape: Shape,
        packed: *const u8,
        groups: Range<usize>,
        panels: *const u8,
        n: usize,
        output: &dyn Fn(usize) -> *mut f32,
    ) {
        let form = Form::of(weights);
        let row_bytes = panels::row_bytes(form, shape.n_cols);
        let group_bytes = form.group_bytes(shape.n_cols);
        assert!(
            crate::packed_bytes(weights, shape).is_some(),
            "{shape:?} of {}",
            weights.name()
        );
        assert!(
            groups.end <= shape.n_rows.div_ceil(GROUP),
            "{groups:?} of {shape:?}"
        );
        let tiles = panels::tiles(n, self.max_tile());
        let count = tiles.clone().count();
        if count == 0 {
            return;
        }
        let chunk = if count == 1 {
            usize::MAX
        } else {
            (CHUNK_BYTES / group_bytes).max(1)
        };
        let mut start = groups.start;
        while start < groups.end {
            let end = start.saturating_add(chunk).min(groups.end);
            // One tile fetches what it will need itself. Several share the fetching of the next chunk.
            let mut ahead = if count == 1 {
                packed.wrapping_add(start * group_bytes + AHEAD)
            } else {
                packed.wrapping_add(end * group_bytes)
            };
            let ahead_bytes = group_bytes.div_ceil(count);
            for (first, m) in tiles.clone() {
                let kernel = self.tile(weights, m);
                let mut rows = [core::ptr::null_mut(); MAX_TILE];
                for (i, row) in rows[..m].iter_mut().enumerate() {
                    *row = output(first + i);
                }
                for g in start..end {
                    let outputs = rows.map(|row| row.wrapping_add(g * GROUP));
                    let tile = Tile {
                        group: packed.wrapping_add(g * group_bytes),
                        panel: panels.wrapping_add(first * row_bytes),
                        n_cols: shape.n_cols,
                        n_rows: GROUP.min(shape.n_rows - g * GROUP),
                        outputs: &outputs[..m],
                        ahead,
                        ahead_bytes,
                    };
                    // SAFETY: group, panel and outputs are parts of what the caller vouches for, and these
                    // kernels were made only where the processor has them.
                    unsafe {
                        match kernel {
                            Some(kernel) => kernel(&tile),
                            None => scalar::tile(weights, &tile),
                        }
                    }
                    ahead = ahead.wrapping_add(ahead_bytes);
                }
            }
            start = end;
        }
    }
}
