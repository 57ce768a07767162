//! The sums of a tile: values times weights.
#![allow(unsafe_op_in_unsafe_fn)] // Pointer arithmetic in work memory: the contract is `compute`'s.

use std::slice;

use super::lanes::Lanes;
use super::source::{self, Source};
use super::tile::{Group, Tile, read_padded};
use super::work::{AHEAD, BLOCK, WIDEST};
use crate::WeightType;
use crate::prefetch::prefetch;

impl Tile<'_> {
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
    pub(super) unsafe fn add_values<L: Lanes>(&self, kv_head: usize, first: usize, max: &[f32]) {
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
                prefetch(vectors[cell + BLOCK].wrapping_add(line), true);
            }
            if S::BYTES_OF_64 > 0 {
                let ahead = vectors[cell + AHEAD].wrapping_add(d * S::BYTES_OF_64 / 64);
                for line in (0..D * L::N * S::BYTES_OF_64 / 64).step_by(64) {
                    prefetch(ahead.wrapping_add(line), true);
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
}

/// The values of a cell as floats.
#[inline(always)]
unsafe fn unpack<L: Lanes, S: Source>(vector: *const u8, len: usize, floats: *mut f32) {
    for d in (0..len).step_by(L::N) {
        S::load::<L>(vector, d).store(floats.add(d));
    }
}
