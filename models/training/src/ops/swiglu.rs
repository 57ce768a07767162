//! The gated activation of a llama feed-forward block.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::math::exp;
use super::{values, with_values};

/// `y = silu(gate) * up`: from (rows, 2 * width), gate first, to (rows, width).
pub(crate) struct SwiGlu;

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

impl CustomOp1 for SwiGlu {
    fn name(&self) -> &'static str {
        "swiglu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (rows, both) = layout.shape().dims2()?;
        let width = both / 2;
        let mut y = vec![0f32; rows * width];
        let x = values(x, layout)?;
        for (x, y) in x.chunks_exact(both).zip(y.chunks_exact_mut(width)) {
            let (gate, up) = x.split_at(width);
            for ((y, gate), up) in y.iter_mut().zip(gate).zip(up) {
                *y = gate * sigmoid(*gate) * up;
            }
        }
        Ok((CpuStorage::F32(y), (rows, width).into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, both) = x.dims2()?;
        let width = both / 2;
        let dx = with_values([x, grad], |[x, grad]| {
            let mut dx = vec![0f32; x.len()];
            let rows = x.chunks_exact(both).zip(grad.chunks_exact(width));
            for ((x, grad), dx) in rows.zip(dx.chunks_exact_mut(both)) {
                let (gate, up) = x.split_at(width);
                let (d_gate, d_up) = dx.split_at_mut(width);
                for i in 0..width {
                    let s = sigmoid(gate[i]);
                    d_gate[i] = grad[i] * up[i] * s * (1.0 + gate[i] * (1.0 - s));
                    d_up[i] = grad[i] * gate[i] * s;
                }
            }
            Ok(dx)
        })?;
        Ok(Some(Tensor::from_vec(dx, x.shape(), x.device())?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn equals_the_composed_gate() {
        let x = Var::randn(0f32, 2., (7, 40), &Device::Cpu).unwrap();
        let fused = x.apply_op1(SwiGlu).unwrap();
        let gate = x.narrow(1, 0, 20).unwrap();
        let composed = (gate.silu().unwrap() * x.narrow(1, 20, 20).unwrap()).unwrap();
        super::super::testing::assert_same(&[&x], &fused, &composed);
    }
}
