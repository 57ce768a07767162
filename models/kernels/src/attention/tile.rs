//! Attention of a tile: pairs of (row, head) that read the same cells of the cache.
//!
//! Everything is inlined into one function for each instruction set (see `Lanes`).
#![allow(unsafe_op_in_unsafe_fn)] // Pointer arithmetic in work memory: the contract is `compute`'s.

use std::ops::Range;
use std::slice;

use super::lanes::Lanes;
use super::split::{self, Piece, Seen};
use super::work::{AHEAD, BLOCK, WIDEST, Work};
use super::{Attention, Cells, HIDDEN, scalar};

/// # Safety
/// As for [`Attention::compute`]; inlined into a function with the features of `L`.
#[inline(always)]
pub(super) unsafe fn compute<L: Lanes>(
    attention: &Attention<'_>,
    part: usize,
    n_parts: usize,
    work: *mut u8,
) {
    let work = Work::at(attention, work).0;
    let group = attention.group();
    for Piece { kv_heads, pairs } in split::pieces(attention, part, n_parts) {
        let rows = rows_of(&pairs, group);
        let bits = slice::from_raw_parts_mut(work.seen, rows.len() * work.n_words);
        for row in rows.clone() {
            let bits = &mut bits[(row - rows.start) * work.n_words..][..work.n_words];
            see::<L>(attention, row, bits);
        }
        let seen = Seen {
            bits,
            n_words: work.n_words,
            first_row: rows.start,
        };
        // At most one tile is left over for each halving of the pairs.
        let mut left = [const { 0..0 }; 16];
        let mut n_left = 1;
        left[0] = pairs;
        while n_left > 0 {
            n_left -= 1;
            let pairs = left[n_left].clone();
            if let Some(row) = seen.cut(rows_of(&pairs, group), group) {
                left[n_left] = row * group..pairs.end;
                left[n_left + 1] = pairs.start..row * group;
                n_left += 2;
                continue;
            }
            let piece = Piece {
                kv_heads: kv_heads.clone(),
                pairs,
            };
            Tile::new(attention, &work, seen, piece).compute::<L>();
        }
    }
}

pub(super) fn rows_of(pairs: &Range<usize>, group: usize) -> Range<usize> {
    pairs.start / group..pairs.end.div_ceil(group)
}

/// Sets the bits of the cells that a row sees.
#[inline(always)]
unsafe fn see<L: Lanes>(attention: &Attention<'_>, row: usize, bits: &mut [u64]) {
    for (i, bits) in bits.iter_mut().enumerate() {
        let n = (attention.n_cells - 64 * i).min(64);
        let all = u64::MAX >> (64 - n);
        *bits = if attention.mask.is_null() {
            all
        } else if n == 64 {
            L::seen(attention.mask_row(row).add(64 * i))
        } else {
            let mask = slice::from_raw_parts(attention.mask_row(row).add(64 * i), n);
            (0..n).fold(0, |bits, j| bits | u64::from(mask[j] != HIDDEN) << j)
        };
    }
}

/// Pairs of a head of the cache that share registers: `n` from number `first` on; that one is `pair`.
#[derive(Clone, Copy)]
pub(super) struct Group {
    pub(super) first: usize,
    pub(super) n: usize,
    pub(super) pair: usize,
}

pub(super) struct Tile<'a> {
    pub(super) attention: &'a Attention<'a>,
    pub(super) work: &'a Work,
    pub(super) seen: Seen<'a>,
    pub(super) kv_heads: Range<usize>,
    /// The pairs of each of the heads of the cache. Number `i` in the work memory is pair
    /// `pairs.start + i` of the first of them; the next one's follow.
    pub(super) pairs: Range<usize>,
    /// The cells that it reads, in order, and the last one again and again.
    pub(super) cells: &'a [u32],
    pub(super) n_cells: usize,
    pub(super) ascending: bool,
    /// Bytes of a key and of a value.
    pub(super) key_bytes: usize,
    pub(super) value_bytes: usize,
}

impl<'a> Tile<'a> {
    #[inline(always)]
    unsafe fn new(
        attention: &'a Attention<'a>,
        work: &'a Work,
        seen: Seen<'a>,
        Piece { kv_heads, pairs }: Piece,
    ) -> Self {
        let cells = slice::from_raw_parts_mut(work.cells, attention.n_cells + 2 * BLOCK);
        let union = work.seen.add(work.most_pairs * work.n_words);
        let union = slice::from_raw_parts_mut(union, work.n_words);
        let rows = rows_of(&pairs, attention.group());
        let n_cells = seen.list(rows, attention.order, union, cells);
        let last = if n_cells == 0 { 0 } else { cells[n_cells - 1] };
        cells[n_cells..].fill(last);
        Self {
            attention,
            work,
            seen,
            kv_heads,
            pairs,
            cells,
            n_cells,
            key_bytes: attention.k.bytes(),
            value_bytes: attention.v.bytes(),
            ascending: attention.order.is_none() || cells[..n_cells].is_sorted(),
        }
    }

    #[inline(always)]
    unsafe fn compute<L: Lanes>(&self) {
        let (attention, work) = (self.attention, self.work);
        for (i, (row, head)) in self.rows_and_heads() {
            let query = slice::from_raw_parts_mut(work.queries.add(i * work.k_len), work.k_len);
            let (values, padding) = query.split_at_mut(attention.k.len);
            values.copy_from_slice(slice::from_raw_parts(
                attention.query(row, head),
                values.len(),
            ));
            padding.fill(0.0);
            *work.slopes.add(i) = attention.slope(head);
            L::splat(f32::NEG_INFINITY).store(work.max.add(i * WIDEST));
            slice::from_raw_parts_mut(work.totals.add(i * WIDEST / 2), WIDEST / 2).fill(0);
            slice::from_raw_parts_mut(work.sums.add(i * work.v_len), work.v_len).fill(0.0);
        }
        for first in (0..self.n_cells).step_by(L::N) {
            let seers = self.read_mask::<L>(first);
            *work.seers.add(first / L::N) = seers;
            for kv_head in self.kv_heads.clone() {
                self.pack_keys::<L>(kv_head, first);
                let n = self.pairs.len().div_ceil(L::ROWS);
                for (i, group) in self.groups::<L>(kv_head).enumerate() {
                    // Asking for few lines at a time, the core need not wait for them.
                    let soon = first + AHEAD + L::N * i / n..first + AHEAD + L::N * (i + 1) / n;
                    self.ask_for_keys(kv_head, &self.cells[soon]);
                    self.score_group::<L>(group, first, seers);
                }
            }
        }
        let mut max = [0.0f32; 64];
        for (i, (_, head)) in self.rows_and_heads() {
            let lanes = slice::from_raw_parts(work.max.add(i * WIDEST), L::N);
            let sink = attention.sinks.map_or(f32::NEG_INFINITY, |s| s[head]);
            max[i] = lanes.iter().copied().fold(sink, f32::max);
        }
        for first in (0..self.n_cells).step_by(BLOCK) {
            for kv_head in self.kv_heads.clone() {
                self.add_values::<L>(kv_head, first, &max);
            }
        }
        for (i, (row, head)) in self.rows_and_heads() {
            self.finish::<L>(i, row, head, max[i]);
        }
    }

    pub(super) fn first_row(&self) -> usize {
        self.pairs.start / self.attention.group()
    }

    /// Number, row and query head of all pairs.
    fn rows_and_heads(&self) -> impl Iterator<Item = (usize, (usize, usize))> {
        let pairs = |kv_head| self.pairs.clone().map(move |pair| (kv_head, pair));
        let all = self.kv_heads.clone().flat_map(pairs);
        all.map(|(kv_head, pair)| self.attention.row_and_head(kv_head, pair))
            .enumerate()
    }

    /// A bit for each row of the tile that has a pair in the group.
    pub(super) fn rows_of_group(&self, group: Group) -> u64 {
        let rows = rows_of(&(group.pair..group.pair + group.n), self.attention.group());
        ((1 << rows.len()) - 1) << (rows.start - self.first_row())
    }

    /// The pairs of a head of the cache in groups, as even as can be.
    #[inline(always)]
    pub(super) fn groups<L: Lanes>(&self, kv_head: usize) -> impl Iterator<Item = Group> + use<L> {
        let (n_pairs, first_pair) = (self.pairs.len(), self.pairs.start);
        let first = (kv_head - self.kv_heads.start) * n_pairs;
        let n = n_pairs.div_ceil(L::ROWS);
        (0..n).map(move |i| {
            let (start, end) = (n_pairs * i / n, n_pairs * (i + 1) / n);
            Group {
                first: first + start,
                n: end - start,
                pair: first_pair + start,
            }
        })
    }

    /// Writes the result of the pair with number `i`.
    #[inline(always)]
    unsafe fn finish<L: Lanes>(&self, i: usize, row: usize, head: usize, max: f32) {
        let (attention, work) = (self.attention, self.work);
        let v = &attention.v;
        let result = slice::from_raw_parts_mut(attention.result(row, head), v.len);
        let sink = attention.sinks.map(|s| s[head]);
        if max == f32::INFINITY || sink.is_some_and(f32::is_nan) {
            result.fill(f32::NAN);
            return;
        }
        if max == f32::NEG_INFINITY {
            result.fill(0.0);
            return;
        }
        result.copy_from_slice(slice::from_raw_parts(work.sums.add(i * work.v_len), v.len));
        if result.iter().any(|value| value.is_nan()) {
            self.add_carefully(i, head / attention.group(), result);
        }
        let totals = slice::from_raw_parts(work.totals.add(i * WIDEST / 2), L::N / 2);
        scalar::finish(totals.iter().sum(), sink, max, result);
    }

    /// Adds the values up again, without those whose weight is 0: 0 times inf may have done harm.
    /// Cells that the pair's whole group does not see still have their score of -inf.
    #[cold]
    #[inline(never)]
    unsafe fn add_carefully(&self, i: usize, kv_head: usize, result: &mut [f32]) {
        let (v, work) = (&self.attention.v, self.work);
        let buffer = slice::from_raw_parts_mut(work.values, v.len);
        let weights = slice::from_raw_parts(work.scores.add(i * work.stride), self.n_cells);
        result.fill(0.0);
        for (&cell, &weight) in self.cells.iter().zip(weights) {
            if weight > 0.0 {
                scalar::add(v, v.vector(kv_head, cell as usize), weight, buffer, result);
            }
        }
    }
}

/// The values of a cell's vector, and zeros behind them.
#[inline(never)]
pub(super) unsafe fn read_padded(cells: &Cells, vector: *const u8, floats: &mut [f32]) {
    let (values, padding) = floats.split_at_mut(cells.len);
    scalar::read(cells, vector, values);
    padding.fill(0.0);
}
