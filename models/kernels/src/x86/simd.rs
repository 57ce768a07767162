//! Vectors of 8 or 16 lanes of 4 bytes, and what tiles do with them.
//!
//! All functions are inlined into a tile that is compiled for the features of its set, and are sound only there.

use core::arch::x86_64::*;

/// The operations of a tile.
///
/// # Safety
/// Each function: the processor has the features of the implementation, and pointers are valid for the lanes
/// that are read or written there, whatever their alignment.
pub(crate) trait Simd {
    /// 4 bytes, two i16 or one i32 a lane.
    type I: Copy;
    /// One f32 a lane.
    type F: Copy;
    /// Lanes.
    const LANES: usize;
    /// Whether there is `dot`; else there is `maddubs`.
    const VNNI: bool;

    unsafe fn load(p: *const u8) -> Self::I;
    unsafe fn splat8(value: u8) -> Self::I;
    unsafe fn splat16(value: i16) -> Self::I;
    /// The i32 at `p` in each lane.
    unsafe fn splat32(p: *const i32) -> Self::I;
    /// These 16 bytes, over and over.
    unsafe fn table(p: &[i8; 16]) -> Self::I;
    unsafe fn and(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn or(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn xor(a: Self::I, b: Self::I) -> Self::I;
    /// Each i16 shifted by `n` bits to the left (right where it is negative), of -4 to 4.
    unsafe fn shift(a: Self::I, n: i32) -> Self::I;
    /// The bytes of `table` at the indices 0 to 15.
    unsafe fn look_up(table: Self::I, indices: Self::I) -> Self::I;
    /// Adds the products of 4 unsigned bytes of `w` and 4 signed bytes of `a` to each i32.
    unsafe fn dot(sum: Self::I, w: Self::I, a: Self::I) -> Self::I;
    /// Sums of two such products in i16.
    unsafe fn maddubs(w: Self::I, a: Self::I) -> Self::I;
    unsafe fn add16(a: Self::I, b: Self::I) -> Self::I;
    /// Sums of two products of i16 in i32.
    unsafe fn madd(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn add32(a: Self::I, b: Self::I) -> Self::I;
    unsafe fn to_f32(a: Self::I) -> Self::F;

    unsafe fn zero() -> Self::F;
    unsafe fn splat(p: *const f32) -> Self::F;
    unsafe fn mul(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn add(a: Self::F, b: Self::F) -> Self::F;
    unsafe fn neg(a: Self::F) -> Self::F;
    /// `a b + c`.
    unsafe fn fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    unsafe fn load_f32(p: *const u8) -> Self::F;
    unsafe fn load_f16(p: *const u8) -> Self::F;
    unsafe fn load_bf16(p: *const u8) -> Self::F;
    unsafe fn load_u8(p: *const u8) -> Self::F;
    unsafe fn load_i8(p: *const u8) -> Self::F;
    /// 2^(e - 128) of bytes e, as [`crate::scalar`] has it.
    unsafe fn load_e8m0(p: *const u8) -> Self::F;
    unsafe fn store(p: *mut f32, a: Self::F);
}

/// 256 bits, `maddubs`.
pub(crate) enum Avx2 {}
/// 256 bits, `vpdpbusd`.
pub(crate) enum AvxVnni {}
/// 512 bits, `vpdpbusd`.
pub(crate) enum Avx512Vnni {}

/// A shift by a constant number of bits, since the instructions take no other.
macro_rules! shift {
    ($a:ident, $n:ident, $left:ident, $right:ident) => {
        match $n {
            4 => $left::<4>($a),
            3 => $left::<3>($a),
            2 => $left::<2>($a),
            1 => $left::<1>($a),
            -1 => $right::<1>($a),
            -2 => $right::<2>($a),
            -3 => $right::<3>($a),
            -4 => $right::<4>($a),
            _ => $a,
        }
    };
}

macro_rules! avx2 {
    ($name:ident, $vnni:literal, |$sum:ident, $w:ident, $a:ident| $dot:expr) => {
        impl Simd for $name {
            type I = __m256i;
            type F = __m256;
            const LANES: usize = 8;
            const VNNI: bool = $vnni;

            ops! {
                load(p: *const u8) -> __m256i = _mm256_loadu_si256(p.cast());
                splat8(value: u8) -> __m256i = _mm256_set1_epi8(value as i8);
                splat16(value: i16) -> __m256i = _mm256_set1_epi16(value);
                splat32(p: *const i32) -> __m256i = _mm256_set1_epi32(p.read_unaligned());
                table(p: &[i8; 16]) -> __m256i = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.as_ptr().cast()));
                and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256(a, b);
                or(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256(a, b);
                xor(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256(a, b);
                shift(a: __m256i, n: i32) -> __m256i = shift!(a, n, _mm256_slli_epi16, _mm256_srli_epi16);
                look_up(table: __m256i, indices: __m256i) -> __m256i = _mm256_shuffle_epi8(table, indices);
                dot($sum: __m256i, $w: __m256i, $a: __m256i) -> __m256i = $dot;
                maddubs(w: __m256i, a: __m256i) -> __m256i = _mm256_maddubs_epi16(w, a);
                add16(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi16(a, b);
                madd(a: __m256i, b: __m256i) -> __m256i = _mm256_madd_epi16(a, b);
                add32(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32(a, b);
                to_f32(a: __m256i) -> __m256 = _mm256_cvtepi32_ps(a);
                zero() -> __m256 = _mm256_setzero_ps();
                splat(p: *const f32) -> __m256 = _mm256_set1_ps(p.read_unaligned());
                mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
                add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
                neg(a: __m256) -> __m256 = _mm256_xor_ps(a, _mm256_set1_ps(-0.0));
                fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
                load_f32(p: *const u8) -> __m256 = _mm256_loadu_ps(p.cast());
                load_f16(p: *const u8) -> __m256 = _mm256_cvtph_ps(_mm_loadu_si128(p.cast()));
                load_bf16(p: *const u8) -> __m256 = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(
                    _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()))
                ));
                load_u8(p: *const u8) -> __m256 = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast())));
                load_i8(p: *const u8) -> __m256 = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast())));
                load_e8m0(p: *const u8) -> __m256 = {
                    let e = _mm256_cvtepu8_epi32(_mm_loadl_epi64(p.cast()));
                    let one = _mm256_set1_epi32(1);
                    let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(e, one));
                    let small = _mm256_slli_epi32::<21>(_mm256_add_epi32(e, one));
                    _mm256_castsi256_ps(_mm256_max_epi32(normal, small))
                };
                store(p: *mut f32, a: __m256) = _mm256_storeu_ps(p, a);
            }
        }
    };
}

avx2!(Avx2, false, |sum, _w, _a| sum);
avx2!(AvxVnni, true, |sum, w, a| _mm256_dpbusd_avx_epi32(
    sum, w, a
));

impl Simd for Avx512Vnni {
    type I = __m512i;
    type F = __m512;
    const LANES: usize = 16;
    const VNNI: bool = true;

    ops! {
        load(p: *const u8) -> __m512i = _mm512_loadu_si512(p.cast());
        splat8(value: u8) -> __m512i = _mm512_set1_epi8(value as i8);
        splat16(value: i16) -> __m512i = _mm512_set1_epi16(value);
        splat32(p: *const i32) -> __m512i = _mm512_set1_epi32(p.read_unaligned());
        table(p: &[i8; 16]) -> __m512i = _mm512_broadcast_i32x4(_mm_loadu_si128(p.as_ptr().cast()));
        and(a: __m512i, b: __m512i) -> __m512i = _mm512_and_si512(a, b);
        or(a: __m512i, b: __m512i) -> __m512i = _mm512_or_si512(a, b);
        xor(a: __m512i, b: __m512i) -> __m512i = _mm512_xor_si512(a, b);
        shift(a: __m512i, n: i32) -> __m512i = shift!(a, n, _mm512_slli_epi16, _mm512_srli_epi16);
        look_up(table: __m512i, indices: __m512i) -> __m512i = _mm512_shuffle_epi8(table, indices);
        dot(sum: __m512i, w: __m512i, a: __m512i) -> __m512i = _mm512_dpbusd_epi32(sum, w, a);
        maddubs(w: __m512i, a: __m512i) -> __m512i = _mm512_maddubs_epi16(w, a);
        add16(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi16(a, b);
        madd(a: __m512i, b: __m512i) -> __m512i = _mm512_madd_epi16(a, b);
        add32(a: __m512i, b: __m512i) -> __m512i = _mm512_add_epi32(a, b);
        to_f32(a: __m512i) -> __m512 = _mm512_cvtepi32_ps(a);
        zero() -> __m512 = _mm512_setzero_ps();
        splat(p: *const f32) -> __m512 = _mm512_set1_ps(p.read_unaligned());
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        neg(a: __m512) -> __m512 = _mm512_xor_ps(a, _mm512_set1_ps(-0.0));
        fma(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        load_f32(p: *const u8) -> __m512 = _mm512_loadu_ps(p.cast());
        load_f16(p: *const u8) -> __m512 = _mm512_cvtph_ps(_mm256_loadu_si256(p.cast()));
        load_bf16(p: *const u8) -> __m512 = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(
            _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()))
        ));
        load_u8(p: *const u8) -> __m512 = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast())));
        load_i8(p: *const u8) -> __m512 = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast())));
        load_e8m0(p: *const u8) -> __m512 = {
            let e = _mm512_cvtepu8_epi32(_mm_loadu_si128(p.cast()));
            let one = _mm512_set1_epi32(1);
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, one));
            let small = _mm512_slli_epi32::<21>(_mm512_add_epi32(e, one));
            _mm512_castsi512_ps(_mm512_max_epi32(normal, small))
        };
        store(p: *mut f32, a: __m512) = _mm512_storeu_ps(p, a);
    }
}
