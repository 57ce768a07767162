//! How the values of a cell's vector are read into lanes.
#![allow(unsafe_op_in_unsafe_fn)] // Nothing but loads: see the trait's contract.

use super::lanes::Lanes;

/// A type of K or V.
///
/// # Safety
/// `load`: as for [`Lanes`]; `vector` is valid for `i + L::N` values, and `i` is a multiple of `L::N`.
pub(super) trait Source {
    /// Bytes of 64 values, for prefetching; 0 where it is not worth it.
    const BYTES_OF_64: usize;

    unsafe fn load<L: Lanes>(vector: *const u8, i: usize) -> L;
}

pub(super) struct F16;
pub(super) struct Bf16;
pub(super) struct F32;
pub(super) struct Q8_0;
/// Floats that were converted just before.
pub(super) struct Panel;

impl Source for F16 {
    const BYTES_OF_64: usize = 128;

    #[inline(always)]
    unsafe fn load<L: Lanes>(vector: *const u8, i: usize) -> L {
        L::load_f16(vector.cast::<u16>().add(i))
    }
}

impl Source for Bf16 {
    const BYTES_OF_64: usize = 128;

    #[inline(always)]
    unsafe fn load<L: Lanes>(vector: *const u8, i: usize) -> L {
        L::load_bf16(vector.cast::<u16>().add(i))
    }
}

impl Source for F32 {
    const BYTES_OF_64: usize = 256;

    #[inline(always)]
    unsafe fn load<L: Lanes>(vector: *const u8, i: usize) -> L {
        L::load(vector.cast::<f32>().add(i))
    }
}

impl Source for Panel {
    const BYTES_OF_64: usize = 0;

    #[inline(always)]
    unsafe fn load<L: Lanes>(vector: *const u8, i: usize) -> L {
        F32::load(vector, i)
    }
}

impl Source for Q8_0 {
    const BYTES_OF_64: usize = 68;

    #[inline(always)]
    unsafe fn load<L: Lanes>(vector: *const u8, i: usize) -> L {
        let block = vector.add(i / 32 * 34);
        let values = L::load_i8(block.add(2 + i % 32).cast());
        values.mul(L::splat_f16(block.cast()))
    }
}
