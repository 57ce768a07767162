//! Vectors of aarch64's Advanced SIMD.

use std::arch::aarch64::*;

use super::functions::ONE;
use super::lanes::Lanes;
use super::{Attention, tile};
use crate::arm::neon;

/// # Safety
/// As for [`Attention::compute`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn compute(
    attention: &Attention<'_>,
    part: usize,
    n_parts: usize,
    work: *mut u8,
) {
    // SAFETY: the caller's contract; these are the features that the vectors need.
    unsafe { tile::compute::<Neon>(attention, part, n_parts, work) }
}

#[derive(Clone, Copy)]
struct Neon(float32x4_t);

impl Lanes for Neon {
    const N: usize = 4;
    const ROWS: usize = 6;

    ops! {
        splat(x: f32) -> Self = Self(vdupq_n_f32(x));
        load(p: *const f32) -> Self = Self(vld1q_f32(p));
        load_f16(p: *const u16) -> Self = Self(neon::load_f16(p.cast()));
        load_bf16(p: *const u16) -> Self = Self(neon::load_bf16(p.cast()));
        load_i8(p: *const i8) -> Self = {
            let bytes = vcreate_s8(u64::from(p.cast::<u32>().read_unaligned()));
            Self(vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes)))))
        };
        splat_f16(p: *const u16) -> Self = Self(neon::widen(vdup_n_u16(p.read())));
        splat4(p: *const f32) -> Self = Self::load(p);
        store(self, p: *mut f32) = vst1q_f32(p, self.0);
        add(self, other: Self) -> Self = Self(vaddq_f32(self.0, other.0));
        sub(self, other: Self) -> Self = Self(vsubq_f32(self.0, other.0));
        mul(self, other: Self) -> Self = Self(vmulq_f32(self.0, other.0));
        div(self, other: Self) -> Self = Self(vdivq_f32(self.0, other.0));
        fma(self, factor: Self, term: Self) -> Self = Self(vfmaq_f32(term.0, self.0, factor.0));
        max(self, other: Self) -> Self = Self(vmaxq_f32(self.0, other.0));
        abs(self) -> Self = Self(vabsq_f32(self.0));
        lt(self, other: Self, yes: Self, no: Self) -> Self =
            Self(vbslq_f32(vcltq_f32(self.0, other.0), yes.0, no.0));
        scale_by(self, rounded: Self) -> Self = {
            let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(rounded.0));
            let scaled = vaddq_s32(vreinterpretq_s32_f32(self.0), exponent);
            Self(vreinterpretq_f32_s32(scaled))
        };
        transpose(vectors: [Self; 4]) -> [Self; 4] = vectors;
        sum4([a, b, c, d]: [Self; 4]) -> Self =
            Self(vpaddq_f32(vpaddq_f32(a.0, b.0), vpaddq_f32(c.0, d.0)));
        add_fixed(self, sums: *mut u64) = {
            let fixed = vcvtnq_u32_f32(vmulq_n_f32(self.0, ONE));
            vst1q_u64(sums, vpadalq_u32(vld1q_u64(sums), fixed));
        };
    }
}
