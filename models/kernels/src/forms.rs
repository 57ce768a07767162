//! What a packed matrix looks like: one layout for all instruction sets.
//!
//! Rows of weights are packed in groups of [`GROUP`]. A group is a stream of *units* of up to 8
//! *blocks* of 32 columns (the last unit of a group may hold fewer):
//!
//! ```text
//! unit  = quants of each block | scales of each block | head        (a multiple of 64 bytes)
//! ```
//!
//! The quants of a block are *lines* of 64 bytes: 4 bytes of row 0, 4 bytes of row 1, up to row 15. Byte
//! `t` of a row in line `j` holds
//! - [`Quants::Nibbles`], 4 lines: column `4 j + t` in its low, column `16 + 4 j + t` in its high nibble;
//! - [`Quants::FiveBits`]: a fifth line, whose bit `j` is the fifth bit of column `4 j + t`, bit `4 + j`
//!   that of column `16 + 4 j + t`;
//! - [`Quants::SixBits`]: a fifth line, whose bits `2 j` and `2 j + 1` are the upper bits of column
//!   `4 j + t`, and a sixth with those of column `16 + 4 j + t`;
//! - [`Quants::Bytes`], 8 lines: column `4 j + t`;
//! - floats: no lines of that kind, but for each column the 16 values side by side (64 or 32 bytes).
//!
//! Scales are arrays of 16, one entry a row; a head is two arrays of f16.

use crate::{GROUP, Shape, WeightType};

/// Columns of a block.
pub(crate) const BLOCK: usize = 32;

/// Blocks of a unit.
pub(crate) const UNIT: usize = 8;

/// How the values of a block are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quants {
    Nibbles,
    /// Nibbles that are indices of this table.
    Table(&'static [i8; 16]),
    FiveBits,
    SixBits,
    /// Signed bytes.
    Bytes,
    F16,
    Bf16,
    F32,
}

/// What values are multiplied with, and what is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scales {
    /// None: floats.
    None,
    /// 16 f16.
    F16,
    /// 16 f16, then 16 f16 of minima, which are added.
    F16Min,
    /// 16 exponents `e`: 2^(e - 128).
    E8m0,
    /// 16 bytes of scales, 16 bytes of minima, which are subtracted; head: f16 factors of both.
    K,
    /// 16 signed bytes for columns 0 to 15, 16 for columns 16 to 31; head: f16 factor.
    Halves,
    /// 16 signed bytes; head: f16 factor.
    Xs,
}

/// The form of a packed type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) quants: Quants,
    pub(crate) scales: Scales,
    /// What the kernels of x86 subtract from their unsigned codes: the value is `code - offset`, where
    /// signed values `v` have the code `v + offset`.
    pub(crate) offset: i32,
}

/// Values of IQ4_NL and IQ4_XS (ggml-common.h, `kvalues_iq4nl`).
const IQ4: [i8; 16] = [
    -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113,
];

/// Twice the values of E2M1 (ggml-common.h, `kvalues_mxfp4`).
const E2M1: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

impl Form {
    /// The form of a type.
    pub(crate) const fn of(weights: WeightType) -> Self {
        use WeightType as T;
        let (quants, scales, offset) = match weights {
            T::Q4_0 => (Quants::Nibbles, Scales::F16, 8),
            T::Q4_1 => (Quants::Nibbles, Scales::F16Min, 0),
            T::Q5_0 => (Quants::FiveBits, Scales::F16, 16),
            T::Q5_1 => (Quants::FiveBits, Scales::F16Min, 0),
            T::Q8_0 => (Quants::Bytes, Scales::F16, 128),
            T::Q4K => (Quants::Nibbles, Scales::K, 0),
            T::Q5K => (Quants::FiveBits, Scales::K, 0),
            T::Q6K => (Quants::SixBits, Scales::Halves, 32),
            T::Iq4Nl => (Quants::Table(&IQ4), Scales::F16, 128),
            T::Iq4Xs => (Quants::Table(&IQ4), Scales::Xs, 128),
            T::Mxfp4 => (Quants::Table(&E2M1), Scales::E8m0, 12),
            T::F16 => (Quants::F16, Scales::None, 0),
            T::Bf16 => (Quants::Bf16, Scales::None, 0),
            T::F32 => (Quants::F32, Scales::None, 0),
        };
        Self {
            quants,
            scales,
            offset,
        }
    }

    /// Whether weights are floats, so that activations stay floats.
    pub(crate) const fn is_float(self) -> bool {
        matches!(self.scales, Scales::None)
    }

    /// Whether minima are added (or subtracted).
    pub(crate) const fn has_min(self) -> bool {
        matches!(self.scales, Scales::F16Min | Scales::K)
    }

    /// Whether the halves of a block have scales of their own.
    pub(crate) const fn has_halves(self) -> bool {
        matches!(self.scales, Scales::Halves)
    }

    /// Bytes of the quants of a block.
    pub(crate) const fn quant_bytes(self) -> usize {
        match self.quants {
            Quants::Nibbles | Quants::Table(_) => 4 * 64,
            Quants::FiveBits => 5 * 64,
            Quants::SixBits => 6 * 64,
            Quants::Bytes => 8 * 64,
            Quants::F16 | Quants::Bf16 => BLOCK * GROUP * 2,
            Quants::F32 => BLOCK * GROUP * 4,
        }
    }

    /// Bytes of the scales of a block.
    pub(crate) const fn scale_bytes(self) -> usize {
        match self.scales {
            Scales::None => 0,
            Scales::E8m0 | Scales::Xs => 16,
            Scales::F16 | Scales::K | Scales::Halves => 32,
            Scales::F16Min => 64,
        }
    }

    /// Bytes of the head of a unit, with what fills it up to a multiple of 64.
    pub(crate) const fn head_bytes(self) -> usize {
        match self.scales {
            Scales::K | Scales::Halves | Scales::Xs => 64,
            _ => 0,
        }
    }

    /// Bytes of a whole unit.
    pub(crate) const fn unit_bytes(self) -> usize {
        UNIT * (self.quant_bytes() + self.scale_bytes()) + self.head_bytes()
    }

    /// Bytes of a group of rows of `n_cols` columns.
    pub(crate) const fn group_bytes(self, n_cols: usize) -> usize {
        let blocks = n_cols / BLOCK;
        let mut last = blocks % UNIT * (self.quant_bytes() + self.scale_bytes());
        if self.is_float() {
            last += n_cols % BLOCK * (self.quant_bytes() / BLOCK);
        }
        blocks / UNIT * self.unit_bytes() + last.next_multiple_of(64)
    }
}

/// Bytes of a packed matrix, or `None` where the kernels do not take it: no rows or columns, or columns
/// that are no whole number of blocks. At most 1.03 times the bytes in the file where the number of rows is
/// a multiple of [`GROUP`] (the last group is filled up with zeros). A multiple of 64.
pub fn packed_bytes(weights: WeightType, shape: Shape) -> Option<usize> {
    weights.row_bytes(shape.n_cols)?;
    let group = Form::of(weights).group_bytes(shape.n_cols);
    let bytes = shape.n_rows.div_ceil(GROUP).checked_mul(group)?;
    (bytes > 0).then_some(bytes)
}
