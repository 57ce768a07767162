//! What an instruction set does with a vector of `N` floats. The code above it is the same for all.
#![allow(unsafe_op_in_unsafe_fn)] // Nothing but intrinsics: see the trait's contract.

use super::HIDDEN;
use super::functions::{EXP, EXP_LOWEST, LN_2, ROUNDER, TANH, TANH_SMALL};

/// A vector of floats.
///
/// # Safety
/// All functions: the processor has the instruction set, and they are inlined into a function with
/// its `target_feature`. Pointers are valid for the `N` values read or written, with any alignment.
pub(super) trait Lanes: Copy {
    /// Floats of a vector: 4, 8 or 16.
    const N: usize;
    /// Query rows whose sums fit into registers: four vectors for each, one more for each, one more.
    const ROWS: usize;

    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(p: *const f32) -> Self;
    unsafe fn load_f16(p: *const u16) -> Self;
    unsafe fn load_bf16(p: *const u16) -> Self;
    unsafe fn load_i8(p: *const i8) -> Self;
    unsafe fn splat_f16(p: *const u16) -> Self;
    /// The four floats at `p`, again and again.
    unsafe fn splat4(p: *const f32) -> Self;
    unsafe fn store(self, p: *mut f32);
    unsafe fn add(self, other: Self) -> Self;
    unsafe fn sub(self, other: Self) -> Self;
    unsafe fn mul(self, other: Self) -> Self;
    unsafe fn div(self, other: Self) -> Self;
    /// `self * factor + term`, rounded once.
    unsafe fn fma(self, factor: Self, term: Self) -> Self;
    /// The greater one; neither is NaN.
    unsafe fn max(self, other: Self) -> Self;
    unsafe fn abs(self) -> Self;
    /// `yes` where `self < other`, otherwise (also where one is NaN) `no`.
    unsafe fn lt(self, other: Self, yes: Self, no: Self) -> Self;
    /// Adds the integer in the low bits of `rounded` to the exponent.
    unsafe fn scale_by(self, rounded: Self) -> Self;
    /// Vector `i` of the result holds part `i`, of four floats, of each of the first `N / 4` vectors.
    unsafe fn transpose(vectors: [Self; 4]) -> [Self; 4];
    /// For each part of four floats of the vectors, the sums of the parts, `(0 + 1) + (2 + 3)`: first
    /// those of part 0 of the four vectors, then those of part 1 and so on.
    unsafe fn sum4(vectors: [Self; 4]) -> Self;
    /// Adds the lanes as integers in units of 2^-30, rounded to even, to the `N / 2` sums at `sums`.
    unsafe fn add_fixed(self, sums: *mut u64);

    /// Which of 64 halves at `mask` are not -inf.
    #[inline(always)]
    unsafe fn seen(mask: *const u16) -> u64 {
        (0..64).fold(0, |bits, i| bits | u64::from(*mask.add(i) != HIDDEN) << i)
    }

    /// [`exp`](super::functions::exp) of each lane.
    #[inline(always)]
    unsafe fn exp(self) -> Self {
        let rounder = Self::splat(ROUNDER);
        let rounded = self.fma(Self::splat(std::f32::consts::LOG2_E), rounder);
        let n = rounded.sub(rounder);
        let r = n.fma(Self::splat(-LN_2[0]), self);
        let r = n.fma(Self::splat(-LN_2[1]), r);
        let mut y = Self::splat(EXP[0]);
        for &c in &EXP[1..] {
            y = y.fma(r, Self::splat(c));
        }
        let y = y.fma(r.mul(r), r).add(Self::splat(1.0)).scale_by(rounded);
        self.lt(Self::splat(EXP_LOWEST), Self::splat(0.0), y)
    }

    /// [`tanh`](super::functions::tanh) of each lane.
    #[inline(always)]
    unsafe fn tanh(self) -> Self {
        let (zero, one) = (Self::splat(0.0), Self::splat(1.0));
        let z = self.mul(self);
        let mut y = Self::splat(TANH[0]);
        for &c in &TANH[1..] {
            y = y.fma(z, Self::splat(c));
        }
        let small = y.mul(z).fma(self, self);
        let e = self.abs().mul(Self::splat(-2.0)).exp();
        let large = one.sub(e).div(one.add(e));
        let large = self.lt(zero, zero.sub(large), large);
        self.abs().lt(Self::splat(TANH_SMALL), small, large)
    }
}
