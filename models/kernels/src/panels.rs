//! Activations as the kernels read them.
//!
//! `n` rows are cut into *tiles* of at most [`MAX_TILE`] rows, as even as possible. The panel of a tile of
//! `m` rows is, for each block of 32 columns,
//!
//! ```text
//! m rows of 32 signed bytes | m f32 scales | m corrections | with halves: m corrections of columns 16..32
//! ```
//!
//! A row's values are its bytes times its scale. The correction is, for weights with minima, the f32
//! scale times the sum of the bytes, and else the i32 that the dot product of codes starts from: minus
//! [`Form::offset`] times the sum of the bytes (of the half). Float weights have panels of f32
//! instead: for each column the `m` values side by side.
//!
//! A block is quantized as ggml does it (ggml-quants.c, `quantize_row_q8_0_ref`), but with a scale in f32,
//! and rounding half to even: scale = max |x| / 127, byte = round(x · (127 / max |x|)). A block whose
//! largest value is below [`TINY`] is zero. One with a NaN or an infinity has the scale NaN and
//! bytes of zero, so that each output of its row is NaN.

use crate::WeightType;
use crate::forms::{BLOCK, Form};

/// Most rows of a tile.
pub(crate) const MAX_TILE: usize = 8;

/// Blocks of smaller values than 2^-112 are zero: 127 / max |x| would not be a finite number soon.
pub(crate) const TINY: f32 = f32::from_bits(15 << 23);

/// Bytes of the panels of `n` rows of activations of `n_cols` values.
pub fn panel_bytes(weights: WeightType, n_cols: usize, n: usize) -> usize {
    n * row_bytes(Form::of(weights), n_cols)
}

/// Bytes of one row in a panel.
pub(crate) const fn row_bytes(form: Form, n_cols: usize) -> usize {
    if form.is_float() {
        4 * n_cols
    } else {
        n_cols / BLOCK * block_bytes(form)
    }
}

/// Bytes of one row of a block of quantized values.
pub(crate) const fn block_bytes(form: Form) -> usize {
    BLOCK + 8 + if form.has_halves() { 4 } else { 0 }
}

/// The tiles of `n` rows: first row and rows of each.
pub(crate) fn tiles(n: usize, max: usize) -> impl Iterator<Item = (usize, usize)> + Clone {
    let count = n.div_ceil(max);
    (0..count).map(move |i| {
        let start = |i: usize| i * (n / count) + i.min(n % count);
        (start(i), start(i + 1) - start(i))
    })
}

/// First row and rows of the tile that row `i` of `n` is in.
pub(crate) fn tile_of(i: usize, n: usize, max: usize) -> (usize, usize) {
    let count = n.div_ceil(max);
    let (base, longer) = (n / count, n % count);
    let long = longer * (base + 1);
    if i < long {
        (i / (base + 1) * (base + 1), base + 1)
    } else {
        (long + (i - long) / base * base, base)
    }
}

/// A row's place in the panel of its tile.
#[derive(Clone, Copy)]
pub(crate) struct PanelRow {
    /// The panel.
    pub(crate) panel: *mut u8,
    /// Rows of the tile.
    pub(crate) m: usize,
    /// This row among them.
    pub(crate) i: usize,
}

impl PanelRow {
    /// Addresses of block `b`: its bytes, its scale, its corrections `m` apart.
    pub(crate) fn block(self, form: Form, b: usize) -> (*mut i8, *mut f32, *mut i32) {
        let block = self.panel.wrapping_add(b * self.m * block_bytes(form));
        let scales = block.wrapping_add(self.m * BLOCK);
        (
            block.wrapping_add(self.i * BLOCK).cast(),
            scales.wrapping_add(4 * self.i).cast(),
            scales.wrapping_add(4 * (self.m + self.i)).cast(),
        )
    }

    /// Address of the value in column `k`, for float weights.
    pub(crate) fn value(self, k: usize) -> *mut f32 {
        self.panel.wrapping_add(4 * (k * self.m + self.i)).cast()
    }
}

/// Writes scale and corrections of a block whose halves have these sums.
///
/// # Safety
/// The slot's panel is aligned to 4 bytes and valid for writes.
#[inline(always)]
pub(crate) unsafe fn put_scale(form: Form, slot: PanelRow, b: usize, scale: f32, sums: [i32; 2]) {
    let (_, scales, corrections) = slot.block(form, b);
    // SAFETY: addresses of this block, within the panel by the caller's contract.
    unsafe {
        *scales = scale;
        if form.has_halves() {
            *corrections = -form.offset * sums[0];
            *corrections.add(slot.m) = -form.offset * sums[1];
        } else if form.has_min() {
            *corrections.cast::<f32>() = scale * (sums[0] + sums[1]) as f32;
        } else {
            *corrections = -form.offset * (sums[0] + sums[1]);
        }
    }
}

/// Quantizes a row in plain Rust: this is what the quantizers of the instruction sets agree with to the bit.
///
/// # Safety
/// The slot's panel is aligned to 4 bytes and valid for the tile's rows of `row.len()` columns, and nobody else
/// uses this row of it.
pub(crate) unsafe fn quantize_row(form: Form, row: &[f32], slot: PanelRow) {
    if form.is_float() {
        for (k, &value) in row.iter().enumerate() {
            // SAFETY: a column of the row; the panel holds them by the caller's contract.
            unsafe { *slot.value(k) = value };
        }
        return;
    }
    let (blocks, _) = row.as_chunks::<BLOCK>();
    for (b, block) in blocks.iter().enumerate() {
        let (bytes, scale) = quantize_block(block);
        let sum = |half: &[i8]| half.iter().map(|&q| i32::from(q)).sum();
        let sums = [sum(&bytes[..16]), sum(&bytes[16..])];
        let (quants, ..) = slot.block(form, b);
        // SAFETY: a block of the row; the panel holds them by the caller's contract.
        unsafe {
            quants.cast::<[i8; BLOCK]>().write_unaligned(bytes);
            put_scale(form, slot, b, scale, sums);
        }
    }
}

/// Bytes and scale of a block.
fn quantize_block(block: &[f32; BLOCK]) -> ([i8; BLOCK], f32) {
    // As integers, since NaN is larger than infinity there.
    let largest = block.iter().map(|x| x.abs().to_bits()).max().unwrap_or(0);
    let largest = f32::from_bits(largest);
    if !largest.is_finite() {
        return ([0; BLOCK], f32::NAN);
    }
    if largest < TINY {
        return ([0; BLOCK], 0.0);
    }
    let inverse = 127.0 / largest;
    (
        block.map(|x| (x * inverse).round_ties_even() as i8),
        largest * (1.0 / 127.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_even_and_each_row_is_in_one() {
        for n in 1..100 {
            for max in 1..9 {
                let mut next = 0;
                for (start, m) in tiles(n, max) {
                    assert_eq!(start, next);
                    assert!(
                        m <= max && m + 1 >= n.div_ceil(n.div_ceil(max)),
                        "{n} in {max}: {m}"
                    );
                    for i in start..start + m {
                        assert_eq!(tile_of(i, n, max), (start, m), "row {i} of {n} in {max}");
                    }
                    next += m;
                }
                assert_eq!(next, n);
            }
        }
    }
}
