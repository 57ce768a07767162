//! Quantizes rows of activations, to the bits of [`panels::quantize_row`].

use core::arch::aarch64::*;

use crate::forms::{BLOCK, Form, Quants};
use crate::panels::{self, PanelRow, TINY, put_scale};

/// Quantizes a row. Where the panel is read in `PAIRS` of rows, a pair has 8 bytes of the one beside the same 8
/// of the other; an odd last row stays as it is.
///
/// # Safety
/// As [`panels::quantize_row`].
pub(super) unsafe fn row<const PAIRS: bool>(form: Form, row: &[f32], slot: PanelRow) {
    if form.is_float() {
        // SAFETY: the caller's contract.
        return unsafe { panels::quantize_row(form, row, slot) };
    }
    // Codes of 8 bits are signed here, and need no correction.
    let offset = match form.quants {
        Quants::Bytes | Quants::Table(_) => 0,
        _ => form.offset,
    };
    let form = Form { offset, ..form };
    let paired = PAIRS && slot.i | 1 < slot.m;
    let (blocks, _) = row.as_chunks::<BLOCK>();
    for (b, block) in blocks.iter().enumerate() {
        let (quants, ..) = slot.block(form, b);
        // SAFETY: a block of the row; the panel holds them by the caller's contract.
        unsafe {
            let (bytes, scale) = quantize_block(block);
            let sums = bytes.map(|half| i32::from(vaddlvq_s8(half)));
            put_scale(form, slot, b, scale, sums);
            if paired {
                let first = quants.sub(slot.i % 2 * (BLOCK - 8));
                for (half, bytes) in bytes.into_iter().enumerate() {
                    vst1_s8(first.add(32 * half), vget_low_s8(bytes));
                    vst1_s8(first.add(32 * half + 16), vget_high_s8(bytes));
                }
            } else {
                vst1q_s8(quants, bytes[0]);
                vst1q_s8(quants.add(16), bytes[1]);
            }
        }
    }
}

/// Bytes and scale of a block.
#[inline(always)]
fn quantize_block(block: &[f32; BLOCK]) -> ([int8x16_t; 2], f32) {
    // SAFETY: loads from the block, and arithmetic that each aarch64 has.
    unsafe {
        let x: [float32x4_t; 8] = core::array::from_fn(|i| vld1q_f32(block.as_ptr().add(4 * i)));
        let zeros = [vdupq_n_s8(0); 2];
        // As integers, since NaN is larger than infinity there.
        let largest = x.iter().fold(vdupq_n_u32(0), |largest, &x| {
            vmaxq_u32(largest, vreinterpretq_u32_f32(vabsq_f32(x)))
        });
        let largest = f32::from_bits(vmaxvq_u32(largest));
        if !largest.is_finite() {
            return (zeros, f32::NAN);
        }
        if largest < TINY {
            return (zeros, 0.0);
        }
        let inverse = 127.0 / largest;
        let half = |h: usize| {
            // To the nearest, ties to even.
            let four = |i: usize| vqmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(x[4 * h + i], inverse)));
            let eight = |i: usize| vqmovn_s16(vcombine_s16(four(i), four(i + 1)));
            vcombine_s8(eight(0), eight(2))
        };
        ([half(0), half(1)], largest * (1.0 / 127.0))
    }
}
