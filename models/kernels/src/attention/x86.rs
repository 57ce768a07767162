//! Vectors of AVX2 (with FMA and F16C) and AVX-512.

use std::arch::x86_64::*;

use super::functions::ONE;
use super::lanes::Lanes;
use super::{Attention, HIDDEN, tile};
use crate::x86::simd::{self, Simd};

/// # Safety
/// As for [`Attention::compute`], and the processor has these features.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn compute_avx2(
    attention: &Attention<'_>,
    part: usize,
    n_parts: usize,
    work: *mut u8,
) {
    // SAFETY: the caller's contract; these are the features that the vectors need.
    unsafe { tile::compute::<Avx2>(attention, part, n_parts, work) }
}

/// # Safety
/// As for [`Attention::compute`], and the processor has these features.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq")]
pub(super) unsafe fn compute_avx512(
    attention: &Attention<'_>,
    part: usize,
    n_parts: usize,
    work: *mut u8,
) {
    // SAFETY: as above.
    unsafe { tile::compute::<Avx512>(attention, part, n_parts, work) }
}

/// Vectors of a set, which does with them what products do as well in the same way.
macro_rules! lanes {
    ($name:ident($vector:ty), $simd:ty, $rows:literal, $($own:tt)*) => {
        #[derive(Clone, Copy)]
        struct $name($vector);

        impl Lanes for $name {
            const N: usize = <$simd>::LANES;
            const ROWS: usize = $rows;

            ops! {
                splat(x: f32) -> Self = Self(<$simd>::splat(&x));
                load(p: *const f32) -> Self = Self(<$simd>::load_f32(p.cast()));
                load_f16(p: *const u16) -> Self = Self(<$simd>::load_f16(p.cast()));
                load_bf16(p: *const u16) -> Self = Self(<$simd>::load_bf16(p.cast()));
                load_i8(p: *const i8) -> Self = Self(<$simd>::load_i8(p.cast()));
                store(self, p: *mut f32) = <$simd>::store(p, self.0);
                add(self, other: Self) -> Self = Self(<$simd>::add(self.0, other.0));
                mul(self, other: Self) -> Self = Self(<$simd>::mul(self.0, other.0));
                fma(self, factor: Self, term: Self) -> Self = Self(<$simd>::fma(self.0, factor.0, term.0));
                $($own)*
            }
        }
    };
}

lanes! { Avx2(__m256), simd::Avx2, 3,
    splat_f16(p: *const u16) -> Self = Self(_mm256_cvtph_ps(_mm_set1_epi16(p.read().cast_signed())));
    splat4(p: *const f32) -> Self = {
        let four = _mm_loadu_ps(p);
        Self(_mm256_set_m128(four, four))
    };
    sub(self, other: Self) -> Self = Self(_mm256_sub_ps(self.0, other.0));
    div(self, other: Self) -> Self = Self(_mm256_div_ps(self.0, other.0));
    max(self, other: Self) -> Self = Self(_mm256_max_ps(self.0, other.0));
    abs(self) -> Self = Self(_mm256_andnot_ps(_mm256_set1_ps(-0.0), self.0));
    lt(self, other: Self, yes: Self, no: Self) -> Self = {
        let less = _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, other.0);
        Self(_mm256_blendv_ps(no.0, yes.0, less))
    };
    scale_by(self, rounded: Self) -> Self = {
        let exponent = _mm256_slli_epi32::<23>(_mm256_castps_si256(rounded.0));
        let scaled = _mm256_add_epi32(_mm256_castps_si256(self.0), exponent);
        Self(_mm256_castsi256_ps(scaled))
    };
    transpose([a, b, ..]: [Self; 4]) -> [Self; 4] = {
        let low = Self(_mm256_permute2f128_ps::<0x20>(a.0, b.0));
        let high = Self(_mm256_permute2f128_ps::<0x31>(a.0, b.0));
        [low, high, low, high]
    };
    sum4([a, b, c, d]: [Self; 4]) -> Self =
        Self(_mm256_hadd_ps(_mm256_hadd_ps(a.0, b.0), _mm256_hadd_ps(c.0, d.0)));
    add_fixed(self, sums: *mut u64) = {
        let fixed = _mm256_cvtps_epi32(_mm256_mul_ps(self.0, _mm256_set1_ps(ONE)));
        let even = _mm256_and_si256(fixed, _mm256_set1_epi64x(0xFFFF_FFFF));
        let odd = _mm256_srli_epi64::<32>(fixed);
        let sum = _mm256_add_epi64(_mm256_loadu_si256(sums.cast()), _mm256_add_epi64(even, odd));
        _mm256_storeu_si256(sums.cast(), sum);
    };
    seen(mask: *const u16) -> u64 = {
        let mut hidden = [_mm256_set1_epi16(HIDDEN.cast_signed()); 4];
        for (i, hidden) in hidden.iter_mut().enumerate() {
            *hidden = _mm256_cmpeq_epi16(*hidden, _mm256_loadu_si256(mask.add(16 * i).cast()));
        }
        let mut seen = 0;
        for i in [2, 0] {
            let bytes = _mm256_packs_epi16(hidden[i], hidden[i + 1]);
            let in_order = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
            seen = seen << 32 | u64::from(!_mm256_movemask_epi8(in_order).cast_unsigned());
        }
        seen
    };
}

ops! {
    pairs(a: __m512, b: __m512) -> __m512 =
        _mm512_add_ps(_mm512_shuffle_ps::<0x88>(a, b), _mm512_shuffle_ps::<0xDD>(a, b));
}

lanes! { Avx512(__m512), simd::Avx512Vnni, 6,
    splat_f16(p: *const u16) -> Self = Self(_mm512_cvtph_ps(_mm256_set1_epi16(p.read().cast_signed())));
    splat4(p: *const f32) -> Self = Self(_mm512_broadcast_f32x4(_mm_loadu_ps(p)));
    sub(self, other: Self) -> Self = Self(_mm512_sub_ps(self.0, other.0));
    div(self, other: Self) -> Self = Self(_mm512_div_ps(self.0, other.0));
    max(self, other: Self) -> Self = Self(_mm512_max_ps(self.0, other.0));
    abs(self) -> Self = Self(_mm512_abs_ps(self.0));
    lt(self, other: Self, yes: Self, no: Self) -> Self = {
        let less = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, other.0);
        Self(_mm512_mask_blend_ps(less, no.0, yes.0))
    };
    scale_by(self, rounded: Self) -> Self = {
        let exponent = _mm512_slli_epi32::<23>(_mm512_castps_si512(rounded.0));
        let scaled = _mm512_add_epi32(_mm512_castps_si512(self.0), exponent);
        Self(_mm512_castsi512_ps(scaled))
    };
    transpose([a, b, c, d]: [Self; 4]) -> [Self; 4] = {
        let ab_low = _mm512_shuffle_f32x4::<0x44>(a.0, b.0);
        let ab_high = _mm512_shuffle_f32x4::<0xEE>(a.0, b.0);
        let cd_low = _mm512_shuffle_f32x4::<0x44>(c.0, d.0);
        let cd_high = _mm512_shuffle_f32x4::<0xEE>(c.0, d.0);
        [
            Self(_mm512_shuffle_f32x4::<0x88>(ab_low, cd_low)),
            Self(_mm512_shuffle_f32x4::<0xDD>(ab_low, cd_low)),
            Self(_mm512_shuffle_f32x4::<0x88>(ab_high, cd_high)),
            Self(_mm512_shuffle_f32x4::<0xDD>(ab_high, cd_high)),
        ]
    };
    sum4([a, b, c, d]: [Self; 4]) -> Self = Self(pairs(pairs(a.0, b.0), pairs(c.0, d.0)));
    add_fixed(self, sums: *mut u64) = {
        let fixed = _mm512_cvtps_epi32(_mm512_mul_ps(self.0, _mm512_set1_ps(ONE)));
        let even = _mm512_and_si512(fixed, _mm512_set1_epi64(0xFFFF_FFFF));
        let odd = _mm512_srli_epi64::<32>(fixed);
        let sum = _mm512_add_epi64(_mm512_loadu_si512(sums.cast()), _mm512_add_epi64(even, odd));
        _mm512_storeu_si512(sums.cast(), sum);
    };
    seen(mask: *const u16) -> u64 = {
        let hidden = _mm512_set1_epi16(HIDDEN.cast_signed());
        let (first, second) = (mask.cast(), mask.add(32).cast());
        let first = _mm512_cmpneq_epi16_mask(_mm512_loadu_si512(first), hidden);
        let second = _mm512_cmpneq_epi16_mask(_mm512_loadu_si512(second), hidden);
        u64::from(first) | u64::from(second) << 32
    };
}
