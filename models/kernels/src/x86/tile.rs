//! The tile: a group of 16 rows of weights times `M` rows of activations, in the order of operations that
//! [`crate::scalar`] lays down.

use super::simd::Simd;
use crate::forms::{BLOCK, Form, Quants, Scales, UNIT};
use crate::kernels::Tile;
use crate::panels::block_bytes;
use crate::prefetch::Ahead;
use crate::{GROUP, WeightType};

/// Up to so many rows of activations wait for memory, more for the processor.
const FEW: usize = 4;

/// A type's form as constants.
struct Of<const T: usize>;

impl<const T: usize> Of<T> {
    const FORM: Form = Form::of(WeightType::ALL[T]);

    /// Twice the table of values in unsigned codes: as it is, and for processors without VNNI its low and
    /// high nibbles.
    const TABLES: [[i8; 16]; 3] = {
        let mut tables = [[0; 16]; 3];
        if let Quants::Table(values) = Self::FORM.quants {
            let mut i = 0;
            while i < 16 {
                let code = values[i] as i32 + Self::FORM.offset;
                tables[0][i] = code as i8;
                tables[1][i] = (code & 15) as i8;
                tables[2][i] = (code >> 4) as i8;
                i += 1;
            }
        }
        tables
    };

    /// Whether codes have 8 bits, which two products in an i16 would overflow.
    const WIDE: bool = match Self::FORM.quants {
        Quants::Bytes => true,
        Quants::Table(_) => Self::FORM.offset == 128,
        _ => false,
    };

    /// Lines whose products fit an i16: 2 · 127 · code · lines < 2^15.
    const LINES_IN_I16: usize = match Self::FORM.quants {
        Quants::FiveBits => 4,
        Quants::Table(_) if !Self::WIDE => 4,
        Quants::SixBits => 2,
        _ => 8,
    };
}

/// Multiplies one tile, whose rows of weights are `P` vectors: one of 16 or two of 8, which share each
/// activation that is loaded.
///
/// # Safety
/// As [`Tile`] says; the processor has the vectors `S`; `M` is the number of outputs.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const T: usize, const M: usize, const P: usize>(
    tile: &Tile<'_>,
) {
    // SAFETY: all pointers stay in groups, panel and outputs, whose layouts are those of `forms` and `panels`.
    unsafe {
        let mut acc = [[S::zero(); M]; P];
        if Of::<T>::FORM.is_float() {
            floats::<S, T, M, P>(tile, &mut acc);
        } else {
            quantized::<S, T, M, P>(tile, &mut acc);
        }
        unroll!(M, I => {
            let mut whole = [0f32; GROUP];
            let output = *tile.outputs.get_unchecked(I);
            let is_whole = tile.n_rows == GROUP;
            let to = if is_whole { output } else { whole.as_mut_ptr() };
            unroll!(P, H => { S::store(to.add(H * S::LANES), acc[H][I]); });
            if !is_whole {
                output.copy_from_nonoverlapping(whole.as_ptr(), tile.n_rows);
            }
        });
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn floats<S: Simd, const T: usize, const M: usize, const P: usize>(
    tile: &Tile<'_>,
    acc: &mut [[S::F; M]; P],
) {
    let size = Of::<T>::FORM.quant_bytes() / BLOCK / GROUP;
    let mut ahead = Ahead::new(tile, tile.n_cols.div_ceil(BLOCK));
    let (mut w, mut a, mut left) = (tile.group, tile.panel, tile.n_cols);
    // SAFETY: as in `tile`.
    unsafe {
        let mut unit = [[S::zero(); M]; P];
        while left > 0 {
            ahead.fetch(M <= FEW);
            let columns = left.min(BLOCK);
            let mut sums = [[S::zero(); M]; P];
            for _ in 0..columns {
                unroll!(P, H => {
                    let row = H * S::LANES;
                    let p = w.add(row * size);
                    let value = match Of::<T>::FORM.quants {
                        Quants::F16 => S::load_f16(p),
                        Quants::Bf16 => S::load_bf16(p),
                        _ => S::load_f32(p),
                    };
                    unroll!(M, I => { sums[H][I] = S::fma(value, S::splat(a.cast::<f32>().add(I)), sums[H][I]); });
                });
                w = w.add(GROUP * size);
                a = a.add(4 * M);
            }
            unroll!(P, H => {
                unroll!(M, I => { unit[H][I] = S::add(unit[H][I], sums[H][I]); });
            });
            left -= columns;
            if left == 0 || (tile.n_cols - left).is_multiple_of(UNIT * BLOCK) {
                unroll!(P, H => {
                    unroll!(M, I => { acc[H][I] = S::add(acc[H][I], unit[H][I]); });
                });
                unit = [[S::zero(); M]; P];
            }
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn quantized<S: Simd, const T: usize, const M: usize, const P: usize>(
    tile: &Tile<'_>,
    acc: &mut [[S::F; M]; P],
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
            let mut quants = unit;
            for _ in 0..n {
                ahead.fetch(M <= FEW);
                block::<S, T, M, P>(quants, scales, head, a, acc);
                quants = quants.add(form.quant_bytes());
                scales = scales.add(form.scale_bytes());
                a = a.add(M * block_bytes(form));
            }
            unit = head.add(form.head_bytes());
            left -= n;
        }
    }
}

/// Adds one block's products.
///
/// # Safety
/// As [`tile`].
// Long: from the first load to the last sum all of it is in registers, which no call may come between.
#[inline(always)]
unsafe fn block<S: Simd, const T: usize, const M: usize, const P: usize>(
    quants: *const u8,
    scales: *const u8,
    head: *const u8,
    a: *const u8,
    acc: &mut [[S::F; M]; P],
) {
    let form = Of::<T>::FORM;
    // SAFETY: as in `tile`.
    unsafe {
        let (activation, correction) = (a.add(M * BLOCK), a.add(M * (BLOCK + 4)));
        let mut sums = [[S::splat8(0); M]; P];
        let start = |i: usize| S::splat32(correction.cast::<i32>().add(i));
        let splat = |p: *const u8, i: usize| S::splat(p.cast::<f32>().add(i));
        if form.offset != 0 {
            unroll!(M, I => {
                let from = start(I);
                unroll!(P, H => { sums[H][I] = from; });
            });
        }
        if form.has_halves() {
            let mut upper = [[S::splat8(0); M]; P];
            unroll!(M, I => {
                let from = start(M + I);
                unroll!(P, H => { upper[H][I] = from; });
            });
            dots::<S, T, M, P, 0, 4>(quants, a, &mut sums);
            // The first half's products, before the second takes its registers.
            let mut halves = [[S::zero(); M]; P];
            unroll!(P, H => {
                let row = H * S::LANES;
                let scale = S::load_i8(scales.add(row));
                unroll!(M, I => { halves[H][I] = S::mul(S::to_f32(sums[H][I]), scale); });
            });
            dots::<S, T, M, P, 4, 8>(quants, a, &mut upper);
            unroll!(P, H => {
                let row = H * S::LANES;
                let factor = S::load_f16(head.add(2 * row));
                let scale = S::load_i8(scales.add(GROUP + row));
                unroll!(M, I => {
                    let dot = S::fma(S::to_f32(upper[H][I]), scale, halves[H][I]);
                    acc[H][I] = S::fma(dot, S::mul(factor, splat(activation, I)), acc[H][I]);
                });
            });
            return;
        }
        if Of::<T>::WIDE && !S::VNNI {
            // Two sums for each output: those of all vectors of rows would not fit the registers.
            unroll!(P, H => {
                let sums = core::array::from_mut(&mut sums[H]);
                dots::<S, T, M, 1, 0, 8>(quants.add(4 * H * S::LANES), a, sums);
            });
        } else {
            dots::<S, T, M, P, 0, 8>(quants, a, &mut sums);
        }
        unroll!(P, H => {
            let row = H * S::LANES;
            let factor = |i: usize| S::load_f16(head.add(2 * i));
            let scale = match form.scales {
                Scales::K => S::mul(factor(row), S::load_u8(scales.add(row))),
                Scales::Xs => S::mul(factor(row), S::load_i8(scales.add(row))),
                Scales::E8m0 => S::load_e8m0(scales.add(row)),
                _ => S::load_f16(scales.add(2 * row)),
            };
            unroll!(M, I => {
                acc[H][I] = S::fma(S::to_f32(sums[H][I]), S::mul(scale, splat(activation, I)), acc[H][I]);
            });
            if form.has_min() {
                let min = match form.scales {
                    Scales::K => {
                        S::neg(S::mul(factor(GROUP + row), S::load_u8(scales.add(GROUP + row))))
                    }
                    _ => S::load_f16(scales.add(2 * (GROUP + row))),
                };
                unroll!(M, I => { acc[H][I] = S::fma(min, splat(correction, I), acc[H][I]); });
            }
        });
    }
}

/// Adds the products of lines `FROM` to `TO` of a block.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
// Line 0 is never before the first: the macro writes the comparison all the same.
#[allow(clippy::absurd_extreme_comparisons)]
unsafe fn dots<
    S: Simd,
    const T: usize,
    const M: usize,
    const P: usize,
    const FROM: usize,
    const TO: usize,
>(
    quants: *const u8,
    a: *const u8,
    sums: &mut [[S::I; M]; P],
) {
    // SAFETY: as in `tile`.
    unsafe {
        let zero = S::splat8(0);
        let (mut low, mut high) = ([[zero; M]; P], [[zero; M]; P]);
        unroll!(8, J => {
            if const { FROM <= J && J < TO } {
                // Sums in i16 start anew before they could overflow.
                let is_first = J.is_multiple_of(Of::<T>::LINES_IN_I16);
                let is_last = (J + 1).is_multiple_of(Of::<T>::LINES_IN_I16);
                let add = |sum: S::I, products: S::I| if is_first { products } else { S::add16(sum, products) };
                let (mut w0, mut w1) = ([zero; P], [zero; P]);
                unroll!(P, H => {
                    let row = H * S::LANES;
                    let quants = quants.add(4 * row);
                    if S::VNNI || !Of::<T>::WIDE {
                        w0[H] = codes::<S, T>(quants, J, 0);
                    } else {
                        (w0[H], w1[H]) = (codes::<S, T>(quants, J, 1), codes::<S, T>(quants, J, 2));
                    }
                });
                unroll!(M, I => {
                    let activation = S::splat32(a.add(BLOCK * I + 4 * J).cast());
                    unroll!(P, H => {
                        if S::VNNI {
                            sums[H][I] = S::dot(sums[H][I], w0[H], activation);
                        } else {
                            low[H][I] = add(low[H][I], S::maddubs(w0[H], activation));
                            if is_last {
                                sums[H][I] = S::add32(sums[H][I], S::madd(low[H][I], S::splat16(1)));
                            }
                            if Of::<T>::WIDE {
                                high[H][I] = add(high[H][I], S::maddubs(w1[H], activation));
                            }
                            if Of::<T>::WIDE && is_last {
                                sums[H][I] = S::add32(sums[H][I], S::madd(high[H][I], S::splat16(16)));
                            }
                        }
                    });
                });
            }
        });
    }
}

/// The unsigned codes of line `j`, or (`plane` 1 and 2) their low and high nibbles.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn codes<S: Simd, const T: usize>(quants: *const u8, j: usize, plane: usize) -> S::I {
    // SAFETY: as in `tile`.
    unsafe {
        let line = |i: usize| S::load(quants.add(64 * i));
        let high = j >= 4;
        let nibbles =
            |v: S::I, high: bool| S::and(S::shift(v, if high { -4 } else { 0 }), S::splat8(15));
        let (p, k) = (j % 4, (j % 4) as i32);
        match Of::<T>::FORM.quants {
            Quants::Table(_) => {
                S::look_up(S::table(&Of::<T>::TABLES[plane]), nibbles(line(p), high))
            }
            Quants::FiveBits => {
                let fifth = S::shift(line(4), if high { -k } else { 4 - k });
                S::or(nibbles(line(p), high), S::and(fifth, S::splat8(16)))
            }
            Quants::SixBits => {
                let top = S::shift(line(4 + j / 4), 4 - 2 * k);
                S::or(nibbles(line(p), high), S::and(top, S::splat8(48)))
            }
            Quants::Bytes => {
                let codes = S::xor(line(j), S::splat8(128));
                if plane == 0 {
                    codes
                } else {
                    nibbles(codes, plane == 2)
                }
            }
            _ => nibbles(line(p), high),
        }
    }
}
