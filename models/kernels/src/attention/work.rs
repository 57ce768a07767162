//! The work memory of a part.

use super::{Attention, split};

/// Cells whose weights and values are worked on together.
pub(super) const BLOCK: usize = 64;
/// How many cells ahead of their use vectors are asked for, where they are read in turn.
pub(super) const AHEAD: usize = 32;
/// Floats of the widest vector; what is padded is padded for it, whatever the instruction set.
pub(super) const WIDEST: usize = 16;
/// Floats of the narrowest vector.
const NARROWEST: usize = 4;

/// Where things lie in the work memory of a part.
pub(super) struct Work {
    /// Of each pair: its query, `k_len` floats.
    pub(super) queries: *mut f32,
    pub(super) k_len: usize,
    /// Of each pair: its result, `v_len` floats, not yet divided.
    pub(super) sums: *mut f32,
    pub(super) v_len: usize,
    /// Of each pair: scores, later weights of the listed cells, `stride` floats.
    pub(super) scores: *mut f32,
    pub(super) stride: usize,
    /// Of each pair: what the mask is multiplied with.
    pub(super) slopes: *mut f32,
    /// Of each pair: the greatest score in each lane.
    pub(super) max: *mut f32,
    /// Of each pair: the sum of weights in each pair of lanes.
    pub(super) totals: *mut u64,
    /// Keys of a vector's worth of cells: as they are multiplied, and (where rows do not divide) in floats.
    pub(super) keys: *mut f32,
    pub(super) key_floats: *mut f32,
    /// Values of a block of cells.
    pub(super) values: *mut f32,
    /// Of each row: the mask of a vector's worth of cells.
    pub(super) mask: *mut f32,
    /// The cells that the tile reads; the last one is repeated.
    pub(super) cells: *mut u32,
    /// Of each row: which cells it sees; then those that any of them sees.
    pub(super) seen: *mut u64,
    pub(super) n_words: usize,
    /// Of each vector's worth of listed cells: which rows see one of them, a bit for each row.
    pub(super) seers: *mut u64,
    pub(super) most_pairs: usize,
}

impl Work {
    pub(super) fn bytes(attention: &Attention<'_>) -> usize {
        Self::at(attention, std::ptr::null_mut()).1
    }

    pub(super) fn at(attention: &Attention<'_>, start: *mut u8) -> (Self, usize) {
        let most_pairs = split::most_pairs(attention);
        let k_len = attention.k.len.next_multiple_of(WIDEST);
        let v_len = attention.v.len.next_multiple_of(WIDEST);
        let n_words = attention.n_cells.div_ceil(64);
        // A row more than a power of two, so that rows do not share their places in a cache.
        let stride = attention.n_cells.next_multiple_of(BLOCK) + WIDEST;
        let mut used = 0;
        let mut take = |bytes: usize| {
            let place = start.wrapping_add(used);
            used += bytes.next_multiple_of(64);
            place
        };
        let work = Self {
            queries: take(4 * most_pairs * k_len).cast(),
            k_len,
            sums: take(4 * most_pairs * v_len).cast(),
            v_len,
            scores: take(4 * most_pairs * stride).cast(),
            stride,
            slopes: take(4 * most_pairs).cast(),
            max: take(4 * most_pairs * WIDEST).cast(),
            totals: take(4 * most_pairs * WIDEST).cast(),
            keys: take(4 * WIDEST * k_len).cast(),
            key_floats: take(4 * WIDEST * k_len).cast(),
            values: take(4 * BLOCK * v_len).cast(),
            mask: take(4 * most_pairs * WIDEST).cast(),
            cells: take(4 * (attention.n_cells + 2 * BLOCK)).cast(),
            seen: take(8 * (most_pairs + 1) * n_words).cast(),
            n_words,
            seers: take(8 * attention.n_cells.div_ceil(NARROWEST)).cast(),
            most_pairs,
        };
        (work, used)
    }
}
