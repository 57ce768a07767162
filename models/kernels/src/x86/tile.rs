//! The tile: a group of 16 rows of weights times `M` rows of activations, in the order of operations that
//! [`crate::scalar`] lays down.

use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};

use super::simd::Simd;
use crate::forms::{BLOCK, Form, Quants, Scales, UNIT};
use crate::kernels::Tile;
use crate::panels::block_bytes;
use crate::{GROUP, WeightType};

/// Runs the body with a constant `$i` of 0 to `$n` (8 at most), so that arrays of vectors become registers.
macro_rules! unroll {
    ($n:expr, $i:ident => $body:block) => { unroll!(@ $n, $i, $body, 0 1 2 3 4 5 6 7) };
    (@ $n:expr, $i:ident, $body:block, $($k:literal)*) => {
        $(if $k < $n { const $i: usize = $k; $body })*
    };
}

/// Runs the body with a constant `$h` for each vector that the rows of weights of a group take: 1 or 2.
macro_rules! parts {
    ($simd:ty, $h:ident => $body:block) => {
        unroll!(@ GROUP / <$simd>::LANES, $h, $body, 0 1);
    };
}

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

/// Multiplies one tile.
///
/// # Safety
/// As [`Tile`] says; the processor has the vectors `S`; `M` is the number of outputs.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, const T: usize, const M: usize>(tile: &Tile<'_>) {
    // SAFETY: all pointers stay in group, panel and outputs, whose layouts are those of `forms` and `panels`.
    unsafe {
        let mut acc = [[S::zero(); M]; 2];
        if Of::<T>::FORM.is_float() {
            floats::<S, T, M>(tile, &mut acc);
        } else {
            quantized::<S, T, M>(tile, &mut acc);
        }
        unroll!(M, I => {
            let mut whole = [0f32; GROUP];
            let output = *tile.outputs.get_unchecked(I);
            let to = if tile.n_rows == GROUP { output } else { whole.as_mut_ptr() };
            parts!(S, H => { S::store(to.add(H * S::LANES), acc[H][I]); });
            if tile.n_rows < GROUP {
                output.copy_from_nonoverlapping(whole.as_ptr(), tile.n_rows);
            }
        });
    }
}

/// What is fetched into the cache while a tile runs.
struct Ahead {
    next: *const i8,
    end: *const i8,
    step: usize,
}

impl Ahead {
    #[inline(always)]
    fn new(tile: &Tile<'_>, blocks: usize) -> Self {
        Self {
            next: tile.ahead.cast(),
            end: tile.ahead.cast(),
            step: tile.ahead_bytes.div_ceil(blocks.max(1)),
        }
    }

    /// Fetches one block's share. One or two rows wait for memory: to them the first-level cache. More have
    /// the time to take it from the second.
    #[inline(always)]
    fn fetch<const M: usize>(&mut self) {
        self.end = self.end.wrapping_add(self.step);
        while self.next < self.end {
            // SAFETY: a hint, whatever the address.
            unsafe {
                if M <= 2 {
                    _mm_prefetch::<_MM_HINT_T0>(self.next);
                } else {
                    _mm_prefetch::<_MM_HINT_T1>(self.next);
                }
            }
            self.next = self.next.wrapping_add(64);
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn floats<S: Simd, const T: usize, const M: usize>(
    tile: &Tile<'_>,
    acc: &mut [[S::F; M]; 2],
) {
    let size = Of::<T>::FORM.quant_bytes() / BLOCK / GROUP;
    let mut ahead = Ahead::new(tile, tile.n_cols.div_ceil(BLOCK));
    let (mut w, mut a, mut left) = (tile.group, tile.panel, tile.n_cols);
    // SAFETY: as in `tile`.
    unsafe {
        while left > 0 {
            ahead.fetch::<M>();
            let columns = left.min(BLOCK);
            let mut part = [[S::zero(); M]; 2];
            for _ in 0..columns {
                parts!(S, H => {
                    let p = w.add(H * S::LANES * size);
                    let value = match Of::<T>::FORM.quants {
                        Quants::F16 => S::load_f16(p),
                        Quants::Bf16 => S::load_bf16(p),
                        _ => S::load_f32(p),
                    };
                    unroll!(M, I => { part[H][I] = S::fma(value, S::splat(a.cast::<f32>().add(I)), part[H][I]); });
                });
                w = w.add(GROUP * size);
                a = a.add(4 * M);
            }
            parts!(S, H => {
                unroll!(M, I => { acc[H][I] = S::add(acc[H][I], part[H][I]); });
            });
            left -= columns;
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn quantized<S: Simd, const T: usize, const M: usize>(
    tile: &Tile<'_>,
    acc: &mut [[S::F; M]; 2],
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
                ahead.fetch::<M>();
                parts!(S, H => {
                    block::<S, T, M, H>(quants.add(64 / 2 * H), scales, head, a, &mut acc[H]);
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

/// Adds one block's products in the rows of weights of part `H` of a group.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn block<S: Simd, const T: usize, const M: usize, const H: usize>(
    quants: *const u8,
    scales: *const u8,
    head: *const u8,
    a: *const u8,
    acc: &mut [S::F; M],
) {
    let form = Of::<T>::FORM;
    let first = H * S::LANES;
    // SAFETY: as in `tile`.
    unsafe {
        let (activation, correction) = (a.add(M * BLOCK), a.add(M * (BLOCK + 4)));
        let mut sums = [S::splat8(0); M];
        let start = |i: usize| S::splat32(correction.cast::<i32>().add(i));
        let splat = |p: *const u8, i: usize| S::splat(p.cast::<f32>().add(i));
        if form.offset != 0 {
            unroll!(M, I => { sums[I] = start(I); });
        }
        if form.has_halves() {
            let mut upper = [S::splat8(0); M];
            unroll!(M, I => { upper[I] = start(M + I); });
            dots::<S, T, M, 0, 4>(quants, a, &mut sums);
            dots::<S, T, M, 4, 8>(quants, a, &mut upper);
            let factor = S::load_f16(head.add(2 * first));
            let (s0, s1) = (
                S::load_i8(scales.add(first)),
                S::load_i8(scales.add(GROUP + first)),
            );
            unroll!(M, I => {
                let dot = S::fma(S::to_f32(upper[I]), s1, S::mul(S::to_f32(sums[I]), s0));
                acc[I] = S::fma(dot, S::mul(factor, splat(activation, I)), acc[I]);
            });
            return;
        }
        dots::<S, T, M, 0, 8>(quants, a, &mut sums);
        let factor = |i: usize| S::load_f16(head.add(2 * i));
        let scale = match form.scales {
            Scales::K => S::mul(factor(first), S::load_u8(scales.add(first))),
            Scales::Xs => S::mul(factor(first), S::load_i8(scales.add(first))),
            Scales::E8m0 => S::load_e8m0(scales.add(first)),
            _ => S::load_f16(scales.add(2 * first)),
        };
        unroll!(M, I => {
            acc[I] = S::fma(S::to_f32(sums[I]), S::mul(scale, splat(activation, I)), acc[I]);
        });
        if form.has_min() {
            let min = match form.scales {
                Scales::K => S::neg(S::mul(
                    factor(GROUP + first),
                    S::load_u8(scales.add(GROUP + first)),
                )),
                _ => S::load_f16(scales.add(2 * (GROUP + first))),
            };
            unroll!(M, I => { acc[I] = S::fma(min, splat(correction, I), acc[I]); });
        }
    }
}

/// Adds the products of lines `FROM` to `TO` of a block.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn dots<S: Simd, const T: usize, const M: usize, const FROM: usize, const TO: usize>(
    quants: *const u8,
    a: *const u8,
    sums: &mut [S::I; M],
) {
    // SAFETY: as in `tile`.
    unsafe {
        let activation = |i: usize, j: usize| S::splat32(a.add(BLOCK * i + 4 * j).cast());
        if S::VNNI {
            unroll!(4, P => {
                // The low and the high nibbles of a line one after the other.
                unroll!(2, Q => {
                    const J: usize = P + 4 * Q;
                    if FROM <= J && J < TO {
                        let w = codes::<S, T>(quants, J, 0);
                        unroll!(M, I => { sums[I] = S::dot(sums[I], w, activation(I, J)); });
                    }
                });
            });
            return;
        }
        let zero = S::splat8(0);
        let (mut low, mut high) = ([zero; M], [zero; M]);
        unroll!(8, J => {
            if FROM <= J && J < TO {
                // Sums in i16 start anew before they could overflow.
                let start = J.is_multiple_of(Of::<T>::LINES_IN_I16);
                let end = (J + 1).is_multiple_of(Of::<T>::LINES_IN_I16);
                let add = |sum: S::I, products: S::I| if start { products } else { S::add16(sum, products) };
                let (w0, w1) = if Of::<T>::WIDE {
                    (codes::<S, T>(quants, J, 1), codes::<S, T>(quants, J, 2))
                } else {
                    (codes::<S, T>(quants, J, 0), zero)
                };
                unroll!(M, I => {
                    low[I] = add(low[I], S::maddubs(w0, activation(I, J)));
                    if Of::<T>::WIDE {
                        high[I] = add(high[I], S::maddubs(w1, activation(I, J)));
                    }
                    if end {
                        sums[I] = S::add32(sums[I], S::madd(low[I], S::splat16(1)));
                    }
                    if end && Of::<T>::WIDE {
                        sums[I] = S::add32(sums[I], S::madd(high[I], S::splat16(16)));
                    }
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
