//! Root-mean-square norm with a gain.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};

use super::math::sum;
use super::{values, with_values};

/// `y[n, i] = x[n, i] * w[i] / sqrt(mean_i(x[n, i]^2) + eps)`: x of shape (rows, width), w (width).
pub(crate) struct RmsNorm {
    /// Keeps a row of zeroes finite; `attention.layer_norm_rms_epsilon` in the GGUF.
    pub(crate) eps: f32,
}

impl RmsNorm {
    fn scale(&self, row: &[f32]) -> f32 {
        let mean = sum(row.len(), |i| row[i] * row[i]) / row.len() as f32;
        1.0 / (mean + self.eps).sqrt()
    }
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (x, w) = (values(x, x_layout)?, values(w, w_layout)?);
        let mut y = vec![0f32; x.len()];
        for (x, y) in x.chunks_exact(w.len()).zip(y.chunks_exact_mut(w.len())) {
            let scale = self.scale(x);
            for ((y, x), w) in y.iter_mut().zip(x).zip(w) {
                *y = x * scale * w;
            }
        }
        Ok((CpuStorage::F32(y), x_layout.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = with_values([x, w, grad], |[x, w, grad]| {
            let width = w.len();
            let mut dx = vec![0f32; x.len()];
            let mut dw = vec![0f32; width];
            let rows = x.chunks_exact(width).zip(grad.chunks_exact(width));
            for ((x, grad), dx) in rows.zip(dx.chunks_exact_mut(width)) {
                let scale = self.scale(x);
                let along = sum(width, |i| grad[i] * w[i] * x[i]);
                let back = along * scale * scale * scale / width as f32;
                for i in 0..width {
                    dx[i] = grad[i] * w[i] * scale - x[i] * back;
                    dw[i] += grad[i] * x[i] * scale;
                }
            }
            Ok((dx, dw))
        })?;
        Ok((
            Some(Tensor::from_vec(dx, x.shape(), x.device())?),
            Some(Tensor::from_vec(dw, w.shape(), w.device())?),
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{D, Device, Var};

    use super::*;

    #[test]
    fn equals_the_composed_norm() {
        let x = Var::randn(0f32, 1., (5, 48), &Device::Cpu).unwrap();
        let w = Var::randn(1f32, 0.3, 48, &Device::Cpu).unwrap();
        let fused = x.apply_op2(&w, RmsNorm { eps: 1e-5 }).unwrap();
        let mean = x.sqr().unwrap().mean_keepdim(D::Minus1).unwrap();
        let composed = x
            .broadcast_div(&(mean + 1e-5).unwrap().sqrt().unwrap())
            .unwrap()
            .broadcast_mul(&w)
            .unwrap();
        super::super::testing::assert_same(&[&x, &w], &fused, &composed);
    }
}
