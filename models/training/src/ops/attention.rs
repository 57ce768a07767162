//! Causal attention with rotary positions over conversations that lie one behind the other.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::math::{axpy, exp_shifted, sum};
use super::{values, with_values};

/// Shape of the attention heads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads {
    /// Query heads.
    pub(crate) n_head: usize,
    /// Key and value heads; each serves `n_head / n_head_kv` query heads.
    pub(crate) n_head_kv: usize,
    /// Values of a head, even.
    pub(crate) head_dim: usize,
    /// Base of the rotary frequencies; `rope.freq_base` in the GGUF.
    pub(crate) rope_base: f32,
}

impl Heads {
    /// Values of a row of queries, keys and values.
    pub(crate) fn qkv_width(&self) -> usize {
        (self.n_head + 2 * self.n_head_kv) * self.head_dim
    }
}

/// From (rows, queries | keys | values) to (rows, `n_head * head_dim`).
///
/// Rows of different segments do not see each other; positions count from each segment's start.
/// Rotation pairs neighbours (`LLAMA_ROPE_TYPE_NORM` of llama.cpp).
pub(crate) struct Attention {
    pub(crate) heads: Heads,
    /// The rows of each conversation.
    pub(crate) segments: Arc<[Range<usize>]>,
}

/// One head's queries, keys and values of one segment, rotated, and room to compute in.
struct Head {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// Keys and values with the position running fastest.
    k_columns: Vec<f32>,
    v_columns: Vec<f32>,
}

/// Cosine and sine of each (position, pair).
struct Rotations {
    cos_sin: Vec<(f32, f32)>,
    n_pairs: usize,
}

impl Rotations {
    fn new(heads: &Heads, n_positions: usize) -> Self {
        let n_pairs = heads.head_dim / 2;
        let frequencies: Vec<f64> = (0..n_pairs)
            .map(|i| f64::from(heads.rope_base).powf(-(i as f64) / n_pairs as f64))
            .collect();
        let cos_sin = (0..n_positions)
            .flat_map(|pos| {
                frequencies.iter().map(move |f| {
                    let angle = pos as f64 * f;
                    (angle.cos() as f32, angle.sin() as f32)
                })
            })
            .collect();
        Self { cos_sin, n_pairs }
    }

    /// Rotates the row of `pos` by its angles, backwards where `sign` is -1.
    fn rotate(&self, row: &mut [f32], pos: usize, sign: f32) {
        let angles = &self.cos_sin[pos * self.n_pairs..][..self.n_pairs];
        for (pair, (cos, sin)) in row.chunks_exact_mut(2).zip(angles) {
            let (a, b) = (pair[0], pair[1]);
            pair[0] = a * cos - b * sin * sign;
            pair[1] = b * cos + a * sin * sign;
        }
    }
}

impl Attention {
    fn scale(&self) -> f32 {
        1.0 / (self.heads.head_dim as f32).sqrt()
    }

    fn rotations(&self) -> Rotations {
        let longest = self.segments.iter().map(Range::len).max();
        Rotations::new(&self.heads, longest.unwrap_or(0))
    }

    /// Where head `h`'s queries, keys and values begin in a row.
    fn offsets(&self, h: usize) -> [usize; 3] {
        let Heads {
            n_head,
            n_head_kv,
            head_dim,
            ..
        } = self.heads;
        let kv = h / (n_head / n_head_kv);
        [h, n_head + kv, n_head + n_head_kv + kv].map(|i| i * head_dim)
    }

    fn head(&self, qkv: &[f32], segment: &Range<usize>, h: usize, rotations: &Rotations) -> Head {
        let (dim, width, n) = (self.heads.head_dim, self.heads.qkv_width(), segment.len());
        let [q, k, v] = self.offsets(h).map(|at| {
            let mut rows = Vec::with_capacity(n * dim);
            for row in segment.clone() {
                rows.extend_from_slice(&qkv[row * width + at..][..dim]);
            }
            rows
        });
        let (mut q, mut k) = (q, k);
        for pos in 0..n {
            rotations.rotate(&mut q[pos * dim..][..dim], pos, 1.0);
            rotations.rotate(&mut k[pos * dim..][..dim], pos, 1.0);
        }
        let columns = |rows: &[f32]| {
            let mut columns = vec![0f32; rows.len()];
            for (pos, row) in rows.chunks_exact(dim).enumerate() {
                for (d, value) in row.iter().enumerate() {
                    columns[d * n + pos] = *value;
                }
            }
            columns
        };
        Head {
            k_columns: columns(&k),
            v_columns: columns(&v),
            q,
            k,
            v,
        }
    }

    /// The weights of position `pos`'s attention to `0..=pos`, into `p`.
    fn weights(&self, head: &Head, pos: usize, n: usize, p: &mut [f32]) {
        let dim = self.heads.head_dim;
        p.fill(0.0);
        for (d, q) in head.q[pos * dim..][..dim].iter().enumerate() {
            axpy(p, q * self.scale(), &head.k_columns[d * n..]);
        }
        let (total, _) = exp_shifted(p);
        p.iter_mut().for_each(|p| *p /= total);
    }
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, _) = layout.shape().dims2()?;
        let qkv = values(qkv, layout)?;
        let (dim, out_width) = (self.heads.head_dim, self.heads.n_head * self.heads.head_dim);
        let rotations = self.rotations();
        let mut out = vec![0f32; rows * out_width];
        let mut p = Vec::new();
        for segment in self.segments.iter() {
            let n = segment.len();
            p.resize(n, 0f32);
            for h in 0..self.heads.n_head {
                let head = self.head(qkv, segment, h, &rotations);
                for pos in 0..n {
                    let p = &mut p[..=pos];
                    self.weights(&head, pos, n, p);
                    let out = &mut out[(segment.start + pos) * out_width + h * dim..][..dim];
                    for (p, v) in p.iter().zip(head.v.chunks_exact(dim)) {
                        axpy(out, *p, v);
                    }
                }
            }
        }
        Ok((CpuStorage::F32(out), (rows, out_width).into()))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let d_qkv = with_values([qkv, grad], |[qkv, grad]| {
            let (dim, width) = (self.heads.head_dim, self.heads.qkv_width());
            let out_width = self.heads.n_head * dim;
            let rotations = self.rotations();
            let mut d_qkv = vec![0f32; qkv.len()];
            for segment in self.segments.iter() {
                for h in 0..self.heads.n_head {
                    let head = self.head(qkv, segment, h, &rotations);
                    let grads = self.head_grads(&head, segment, |row| {
                        &grad[row * out_width + h * dim..][..dim]
                    });
                    for (which, (mut rows, at)) in
                        grads.into_iter().zip(self.offsets(h)).enumerate()
                    {
                        for (pos, row) in rows.chunks_exact_mut(dim).enumerate() {
                            if which < 2 {
                                rotations.rotate(row, pos, -1.0);
                            }
                            let to = (segment.start + pos) * width + at;
                            axpy(&mut d_qkv[to..][..dim], 1.0, row);
                        }
                    }
                }
            }
            Ok(d_qkv)
        })?;
        Ok(Some(Tensor::from_vec(d_qkv, qkv.shape(), qkv.device())?))
    }
}

impl Attention {
    /// Gradients of one head's rotated queries and keys, and of its values, in one segment.
    fn head_grads<'a>(
        &self,
        head: &Head,
        segment: &Range<usize>,
        grad_row: impl Fn(usize) -> &'a [f32],
    ) -> [Vec<f32>; 3] {
        let (dim, n) = (self.heads.head_dim, segment.len());
        let [mut dq, mut dk, mut dv] = [(); 3].map(|()| vec![0f32; n * dim]);
        let (mut p, mut dp) = (vec![0f32; n], vec![0f32; n]);
        for pos in 0..n {
            let grad = grad_row(segment.start + pos);
            let (p, dp) = (&mut p[..=pos], &mut dp[..=pos]);
            self.weights(head, pos, n, p);
            dp.fill(0.0);
            for (d, grad) in grad.iter().enumerate() {
                axpy(dp, *grad, &head.v_columns[d * n..]);
            }
            let mean = sum(p.len(), |i| p[i] * dp[i]);
            for (dp, p) in dp.iter_mut().zip(p.iter()) {
                *dp = p * (*dp - mean) * self.scale();
            }
            let q = &head.q[pos * dim..][..dim];
            let dq = &mut dq[pos * dim..][..dim];
            for i in 0..=pos {
                let at = i * dim..(i + 1) * dim;
                axpy(dq, dp[i], &head.k[at.clone()]);
                axpy(&mut dk[at.clone()], dp[i], q);
                axpy(&mut dv[at], p[i], grad);
            }
        }
        [dq, dk, dv]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{D, Device, Var};

    use super::*;

    const HEADS: Heads = Heads {
        n_head: 4,
        n_head_kv: 2,
        head_dim: 8,
        rope_base: 100.0,
    };

    /// The same for one segment, composed of candle's operations.
    fn composed(qkv: &Tensor, segment: &Range<usize>) -> Tensor {
        let n = segment.len();
        let dim = HEADS.head_dim;
        let rows = qkv.narrow(0, segment.start, n).unwrap();
        let rotations = Rotations::new(&HEADS, n);
        let (cos, sin): (Vec<f32>, Vec<f32>) = rotations.cos_sin.iter().copied().unzip();
        let table = |values| Tensor::from_vec(values, (n, dim / 2), &Device::Cpu).unwrap();
        let (cos, sin) = (table(cos), table(sin));
        let rotate = |x: Tensor| {
            let x = x.contiguous().unwrap().reshape((n, dim / 2, 2)).unwrap();
            let (a, b) = (
                x.narrow(2, 0, 1).unwrap().squeeze(2).unwrap(),
                x.narrow(2, 1, 1).unwrap().squeeze(2).unwrap(),
            );
            let first = ((&a * &cos).unwrap() - (&b * &sin).unwrap()).unwrap();
            let second = ((&b * &cos).unwrap() + (&a * &sin).unwrap()).unwrap();
            Tensor::stack(&[first, second], 2)
                .unwrap()
                .reshape((n, dim))
                .unwrap()
        };
        let mask: Vec<f32> = (0..n * n)
            .map(|i| {
                if i % n > i / n {
                    f32::NEG_INFINITY
                } else {
                    0.0
                }
            })
            .collect();
        let mask = Tensor::from_vec(mask, (n, n), &Device::Cpu).unwrap();
        let heads: Vec<Tensor> = (0..HEADS.n_head)
            .map(|h| {
                let part = |at: usize| rows.narrow(1, at * dim, dim).unwrap();
                let kv = h / 2;
                let (q, k, v) = (rotate(part(h)), rotate(part(4 + kv)), part(6 + kv));
                let scores = (q.matmul(&k.t().unwrap()).unwrap() / (dim as f64).sqrt()).unwrap();
                let scores = (scores + &mask).unwrap().exp().unwrap();
                let p = scores
                    .broadcast_div(&scores.sum_keepdim(D::Minus1).unwrap())
                    .unwrap();
                p.matmul(&v.contiguous().unwrap()).unwrap()
            })
            .collect();
        Tensor::cat(&heads, 1).unwrap()
    }

    #[test]
    fn equals_the_composed_attention_and_keeps_segments_apart() {
        let qkv = Var::randn(0f32, 1., (12, HEADS.qkv_width()), &Device::Cpu).unwrap();
        let segments = [0..5, 5..6, 6..12];
        let parts: Vec<Tensor> = segments.iter().map(|s| composed(&qkv, s)).collect();
        let fused = qkv
            .apply_op1(Attention {
                heads: HEADS,
                segments: segments.into(),
            })
            .unwrap();
        let composed = Tensor::cat(&parts, 0).unwrap();
        super::super::testing::assert_same(&[&qkv], &fused, &composed);
    }
}
