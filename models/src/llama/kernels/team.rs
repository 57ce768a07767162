//! The threads that compute an operation together.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::LINE;

/// `ggml_compute_params` (ggml-cpu-impl.h).
#[repr(C)]
pub(super) struct ComputeParams {
    /// Index of the thread.
    ith: c_int,
    /// Number of threads.
    nth: c_int,
    wsize: usize,
    /// Memory that all threads of the operation share.
    wdata: *mut c_void,
    threadpool: *mut c_void,
    use_ref: bool,
}

/// Shares of the work that each thread takes about; more than one, as a thread may be held up.
const SHARES: usize = 4;

unsafe extern "C" {
    /// ggml-cpu.c: waits until all threads of the operation are there.
    fn ggml_barrier(threadpool: *mut c_void);
}

/// The threads of an operation, seen from one of them.
pub(super) struct Team<'a> {
    /// Index of the thread.
    pub(super) ith: usize,
    /// Number of threads.
    pub(super) nth: usize,
    threadpool: *mut c_void,
    /// The next share of the work that nobody has taken.
    next: &'a AtomicUsize,
    /// Work memory of the operation, aligned to [`LINE`].
    pub(super) work: *mut u8,
}

impl ComputeParams {
    /// Whether this is the thread that has called llama.cpp.
    pub(super) fn is_first(&self) -> bool {
        self.ith == 0
    }
}

impl Team<'_> {
    /// What the team itself needs of the work memory: room to align, and a line of its own.
    pub(super) const OVERHEAD_BYTES: usize = 2 * LINE;

    /// # Safety
    /// The work memory has [`Team::OVERHEAD_BYTES`] and what the operation needs; all threads see the
    /// same.
    pub(super) unsafe fn new(params: &ComputeParams) -> Self {
        let work: *mut u8 = params.wdata.cast();
        // SAFETY: within the room to align.
        let work = unsafe { work.add(work.align_offset(LINE)) };
        Self {
            ith: usize::try_from(params.ith).unwrap_or(0),
            nth: usize::try_from(params.nth).unwrap_or(1),
            threadpool: params.threadpool,
            // SAFETY: aligned, within the memory, and used for nothing else during the operation.
            next: unsafe { AtomicUsize::from_ptr(work.cast()) },
            // SAFETY: the memory has a line more.
            work: unsafe { work.add(LINE) },
        }
    }

    /// What `prepare` does on one thread is seen by all when they come back; shares count from 0.
    pub(super) fn gather(&self, prepare: impl FnOnce()) {
        if self.ith == 0 {
            self.next.store(0, Ordering::Relaxed);
            prepare();
        }
        // SAFETY: every thread of the operation comes here.
        unsafe { ggml_barrier(self.threadpool) };
    }

    /// Gathers; what `find` finds on thread 0 is [told](Self::told) to all.
    pub(super) fn tell(&self, find: impl FnOnce() -> Option<&'static [u32]>) {
        // SAFETY: aligned, in the team's line behind the counter, and written by thread 0 alone.
        self.gather(|| unsafe { self.notice().write(find()) });
    }

    /// See [`Team::tell`], which comes before.
    pub(super) fn told(&self) -> Option<&'static [u32]> {
        // SAFETY: written by thread 0 before the barrier, and not changed since.
        unsafe { self.notice().read() }
    }

    fn notice(&self) -> *mut Option<&'static [u32]> {
        const { assert!(2 * size_of::<usize>() + size_of::<Option<&[u32]>>() <= LINE) };
        self.next.as_ptr().wrapping_add(2).cast()
    }

    /// Calls `work` with shares of `0..n_shares` until all are taken.
    pub(super) fn take_shares(&self, n_shares: usize, mut work: impl FnMut(usize)) {
        loop {
            let share = self.next.fetch_add(1, Ordering::Relaxed);
            if share >= n_shares {
                return;
            }
            work(share);
        }
    }

    /// Shares of `n_items` pieces of work.
    pub(super) fn n_shares(&self, n_items: usize) -> usize {
        match self.nth {
            1 => n_items.min(1),
            nth => n_items.min(nth * SHARES),
        }
    }
}
