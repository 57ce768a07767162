//! The loss: how little probability the model gives to the token that comes next.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

use super::math::exp_shifted;
use super::{values, with_values};

/// `-sum_n ln softmax(logits[n])[targets[n]]`: from (rows, vocabulary) to a single number.
pub(crate) struct CrossEntropy {
    /// The right token of each row.
    pub(crate) targets: Arc<[u32]>,
}

impl CustomOp1 for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, n_vocab) = layout.shape().dims2()?;
        let mut row = vec![0f32; n_vocab];
        let mut loss = 0f64;
        let rows = values(logits, layout)?.chunks_exact(n_vocab);
        for (logits, &target) in rows.zip(self.targets.iter()) {
            row.copy_from_slice(logits);
            let (total, max) = exp_shifted(&mut row);
            loss += f64::from(total.ln() + max - logits[target as usize]);
        }
        Ok((CpuStorage::F32(vec![loss as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, grad: &Tensor) -> Result<Option<Tensor>> {
        let (_, n_vocab) = logits.dims2()?;
        let grad = grad.to_scalar::<f32>()?;
        let d = with_values([logits], |[logits]| {
            let mut d = logits.to_vec();
            for (d, &target) in d.chunks_exact_mut(n_vocab).zip(self.targets.iter()) {
                let (total, _) = exp_shifted(d);
                let scale = grad / total;
                d.iter_mut().for_each(|d| *d *= scale);
                d[target as usize] -= grad;
            }
            Ok(d)
        })?;
        Ok(Some(Tensor::from_vec(d, logits.shape(), logits.device())?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{D, Device, Var};

    use super::*;

    #[test]
    fn equals_the_composed_loss() {
        let logits = Var::randn(0f32, 2., (6, 50), &Device::Cpu).unwrap();
        let targets = [3u32, 49, 0, 7, 7, 20];
        let fused = logits
            .apply_op1(CrossEntropy {
                targets: targets.as_slice().into(),
            })
            .unwrap();
        let picked = Tensor::new(&targets, &Device::Cpu)
            .unwrap()
            .unsqueeze(1)
            .unwrap();
        let log_sum = logits.log_sum_exp(D::Minus1).unwrap();
        let right = logits.gather(&picked, 1).unwrap().squeeze(1).unwrap();
        let composed = (log_sum - right).unwrap().sum_all().unwrap();
        super::super::testing::assert_same(&[&logits], &fused, &composed);
    }
}
