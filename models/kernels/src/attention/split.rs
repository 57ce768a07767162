//! Which pairs of (row, head) a thread takes, which of them share a tile, and which cells a tile reads.

use std::ops::Range;

use super::Attention;

/// Pairs of a tile at most: the more, the less it costs to read a cell.
const MOST_PAIRS: usize = 48;

/// Scores of a tile at most, as long as it has [`FEWEST_PAIRS`]: they should stay near the core.
const MOST_SCORES: usize = 512 * 1024;
const FEWEST_PAIRS: usize = 12;

/// What it costs to read and convert a cell, in costs of one pair's work on it.
const READING: usize = 4;

/// Pairs of a tile at most.
pub(super) fn most_pairs(attention: &Attention<'_>) -> usize {
    let near = MOST_SCORES / attention.n_cells.max(1);
    let near = near.clamp(FEWEST_PAIRS, MOST_PAIRS);
    near.min(attention.n_rows * attention.n_heads).max(1)
}

/// Some heads of the cache, and of each of them the same pairs: numbered by row, then by head.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) kv_heads: Range<usize>,
    pub(super) pairs: Range<usize>,
}

/// What part `part` takes.
///
/// A step of few rows reads several heads of the cache at once, as they lie side by side. Otherwise
/// each head's pairs are cut into the number of pieces for which the busiest part has least to do.
/// Pieces are dealt to and fro: later rows see more cells.
pub(super) fn pieces(
    attention: &Attention<'_>,
    part: usize,
    n_parts: usize,
) -> impl Iterator<Item = Piece> {
    let (n_kv_heads, pairs) = (attention.n_kv_heads, attention.n_rows * attention.group());
    let most = most_pairs(attention);
    let at_once = (most / pairs.max(1)).min(n_kv_heads / n_parts).max(1);
    let bundles = n_kv_heads
        .div_ceil(at_once)
        .next_multiple_of(if at_once > 1 { n_parts } else { 1 });
    let fewest = pairs.div_ceil(most);
    let busiest = |n: usize| (bundles * n).div_ceil(n_parts) * (READING + pairs.div_ceil(n.max(1)));
    let n = (fewest..=pairs.min(fewest + 2 * n_parts))
        .min_by_key(|&n| busiest(n))
        .filter(|_| at_once == 1)
        .unwrap_or(fewest);
    (0..bundles * n)
        .filter(move |piece| {
            let (round, place) = (piece / n_parts, piece % n_parts);
            part == if round % 2 == 0 {
                place
            } else {
                n_parts - 1 - place
            }
        })
        .map(move |piece| {
            let (bundle, i) = (piece / n, piece % n);
            Piece {
                kv_heads: n_kv_heads * bundle / bundles..n_kv_heads * (bundle + 1) / bundles,
                pairs: pairs * i / n..pairs * (i + 1) / n,
            }
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
