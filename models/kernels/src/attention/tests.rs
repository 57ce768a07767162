//! Each instruction set against the scalar definition, and that definition against f64 and ggml.
#![allow(clippy::unwrap_used)]

use half::{bf16, f16};
use proptest::prelude::*;

use super::*;

/// Random numbers (SplitMix64).
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.bits() % n as u64) as usize
    }

    /// About normal.
    fn normal(&mut self) -> f32 {
        (0..4)
            .map(|_| self.bits() as u32 as f32 / u32::MAX as f32 - 0.5)
            .sum::<f32>()
            * 1.7
    }

    /// Normal, or (where `odd`) now and then something that floats have besides.
    fn value(&mut self, odd: bool) -> f32 {
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
enum Sight {
    All,
    Causal,
    Window(usize),
    /// Cells of this many sequences in turn, each row of one of them.
    Sequences(usize),
    Some,
    Biased,
}

#[derive(Clone)]
struct Case {
    n_rows: usize,
    n_heads: usize,
    n_kv_heads: usize,
    n_cells: usize,
    kinds: [WeightType; 2],
    lens: [usize; 2],
    q: Vec<f32>,
    k: Vec<u16>,
    v: Vec<u16>,
    mask: Option<Vec<u16>>,
    max_bias: f32,
    softcap: f32,
    sinks: Option<Vec<f32>>,
    order: Option<Vec<u32>>,
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
fn encode(kind: WeightType, values: &[f32]) -> Vec<u16> {
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
    fn new(
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
    fn units(&self, i: usize) -> usize {
        self.kinds[i].row_bytes(self.lens[i]).unwrap() / 2
    }

    fn attention(&self, output: *mut f32) -> Attention<'_> {
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
    fn run(&self, set: InstructionSet, n_parts: usize) -> Vec<u32> {
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
    fn values(&self, i: usize, cell: usize, kv_head: usize) -> Vec<f32> {
        let attention = self.attention(std::ptr::null_mut());
        let cells = [&attention.k, &attention.v][i];
        let mut values = vec![0.0; cells.len];
        // SAFETY: head and cell are there.
        unsafe { scalar::read(cells, cells.vector(kv_head, cell), &mut values) };
        values
    }

    /// One of its rows as a step of its own.
    fn row(&self, row: usize) -> Self {
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
    fn moved(&self, random: &mut Random, more: usize) -> Self {
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
            Some(order) => order.iter().position(|&c| c as usize == cell).unwrap() as u32,
            None => cell as u32,
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

fn kinds() -> impl Strategy<Value = WeightType> {
    use WeightType::{Bf16, F16, F32, Q8_0};
    prop::sample::select(vec![F16, F16, F32, Bf16, Q8_0])
}

fn sights() -> impl Strategy<Value = Sight> {
    prop_oneof![
        Just(Sight::All),
        Just(Sight::Causal),
        (1..100usize).prop_map(Sight::Window),
        (1..6usize).prop_map(Sight::Sequences),
        Just(Sight::Some),
        Just(Sight::Biased),
    ]
}

prop_compose! {
    fn cases(odd: bool)(
        rows in prop_oneof![1..4usize, 1..40usize],
        kv_heads in 1..4usize,
        group in prop_oneof![1..5usize, 1..20usize],
        cells in prop_oneof![1..40usize, 1..300usize],
        kinds in [kinds(), kinds()],
        lens in prop_oneof![
            [1..80usize, 1..80usize],
            [1..10usize, 1..16usize].prop_map(|lens| lens.map(|n| 16 * n)),
        ],
        sight in sights(),
        odd in Just(odd),
        (alibi, softcap, sinks, order) in any::<(bool, bool, bool, bool)>(),
        seed in any::<u64>(),
    ) -> (Case, Random) {
        let mut random = Random(seed);
        let mut case = Case::new(&mut random, [rows, kv_heads, group, cells], kinds, lens, sight, odd);
        case.max_bias = if alibi { 8.0 } else { 0.0 };
        case.softcap = if softcap { 5.0 } else { 0.0 };
        case.sinks = sinks.then(|| (0..case.n_heads).map(|_| random.value(odd)).collect());
        let stamps: Vec<u32> = (0..cells).map(|_| random.below(cells) as u32).collect();
        case.order = if order { order_of(&stamps) } else { None };
        (case, random)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn each_set_computes_the_bits_of_the_scalar_one((case, mut random) in prop_oneof![cases(false), cases(true)]) {
        let expected = case.run(InstructionSet::Scalar, 1);
        for set in InstructionSet::available() {
            let n_parts = 1 + random.below(7);
            prop_assert!(case.run(set, n_parts) == expected, "{set} in {n_parts} parts");
        }
    }

    #[test]
    fn a_row_is_the_same_alone_and_wherever_its_cells_lie((case, mut random) in prop_oneof![cases(false), cases(true)]) {
        let more = random.below(100);
        for set in InstructionSet::available() {
            let batch = case.run(set, 1);
            prop_assert!(case.moved(&mut random, more).run(set, 3) == batch, "{set}: cells moved");
            let row = random.below(case.n_rows);
            let expected = &batch[row * batch.len() / case.n_rows..][..batch.len() / case.n_rows];
            prop_assert!(case.row(row).run(set, 2) == expected, "{set}: alone");
            let alone = case.row(row).moved(&mut random, more);
            prop_assert!(alone.run(set, 1) == expected, "{set}: alone, cells moved");
        }
    }

    #[test]
    fn each_pair_belongs_to_one_part(
        rows in 1..600usize,
        kv_heads in 1..9usize,
        group in 1..20usize,
        n_parts in 1..20usize,
    ) {
        let mut random = Random(1);
        let one = Case::new(&mut random, [1, kv_heads, group, 1], [WeightType::F32; 2], [1, 1], Sight::All, false);
        let attention = Attention { n_rows: rows, ..one.attention(std::ptr::null_mut()) };
        let mut seen = vec![0; kv_heads * rows * group];
        let mut most = 0;
        for part in 0..n_parts {
            let mut own = 0;
            for piece in split::pieces(&attention, part, n_parts) {
                let n = piece.kv_heads.len() * piece.pairs.len();
                own += n;
                prop_assert!(n <= split::most_pairs(&attention));
                for kv_head in piece.kv_heads {
                    for pair in piece.pairs.clone() {
                        seen[kv_head * rows * group + pair] += 1;
                    }
                }
            }
            most = most.max(own);
        }
        prop_assert!(seen.iter().all(|&n| n == 1));
        // Many rows are shared out evenly, one row at least by heads of the cache: reading them
        // twice would cost more than is won.
        if rows * group >= 48 * n_parts {
            prop_assert!(most as f64 <= 1.1 * (seen.len() as f64 / n_parts as f64) + 6.0);
        }
        if rows == 1 {
            prop_assert!(most <= kv_heads.div_ceil(n_parts) * group);
        }
    }
}

#[test]
fn what_a_row_does_not_see_has_no_influence() {
    let mut random = Random(7);
    let kinds = [WeightType::F16; 2];
    let case = Case::new(
        &mut random,
        [9, 1, 4, 90],
        kinds,
        [32, 32],
        Sight::Causal,
        false,
    );
    for set in InstructionSet::available() {
        let expected = case.run(set, 1);
        // The last row alone sees the last cell.
        let last = case.k.len() - 32;
        for poison in [0x7C00, 0xFC00, 0x7E00] {
            let mut poisoned = case.clone();
            poisoned.v[last..].fill(poison);
            let result = poisoned.run(set, 1);
            assert_eq!(result[..8 * 128], expected[..8 * 128], "{set}: {poison:x}");
            assert!(
                result[8 * 128..]
                    .iter()
                    .all(|&x| !f32::from_bits(x).is_finite())
            );
            poisoned.k[last..].fill(poison);
            assert_eq!(
                poisoned.run(set, 1)[..8 * 128],
                expected[..8 * 128],
                "{set}: {poison:x}"
            );
        }
    }
}

#[test]
fn rows_that_see_nothing_are_zero_and_scores_without_end_are_nan() {
    let mut random = Random(3);
    let kinds = [WeightType::F16; 2];
    let case = Case::new(
        &mut random,
        [3, 2, 2, 70],
        kinds,
        [48, 40],
        Sight::Biased,
        false,
    );
    let row = 4 * 40;
    for set in InstructionSet::available() {
        for sinks in [None, Some(vec![0.5; 4])] {
            let mut blind = Case {
                sinks,
                ..case.clone()
            };
            blind.mask.as_mut().unwrap()[70..140].fill(HIDDEN);
            let (seeing, blind) = (case.run(set, 1), blind.run(set, 1));
            assert!(blind[row..2 * row].iter().all(|&x| x == 0), "{set}");
            assert_ne!(blind[..row], vec![0; row]);
            assert_eq!(
                blind[..row] == seeing[..row],
                blind[2 * row..] == seeing[2 * row..]
            );
        }
        let mut endless = case.clone();
        endless.q[0] = f32::INFINITY;
        let result = endless.run(set, 1);
        assert!(
            result[..40].iter().all(|&x| x == f32::NAN.to_bits()),
            "{set}"
        );
        assert_eq!(result[40..], case.run(set, 1)[40..]);
        let sinks = Some(vec![f32::NAN, 0.0, f32::NEG_INFINITY, 200.0]);
        let result = Case {
            sinks,
            ..case.clone()
        }
        .run(set, 1);
        assert!(
            result[..40].iter().all(|&x| x == f32::NAN.to_bits()),
            "{set}"
        );
        assert_eq!(
            result[80..120],
            case.run(set, 1)[80..120],
            "{set}: a sink of -inf is none"
        );
        assert!(
            result[120..160].iter().all(|&x| x == 0),
            "{set}: the sink takes everything"
        );
    }
}

/// rms of the differences from the result in f64, for us and for what ggml does with one row (q and the
/// running sums in f16) and with tiles (f32, a running maximum for each 64 cells).
fn errors(case: &Case) -> [f64; 3] {
    let ours = case.run(InstructionSet::best(), 1);
    let (mut squares, mut n) = ([0.0f64; 3], 0);
    for row in 0..case.n_rows {
        for head in 0..case.n_heads {
            let attention = case.attention(std::ptr::null_mut());
            let [dk, dv] = case.lens;
            let q = &case.q[(row * case.n_heads + head) * dk..][..dk];
            let cap = f64::from(case.softcap);
            let mut cells = Vec::new();
            for cell in 0..case.n_cells {
                let mask = case
                    .mask
                    .as_ref()
                    .map_or(0, |m| m[row * case.n_cells + cell]);
                if mask != HIDDEN {
                    let bias = f16::from_bits(mask).to_f32() * attention.slope(head);
                    let kv_head = head / attention.group();
                    let (k, v) = (case.values(0, cell, kv_head), case.values(1, cell, kv_head));
                    cells.push((k, v, bias));
                }
            }
            let exact = {
                let score = |k: &[f32], bias: f32| {
                    let dot: f64 = q
                        .iter()
                        .zip(k)
                        .map(|(&q, &k)| f64::from(q) * f64::from(k))
                        .sum();
                    let s = dot * f64::from(attention.scale);
                    (if cap > 0.0 { cap * (s / cap).tanh() } else { s }) + f64::from(bias)
                };
                let scores: Vec<f64> = cells.iter().map(|(k, _, bias)| score(k, *bias)).collect();
                let max = scores.iter().copied().fold(f64::MIN, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                let mut result = vec![0.0; dv];
                for ((_, v, _), score) in cells.iter().zip(scores) {
                    for (result, &v) in result.iter_mut().zip(v) {
                        *result += (score - max).exp() * f64::from(v) / sum;
                    }
                }
                result
            };
            let score = |q: &[f32], k: &[f32], bias: f32| {
                let mut partial = [0.0f32; 16];
                for (i, (q, k)) in q.iter().zip(k).enumerate() {
                    partial[i % 16] = q.mul_add(*k, partial[i % 16]);
                }
                let s = partial.iter().sum::<f32>() * attention.dot_scale();
                (if cap > 0.0 {
                    case.softcap * s.tanh()
                } else {
                    s
                }) + bias
            };
            let rounded: Vec<f32> = q.iter().map(|&q| f16::from_f32(q).to_f32()).collect();
            let one = {
                let (mut sum, mut max, mut acc) = (0.0f32, f32::NEG_INFINITY, vec![f16::ZERO; dv]);
                for (k, v, bias) in &cells {
                    let s = score(&rounded, k, *bias);
                    let (mut old, mut new) = (1.0, 1.0);
                    if s > max {
                        old = (max - s).exp();
                        max = s;
                        for acc in &mut acc {
                            *acc = f16::from_f32(acc.to_f32() * old);
                        }
                    } else {
                        new = (s - max).exp();
                    }
                    for (acc, v) in acc.iter_mut().zip(v) {
                        *acc = f16::from_f32(v.mul_add(new, acc.to_f32()));
                    }
                    sum = sum * old + new;
                }
                acc.iter().map(|acc| acc.to_f32() / sum).collect::<Vec<_>>()
            };
            let tiled = {
                let (mut sum, mut max, mut acc) = (0.0f32, f32::NEG_INFINITY, vec![0.0f32; dv]);
                for tile in cells.chunks(64) {
                    let scores: Vec<f32> = tile.iter().map(|(k, _, b)| score(q, k, *b)).collect();
                    let old = max;
                    max = scores.iter().copied().fold(max, f32::max);
                    acc.iter_mut().for_each(|acc| *acc *= (old - max).exp());
                    sum *= (old - max).exp();
                    for ((_, v, _), s) in tile.iter().zip(scores) {
                        sum += (s - max).exp();
                        for (acc, v) in acc.iter_mut().zip(v) {
                            *acc = v.mul_add((s - max).exp(), *acc);
                        }
                    }
                }
                acc.iter().map(|acc| acc / sum).collect::<Vec<_>>()
            };
            for i in 0..dv {
                let ours = f32::from_bits(ours[(row * case.n_heads + head) * dv + i]);
                for (square, x) in squares.iter_mut().zip([ours, one[i], tiled[i]]) {
                    *square += (f64::from(x) - exact[i]).powi(2);
                }
                n += 1;
            }
        }
    }
    squares.map(|s| (s / f64::from(n)).sqrt())
}

#[test]
fn as_accurate_as_ggml() {
    let mut random = Random(11);
    for (cells, sight, softcap) in [
        (30, Sight::Causal, 0.0),
        (700, Sight::Biased, 0.0),
        (3000, Sight::Causal, 0.0),
        (700, Sight::Causal, 20.0),
    ] {
        for sharp in [1.0, 6.0] {
            let kinds = [WeightType::F16; 2];
            let mut case = Case::new(
                &mut random,
                [3, 1, 2, cells],
                kinds,
                [128, 64],
                sight,
                false,
            );
            case.q.iter_mut().for_each(|q| *q *= sharp);
            case.softcap = softcap;
            let [ours, one, tiled] = errors(&case);
            assert!(
                ours < 0.05 * one,
                "{cells} {sight:?} {sharp}: {ours:e} {one:e}"
            );
            assert!(
                ours < 1.3 * tiled,
                "{cells} {sight:?} {sharp}: {ours:e} {tiled:e}"
            );
        }
    }
}

#[test]
fn stamps_that_ascend_need_no_order() {
    assert_eq!(order_of(&[]), None);
    assert_eq!(order_of(&[1, 1, 5, 7]), None);
    assert_eq!(order_of(&[8, 9, 1, 1, 7]), Some(vec![2, 3, 4, 0, 1]));
}

#[test]
fn slopes_are_those_of_ggml() {
    let case = Case::new(
        &mut Random(1),
        [1, 1, 12, 1],
        [WeightType::F32; 2],
        [1, 1],
        Sight::All,
        false,
    );
    let attention = Attention {
        max_bias: 8.0,
        ..case.attention(std::ptr::null_mut())
    };
    let (m0, m1) = (2f32.powf(-8.0 / 8.0), 2f32.powf(-4.0 / 8.0));
    for head in 0..12 {
        let exponent = if head < 8 {
            head + 1
        } else {
            2 * (head - 8) + 1
        };
        let slope = if head < 8 { m0 } else { m1 }.powi(exponent as i32);
        assert!((attention.slope(head) - slope).abs() < 1e-6, "{head}");
    }
    assert_eq!(
        Attention {
            max_bias: 0.0,
            ..attention
        }
        .slope(3),
        1.0
    );
}

#[test]
fn what_does_not_fit_is_not_supported() {
    let case = Case::new(
        &mut Random(1),
        [1, 1, 2, 4],
        [WeightType::F16; 2],
        [8, 8],
        Sight::All,
        false,
    );
    let good = case.attention(std::ptr::null_mut());
    assert!(good.is_supported());
    let k = |kind, len| Attention {
        k: Cells {
            kind,
            len,
            ..good.k
        },
        ..good
    };
    assert!(!k(WeightType::Q4_0, 32).is_supported());
    assert!(!k(WeightType::Q8_0, 48).is_supported());
    assert!(k(WeightType::Q8_0, 64).is_supported());
    assert!(
        !Attention {
            n_kv_heads: 3,
            ..good
        }
        .is_supported()
    );
    assert!(
        !Attention {
            sinks: Some(&[0.0]),
            ..good
        }
        .is_supported()
    );
    assert!(
        !Attention {
            order: Some(&[0, 1]),
            ..good
        }
        .is_supported()
    );
}
