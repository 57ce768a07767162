//! Attentions of random numbers.

use half::{bf16, f16};

use crate::attention::*;

/// Random numbers (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// About normal.
    pub(super) fn normal(&mut self) -> f32 {
        (0..4)
            .map(|_| self.bits() as u32 as f32 / u32::MAX as f32 - 0.5)
            .sum::<f32>()
            * 1.7
    }

    /// Normal, or (where `odd`) now and then something that floats have besides.
    pub(super) fn value(&mut self, odd: bool) -> f32 {
        if odd && self.below(200) == 0 {
            let some = [
                0.0,
                -0.0,
                f32::INFINITY,
                f32::NAN,
                1e-7,
                -6e4,
                1e-40,
                -1e-30,
            ];
            return some[self.below(some.len())];
        }
        self.normal()
    }
}

/// What a row sees.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sight {
    All,
    Causal,
    Window(usize),
    /// Cells of this many sequences in turn, each row of one of them.
    Sequences(usize),
    Some,
    Biased,
}

#[derive(Clone)]
pub(super) struct Case {
    pub(super) n_rows: usize,
    pub(super) n_heads: usize,
    pub(super) n_kv_heads: usize,
    pub(super) n_cells: usize,
    pub(super) kinds: [WeightType; 2],
    pub(super) lens: [usize; 2],
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<u16>,
    pub(super) v: Vec<u16>,
    pub(super) mask: Option<Vec<u16>>,
    pub(super) max_bias: f32,
    pub(super) softcap: f32,
    pub(super) sinks: Option<Vec<f32>>,
    pub(super) order: Option<Vec<u32>>,
}

/// Without the values, which would be pages.
impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            n_rows,
            n_heads,
            n_kv_heads,
            n_cells,
            kinds,
            lens,
            ..
        } = self;
        write!(
            f,
            "rows {n_rows}, heads {n_heads}/{n_kv_heads}, cells {n_cells}, {kinds:?} {lens:?}"
        )
    }
}

/// A vector's values as a cache holds them; 16-bit units, which all types are whole numbers of.
pub(super) fn encode(kind: WeightType, values: &[f32]) -> Vec<u16> {
    match kind {
        WeightType::F16 => values.iter().map(|&x| f16::from_f32(x).to_bits()).collect(),
        WeightType::Bf16 => values
            .iter()
            .map(|&x| bf16::from_f32(x).to_bits())
            .collect(),
        WeightType::F32 => values
            .iter()
            .flat_map(|x| [x.to_bits() as u16, (x.to_bits() >> 16) as u16])
            .collect(),
        _ => values
            .chunks(32)
            .flat_map(|block| {
                let most = block.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                let scale = f16::from_f32(most / 127.0);
                let byte = |x: f32| (x / scale.to_f32()).clamp(-127.0, 127.0) as i8 as u8;
                let pair = |x: &[f32]| u16::from_le_bytes([byte(x[0]), byte(x[1])]);
                std::iter::once(scale.to_bits())
                    .chain(block.chunks(2).map(pair))
                    .collect::<Vec<_>>()
            })
            .collect(),
    }
}

impl Case {
    pub(super) fn new(
        random: &mut Random,
        [n_rows, n_kv_heads, group, n_cells]: [usize; 4],
        kinds: [WeightType; 2],
        lens: [usize; 2],
        sight: Sight,
        odd: bool,
    ) -> Self {
        let fit = |kind, len: usize| {
            if kind == WeightType::Q8_0 {
                len.next_multiple_of(32)
            } else {
                len
            }
        };
        let lens = [fit(kinds[0], lens[0]), fit(kinds[1], lens[1])];
        let mut cells = |i: usize| {
            (0..n_cells * n_kv_heads)
                .flat_map(|_| {
                    let values: Vec<f32> = (0..lens[i]).map(|_| random.value(odd)).collect();
                    encode(kinds[i], &values)
                })
                .collect()
        };
        let (k, v) = (cells(0), cells(1));
        let mut mask = vec![HIDDEN; n_rows * n_cells];
        for (i, mask) in mask.iter_mut().enumerate() {
            let (row, cell) = (i / n_cells, i % n_cells);
            let now = (n_cells + row).saturating_sub(n_rows);
            let sees = match sight {
                Sight::All => true,
                Sight::Causal => cell <= now,
                Sight::Window(n) => cell <= now && cell + n > now,
                Sight::Sequences(n) => cell <= now && cell % n == row % n,
                Sight::Some => random.below(3) == 0,
                Sight::Biased => random.below(4) > 0,
            };
            if sees {
                let bias = if matches!(sight, Sight::Biased) {
                    random.normal()
                } else {
                    0.0
                };
                *mask = f16::from_f32(bias).to_bits();
            }
        }
        Self {
            n_rows,
            n_heads: n_kv_heads * group,
            n_kv_heads,
            n_cells,
            kinds,
            lens,
            q: (0..n_rows * n_kv_heads * group * lens[0])
                .map(|_| random.value(odd))
                .collect(),
            k,
            v,
            mask: (!matches!(sight, Sight::All)).then_some(mask),
            max_bias: 0.0,
            softcap: 0.0,
            sinks: None,
            order: None,
        }
    }

    /// 16-bit units of a vector of K or V.
    pub(super) fn units(&self, i: usize) -> usize {
        self.kinds[i].row_bytes(self.lens[i]).unwrap() / 2
    }

    pub(super) fn attention(&self, output: *mut f32) -> Attention<'_> {
        let cells = |i: usize, data: &[u16]| Cells {
            data: data.as_ptr().cast(),
            kind: self.kinds[i],
            len: self.lens[i],
            cell_stride: 2 * self.units(i) * self.n_kv_heads,
            head_stride: 2 * self.units(i),
        };
        Attention {
            n_rows: self.n_rows,
            n_heads: self.n_heads,
            n_kv_heads: self.n_kv_heads,
            n_cells: self.n_cells,
            q: self.q.as_ptr().cast(),
            q_row_stride: 4 * self.lens[0] * self.n_heads,
            q_head_stride: 4 * self.lens[0],
            k: cells(0, &self.k),
            v: cells(1, &self.v),
            mask: self
                .mask
                .as_ref()
                .map_or(std::ptr::null(), |m| m.as_ptr().cast()),
            mask_stride: 2 * self.n_cells,
            scale: 1.0 / (self.lens[0] as f32).sqrt(),
            max_bias: self.max_bias,
            softcap: self.softcap,
            sinks: self.sinks.as_deref(),
            order: self.order.as_deref(),
            output: output.cast(),
            output_row_stride: 4 * self.lens[1] * self.n_heads,
            output_head_stride: 4 * self.lens[1],
        }
    }

    /// The bits of the result, computed by that many parts.
    pub(super) fn run(&self, set: InstructionSet, n_parts: usize) -> Vec<u32> {
        #[derive(Clone, Copy)]
        #[repr(align(64))]
        struct Line(#[expect(dead_code)] [u8; 64]);

        let mut output =
            vec![f32::from_bits(0x7F80_1234); self.n_rows * self.n_heads * self.lens[1]];
        let attention = self.attention(output.as_mut_ptr());
        assert!(attention.is_supported());
        for part in (0..n_parts).rev() {
            let mut work = vec![Line([0xFF; 64]); attention.work_bytes() / 64];
            // SAFETY: all pointers are into vectors of the right lengths.
            unsafe { attention.compute(set, part, n_parts, work.as_mut_ptr().cast()) };
        }
        output.iter().map(|x| x.to_bits()).collect()
    }

    /// The values of a vector of K or V.
    pub(super) fn values(&self, i: usize, cell: usize, kv_head: usize) -> Vec<f32> {
        let attention = self.attention(std::ptr::null_mut());
        let cells = [&attention.k, &attention.v][i];
        let mut values = vec![0.0; cells.len];
        // SAFETY: head and cell are there.
        unsafe { scalar::read(cells, cells.vector(kv_head, cell), &mut values) };
        values
    }

    /// One of its rows as a step of its own.
    pub(super) fn row(&self, row: usize) -> Self {
        let (q, cells) = (self.n_heads * self.lens[0], self.n_cells);
        Self {
            n_rows: 1,
            q: self.q[row * q..][..q].to_vec(),
            mask: self
                .mask
                .as_ref()
                .map(|m| m[row * cells..][..cells].to_vec()),
            ..self.clone()
        }
    }

    /// The same with cells elsewhere, among `more` cells that nobody sees and that hold NaN.
    pub(super) fn moved(&self, random: &mut Random, more: usize) -> Self {
        let n_cells = self.n_cells + more;
        let mut places: Vec<usize> = (0..n_cells).collect();
        for i in (1..n_cells).rev() {
            places.swap(i, random.below(i + 1));
        }
        let moved = |i: usize, from: &[u16]| {
            let n = self.units(i) * self.n_kv_heads;
            let mut to = vec![0xFFFF; n * n_cells];
            for (cell, from) in from.chunks(n).enumerate() {
                to[places[cell] * n..][..n].copy_from_slice(from);
            }
            to
        };
        let mut mask = vec![HIDDEN; self.n_rows * n_cells];
        for row in 0..self.n_rows {
            for cell in 0..self.n_cells {
                let value = self
                    .mask
                    .as_ref()
                    .map_or(0, |m| m[row * self.n_cells + cell]);
                mask[row * n_cells + places[cell]] = value;
            }
        }
        let mut stamps = vec![0; n_cells];
        let stamp = |cell: usize| match &self.order {
            Some(order) => order.iter().position(|&c| c as usize == cell).unwrap() as u64,
            None => cell as u64,
        };
        for cell in 0..self.n_cells {
            stamps[places[cell]] = 10 + stamp(cell);
        }
        Self {
            n_cells,
            k: moved(0, &self.k),
            v: moved(1, &self.v),
            mask: Some(mask),
            order: order_of(&stamps),
            ..self.clone()
        }
    }
}
