//! The definition of attention's bits: one row and head at a time, in plain Rust.
//!
//! 1. The cells that the row sees, in the caller's order.
//! 2. The score of a cell: four partial sums of `q[d] * k[d]`, that of `d` in number `d % 4`, each by fused
//!    multiply-add in ascending order, added as `(0 + 1) + (2 + 3)`; scale and mask by one more
//!    fused multiply-add.
//! 3. The weight of a cell: the exponential of its score less the greatest score (or the sink, if
//!    greater). Their sum is one of integers, in units of 2^-30: the same in every order.
//! 4. Each value of the result: `weight * v[d]` by fused multiply-add in the order of the cells,
//!    without those of weight 0 (a value of inf there does no harm), times one over the sum.
//!
//! A score that is not finite, in a cell that the row sees, makes the whole result NaN; a row that
//! sees nothing gets zeros. NaN has one pattern of bits and zero is never negative.

use half::{bf16, f16};

use super::functions::{ONE, exp, tanh};
use super::{Attention, Cells};
use crate::WeightType;

/// # Safety
/// As for [`Attention::compute`].
pub(super) unsafe fn compute(attention: &Attention<'_>, part: usize, n_parts: usize) {
    let pairs = attention.n_rows * attention.n_heads;
    for pair in pairs * part / n_parts..pairs * (part + 1) / n_parts {
        // SAFETY: the caller's contract; row and head are there.
        unsafe {
            attend(
                attention,
                pair / attention.n_heads,
                pair % attention.n_heads,
            )
        };
    }
}

/// # Safety
/// As for [`Attention::compute`]; row and head are there.
unsafe fn attend(attention: &Attention<'_>, row: usize, head: usize) {
    let (k, v) = (&attention.k, &attention.v);
    let kv_head = head / attention.group();
    // SAFETY: queries and results are valid and aligned by the caller's contract.
    let (query, result) = unsafe {
        (
            std::slice::from_raw_parts(attention.query(row, head), k.len),
            std::slice::from_raw_parts_mut(attention.result(row, head), v.len),
        )
    };
    let (mut cells, mut scores) = (Vec::new(), Vec::new());
    let mut vector = vec![0.0; k.len.max(v.len)];
    let mut max = attention.sinks.map_or(f32::NEG_INFINITY, |s| s[head]);
    let mut finite = max < f32::INFINITY;
    for i in 0..attention.n_cells {
        let cell = attention.order.map_or(i, |order| order[i] as usize);
        // SAFETY: row and cell are there.
        let mask = unsafe { mask_of(attention, row, cell) };
        if mask > f32::NEG_INFINITY {
            // SAFETY: head and cell are there.
            unsafe { read(k, k.vector(kv_head, cell), &mut vector[..k.len]) };
            let (score, is_finite) = score(attention, query, &vector, mask * attention.slope(head));
            finite &= is_finite;
            max = max.max(score);
            cells.push(cell);
            scores.push(score);
        }
    }
    if !finite || max == f32::NEG_INFINITY {
        result.fill(if finite { 0.0 } else { f32::NAN });
        return;
    }
    let mut sum = 0;
    result.fill(0.0);
    for (&cell, score) in cells.iter().zip(scores) {
        let weight = exp(score - max);
        sum += (weight * ONE).round_ties_even() as u64;
        if weight != 0.0 {
            // SAFETY: head and cell are there.
            unsafe { add(v, v.vector(kv_head, cell), weight, &mut vector, result) };
        }
    }
    finish(sum, attention.sinks.map(|s| s[head]), max, result);
}

/// The score of a cell, and whether it is finite.
fn score(attention: &Attention<'_>, query: &[f32], key: &[f32], bias: f32) -> (f32, bool) {
    let mut partial = [0.0f32; 4];
    for (d, (q, k)) in query.iter().zip(key).enumerate() {
        partial[d % 4] = q.mul_add(*k, partial[d % 4]);
    }
    let dot = (partial[0] + partial[1]) + (partial[2] + partial[3]);
    let scaled = dot.mul_add(attention.dot_scale(), bias);
    let score = if attention.softcap == 0.0 {
        scaled
    } else {
        tanh(dot * attention.dot_scale()).mul_add(attention.softcap, bias)
    };
    (score, scaled.abs() < f32::INFINITY)
}

/// Adds a cell's values to a result; `buffer` holds them meanwhile.
///
/// # Safety
/// `vector` is valid for what `v` says.
pub(super) unsafe fn add(
    v: &Cells,
    vector: *const u8,
    weight: f32,
    buffer: &mut [f32],
    result: &mut [f32],
) {
    // SAFETY: the caller's contract.
    unsafe { read(v, vector, &mut buffer[..v.len]) };
    for (value, v) in result.iter_mut().zip(buffer) {
        *value = weight.mul_add(*v, *value);
    }
}

/// Divides by the sum of the weights and of the sink's.
pub(super) fn finish(sum: u64, sink: Option<f32>, max: f32, result: &mut [f32]) {
    let sum = sum as f32 / ONE + sink.map_or(0.0, |sink| exp(sink - max));
    for value in result {
        *value = *value * (1.0 / sum) + 0.0;
        if value.is_nan() {
            *value = f32::NAN;
        }
    }
}

/// # Safety
/// As for [`Attention::compute`]; row and cell are there.
unsafe fn mask_of(attention: &Attention<'_>, row: usize, cell: usize) -> f32 {
    if attention.mask.is_null() {
        return 0.0;
    }
    // SAFETY: the caller's contract.
    f16::from_bits(unsafe { *attention.mask_row(row).add(cell) }).to_f32()
}

/// The values of a cell's vector.
///
/// # Safety
/// `vector` is valid for `values.len()` values of `cells.kind`, whole blocks.
pub(super) unsafe fn read(cells: &Cells, vector: *const u8, values: &mut [f32]) {
    for (i, value) in values.iter_mut().enumerate() {
        // SAFETY: the caller's contract; a block of Q8_0 is an f16 and 32 bytes.
        *value = unsafe {
            match cells.kind {
                WeightType::F16 => f16::from_bits(*vector.cast::<u16>().add(i)).to_f32(),
                WeightType::Bf16 => bf16::from_bits(*vector.cast::<u16>().add(i)).to_f32(),
                WeightType::F32 => *vector.cast::<f32>().add(i),
                _ => {
                    let block = vector.add(i / 32 * 34);
                    let scale = f16::from_bits(block.cast::<u16>().read()).to_f32();
                    scale * f32::from(*block.cast::<i8>().add(2 + i % 32))
                }
            }
        };
    }
}
