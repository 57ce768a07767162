//! Instructions that Rust has no stable functions for, and loads of scales.
//!
//! All functions are inlined into a tile that is compiled for the features of its set, and are sound only
//! there.

use core::arch::aarch64::*;
use core::arch::asm;

/// Adds the products of 4 bytes of each lane of `w` and of lane `LANE` of `x`.
///
/// # Safety
/// The processor has `dotprod`.
#[inline(always)]
pub(super) unsafe fn sdot<const LANE: i32>(
    mut sum: int32x4_t,
    w: int8x16_t,
    x: int8x16_t,
) -> int32x4_t {
    // SAFETY: arithmetic of registers, of an instruction that the caller vouches for.
    unsafe {
        asm!("sdot {sum:v}.4s, {w:v}.16b, {x:v}.4b[{lane}]", sum = inout(vreg) sum, w = in(vreg) w,
            x = in(vreg) x, lane = const LANE, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Adds the products of two rows of 8 bytes of `w` and two of `x`: lane `2 i + j` is that of row `i` of `w` and
/// row `j` of `x`.
///
/// # Safety
/// The processor has `i8mm`.
#[inline(always)]
pub(super) unsafe fn smmla(mut sum: int32x4_t, w: int8x16_t, x: int8x16_t) -> int32x4_t {
    // SAFETY: arithmetic of registers, of an instruction that the caller vouches for.
    unsafe {
        asm!("smmla {sum:v}.4s, {w:v}.16b, {x:v}.16b", sum = inout(vreg) sum, w = in(vreg) w,
            x = in(vreg) x, options(pure, nomem, nostack, preserves_flags));
    }
    sum
}

/// Four f16 as f32. The intrinsic is not stable in all compilers that the crate is for.
#[inline(always)]
pub(crate) fn widen(halves: uint16x4_t) -> float32x4_t {
    let result: float32x4_t;
    // SAFETY: arithmetic of registers, of an instruction that each aarch64 has.
    unsafe {
        asm!("fcvtl {result:v}.4s, {halves:v}.4h", result = out(vreg) result, halves = in(vreg) halves,
            options(pure, nomem, nostack, preserves_flags));
    }
    result
}

/// Four f16.
///
/// # Safety
/// They are readable.
#[inline(always)]
pub(crate) unsafe fn load_f16(p: *const u8) -> float32x4_t {
    // SAFETY: the caller's contract.
    unsafe { widen(vreinterpret_u16_u8(vld1_u8(p))) }
}

/// Four bf16.
///
/// # Safety
/// They are readable.
#[inline(always)]
pub(crate) unsafe fn load_bf16(p: *const u8) -> float32x4_t {
    // SAFETY: the caller's contract.
    unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vreinterpret_u16_u8(vld1_u8(p)))) }
}

/// Bytes `4 Q` to `4 Q + 3` of 16, each on top of a lane.
///
/// # Safety
/// All 16 are readable.
#[inline(always)]
unsafe fn bytes_on_top<const Q: usize>(p: *const u8) -> uint32x4_t {
    // 255 stands for zero.
    const PLACES: [[u8; 16]; 4] = {
        let mut places = [[255; 16]; 4];
        let mut i = 0;
        while i < 16 {
            places[i / 4][i % 4 * 4 + 3] = i as u8;
            i += 1;
        }
        places
    };
    // SAFETY: the caller's contract.
    unsafe { vreinterpretq_u32_u8(vqtbl1q_u8(vld1q_u8(p), vld1q_u8(PLACES[Q].as_ptr()))) }
}

/// Bytes `4 Q` to `4 Q + 3` of 16 unsigned ones.
///
/// # Safety
/// All 16 are readable.
#[inline(always)]
pub(super) unsafe fn load_u8<const Q: usize>(p: *const u8) -> float32x4_t {
    // SAFETY: the caller's contract.
    unsafe { vcvtq_n_f32_u32::<24>(bytes_on_top::<Q>(p)) }
}

/// Bytes `4 Q` to `4 Q + 3` of 16 signed ones.
///
/// # Safety
/// All 16 are readable.
#[inline(always)]
pub(super) unsafe fn load_i8<const Q: usize>(p: *const u8) -> float32x4_t {
    // SAFETY: the caller's contract.
    unsafe { vcvtq_n_f32_s32::<24>(vreinterpretq_s32_u32(bytes_on_top::<Q>(p))) }
}

/// 2^(e - 128) of bytes e, `4 Q` to `4 Q + 3` of 16, as [`crate::scalar`] has it.
///
/// # Safety
/// All 16 are readable.
#[inline(always)]
pub(super) unsafe fn load_e8m0<const Q: usize>(p: *const u8) -> float32x4_t {
    // SAFETY: the caller's contract.
    unsafe {
        let e = vreinterpretq_s32_u32(vshrq_n_u32::<24>(bytes_on_top::<Q>(p)));
        let one = vdupq_n_s32(1);
        let normal = vshlq_n_s32::<23>(vsubq_s32(e, one));
        let small = vshlq_n_s32::<21>(vaddq_s32(e, one));
        vreinterpretq_f32_s32(vmaxq_s32(normal, small))
    }
}
