//! The scores of a tile: products of queries and keys.
#![allow(unsafe_op_in_unsafe_fn)] // Pointer arithmetic in work memory: the contract is `compute`'s.

use std::slice;

use super::HIDDEN;
use super::lanes::Lanes;
use super::source::{self, Source};
use super::tile::{Group, Tile, read_padded, rows_of};
use super::work::WIDEST;
use crate::WeightType;
use crate::prefetch::prefetch;

impl Tile<'_> {
    /// Prepares the keys of the `N` cells from number `first` on: for each four values of `d` four
    /// vectors; vector `i` holds them for cells `i`, `i + 4`, `i + 8` and so on.
    #[inline(always)]
    pub(super) unsafe fn pack_keys<L: Lanes>(&self, kv_head: usize, first: usize) {
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
    pub(super) unsafe fn ask_for_keys(&self, kv_head: usize, cells: &[u32]) {
        for &cell in cells {
            let vector = self.attention.k.vector(kv_head, cell as usize);
            for line in (0..self.key_bytes).step_by(64) {
                prefetch(vector.wrapping_add(line), true);
            }
        }
    }

    /// Reads the mask of the tile's rows for the `N` cells from number `first` on; returns a bit for
    /// each row that sees one of them.
    #[inline(always)]
    pub(super) unsafe fn read_mask<L: Lanes>(&self, first: usize) -> u64 {
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

    /// The scores of a group for the `N` cells from number `first` on; `seers` are the
    /// rows that see one.
    #[inline(always)]
    pub(super) unsafe fn score_group<L: Lanes>(&self, group: Group, first: usize, seers: u64) {
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
