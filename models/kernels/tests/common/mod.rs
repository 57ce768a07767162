//! ggml's blocks, written down a second time: random ones, and what they mean (ggml-quants.c,
//! `dequantize_row_*`).
#![allow(clippy::unwrap_used, dead_code)]

use std::alloc::{Layout, alloc, dealloc};

use half::{bf16, f16};
use jupiter_kernels::{GROUP, Kernels, Shape, WeightType, pack, packed_bytes, panel_bytes};

/// Random numbers (xorshift64*).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Between -1 and 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Nearly normal.
    pub(crate) fn normal(&mut self) -> f32 {
        (0..4).map(|_| self.unit()).sum::<f32>() * 0.87
    }
}

/// A matrix of random blocks. `scale` gives the f16 scales.
pub(crate) fn random_weights(
    t: WeightType,
    shape: Shape,
    random: &mut Random,
    scale: impl Fn(&mut Random) -> f16,
) -> Vec<u8> {
    weights_of(t, shape, random, scale, |random| {
        (random.bits() >> 32) as u8
    })
}

/// The same with bytes of codes by `code`.
pub(crate) fn weights_of(
    t: WeightType,
    shape: Shape,
    random: &mut Random,
    scale: impl Fn(&mut Random) -> f16,
    code: impl Fn(&mut Random) -> u8,
) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..shape.n_rows * t.row_bytes(shape.n_cols).unwrap())
        .map(|_| code(random))
        .collect();
    for block in bytes.chunks_exact_mut(t.block_bytes()) {
        let mut put = |at: usize| {
            let bits = scale(random).to_le_bytes();
            block[at..at + 2].copy_from_slice(&bits);
        };
        match t {
            WeightType::Q4_0
            | WeightType::Q5_0
            | WeightType::Q8_0
            | WeightType::Iq4Nl
            | WeightType::Iq4Xs => put(0),
            WeightType::Q4_1 | WeightType::Q5_1 | WeightType::Q4K | WeightType::Q5K => {
                put(0);
                put(2);
            }
            WeightType::Q6K => put(208),
            WeightType::F16 => put(0),
            WeightType::Bf16 => {
                let value = bf16::from_f32(scale(random).to_f32());
                block.copy_from_slice(&value.to_le_bytes());
            }
            WeightType::F32 => {
                let value = scale(random).to_f32() * random.normal();
                block.copy_from_slice(&value.to_le_bytes());
            }
            WeightType::Mxfp4 => block[0] = 118 + block[0] % 8,
        }
    }
    bytes
}

/// Scales as models have them.
pub(crate) fn sane(random: &mut Random) -> f16 {
    f16::from_f32(random.normal() * 0.01)
}

const IQ4: [f32; 16] = [
    -127., -104., -83., -65., -49., -35., -22., -10., 1., 13., 25., 38., 53., 69., 89., 113.,
];
const E2M1: [f32; 16] = [
    0., 1., 2., 3., 4., 6., 8., 12., 0., -1., -2., -3., -4., -6., -8., -12.,
];

fn half_at(b: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([b[at], b[at + 1]]).to_f32()
}

/// The values of a row.
pub(crate) fn dequantize(t: WeightType, row: &[u8]) -> Vec<f32> {
    let mut values = Vec::new();
    for b in row.chunks_exact(t.block_bytes()) {
        let mut y = vec![0f32; t.block_len()];
        match t {
            WeightType::F32 => y[0] = f32::from_le_bytes(b.try_into().unwrap()),
            WeightType::F16 => y[0] = half_at(b, 0),
            WeightType::Bf16 => y[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            WeightType::Q4_0 | WeightType::Iq4Nl | WeightType::Mxfp4 => {
                let (d, qs) = if t == WeightType::Mxfp4 {
                    (2f32.powi(i32::from(b[0]) - 128), &b[1..])
                } else {
                    (half_at(b, 0), &b[2..])
                };
                let value = |q: u8| match t {
                    WeightType::Q4_0 => f32::from(q) - 8.0,
                    WeightType::Iq4Nl => IQ4[usize::from(q)],
                    _ => E2M1[usize::from(q)],
                };
                for i in 0..16 {
                    y[i] = d * value(qs[i] & 15);
                    y[i + 16] = d * value(qs[i] >> 4);
                }
            }
            WeightType::Q4_1 => {
                for i in 0..16 {
                    y[i] = half_at(b, 0) * f32::from(b[4 + i] & 15) + half_at(b, 2);
                    y[i + 16] = half_at(b, 0) * f32::from(b[4 + i] >> 4) + half_at(b, 2);
                }
            }
            WeightType::Q5_0 | WeightType::Q5_1 => {
                let at = if t == WeightType::Q5_0 { 2 } else { 4 };
                let qh = u32::from_le_bytes(b[at..at + 4].try_into().unwrap());
                let fifth = |k: usize| ((qh >> k) & 1) as u8 * 16;
                let value = |q: u8| match t {
                    WeightType::Q5_0 => half_at(b, 0) * (f32::from(q) - 16.0),
                    _ => half_at(b, 0) * f32::from(q) + half_at(b, 2),
                };
                for i in 0..16 {
                    y[i] = value((b[at + 4 + i] & 15) | fifth(i));
                    y[i + 16] = value((b[at + 4 + i] >> 4) | fifth(i + 16));
                }
            }
            WeightType::Q8_0 => {
                for i in 0..32 {
                    y[i] = half_at(b, 0) * f32::from(b[2 + i] as i8);
                }
            }
            WeightType::Q4K | WeightType::Q5K => {
                let s = &b[4..16];
                for j in 0..8 {
                    let (sc, m) = if j < 4 {
                        (s[j] & 63, s[j + 4] & 63)
                    } else {
                        (
                            (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4),
                            (s[j + 4] >> 4) | ((s[j] >> 6) << 4),
                        )
                    };
                    for i in 0..32 {
                        let qs = if t == WeightType::Q4K {
                            &b[16..]
                        } else {
                            &b[48..]
                        };
                        let mut q = (qs[32 * (j / 2) + i] >> (4 * (j % 2))) & 15;
                        if t == WeightType::Q5K {
                            q |= ((b[16 + i] >> j) & 1) << 4;
                        }
                        y[32 * j + i] = half_at(b, 0) * f32::from(sc) * f32::from(q)
                            - half_at(b, 2) * f32::from(m);
                    }
                }
            }
            WeightType::Q6K => {
                for n in 0..2 {
                    let (ql, qh, sc) = (&b[64 * n..], &b[128 + 32 * n..], &b[192 + 8 * n..]);
                    for l in 0..32 {
                        let q = [
                            (ql[l] & 15) | ((qh[l] & 3) << 4),
                            (ql[l + 32] & 15) | (((qh[l] >> 2) & 3) << 4),
                            (ql[l] >> 4) | (((qh[l] >> 4) & 3) << 4),
                            (ql[l + 32] >> 4) | (((qh[l] >> 6) & 3) << 4),
                        ];
                        for (i, q) in q.into_iter().enumerate() {
                            let scale = f32::from(sc[l / 16 + 2 * i] as i8);
                            y[128 * n + l + 32 * i] =
                                half_at(b, 208) * scale * (f32::from(q) - 32.0);
                        }
                    }
                }
            }
            WeightType::Iq4Xs => {
                let high = u16::from_le_bytes([b[2], b[3]]);
                for j in 0..8 {
                    let low = (b[4 + j / 2] >> (4 * (j % 2))) & 15;
                    let scale = i32::from(low) | (i32::from((high >> (2 * j)) & 3) << 4);
                    for i in 0..16 {
                        let q = b[8 + 16 * j + i];
                        let d = half_at(b, 0) * (scale - 32) as f32;
                        y[32 * j + i] = d * IQ4[usize::from(q & 15)];
                        y[32 * j + 16 + i] = d * IQ4[usize::from(q >> 4)];
                    }
                }
            }
        }
        values.extend(y);
    }
    values
}

/// Memory for panels that is not a byte larger than it must be, so that `make sanitize` finds what is read
/// or written beyond: `WeightMemory` ends with a page.
struct Panels {
    start: *mut u8,
    layout: Layout,
}

impl Panels {
    fn new(bytes: usize) -> Self {
        assert!(bytes > 0);
        let layout = Layout::from_size_align(bytes, 64).unwrap();
        // SAFETY: at least one byte.
        let start = unsafe { alloc(layout) };
        assert!(!start.is_null());
        Self { start, layout }
    }
}

impl Drop for Panels {
    fn drop(&mut self) {
        // SAFETY: taken with this layout.
        unsafe { dealloc(self.start, self.layout) };
    }
}

/// A packed matrix.
pub(crate) struct Matrix {
    pub(crate) t: WeightType,
    pub(crate) shape: Shape,
    pub(crate) packed: Vec<u8>,
}

impl Matrix {
    pub(crate) fn new(t: WeightType, shape: Shape, source: &[u8]) -> Self {
        let mut packed = vec![0xa5; packed_bytes(t, shape).unwrap()];
        pack(t, shape, source, &mut packed);
        Self { t, shape, packed }
    }

    pub(crate) fn groups(&self) -> usize {
        self.shape.n_rows.div_ceil(GROUP)
    }

    /// The product with `n` rows, `x`, one output row after the other.
    pub(crate) fn times(&self, kernels: Kernels, x: &[f32], n: usize) -> Vec<f32> {
        self.times_in_parts(kernels, x, n, &[0, self.groups()])
    }

    /// The same, with a call for each range of groups between `cuts`.
    pub(crate) fn times_in_parts(
        &self,
        kernels: Kernels,
        x: &[f32],
        n: usize,
        cuts: &[usize],
    ) -> Vec<f32> {
        let (rows, cols) = (self.shape.n_rows, self.shape.n_cols);
        let panels = Panels::new(panel_bytes(self.t, cols, n));
        // A canary before, between and behind the rows.
        let stride = rows + 3;
        let mut out = vec![1234.5f32; n * stride + 3];
        let start = out.as_mut_ptr();
        // SAFETY: panels and outputs are as large as they are to be, and the test has one thread.
        unsafe {
            for (i, row) in x.chunks_exact(cols).enumerate().rev() {
                kernels.quantize_row(self.t, row, i, n, panels.start);
            }
            for cut in cuts.windows(2) {
                kernels.matmul(
                    self.t,
                    self.shape,
                    self.packed.as_ptr(),
                    cut[0]..cut[1],
                    panels.start,
                    n,
                    &|r| start.wrapping_add(3 + r * stride),
                );
            }
        }
        let (before, all) = out.split_at(3);
        assert_eq!(before, [1234.5; 3]);
        let mut product = Vec::new();
        for row in all.chunks_exact(stride) {
            product.extend(&row[..rows]);
            assert_eq!(row[rows..], [1234.5; 3], "written behind a row");
        }
        product
    }
}
