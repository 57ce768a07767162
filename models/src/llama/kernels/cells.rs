//! In which order the cells of a KV cache were written.
//!
//! llama.cpp puts rows into any free cells: later positions of a sequence may lie before earlier
//! ones, and after a fault the same tokens lie elsewhere. Sums over the cells of a row are therefore
//! taken in the order in which the cells were written, which within a sequence is that of positions.

use std::cell::Cell;
use std::ptr;

use jupiter_kernels::attention::order_of;
use llama_cpp_sys_2 as sys;

use super::count;

/// What is known of the KV caches of a context.
#[derive(Default)]
pub(crate) struct WrittenCells {
    caches: Vec<Cache>,
    /// Steps that were computed.
    n_steps: u64,
    /// Rows that were written.
    n_rows: u64,
}

/// A KV cache: the layers that share a buffer write the same cells.
struct Cache {
    /// Where its tensors lie (`ggml_tensor::buffer`).
    buffer: usize,
    /// For each cell the number of the row that lies there, counted through all steps; 0 for none.
    stamps: Vec<u64>,
    /// The step that has written last, and to which cells.
    last: (u64, Vec<i64>),
    /// The order of the first so many cells, until others are written.
    order: Option<(usize, Option<Vec<u32>>)>,
}

thread_local! {
    /// The cells of the context that computes a step on this thread. Thread 0 of every operation is
    /// the one that has called llama.cpp (ggml-cpu.c, `ggml_graph_compute`).
    static CURRENT: Cell<*mut WrittenCells> = const { Cell::new(ptr::null_mut()) };
}

/// Runs `decode`, a call of llama.cpp that computes a step of the context of `cells`.
pub(crate) fn decode_with<T>(cells: &mut WrittenCells, decode: impl FnOnce() -> T) -> T {
    cells.n_steps += 1;
    let before = CURRENT.replace(cells);
    let result = decode();
    CURRENT.set(before);
    result
}

/// Notes which cells the operation `op` (`GGML_OP_SET_ROWS`) writes. Keys and values of all layers go to
/// the same cells, so the first writing says it all.
///
/// # Safety
/// `op` is a live tensor, whose sources are computed.
pub(super) unsafe fn note_writing(op: &sys::ggml_tensor) {
    // SAFETY: by contract.
    let indices = unsafe { op.src[1].as_ref() };
    // SAFETY: set by `decode_with` for as long as the step is computed, on this thread only.
    let cells = unsafe { CURRENT.get().as_mut() };
    let (Some(cells), Some(indices)) = (cells, indices) else {
        return;
    };
    if indices.type_ == sys::GGML_TYPE_I64 && indices.nb[0] == size_of::<i64>() {
        // SAFETY: a contiguous tensor of so many i64.
        let indices =
            unsafe { std::slice::from_raw_parts(indices.data.cast::<i64>(), count(indices.ne[0])) };
        cells.note(op.buffer as usize, indices);
    }
}

/// The order of the first `n` cells of the cache that `keys` belong to, in the step that this thread
/// computes; none where they lie in that order.
pub(super) fn order(keys: &sys::ggml_tensor, n: usize) -> Option<&'static [u32]> {
    // SAFETY: see `note_writing`. The order stays until the next writing, which no operation of the step
    // does while another one reads it.
    let cells = unsafe { CURRENT.get().as_mut() }?;
    cells.order(keys.buffer as usize, n)
}

impl WrittenCells {
    fn note(&mut self, buffer: usize, indices: &[i64]) {
        let step = self.n_steps;
        let cache = match self.caches.iter().position(|cache| cache.buffer == buffer) {
            Some(at) => &mut self.caches[at],
            None => {
                self.caches.push(Cache {
                    buffer,
                    stamps: Vec::new(),
                    last: (0, Vec::new()),
                    order: None,
                });
                let last = self.caches.len() - 1;
                &mut self.caches[last]
            }
        };
        if cache.last.0 == step && cache.last.1 == indices {
            return;
        }
        cache.last = (step, indices.to_vec());
        cache.order = None;
        for index in indices.iter().map(|&index| count(index)) {
            self.n_rows += 1;
            if index >= cache.stamps.len() {
                cache.stamps.resize(index + 1, 0);
            }
            cache.stamps[index] = self.n_rows;
        }
    }

    fn order(&mut self, buffer: usize, n: usize) -> Option<&'static [u32]> {
        let cache = self
            .caches
            .iter_mut()
            .find(|cache| cache.buffer == buffer)?;
        if cache.order.as_ref().is_none_or(|(of, _)| *of != n) {
            let mut stamps = cache.stamps.clone();
            stamps.resize(n, 0);
            cache.order = Some((n, order_of(&stamps)));
        }
        let order = cache.order.as_ref()?.1.as_deref()?;
        // SAFETY: see the function `order`.
        Some(unsafe { std::slice::from_raw_parts(order.as_ptr(), order.len()) })
    }
}
