//! Which pairs of (row, head) a thread takes, which of them share a tile, and which cells a tile reads.

use std::ops::Range;

use super::Attention;

/// Scores of a tile that should stay near the core; see [`most_pairs`].
const MOST_SCORES: usize = 192 * 1024;

/// What it costs to read and convert a cell, in costs of one pair's work on it.
const READING: usize = 4;

/// Pairs of a tile at most: the more, the less a cell costs, as long as their scores stay near.
pub(super) fn most_pairs(attention: &Attention<'_>) -> usize {
    let near = (MOST_SCORES / attention.n_cells.max(1)).clamp(12, 48);
    near.min(attention.n_rows * attention.group()).max(1)
}

/// The pairs of each head of the cache that part `part` takes.
///
/// Each head's pairs are cut into the number of pieces for which the busiest part has least to do.
/// Pieces are dealt to and fro: later rows see more cells.
pub(super) fn pieces(
    attention: &Attention<'_>,
    part: usize,
    n_parts: usize,
) -> impl Iterator<Item = (usize, Range<usize>)> {
    let (n_kv_heads, pairs) = (attention.n_kv_heads, attention.n_rows * attention.group());
    let fewest = pairs.div_ceil(most_pairs(attention));
    let busiest =
        |n: usize| (n_kv_heads * n).div_ceil(n_parts) * (READING + pairs.div_ceil(n.max(1)));
    let n = (fewest..=pairs.min(fewest + 2 * n_parts))
        .min_by_key(|&n| busiest(n))
        .unwrap_or(fewest);
    (0..n_kv_heads * n)
        .filter(move |piece| {
            let (round, place) = (piece / n_parts, piece % n_parts);
            part == if round % 2 == 0 {
                place
            } else {
                n_parts - 1 - place
            }
        })
        .map(move |piece| {
            let (kv_head, i) = (piece / n, piece % n);
            (kv_head, pairs * i / n..pairs * (i + 1) / n)
        })
}

/// For some rows, which cells each of them sees: a bit for each cell, `n_words` words for each row.
#[derive(Clone, Copy)]
pub(super) struct Seen<'a> {
    pub(super) bits: &'a [u64],
    pub(super) n_words: usize,
    pub(super) first_row: usize,
}

impl Seen<'_> {
    pub(super) fn row(&self, row: usize) -> &[u64] {
        let i = row - self.first_row;
        &self.bits[i * self.n_words..][..self.n_words]
    }

    /// Whether the row sees one of the `n` cells, at most 64, from `first` on.
    #[inline(always)]
    pub(super) fn any(&self, row: usize, first: usize, n: usize) -> bool {
        let (words, shift) = (self.row(row), first % 64);
        let mut bits = words[first / 64] >> shift;
        if shift + n > 64 {
            bits |= words.get(first / 64 + 1).map_or(0, |w| w << (64 - shift));
        }
        bits << (64 - n) != 0
    }

    /// The cells that at least one of the rows sees, in the order of `order`.
    ///
    /// Returns their number; `union` has `n_words`, `cells` at least as many words as there are cells.
    pub(super) fn list(
        &self,
        rows: Range<usize>,
        order: Option<&[u32]>,
        union: &mut [u64],
        cells: &mut [u32],
    ) -> usize {
        union.fill(0);
        for row in rows {
            for (union, bits) in union.iter_mut().zip(self.row(row)) {
                *union |= bits;
            }
        }
        let mut n = 0;
        if let Some(order) = order {
            for &cell in order {
                cells[n] = cell;
                n += (union[cell as usize / 64] >> (cell % 64) & 1) as usize;
            }
            return n;
        }
        for (first, &word) in (0..).step_by(64).zip(union.iter()) {
            if word == u64::MAX {
                for (cell, i) in cells[n..n + 64].iter_mut().zip(first..) {
                    *cell = i;
                }
                n += 64;
                continue;
            }
            let mut left = word;
            while left != 0 {
                cells[n] = first + left.trailing_zeros();
                n += 1;
                left &= left - 1;
            }
        }
        n
    }

    /// The row before which to cut the rows in two tiles, where two are cheaper than one: rows of
    /// other sequences see other cells.
    pub(super) fn cut(&self, rows: Range<usize>, group: usize) -> Option<usize> {
        let middle = rows.start + rows.len() / 2;
        let cost = |rows: Range<usize>| {
            let cells: u32 = (0..self.n_words)
                .map(|word| {
                    let union = rows.clone().fold(0, |bits, row| bits | self.row(row)[word]);
                    union.count_ones()
                })
                .sum();
            cells as usize * (READING + rows.len() * group)
        };
        let two = || cost(rows.start..middle) + cost(middle..rows.end);
        (rows.len() > 1 && two() < cost(rows.clone())).then_some(middle)
    }
}
