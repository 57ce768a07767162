//! The tile: a group of 16 rows of weights times `M` rows of activations, in the order of operations that
//! [`crate::scalar`] lays down. It goes through a block four rows of weights at a time.

use core::arch::aarch64::*;

use super::neon;
use crate::forms::{BLOCK, Form, Quants, Scales, UNIT};
use crate::kernels::Tile;
use crate::panels::block_bytes;
use crate::prefetch::Ahead;
use crate::{GROUP, WeightType};

/// Up to so many rows of activations wait for memory, more for the processor.
const FEW: usize = 2;

/// A type's form as a constant.
struct Of<const T: usize>;

impl<const T: usize> Of<T> {
    const FORM: Form = Form::of(WeightType::ALL[T]);
    /// Parts of a block that have scales of their own.
    const PARTS: usize = if Self::FORM.has_halves() { 2 } else { 1 };
    /// Whether codes are signed, so that sums start from zero.
    const SIGNED: bool =
        matches!(Self::FORM.quants, Quants::Bytes | Quants::Table(_)) || Self::FORM.offset == 0;
}

/// Sums of four rows of weights and `M` rows of activations, for each half of a block that has scales of its own.
type Sums<const M: usize> = [[int32x4_t; M]; 2];

/// Multiplies one tile, with `smmla` where activations come in `PAIRS`, else with `sdot`.
///
/// # Safety
/// As [`Tile`] says; the processor has the instructions; `M` is the number of outputs.
#[inline(always)]
pub(super) unsafe fn tile<const PAIRS: bool, const T: usize, const M: usize>(tile: &Tile<'_>) {
    // SAFETY: all pointers stay in group, panel and outputs, whose layouts are those of `forms` and `panels`.
    unsafe {
        let mut acc = [[vdupq_n_f32(0.0); M]; 4];
        if Of::<T>::FORM.is_float() {
            floats::<T, M>(tile, &mut acc);
        } else {
            quantized::<PAIRS, T, M>(tile, &mut acc);
        }
        unroll!(M, I => {
            let mut whole = [0f32; GROUP];
            let output = *tile.outputs.get_unchecked(I);
            let to = if tile.n_rows == GROUP { output } else { whole.as_mut_ptr() };
            unroll!(4, Q => { vst1q_f32(to.add(4 * Q), acc[Q][I]); });
            if tile.n_rows < GROUP {
                output.copy_from_nonoverlapping(whole.as_ptr(), tile.n_rows);
            }
        });
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn floats<const T: usize, const M: usize>(tile: &Tile<'_>, acc: &mut [[float32x4_t; M]; 4]) {
    let size = Of::<T>::FORM.quant_bytes() / BLOCK / GROUP;
    let mut ahead = Ahead::new(tile, tile.n_cols.div_ceil(BLOCK));
    let (mut w, mut a, mut left) = (tile.group, tile.panel.cast::<f32>(), tile.n_cols);
    // SAFETY: as in `tile`.
    unsafe {
        let mut unit = [[vdupq_n_f32(0.0); M]; 4];
        while left > 0 {
            ahead.fetch(M <= FEW);
            let columns = left.min(BLOCK);
            // Eight rows of weights at a time: more sums would not stay in registers.
            unroll!(2, H => {
                let mut part = [[vdupq_n_f32(0.0); M]; 2];
                for k in 0..columns {
                    let x = a.add(k * M);
                    unroll!(2, Q => {
                        let p = w.add((GROUP * k + 8 * H + 4 * Q) * size);
                        let value = match Of::<T>::FORM.quants {
                            Quants::F16 => neon::load_f16(p),
                            Quants::Bf16 => neon::load_bf16(p),
                            _ => vld1q_f32(p.cast()),
                        };
                        unroll!(M, I => { part[Q][I] = vfmaq_n_f32(part[Q][I], value, *x.add(I)); });
                    });
                }
                unroll!(2, Q => {
                    unroll!(M, I => { unit[2 * H + Q][I] = vaddq_f32(unit[2 * H + Q][I], part[Q][I]); });
                });
            });
            w = w.add(columns * GROUP * size);
            a = a.add(columns * M);
            left -= columns;
            if left == 0 || (tile.n_cols - left).is_multiple_of(UNIT * BLOCK) {
                unroll!(4, Q => {
                    unroll!(M, I => { acc[Q][I] = vaddq_f32(acc[Q][I], unit[Q][I]); });
                });
                unit = [[vdupq_n_f32(0.0); M]; 4];
            }
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn quantized<const PAIRS: bool, const T: usize, const M: usize>(
    tile: &Tile<'_>,
    acc: &mut [[float32x4_t; M]; 4],
) {
    let form = Of::<T>::FORM;
    let mut left = tile.n_cols / BLOCK;
    let mut ahead = Ahead::new(tile, left);
    let (mut unit, mut a) = (tile.group, tile.panel);
    // SAFETY: as in `tile`.
    unsafe {
        while left > 0 {
            let n = left.min(UNIT);
            let mut scales = unit.add(n * form.quant_bytes());
            let head = scales.add(n * form.scale_bytes());
            let mut factors = [[vdupq_n_f32(0.0); 2]; 4];
            if form.head_bytes() > 0 {
                unroll!(4, Q => {
                    factors[Q] = [neon::load_f16(head.add(8 * Q)), neon::load_f16(head.add(8 * Q + 2 * GROUP))];
                });
            }
            let mut quants = unit;
            for _ in 0..n {
                ahead.fetch(M <= FEW);
                unroll!(4, Q => {
                    block::<PAIRS, T, M, Q>(quants.add(16 * Q), scales, factors[Q], a, &mut acc[Q]);
                });
                quants = quants.add(form.quant_bytes());
                scales = scales.add(form.scale_bytes());
                a = a.add(M * block_bytes(form));
            }
            unit = head.add(form.head_bytes());
            left -= n;
        }
    }
}

/// Adds one block's products in rows `4 Q` to `4 Q + 3` of a group. Scales and minima have these `factors`.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn block<const PAIRS: bool, const T: usize, const M: usize, const Q: usize>(
    quants: *const u8,
    scales: *const u8,
    factors: [float32x4_t; 2],
    a: *const u8,
    acc: &mut [float32x4_t; M],
) {
    let form = Of::<T>::FORM;
    // SAFETY: as in `tile`.
    unsafe {
        let activation = a.add(M * BLOCK).cast::<f32>();
        let correction = activation.add(M);
        // A pair of rows costs as much as one row by `sdot`.
        let sums = if PAIRS && M > 1 {
            pairs::<T, M>(quants, a, correction.cast())
        } else {
            rows::<T, M>(quants, a, correction.cast())
        };
        if form.has_halves() {
            let (s0, s1) = (
                neon::load_i8::<Q>(scales),
                neon::load_i8::<Q>(scales.add(GROUP)),
            );
            unroll!(M, I => {
                let (low, high) = (vcvtq_f32_s32(sums[0][I]), vcvtq_f32_s32(sums[1][I]));
                let dot = vfmaq_f32(vmulq_f32(low, s0), high, s1);
                acc[I] = vfmaq_f32(acc[I], dot, vmulq_n_f32(factors[0], *activation.add(I)));
            });
            return;
        }
        let scale = match form.scales {
            Scales::K => vmulq_f32(factors[0], neon::load_u8::<Q>(scales)),
            Scales::Xs => vmulq_f32(factors[0], neon::load_i8::<Q>(scales)),
            Scales::E8m0 => neon::load_e8m0::<Q>(scales),
            _ => neon::load_f16(scales.add(8 * Q)),
        };
        unroll!(M, I => {
            let scale = vmulq_n_f32(scale, *activation.add(I));
            acc[I] = vfmaq_f32(acc[I], vcvtq_f32_s32(sums[0][I]), scale);
        });
        if matches!(form.scales, Scales::K) {
            let min = vmulq_f32(factors[1], neon::load_u8::<Q>(scales.add(GROUP)));
            unroll!(M, I => { acc[I] = vfmaq_n_f32(acc[I], min, -*correction.add(I)); });
        } else if form.has_min() {
            let min = neon::load_f16(scales.add(8 * Q + 2 * GROUP));
            unroll!(M, I => { acc[I] = vfmaq_n_f32(acc[I], min, *correction.add(I)); });
        }
    }
}

/// The sums of a block by `sdot`.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn rows<const T: usize, const M: usize>(
    quants: *const u8,
    a: *const u8,
    start: *const i32,
) -> Sums<M> {
    // SAFETY: as in `tile`.
    unsafe {
        let mut sums = [[vdupq_n_s32(0); M]; 2];
        unroll!(2, H => {
            let part = H % Of::<T>::PARTS;
            if part == H && !Of::<T>::SIGNED {
                unroll!(M, I => { sums[part][I] = vdupq_n_s32(*start.add(M * H + I)); });
            }
            let mut x = [vdupq_n_s8(0); M];
            unroll!(M, I => { x[I] = vld1q_s8(a.add(BLOCK * I + 16 * H).cast()); });
            unroll!(4, J => {
                let w = codes::<T>(quants, 4 * H + J);
                unroll!(M, I => { sums[part][I] = neon::sdot::<{ J as i32 }>(sums[part][I], w, x[I]); });
            });
        });
        sums
    }
}

/// The sums of a block by `smmla`.
///
/// # Safety
/// As [`tile`]; the panel was written in pairs.
#[inline(always)]
unsafe fn pairs<const T: usize, const M: usize>(
    quants: *const u8,
    a: *const u8,
    start: *const i32,
) -> Sums<M> {
    // SAFETY: as in `tile`.
    unsafe {
        let zero = vdupq_n_s32(0);
        // For each pair, rows 0 and 1 and rows 2 and 3 of the weights. An odd row is paired with itself.
        let mut sums = [[[zero; 2]; M]; 2];
        let twice =
            |p: *const u8| vreinterpretq_s8_u64(vdupq_n_u64(p.cast::<u64>().read_unaligned()));
        if !Of::<T>::SIGNED {
            unroll!(2, H => {
                if H < Of::<T>::PARTS {
                    unroll!(M.div_ceil(2), P => {
                        let start = start.add(M * H + 2 * P);
                        let start = if 2 * P + 1 < M {
                            vreinterpretq_s32_s8(twice(start.cast()))
                        } else {
                            vdupq_n_s32(*start)
                        };
                        sums[H][P] = [start; 2];
                    });
                }
            });
        }
        unroll!(4, C => {
            let part = C / 2 % Of::<T>::PARTS;
            let w = zipped::<T>(quants, 2 * C);
            unroll!(M.div_ceil(2), P => {
                let pair = a.add(2 * BLOCK * P);
                let x = if 2 * P + 1 < M { vld1q_s8(pair.add(16 * C).cast()) } else { twice(pair.add(8 * C)) };
                sums[part][P] = [
                    neon::smmla(sums[part][P][0], w[0], x),
                    neon::smmla(sums[part][P][1], w[1], x),
                ];
            });
        });
        let mut rows = [[zero; M]; 2];
        unroll!(2, H => {
            unroll!(M, I => {
                let [low, high] = sums[H][I / 2];
                rows[H][I] = if I.is_multiple_of(2) { vuzp1q_s32(low, high) } else { vuzp2q_s32(low, high) };
            });
        });
        rows
    }
}

/// The codes of line `j`: 4 of each of four rows.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn codes<const T: usize>(quants: *const u8, j: usize) -> int8x16_t {
    // SAFETY: as in `tile`.
    unsafe {
        let line = |i: usize| vld1q_u8(quants.add(64 * i));
        match Of::<T>::FORM.quants {
            Quants::Bytes => vreinterpretq_s8_u8(line(j)),
            Quants::FiveBits => with_top(line(j % 4), line(4), j, 1),
            Quants::SixBits => with_top(line(j % 4), line(4 + j / 4), j, 2),
            _ => look_up::<T>(nibbles(line(j % 4), j >= 4)),
        }
    }
}

/// The codes of lines `j` and `j + 1`: 8 of rows 0 and 1, and 8 of rows 2 and 3.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn zipped<const T: usize>(quants: *const u8, j: usize) -> [int8x16_t; 2] {
    // SAFETY: as in `tile`.
    unsafe {
        let zip = |a: int8x16_t, b: int8x16_t| {
            let (a, b) = (vreinterpretq_s32_s8(a), vreinterpretq_s32_s8(b));
            [
                vreinterpretq_s8_s32(vzip1q_s32(a, b)),
                vreinterpretq_s8_s32(vzip2q_s32(a, b)),
            ]
        };
        match Of::<T>::FORM.quants {
            // Both nibbles in one go.
            Quants::Nibbles | Quants::Table(_) => {
                let line = |i: usize| vld1q_s8(quants.add(64 * i).cast());
                let both = zip(line(j % 4), line(j % 4 + 1));
                both.map(|v| look_up::<T>(nibbles(vreinterpretq_u8_s8(v), j >= 4)))
            }
            _ => zip(codes::<T>(quants, j), codes::<T>(quants, j + 1)),
        }
    }
}

/// The low or the high nibbles.
#[inline(always)]
fn nibbles(v: uint8x16_t, high: bool) -> uint8x16_t {
    // SAFETY: arithmetic that each aarch64 has.
    unsafe {
        if high {
            vshrq_n_u8::<4>(v)
        } else {
            vandq_u8(v, vdupq_n_u8(15))
        }
    }
}

/// The values of these indices, where the type has a table of them.
#[inline(always)]
fn look_up<const T: usize>(indices: uint8x16_t) -> int8x16_t {
    // SAFETY: arithmetic that each aarch64 has, and a load of the table.
    unsafe {
        match Of::<T>::FORM.quants {
            Quants::Table(table) => vqtbl1q_s8(vld1q_s8(table.as_ptr()), indices),
            _ => vreinterpretq_s8_u8(indices),
        }
    }
}

/// The nibbles of line `j`, and above them `n` bits of `top`: the `j % 4`th ones (of the upper half for a
/// fifth bit of high nibbles).
#[inline(always)]
fn with_top(v: uint8x16_t, top: uint8x16_t, j: usize, n: usize) -> int8x16_t {
    let from = if n == 1 { j } else { j % 4 * n };
    // SAFETY: arithmetic that each aarch64 has.
    unsafe {
        let codes = if j < 4 {
            // The low nibble stays where it is.
            let bits = vandq_u8(right(top, from), vdupq_n_u8((1 << n) - 1));
            vsliq_n_u8::<4>(v, bits)
        } else {
            let bits = vandq_u8(
                right(top, from.wrapping_sub(4)),
                vdupq_n_u8(((1 << n) - 1) << 4),
            );
            vorrq_u8(nibbles(v, true), bits)
        };
        vreinterpretq_s8_u8(codes)
    }
}

/// Bytes shifted by a constant number of bits to the right (`-n` to the left).
#[inline(always)]
fn right(v: uint8x16_t, n: usize) -> uint8x16_t {
    // SAFETY: arithmetic that each aarch64 has.
    unsafe {
        match n as isize {
            6 => vshrq_n_u8::<6>(v),
            4 => vshrq_n_u8::<4>(v),
            3 => vshrq_n_u8::<3>(v),
            2 => vshrq_n_u8::<2>(v),
            1 => vshrq_n_u8::<1>(v),
            -2 => vshlq_n_u8::<2>(v),
            -4 => vshlq_n_u8::<4>(v),
            _ => v,
        }
    }
}
