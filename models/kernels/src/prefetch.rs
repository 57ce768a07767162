//! Asking for memory before it is needed.

use crate::kernels::Tile;

/// A line of the caches.
const LINE: usize = 64;

/// Asks for the line at `address`, which may be anywhere: into the cache of the first level where
/// `is_near`, else into that of the second.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8, is_near: bool) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        if is_near {
            _mm_prefetch::<_MM_HINT_T0>(address.cast());
        } else {
            _mm_prefetch::<_MM_HINT_T1>(address.cast());
        }
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        use core::arch::asm;
        if is_near {
            asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        } else {
            asm!("prfm pldl2keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
        }
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = (address, is_near);
}

/// What is fetched into the caches while a tile runs.
#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code)
)]
pub(crate) struct Ahead {
    next: *const u8,
    end: *const u8,
    step: usize,
}

#[cfg_attr(
    not(any(target_arch = "x86_64", target_arch = "aarch64")),
    allow(dead_code)
)]
impl Ahead {
    /// What `tile` is to fetch, in equal shares for its `blocks`.
    #[inline(always)]
    pub(crate) fn new(tile: &Tile<'_>, blocks: usize) -> Self {
        Self {
            next: tile.ahead,
            end: tile.ahead,
            step: tile.ahead_bytes.div_ceil(blocks.max(1)),
        }
    }

    /// Fetches one block's share. Few rows wait for memory: to them the first-level cache. More have the
    /// time to take it from the second.
    #[inline(always)]
    pub(crate) fn fetch(&mut self, are_few: bool) {
        self.end = self.end.wrapping_add(self.step);
        while self.next < self.end {
            prefetch(self.next, are_few);
            self.next = self.next.wrapping_add(LINE);
        }
    }
}
