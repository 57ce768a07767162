//! From ggml's blocks to the packed form.

use crate::forms::{Form, Scales, UNIT};
use crate::{GROUP, Shape, WeightType, packed_bytes};

/// Packs a matrix as it stands in a GGUF file (rows of blocks, ggml-common.h) into the kernels' layout.
///
/// # Panics
/// Where the kernels do not take the matrix, or a slice has another length than [`WeightType::row_bytes`]
/// times the rows, or [`packed_bytes`].
pub fn pack(weights: WeightType, shape: Shape, source: &[u8], packed: &mut [u8]) {
    let row_bytes = weights.row_bytes(shape.n_cols).unwrap_or(0);
    assert_eq!(
        Some(packed.len()),
        packed_bytes(weights, shape),
        "packed bytes of {shape:?}"
    );
    assert_eq!(
        source.len(),
        shape.n_rows * row_bytes,
        "bytes of {shape:?} in {}",
        weights.name()
    );
    let group_bytes = Form::of(weights).group_bytes(shape.n_cols);
    let rows = source.chunks(GROUP * row_bytes);
    for (source, group) in rows.zip(packed.chunks_exact_mut(group_bytes)) {
        if source.len() < GROUP * row_bytes {
            group.fill(0);
        }
        let rows = Rows { source, row_bytes };
        match weights {
            WeightType::F16 | WeightType::Bf16 => floats::<2>(rows, group),
            WeightType::F32 => floats::<4>(rows, group),
            WeightType::Q4_0 | WeightType::Iq4Nl => blocks(weights, rows, group, q4_0),
            WeightType::Q4_1 => blocks(weights, rows, group, q4_1),
            WeightType::Q5_0 => blocks(weights, rows, group, q5_0),
            WeightType::Q5_1 => blocks(weights, rows, group, q5_1),
            WeightType::Q8_0 => blocks(weights, rows, group, q8_0),
            WeightType::Mxfp4 => blocks(weights, rows, group, mxfp4),
            WeightType::Q4K => units(weights, rows, group, &[0, 2], q4_k),
            WeightType::Q5K => units(weights, rows, group, &[0, 2], q5_k),
            WeightType::Q6K => units(weights, rows, group, &[208], q6_k),
            WeightType::Iq4Xs => units(weights, rows, group, &[0], iq4_xs),
        }
    }
}

/// The rows of a group in the file, [`GROUP`] or fewer.
#[derive(Clone, Copy)]
struct Rows<'a> {
    source: &'a [u8],
    row_bytes: usize,
}

impl<'a> Rows<'a> {
    /// Block `b` of each row.
    #[inline(always)]
    fn blocks<const BYTES: usize>(
        self,
        b: usize,
    ) -> impl Iterator<Item = (usize, &'a [u8; BYTES])> {
        let blocks = self.source.chunks_exact(self.row_bytes);
        blocks
            .filter_map(move |row| row[b * BYTES..].first_chunk())
            .enumerate()
    }
}

/// A block of one row: a word for each line, and its scales (bytes or f16 bits).
struct Block<const LINES: usize> {
    words: [u32; LINES],
    scales: [u16; 2],
}

impl<const LINES: usize> Block<LINES> {
    /// Puts row `r`'s block into the lines and the scales of the group's.
    #[inline(always)]
    fn put(self, form: Form, r: usize, lines: &mut [[u32; GROUP]; LINES], scales: &mut [u8]) {
        for (line, word) in lines.iter_mut().zip(self.words) {
            line[r] = word.to_le();
        }
        let [first, second] = self.scales;
        match form.scales {
            Scales::None => {}
            Scales::F16 => put_u16(scales, r, first),
            Scales::F16Min => {
                put_u16(scales, r, first);
                put_u16(scales, GROUP + r, second);
            }
            Scales::E8m0 | Scales::Xs => scales[r] = first as u8,
            Scales::K | Scales::Halves => {
                scales[r] = first as u8;
                scales[GROUP + r] = second as u8;
            }
        }
    }
}

#[inline(always)]
fn put_u16(array: &mut [u8], i: usize, value: u16) {
    array[2 * i..2 * i + 2].copy_from_slice(&value.to_le_bytes());
}

/// Writes the lines of a block.
#[inline(always)]
fn put_lines<const LINES: usize>(lines: &[[u32; GROUP]; LINES], to: &mut [u8]) {
    for (words, line) in lines.iter().zip(to.chunks_exact_mut(64)) {
        for (word, bytes) in words.iter().zip(line.as_chunks_mut().0) {
            *bytes = word.to_ne_bytes();
        }
    }
}

/// Packs rows of blocks of 32 values.
#[inline(always)]
fn blocks<const BYTES: usize, const LINES: usize>(
    weights: WeightType,
    rows: Rows<'_>,
    group: &mut [u8],
    read: impl Fn(&[u8; BYTES]) -> Block<LINES>,
) {
    let form = Form::of(weights);
    let count = rows.row_bytes / BYTES;
    for (u, unit) in group.chunks_mut(form.unit_bytes()).enumerate() {
        let n = UNIT.min(count - u * UNIT);
        let (quants, scales) = unit.split_at_mut(n * form.quant_bytes());
        for b in 0..n {
            let scales = &mut scales[b * form.scale_bytes()..][..form.scale_bytes()];
            let mut lines = [[0; GROUP]; LINES];
            for (r, block) in rows.blocks(u * UNIT + b) {
                read(block).put(form, r, &mut lines, scales);
            }
            put_lines(&lines, &mut quants[b * form.quant_bytes()..]);
        }
    }
}

/// Packs rows of superblocks of 256 values, of which `read` takes one block. The head's f16 are at `heads`.
#[inline(always)]
fn units<const BYTES: usize, const LINES: usize>(
    weights: WeightType,
    rows: Rows<'_>,
    group: &mut [u8],
    heads: &[usize],
    read: impl Fn(&[u8; BYTES], usize) -> Block<LINES>,
) {
    let form = Form::of(weights);
    for (u, unit) in group.chunks_exact_mut(form.unit_bytes()).enumerate() {
        let (quants, scales) = unit.split_at_mut(UNIT * form.quant_bytes());
        let (scales, head) = scales.split_at_mut(UNIT * form.scale_bytes());
        head.fill(0);
        for (r, block) in rows.blocks::<BYTES>(u) {
            for (i, &at) in heads.iter().enumerate() {
                put_u16(head, i * GROUP + r, u16_at(block, at));
            }
        }
        let scales = scales.chunks_exact_mut(form.scale_bytes());
        let places = quants.chunks_exact_mut(form.quant_bytes()).zip(scales);
        for (b, (quants, scales)) in places.enumerate() {
            let mut lines = [[0; GROUP]; LINES];
            for (r, block) in rows.blocks(u) {
                read(block, b).put(form, r, &mut lines, scales);
            }
            put_lines(&lines, quants);
        }
    }
}

/// Packs rows of values of `BYTES` bytes.
fn floats<const BYTES: usize>(rows: Rows<'_>, group: &mut [u8]) {
    for (r, row) in rows.source.chunks_exact(rows.row_bytes).enumerate() {
        let (values, _) = row.as_chunks::<BYTES>();
        for (value, column) in values.iter().zip(group.chunks_exact_mut(GROUP * BYTES)) {
            column[BYTES * r..][..BYTES].copy_from_slice(value);
        }
    }
}

#[inline(always)]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

#[inline(always)]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Words of 4 bytes each from `at` on. A loop: of `array::from_fn` compilers leave a call for each word.
#[inline(always)]
fn words<const N: usize>(bytes: &[u8], at: usize) -> [u32; N] {
    let mut words = [0; N];
    let (fours, _) = bytes[at..at + 4 * N].as_chunks();
    for (word, four) in words.iter_mut().zip(fours) {
        *word = u32::from_le_bytes(*four);
    }
    words
}

/// The line of fifth bits from ggml's `qh`, whose bit `k` belongs to column `k`: bit `8 t + j` of the line
/// is bit `4 j + t`.
#[inline(always)]
fn fifth(qh: u32) -> u32 {
    (0..8).fold(0, |line, j| {
        let four = (qh >> (4 * j)) & 15;
        line | ((four.wrapping_mul(0x0020_4081) & 0x0101_0101) << j)
    })
}

#[inline(always)]
fn q4_0(b: &[u8; 18]) -> Block<4> {
    Block {
        words: words(b, 2),
        scales: [u16_at(b, 0), 0],
    }
}

#[inline(always)]
fn q4_1(b: &[u8; 20]) -> Block<4> {
    Block {
        words: words(b, 4),
        scales: [u16_at(b, 0), u16_at(b, 2)],
    }
}

#[inline(always)]
fn q5_0(b: &[u8; 22]) -> Block<5> {
    let [w0, w1, w2, w3] = words(b, 6);
    Block {
        words: [w0, w1, w2, w3, fifth(u32_at(b, 2))],
        scales: [u16_at(b, 0), 0],
    }
}

#[inline(always)]
fn q5_1(b: &[u8; 24]) -> Block<5> {
    let [w0, w1, w2, w3] = words(b, 8);
    Block {
        words: [w0, w1, w2, w3, fifth(u32_at(b, 4))],
        scales: [u16_at(b, 0), u16_at(b, 2)],
    }
}

#[inline(always)]
fn q8_0(b: &[u8; 34]) -> Block<8> {
    Block {
        words: words(b, 2),
        scales: [u16_at(b, 0), 0],
    }
}

#[inline(always)]
fn mxfp4(b: &[u8; 17]) -> Block<4> {
    Block {
        words: words(b, 1),
        scales: [u16::from(b[0]), 0],
    }
}

/// Nibbles of block `b` of a superblock of Q4_K and Q5_K, whose bytes hold two blocks: one in the low and
/// one in the high nibbles.
#[inline(always)]
fn k_nibbles(qs: &[u8], b: usize) -> [u32; 4] {
    let pair: [u32; 8] = words(qs, b / 2 * 32);
    let four = |word: u32| (word >> (4 * (b % 2))) & 0x0f0f_0f0f;
    core::array::from_fn(|j| four(pair[j]) | (four(pair[4 + j]) << 4))
}

/// The 6-bit scale and minimum of block `b` (ggml-quants.c, `get_scale_min_k4`).
#[inline(always)]
fn k_scales(q: &[u8], b: usize) -> [u16; 2] {
    let (scale, min) = if b < 4 {
        (q[b] & 63, q[b + 4] & 63)
    } else {
        (
            (q[b + 4] & 15) | ((q[b - 4] >> 6) << 4),
            (q[b + 4] >> 4) | ((q[b] >> 6) << 4),
        )
    };
    [u16::from(scale), u16::from(min)]
}

#[inline(always)]
fn q4_k(s: &[u8; 144], b: usize) -> Block<4> {
    Block {
        words: k_nibbles(&s[16..], b),
        scales: k_scales(&s[4..16], b),
    }
}

#[inline(always)]
fn q5_k(s: &[u8; 176], b: usize) -> Block<5> {
    let qh: [u32; 8] = words(s, 16);
    let [w0, w1, w2, w3] = k_nibbles(&s[48..], b);
    let bit = |j: usize| ((qh[j] >> b) & 0x0101_0101) << j;
    let fifth = (0..8).fold(0, |line, j| line | bit(j));
    Block {
        words: [w0, w1, w2, w3, fifth],
        scales: k_scales(&s[4..16], b),
    }
}

#[inline(always)]
fn q6_k(s: &[u8; 210], b: usize) -> Block<6> {
    // Four blocks share 64 bytes of nibbles and 32 bytes of upper bits.
    let (half, c) = (b / 4, b % 4);
    let low: [u32; 8] = words(s, 64 * half + 32 * (c % 2));
    let high: [u32; 8] = words(s, 128 + 32 * half);
    let four = |j: usize| (low[j] >> (4 * (c / 2))) & 0x0f0f_0f0f;
    let two = |j: usize| (high[j] >> (2 * c)) & 0x0303_0303;
    let top = |j: usize| two(j) | (two(j + 1) << 2) | (two(j + 2) << 4) | (two(j + 3) << 6);
    let nibbles = |j: usize| four(j) | (four(4 + j) << 4);
    Block {
        words: [
            nibbles(0),
            nibbles(1),
            nibbles(2),
            nibbles(3),
            top(0),
            top(4),
        ],
        scales: [u16::from(s[192 + 2 * b]), u16::from(s[193 + 2 * b])],
    }
}

#[inline(always)]
fn iq4_xs(s: &[u8; 136], b: usize) -> Block<4> {
    let high = u16_at(s, 2);
    let low = (s[4 + b / 2] >> (4 * (b % 2))) & 15;
    let scale = i32::from(low) + (i32::from((high >> (2 * b)) & 3) << 4) - 32;
    Block {
        words: words(s, 8 + 16 * b),
        scales: [scale as u16, 0],
    }
}
