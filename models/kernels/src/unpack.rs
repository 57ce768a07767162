//! What the packed form says, value by value.

use half::{bf16, f16};

use crate::forms::{BLOCK, Form, Quants, Scales, UNIT};
use crate::pack::{u16_at, u32_at};
use crate::{GROUP, Shape, WeightType, packed_bytes};

/// A block of 32 columns of a packed group.
pub(crate) struct Packed<'a> {
    form: Form,
    quants: &'a [u8],
    scales: &'a [u8],
    head: &'a [u8],
}

impl<'a> Packed<'a> {
    /// Block `b` of a group of rows of `n_cols` columns.
    pub(crate) fn new(form: Form, group: &'a [u8], n_cols: usize, b: usize) -> Self {
        let unit = &group[b / UNIT * form.unit_bytes()..];
        if form.is_float() {
            return Self {
                form,
                quants: &unit[b % UNIT * form.quant_bytes()..],
                scales: &[],
                head: &[],
            };
        }
        let n = UNIT.min(n_cols / BLOCK - b / UNIT * UNIT);
        let (quants, scales) = unit.split_at(n * form.quant_bytes());
        Self {
            form,
            quants: &quants[b % UNIT * form.quant_bytes()..],
            scales: &scales[b % UNIT * form.scale_bytes()..],
            head: &scales[n * form.scale_bytes()..],
        }
    }

    /// The integer in column `k` of row `r`, before scale and minimum.
    pub(crate) fn quant(&self, r: usize, k: usize) -> i32 {
        let (j, t) = (k / 4, k % 4);
        let byte = |line: usize| self.quants[64 * line + 4 * r + t];
        let nibble = || (byte(j % 4) >> (4 * (j / 4))) & 15;
        let code = match self.form.quants {
            Quants::Nibbles => nibble(),
            Quants::Table(table) => return i32::from(table[usize::from(nibble())]),
            Quants::FiveBits => nibble() | (((byte(4) >> j) & 1) << 4),
            Quants::SixBits => nibble() | (((byte(4 + j / 4) >> (2 * (j % 4))) & 3) << 4),
            Quants::Bytes => return i32::from(byte(j) as i8),
            Quants::F16 | Quants::Bf16 | Quants::F32 => 0,
        };
        i32::from(code) - self.form.offset
    }

    /// The value in column `k` of row `r`, where values are floats.
    pub(crate) fn float(&self, r: usize, k: usize) -> f32 {
        let i = GROUP * k + r;
        match self.form.quants {
            Quants::F16 => f16::from_bits(u16_at(self.quants, 2 * i)).to_f32(),
            Quants::Bf16 => bf16::from_bits(u16_at(self.quants, 2 * i)).to_f32(),
            _ => f32::from_bits(u32_at(self.quants, 4 * i)),
        }
    }

    /// The factor of row `r` that both halves of a block share, and the scale of half `h`.
    pub(crate) fn half_scale(&self, r: usize, h: usize) -> (f32, f32) {
        let factor = f16::from_bits(u16_at(self.head, 2 * r)).to_f32();
        (factor, f32::from(self.scales[GROUP * h + r] as i8))
    }

    /// The scale of row `r` for half `h` of the block, and the minimum that is added.
    pub(crate) fn scale(&self, r: usize, h: usize) -> (f32, f32) {
        let half_at = |array: &[u8], i: usize| f16::from_bits(u16_at(array, 2 * i)).to_f32();
        match self.form.scales {
            Scales::None => (1.0, 0.0),
            Scales::F16 => (half_at(self.scales, r), 0.0),
            Scales::F16Min => (half_at(self.scales, r), half_at(self.scales, GROUP + r)),
            Scales::E8m0 => (e8m0(self.scales[r]), 0.0),
            Scales::K => {
                let (scale, min) = (self.scales[r], self.scales[GROUP + r]);
                (
                    half_at(self.head, r) * f32::from(scale),
                    -(half_at(self.head, GROUP + r) * f32::from(min)),
                )
            }
            Scales::Halves => {
                let (factor, scale) = self.half_scale(r, h);
                (factor * scale, 0.0)
            }
            Scales::Xs => {
                let scale = self.scales[r] as i8;
                (half_at(self.head, r) * f32::from(scale), 0.0)
            }
        }
    }
}

/// 2^(e - 128), as ggml has it for 255 too (ggml-impl.h, `ggml_e8m0_to_fp32_half`).
fn e8m0(e: u8) -> f32 {
    let e = i32::from(e);
    f32::from_bits(((e - 1) << 23).max((e + 1) << 21) as u32)
}

/// Row `row` of a packed matrix as floats.
///
/// # Panics
/// Where a slice has another length than [`packed_bytes`] or `shape.n_cols`, or there is no such row.
pub fn unpack_row(
    weights: WeightType,
    shape: Shape,
    packed: &[u8],
    row: usize,
    values: &mut [f32],
) {
    assert_eq!(
        Some(packed.len()),
        packed_bytes(weights, shape),
        "packed bytes of {shape:?}"
    );
    assert_eq!(values.len(), shape.n_cols, "columns of {shape:?}");
    assert!(row < shape.n_rows, "row {row} of {shape:?}");
    let form = Form::of(weights);
    let group_bytes = form.group_bytes(shape.n_cols);
    let (group, r) = (
        &packed[row / GROUP * group_bytes..][..group_bytes],
        row % GROUP,
    );
    for (b, values) in values.chunks_mut(BLOCK).enumerate() {
        let block = Packed::new(form, group, shape.n_cols, b);
        for (k, value) in values.iter_mut().enumerate() {
            let (scale, min) = block.scale(r, k / 16);
            *value = if form.is_float() {
                block.float(r, k)
            } else {
                scale * block.quant(r, k) as f32 + min
            };
        }
    }
}
