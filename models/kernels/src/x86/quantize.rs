//! Quantization of activations, to the bit as [`crate::panels`] says.

use core::arch::x86_64::*;

use crate::forms::{BLOCK, Form};
use crate::panels::{self, PanelRow, TINY, put_scale};

/// Quantizes a row.
///
/// # Safety
/// As [`panels::quantize_row`]; the processor has AVX2.
// Long: a block stays in registers from its first load to its last store.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn row(form: Form, row: &[f32], slot: PanelRow) {
    if form.is_float() {
        // SAFETY: the caller's contract.
        return unsafe { panels::quantize_row(form, row, slot) };
    }
    let absolute = _mm256_set1_epi32(i32::MAX);
    let (blocks, _) = row.as_chunks::<BLOCK>();
    for (b, block) in blocks.iter().enumerate() {
        // SAFETY: a block has 32 values.
        let x: [__m256; 4] =
            core::array::from_fn(|j| unsafe { _mm256_loadu_ps(block.as_ptr().add(8 * j)) });
        // As integers, since NaN is larger than infinity there.
        let bits = x.map(|x| _mm256_and_si256(_mm256_castps_si256(x), absolute));
        let largest = _mm256_max_epi32(
            _mm256_max_epi32(bits[0], bits[1]),
            _mm256_max_epi32(bits[2], bits[3]),
        );
        let mut four = _mm_max_epi32(
            _mm256_castsi256_si128(largest),
            _mm256_extracti128_si256::<1>(largest),
        );
        four = _mm_max_epi32(four, _mm_shuffle_epi32::<0x4e>(four));
        four = _mm_max_epi32(four, _mm_shuffle_epi32::<0xb1>(four));
        let largest = f32::from_bits(_mm_cvtsi128_si32(four) as u32);
        let (inverse, scale) = if !largest.is_finite() {
            (None, f32::NAN)
        } else if largest < TINY {
            (None, 0.0)
        } else {
            (Some(127.0 / largest), largest * (1.0 / 127.0))
        };
        let (quants, ..) = slot.block(form, b);
        let Some(inverse) = inverse else {
            // SAFETY: a block of the row, in the panel by the caller's contract.
            unsafe {
                quants.write_bytes(0, BLOCK);
                put_scale(form, slot, b, scale, [0, 0]);
            }
            continue;
        };
        let q = x.map(|x| _mm256_cvtps_epi32(_mm256_mul_ps(x, _mm256_set1_ps(inverse))));
        // The sums of both halves side by side, each in its own half of the vector.
        let (s0, s1) = (_mm256_add_epi32(q[0], q[1]), _mm256_add_epi32(q[2], q[3]));
        let halves = _mm256_add_epi32(
            _mm256_permute2x128_si256::<0x20>(s0, s1),
            _mm256_permute2x128_si256::<0x31>(s0, s1),
        );
        let halves = _mm256_add_epi32(halves, _mm256_shuffle_epi32::<0x4e>(halves));
        let halves = _mm256_add_epi32(halves, _mm256_shuffle_epi32::<0xb1>(halves));
        let sums = [
            _mm_cvtsi128_si32(_mm256_castsi256_si128(halves)),
            _mm_cvtsi128_si32(_mm256_extracti128_si256::<1>(halves)),
        ];
        let words = _mm256_packs_epi16(
            _mm256_packs_epi32(q[0], q[1]),
            _mm256_packs_epi32(q[2], q[3]),
        );
        let bytes = _mm256_permutevar8x32_epi32(words, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        // SAFETY: a block of the row, in the panel by the caller's contract.
        unsafe {
            _mm256_storeu_si256(quants.cast(), bytes);
            put_scale(form, slot, b, scale, sums);
        }
    }
}
