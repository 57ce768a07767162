//! Vectors of aarch64's Advanced SIMD.
#![allow(unsafe_op_in_unsafe_fn)] // Nothing but intrinsics: see the contract of `Lanes`.

use std::arch::aarch64::*;
use std::arch::asm;

use super::functions::ONE;
use super::lanes::Lanes;
use super::{Attention, tile};

/// # Safety
/// As for [`Attention::compute`].
#[target_feature(enable = "neon")]
pub(super) unsafe fn compute(
    attention: &Attention<'_>,
    part: usize,
    n_parts: usize,
    work: *mut u8,
) {
    tile::compute::<Neon>(attention, part, n_parts, work);
}

#[derive(Clone, Copy)]
struct Neon(float32x4_t);

/// Four halves as floats. The intrinsic is not stable in all compilers that the crate is for.
#[inline(always)]
unsafe fn widen(halves: uint16x4_t) -> Neon {
    let floats: float32x4_t;
    asm!("fcvtl {0:v}.4s, {1:v}.4h", out(vreg) floats, in(vreg) halves,
        options(pure, nomem, nostack, preserves_flags));
    Neon(floats)
}

impl Lanes for Neon {
    const N: usize = 4;
    const ROWS: usize = 6;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(vdupq_n_f32(x))
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self {
        Self(vld1q_f32(p))
    }
    #[inline(always)]
    unsafe fn load_f16(p: *const u16) -> Self {
        widen(vld1_u16(p))
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self {
        Self(vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(p))))
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self {
        let bytes = vcreate_s8(u64::from(p.cast::<u32>().read_unaligned()));
        Self(vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(bytes)))))
    }
    #[inline(always)]
    unsafe fn splat_f16(p: *const u16) -> Self {
        widen(vdup_n_u16(p.read()))
    }
    #[inline(always)]
    unsafe fn splat4(p: *const f32) -> Self {
        Self::load(p)
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32) {
        vst1q_f32(p, self.0);
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(vaddq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(vsubq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(vmulq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(vdivq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn fma(self, factor: Self, term: Self) -> Self {
        Self(vfmaq_f32(term.0, self.0, factor.0))
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(vmaxq_f32(self.0, other.0))
    }
    #[inline(always)]
    unsafe fn abs(self) -> Self {
        Self(vabsq_f32(self.0))
    }
    #[inline(always)]
    unsafe fn lt(self, other: Self, yes: Self, no: Self) -> Self {
        Self(vbslq_f32(vcltq_f32(self.0, other.0), yes.0, no.0))
    }
    #[inline(always)]
    unsafe fn scale_by(self, rounded: Self) -> Self {
        let exponent = vshlq_n_s32::<23>(vreinterpretq_s32_f32(rounded.0));
        let scaled = vaddq_s32(vreinterpretq_s32_f32(self.0), exponent);
        Self(vreinterpretq_f32_s32(scaled))
    }
    #[inline(always)]
    unsafe fn transpose(vectors: [Self; 4]) -> [Self; 4] {
        vectors
    }
    #[inline(always)]
    unsafe fn sum4([a, b, c, d]: [Self; 4]) -> Self {
        Self(vpaddq_f32(vpaddq_f32(a.0, b.0), vpaddq_f32(c.0, d.0)))
    }
    #[inline(always)]
    unsafe fn add_fixed(self, sums: *mut u64) {
        let fixed = vcvtnq_u32_f32(vmulq_n_f32(self.0, ONE));
        vst1q_u64(sums, vpadalq_u32(vld1q_u64(sums), fixed));
    }
}
