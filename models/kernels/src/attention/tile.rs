//! Attention of a tile: pairs of (row, head) that read the same cells of the cache.
//!
//! Everything is inlined into one function for each instruction set (see `Lanes`).
#![allow(unsafe_op_in_unsafe_fn)] // Pointer arithmetic in work memory: the contract is `compute`'s.

use std::ops::Range;
use std::slice;

use super::lanes::Lanes;
use super::source::{self, Source};
use super::split::{self, Piece, Seen};
use super::{Attention, Cells, HIDDEN, scalar};
use crate::WeightType;

/// Cells whose weights and values are worked on together.
const BLOCK: usize = 64;
/// How many cells ahead of their use vectors are asked for, where they are read in turn.
const AHEAD: usize = 32;
/// Floats of the widest vector; what is padded is padded for it, whatever the instruction set.
const WIDEST: usize = 16;
/// Floats of the narrowest vector.
const NARROWEST: usize = 4;

/// Where things lie in the work memory of a part.
pub(super) struct Work {
    /// Of each pair: its query, `k_len` floats.
    queries: *mut f32,
    k_len: usize,
    /// Of each pair: its result, `v_len` floats, not yet divided.
    sums: *mut f32,
    v_len: usize,
    /// Of each pair: scores, later weights of the listed cells, `stride` floats.
    scores: *mut f32,
    stride: usize,
    /// Of each pair: what the mask is multiplied with.
    slopes: *mut f32,
    /// Of each pair: the greatest score in each lane.
    max: *mut f32,
    /// Of each pair: the sum of weights in each pair of lanes.
    totals: *mut u64,
    /// Keys of a vector's worth of cells: as they are multiplied, and (where rows do not divide) in floats.
    keys: *mut f32,
    key_floats: *mut f32,
    /// Values of a block of cells.
    values: *mut f32,
    /// Of each row: the mask of a vector's worth of cells.
    mask: *mut f32,
    /// The cells that the tile reads; the last one is repeated.
    cells: *mut u32,
    /// Of each row: which cells it sees; then those that any of them sees.
    seen: *mut u64,
    n_words: usize,
    /// Of each vector's worth of listed cells: which rows see one of them, a bit for each row.
    seers: *mut u64,
    most_pairs: usize,
}

impl Work {
    pub(super) fn bytes(attention: &Attention<'_>) -> usize {
        Self::at(attention, std::ptr::null_mut()).1
    }

    fn at(attention: &Attention<'_>, start: *mut u8) -> (Self, usize) {
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

fn rows_of(pairs: &Range<usize>, group: usize) -> Range<usize> {
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
struct Group {
    first: usize,
    n: usize,
    pair: usize,
}

struct Tile<'a> {
    attention: &'a Attention<'a>,
    work: &'a Work,
    seen: Seen<'a>,
    kv_heads: Range<usize>,
    /// The pairs of each of the heads of the cache. Number `i` in the work memory is pair
    /// `pairs.start + i` of the first of them; the next one's follow.
    pairs: Range<usize>,
    /// The cells that it reads, in order, and the last one again and again.
    cells: &'a [u32],
    n_cells: usize,
    ascending: bool,
    /// Bytes of a key and of a value.
    key_bytes: usize,
    value_bytes: usize,
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
                    self.ask_for_keys::<L>(kv_head, &self.cells[soon]);
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

    fn first_row(&self) -> usize {
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
    fn rows_of_group(&self, group: Group) -> u64 {
        let rows = rows_of(&(group.pair..group.pair + group.n), self.attention.group());
        ((1 << rows.len()) - 1) << (rows.start - self.first_row())
    }

    /// The pairs of a head of the cache in groups, as even as can be.
    #[inline(always)]
    fn groups<L: Lanes>(&self, kv_head: usize) -> impl Iterator<Item = Group> + use<L> {
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

    /// Prepares the keys of the `N` cells from number `first` on: for each four values of `d` four
    /// vectors; vector `i` holds them for cells `i`, `i + 4`, `i + 8` and so on.
    #[inline(always)]
    unsafe fn pack_keys<L: Lanes>(&self, kv_head: usize, first: usize) {
        let (k, work) = (&self.attention.k, self.work);
        let mut vectors = [std::ptr::null(); WIDEST];
        for (vector, &cell) in vectors[..L::N].iter_mut().zip(&self.cells[first..]) {
            *vector = k.vector(kv_head, cell as usize);
        }
        if k.len.is_multiple_of(L::N) {
            match k.kind {
                WeightType::F16 => pack::<L, source::F16>(&vectors, k.len, work.keys),
                WeightType::Bf16 => pack::<L, source::Bf16>(&vectors, k.len, work.keys),
                WeightType::F32 => pack::<L, source::F32>(&vectors, k.len, work.keys),
                _ => pack::<L, source::Q8_0>(&vectors, k.len, work.keys),
            }
            return;
        }
        for (i, vector) in vectors[..L::N].iter_mut().enumerate() {
            let floats = work.key_floats.add(i * work.k_len);
            read_padded(k, *vector, slice::from_raw_parts_mut(floats, work.k_len));
            *vector = floats.cast();
        }
        pack::<L, source::Panel>(&vectors, k.len.next_multiple_of(L::N), work.keys);
    }

    #[inline(always)]
    unsafe fn ask_for_keys<L: Lanes>(&self, kv_head: usize, cells: &[u32]) {
        for &cell in cells {
            let vector = self.attention.k.vector(kv_head, cell as usize);
            for line in (0..self.key_bytes).step_by(64) {
                L::prefetch(vector.wrapping_add(line));
            }
        }
    }

    /// Reads the mask of the tile's rows for the `N` cells from number `first` on; returns a bit for
    /// each row that sees one of them.
    #[inline(always)]
    unsafe fn read_mask<L: Lanes>(&self, first: usize) -> u64 {
        let cells = &self.cells[first..first + L::N];
        let n = (self.n_cells - first).min(L::N);
        let in_a_row = self.ascending && n == L::N && cells[L::N - 1] - cells[0] == L::N as u32 - 1;
        let has_mask = !self.attention.mask.is_null();
        let mut seers = 0;
        for (i, row) in rows_of(&self.pairs, self.attention.group()).enumerate() {
            let mask = self.work.mask.add(i * WIDEST);
            let seen = if in_a_row && has_mask {
                L::load_f16(self.attention.mask_row(row).add(cells[0] as usize)).store(mask);
                self.seen.any(row, cells[0] as usize, L::N)
            } else {
                let mut halves = [HIDDEN; WIDEST];
                for (half, &cell) in halves[..n].iter_mut().zip(cells) {
                    *half = if has_mask {
                        *self.attention.mask_row(row).add(cell as usize)
                    } else {
                        0
                    };
                }
                L::load_f16(halves.as_ptr()).store(mask);
                halves.iter().any(|&half| half != HIDDEN)
            };
            seers |= u64::from(seen) << i;
        }
        seers
    }

    /// The scores of a group for the `N` cells from number `first` on; `seers`
    /// are the rows that see one.
    #[inline(always)]
    unsafe fn score_group<L: Lanes>(&self, group: Group, first: usize, seers: u64) {
        if seers & self.rows_of_group(group) == 0 {
            for i in group.first..group.first + group.n {
                let scores = self.work.scores.add(i * self.work.stride + first);
                L::splat(f32::NEG_INFINITY).store(scores);
            }
            return;
        }
        match group.n {
            1 => self.score::<L, 1>(group, first),
            2 => self.score::<L, 2>(group, first),
            3 => self.score::<L, 3>(group, first),
            4 => self.score::<L, 4>(group, first),
            5 => self.score::<L, 5>(group, first),
            _ => self.score::<L, 6>(group, first),
        }
    }

    #[inline(always)]
    unsafe fn score<L: Lanes, const R: usize>(&self, group: Group, first: usize) {
        let (attention, work) = (self.attention, self.work);
        let queries = work.queries.add(group.first * work.k_len);
        let mut sums = [[L::splat(0.0); 4]; R];
        for d in (0..attention.k.len.next_multiple_of(L::N)).step_by(4) {
            let mut q = [L::splat(0.0); R];
            for (r, q) in q.iter_mut().enumerate() {
                *q = L::splat4(queries.add(r * work.k_len + d));
            }
            for i in 0..4 {
                let k = L::load(work.keys.add((d + i) * L::N));
                for (sums, q) in sums.iter_mut().zip(q) {
                    sums[i] = q.fma(k, sums[i]);
                }
            }
        }
        let scale = L::splat(attention.dot_scale());
        let (hidden, infinite) = (L::splat(f32::NEG_INFINITY), L::splat(f32::INFINITY));
        for (r, &sums) in sums.iter().enumerate() {
            let row = (group.pair + r) / attention.group();
            let mask = L::load(work.mask.add((row - self.first_row()) * WIDEST));
            let bias = mask.mul(L::splat(*work.slopes.add(group.first + r)));
            let dot = L::sum4(sums);
            let scaled = dot.fma(scale, bias);
            let score = if attention.softcap == 0.0 {
                scaled
            } else {
                dot.mul(scale).tanh().fma(L::splat(attention.softcap), bias)
            };
            let score = scaled.abs().lt(infinite, score, infinite);
            let score = hidden.lt(mask, score, hidden);
            score.store(work.scores.add((group.first + r) * work.stride + first));
            let max = work.max.add((group.first + r) * WIDEST);
            L::load(max).max(score).store(max);
        }
    }

    /// Turns the scores of a group for `n` cells from number `first` on into weights.
    #[inline(always)]
    unsafe fn weigh<L: Lanes>(&self, group: Group, first: usize, n: usize, max: &[f32]) {
        for i in group.first..group.first + group.n {
            let scores = self.work.scores.add(i * self.work.stride + first);
            let totals = self.work.totals.add(i * WIDEST / 2);
            // Where there is no finite maximum, weights are not used.
            let max = L::splat(if max[i].is_finite() { max[i] } else { 0.0 });
            for j in (0..n).step_by(L::N) {
                let weight = L::load(scores.add(j)).sub(max).exp();
                weight.store(scores.add(j));
                weight.add_fixed(totals);
            }
        }
    }

    /// Adds the values of a block of cells, times their weights, to the sums of a head's pairs.
    #[inline(always)]
    unsafe fn add_values<L: Lanes>(&self, kv_head: usize, first: usize, max: &[f32]) {
        let (v, work) = (&self.attention.v, self.work);
        let n = (self.n_cells - first).min(BLOCK);
        let mut vectors = [std::ptr::null(); 2 * BLOCK];
        for (vector, &cell) in vectors.iter_mut().zip(&self.cells[first..]) {
            *vector = v.vector(kv_head, cell as usize);
        }
        let divides = v.len.is_multiple_of(L::N);
        let few = self.pairs.len() <= L::ROWS;
        match v.kind {
            WeightType::F16 if divides && few => {
                self.add_from::<L, source::F16>(kv_head, &vectors, n, first, max);
            }
            WeightType::F32 if divides => {
                self.add_from::<L, source::F32>(kv_head, &vectors, n, first, max);
            }
            _ => {
                for (i, place) in vectors[..n].iter_mut().enumerate() {
                    let floats = work.values.add(i * work.v_len);
                    let vector = *place;
                    match v.kind {
                        _ if !divides => {
                            let floats = slice::from_raw_parts_mut(floats, work.v_len);
                            read_padded(v, vector, floats);
                        }
                        WeightType::F16 => unpack::<L, source::F16>(vector, v.len, floats),
                        WeightType::Bf16 => unpack::<L, source::Bf16>(vector, v.len, floats),
                        _ => unpack::<L, source::Q8_0>(vector, v.len, floats),
                    }
                    *place = floats.cast();
                }
                self.add_from::<L, source::Panel>(kv_head, &vectors, n, first, max);
            }
        }
    }

    #[inline(always)]
    unsafe fn add_from<L: Lanes, S: Source>(
        &self,
        kv_head: usize,
        vectors: &[*const u8; 2 * BLOCK],
        n: usize,
        first: usize,
        max: &[f32],
    ) {
        let len = self.attention.v.len.next_multiple_of(L::N);
        for (i, group) in self.groups::<L>(kv_head).enumerate() {
            let rows = self.rows_of_group(group);
            let seen = |i: &usize| *self.work.seers.add((first + i) / L::N) & rows != 0;
            let Some(start) = (0..n).step_by(L::N).find(seen) else {
                continue;
            };
            let end = (0..n)
                .step_by(L::N)
                .rfind(seen)
                .map_or(n, |i| n.min(i + L::N));
            let (vectors, first) = (&vectors[start..end + BLOCK], first + start);
            self.weigh::<L>(group, first, end - start, max);
            let line = i * len.div_ceil(4 * L::N);
            match group.n {
                1 => self.add_rows::<L, S, 1>(vectors, first, group.first, line),
                2 => self.add_rows::<L, S, 2>(vectors, first, group.first, line),
                3 => self.add_rows::<L, S, 3>(vectors, first, group.first, line),
                4 => self.add_rows::<L, S, 4>(vectors, first, group.first, line),
                5 => self.add_rows::<L, S, 5>(vectors, first, group.first, line),
                _ => self.add_rows::<L, S, 6>(vectors, first, group.first, line),
            }
        }
    }

    #[inline(always)]
    unsafe fn add_rows<L: Lanes, S: Source, const R: usize>(
        &self,
        vectors: &[*const u8],
        first: usize,
        pair: usize,
        mut line: usize,
    ) {
        let len = self.attention.v.len.next_multiple_of(L::N);
        let mut d = 0;
        while d < len {
            let left = (len - d) / L::N;
            d += L::N
                * if left >= 8 && 2 * R <= L::ROWS {
                    self.add_vectors::<L, S, R, 8>(vectors, first, pair, d, line)
                } else if left >= 4 {
                    self.add_vectors::<L, S, R, 4>(vectors, first, pair, d, line)
                } else if left >= 2 {
                    self.add_vectors::<L, S, R, 2>(vectors, first, pair, d, line)
                } else {
                    self.add_vectors::<L, S, R, 1>(vectors, first, pair, d, line)
                };
            line += 1;
        }
    }

    /// For `R` pairs from number `pair` on, `D` vectors of their sums from value `d` on. Meanwhile asks
    /// for what will be read next: where vectors were converted, for line `line` of the next block's.
    #[inline(always)]
    unsafe fn add_vectors<L: Lanes, S: Source, const R: usize, const D: usize>(
        &self,
        vectors: &[*const u8],
        first: usize,
        pair: usize,
        d: usize,
        line: usize,
    ) -> usize {
        let line = if S::BYTES_OF_64 == 0 {
            64 * line
        } else {
            usize::MAX
        };
        let work = self.work;
        let weights = work.scores.add(pair * work.stride + first);
        let place = |r: usize, i: usize| work.sums.add((pair + r) * work.v_len + d + i * L::N);
        let mut sums = [[L::splat(0.0); D]; R];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum = L::load(place(r, i));
            }
        }
        for (cell, vector) in vectors[..vectors.len() - BLOCK].iter().enumerate() {
            if line < self.value_bytes {
                L::prefetch(vectors[cell + BLOCK].wrapping_add(line));
            }
            if S::BYTES_OF_64 > 0 {
                let ahead = vectors[cell + AHEAD].wrapping_add(d * S::BYTES_OF_64 / 64);
                for line in (0..D * L::N * S::BYTES_OF_64 / 64).step_by(64) {
                    L::prefetch(ahead.wrapping_add(line));
                }
            }
            let mut weight = [L::splat(0.0); R];
            for (r, weight) in weight.iter_mut().enumerate() {
                *weight = L::splat(*weights.add(r * work.stride + cell));
            }
            for i in 0..D {
                let v = S::load::<L>(*vector, d + i * L::N);
                for (sums, weight) in sums.iter_mut().zip(weight) {
                    sums[i] = weight.fma(v, sums[i]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (i, sum) in sums.iter().enumerate() {
                sum.store(place(r, i));
            }
        }
        D
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
unsafe fn read_padded(cells: &Cells, vector: *const u8, floats: &mut [f32]) {
    let (values, padding) = floats.split_at_mut(cells.len);
    scalar::read(cells, vector, values);
    padding.fill(0.0);
}

/// Packs the keys of `N` cells.
#[inline(always)]
unsafe fn pack<L: Lanes, S: Source>(vectors: &[*const u8; WIDEST], len: usize, keys: *mut f32) {
    for d in (0..len).step_by(L::N) {
        for i in 0..4 {
            let mut parts = [L::splat(0.0); 4];
            for j in 0..L::N / 4 {
                parts[j] = S::load::<L>(vectors[i + 4 * j], d);
            }
            let parts = L::transpose(parts);
            for (j, part) in parts[..L::N / 4].iter().enumerate() {
                part.store(keys.add((d + 4 * j + i) * L::N));
            }
        }
    }
}

/// The values of a cell as floats.
#[inline(always)]
unsafe fn unpack<L: Lanes, S: Source>(vector: *const u8, len: usize, floats: *mut f32) {
    for d in (0..len).step_by(L::N) {
        S::load::<L>(vector, d).store(floats.add(d));
    }
}
