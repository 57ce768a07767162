//! The kernels in plain Rust: they define the bits of all others, and are far too slow to be used.
//!
//! The output of a row of weights and a row of activations is computed block by block of 32 columns, in
//! order, from `acc = 0`:
//! - quantized weights: `acc = fma(dot, scale · activation_scale, acc)`, where `dot` is the exact integer
//!   dot product of the block, converted to f32 (exact: it is below 2^24); weights with a minimum then add
//!   `acc = fma(min, activation_scale · sum, acc)`. Scales of superblocks are products `d · s`
//!   (exact in f32), minima `-(dmin · m)`. Q6_K has a scale for each 16 columns, and takes
//!   `fma(dot1, s1, dot0 · s0)` (exact) for `dot` and `d` for `scale`.
//! - float weights: `part = fma(weight, activation, part)` over the columns of a block, from `part = 0`; such
//!   parts are added to a sum for each 8 blocks (from 0, the last 8 may be fewer), and those sums to `acc`. One
//!   sum after the other would lose more bits the longer the row.

use crate::forms::{BLOCK, Form, UNIT};
use crate::kernels::Tile;
use crate::panels::PanelRow;
use crate::unpack::Packed;
use crate::{GROUP, WeightType};

/// A tile in plain Rust.
///
/// # Safety
/// As [`Tile`] says.
pub(crate) unsafe fn tile(weights: WeightType, tile: &Tile<'_>) {
    let form = Form::of(weights);
    let (m, n_cols) = (tile.outputs.len(), tile.n_cols);
    // SAFETY: the caller's contract.
    let group = unsafe { core::slice::from_raw_parts(tile.group, form.group_bytes(n_cols)) };
    for (i, &output) in tile.outputs.iter().enumerate() {
        let slot = PanelRow {
            panel: tile.panel.cast_mut(),
            m,
            i,
        };
        for r in 0..tile.n_rows.min(GROUP) {
            // SAFETY: the panel holds this row, the output these rows of weights, by the caller's contract.
            unsafe { *output.add(r) = dot(form, group, r, slot, n_cols) };
        }
    }
}

/// The output of row `r` of a group and a row of activations.
///
/// # Safety
/// The slot's panel is aligned to 4 bytes and holds the quantized rows.
unsafe fn dot(form: Form, group: &[u8], r: usize, slot: PanelRow, n_cols: usize) -> f32 {
    let (mut acc, mut unit) = (0f32, 0f32);
    let blocks = n_cols.div_ceil(BLOCK);
    for b in 0..blocks {
        let block = Packed::new(form, group, n_cols, b);
        if form.is_float() {
            let columns = BLOCK.min(n_cols - b * BLOCK);
            let mut part = 0f32;
            for k in 0..columns {
                // SAFETY: a column of the row.
                let x = unsafe { *slot.value(b * BLOCK + k) };
                part = block.float(r, k).mul_add(x, part);
            }
            unit += part;
            if b + 1 == blocks || (b + 1).is_multiple_of(UNIT) {
                acc += unit;
                unit = 0.0;
            }
            continue;
        }
        let (quants, scale, correction) = slot.block(form, b);
        // SAFETY: a block of the row.
        let (quants, activation, correction) = unsafe {
            (
                quants.cast::<[i8; BLOCK]>().read_unaligned(),
                *scale,
                *correction.cast::<f32>(),
            )
        };
        let half = |h: usize| -> i32 {
            let columns = 16 * h..16 * h + 16;
            columns
                .map(|k| block.quant(r, k) * i32::from(quants[k]))
                .sum()
        };
        if form.has_halves() {
            let ((factor, s0), (_, s1)) = (block.half_scale(r, 0), block.half_scale(r, 1));
            let dot = (half(1) as f32).mul_add(s1, half(0) as f32 * s0);
            acc = dot.mul_add(factor * activation, acc);
            continue;
        }
        let (scale, min) = block.scale(r, 0);
        acc = ((half(0) + half(1)) as f32).mul_add(scale * activation, acc);
        if form.has_min() {
            acc = min.mul_add(correction, acc);
        }
    }
    acc
}
