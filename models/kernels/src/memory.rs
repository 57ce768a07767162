//! Memory for weights.

use std::ptr::NonNull;

/// Memory for weights: zeroed, aligned to 64 bytes at least, and to 2 MiB where it is that large. On Linux
/// huge pages are asked for (`MADV_HUGEPAGE`), since weights are read 10 to 50 % faster from those.
#[derive(Debug)]
pub struct WeightMemory {
    start: NonNull<u8>,
    bytes: usize,
}

/// There is not that much memory.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("no memory for {bytes} bytes of weights")]
pub struct OutOfMemory {
    /// What was asked for.
    pub bytes: usize,
}

// SAFETY: the memory belongs to this value alone, as that of a `Vec` does.
unsafe impl Send for WeightMemory {}
// SAFETY: a shared reference gives out addresses only.
unsafe impl Sync for WeightMemory {}

/// A huge page of x86-64, and of aarch64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

impl WeightMemory {
    /// Takes `bytes` bytes.
    pub fn new(bytes: usize) -> Result<Self, OutOfMemory> {
        // Beyond half the address space, sums of sizes could overflow.
        let some = (bytes <= isize::MAX as usize - 2 * HUGE_PAGE).then(|| bytes.max(1));
        let start = some.and_then(system::take).ok_or(OutOfMemory { bytes })?;
        Ok(Self { start, bytes })
    }

    /// Its first byte.
    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    /// Its first byte.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as long as this value, zeroed at first, and nobody writes through a shared reference.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }

    /// All of it.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

impl Drop for WeightMemory {
    fn drop(&mut self) {
        // SAFETY: taken with this size, and given back once.
        unsafe { system::give_back(self.start, self.bytes.max(1)) }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::{HUGE_PAGE, NonNull};

    /// Pages from the system, which are zero and not there before they are written.
    pub(super) fn take(bytes: usize) -> Option<NonNull<u8>> {
        let mapped = mapped(bytes);
        let spare = if bytes < HUGE_PAGE { 0 } else { HUGE_PAGE };
        // SAFETY: a mapping of its own, at an address of the system's choice. What lies before and behind
        // the aligned part of it is given back, and nothing else is.
        unsafe {
            let start = libc::mmap(
                core::ptr::null_mut(),
                mapped + spare,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                return None;
            }
            if spare == 0 {
                return NonNull::new(start.cast());
            }
            let before = start.align_offset(HUGE_PAGE) % HUGE_PAGE;
            let aligned = start.byte_add(before);
            let end = aligned.byte_add(mapped);
            if before > 0 {
                libc::munmap(start, before);
            }
            if before < spare {
                libc::munmap(end, spare - before);
            }
            // Advice: without huge pages it is slower, and right.
            libc::madvise(aligned, bytes, libc::MADV_HUGEPAGE);
            NonNull::new(aligned.cast())
        }
    }

    /// # Safety
    /// Taken with as many bytes, and not given back yet.
    pub(super) unsafe fn give_back(start: NonNull<u8>, bytes: usize) {
        // SAFETY: the mapping is ours by the caller's contract, and has this size.
        unsafe { libc::munmap(start.as_ptr().cast(), mapped(bytes)) };
    }

    /// Bytes of addresses that are taken for so many bytes, and given back: whole huge pages.
    fn mapped(bytes: usize) -> usize {
        if bytes < HUGE_PAGE {
            bytes
        } else {
            bytes.next_multiple_of(HUGE_PAGE)
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{HUGE_PAGE, NonNull};
    use std::alloc::{Layout, alloc_zeroed, dealloc};

    fn layout(bytes: usize) -> Option<Layout> {
        let align = if bytes < HUGE_PAGE { 64 } else { HUGE_PAGE };
        Layout::from_size_align(bytes, align).ok()
    }

    pub(super) fn take(bytes: usize) -> Option<NonNull<u8>> {
        // SAFETY: the layout has at least one byte.
        NonNull::new(unsafe { alloc_zeroed(layout(bytes)?) })
    }

    /// # Safety
    /// Taken with as many bytes, and not given back yet.
    pub(super) unsafe fn give_back(start: NonNull<u8>, bytes: usize) {
        if let Some(layout) = layout(bytes) {
            // SAFETY: the caller's contract.
            unsafe { dealloc(start.as_ptr(), layout) };
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn memory_is_zero_aligned_and_ours() {
        for bytes in [
            0,
            1,
            4096,
            HUGE_PAGE - 1,
            HUGE_PAGE,
            HUGE_PAGE + 1,
            3 * HUGE_PAGE,
        ] {
            let mut memory = WeightMemory::new(bytes).unwrap();
            assert_eq!(memory.len(), bytes);
            let align = if bytes < HUGE_PAGE { 64 } else { HUGE_PAGE };
            assert_eq!(memory.as_ptr().align_offset(align), 0);
            // SAFETY: the memory is ours, and as large.
            let all = unsafe { core::slice::from_raw_parts_mut(memory.as_mut_ptr(), bytes) };
            assert!(all.iter().all(|&byte| byte == 0));
            all.fill(1);
        }
    }

    /// The system places mappings side by side, so that behind one there is another.
    #[test]
    fn what_is_given_back_is_nobody_elses() {
        let take = |bytes: usize| WeightMemory::new(bytes).unwrap();
        let mut pairs: Vec<_> = (1..100)
            .map(|pages| (take(4096 * pages), Some(take(HUGE_PAGE + 4096 * pages))))
            .collect();
        for i in 0..pairs.len() {
            pairs[i].1 = None;
            for (small, large) in &mut pairs {
                small.bytes_mut().fill(1);
                large.iter_mut().for_each(|large| large.bytes_mut()[0] = 1);
            }
        }
    }

    #[test]
    fn too_much_is_an_error() {
        for bytes in [usize::MAX, isize::MAX as usize, 1 << 60] {
            let error = WeightMemory::new(bytes).unwrap_err();
            assert_eq!(error, OutOfMemory { bytes });
            assert_eq!(
                error.to_string(),
                format!("no memory for {bytes} bytes of weights")
            );
        }
    }
}
