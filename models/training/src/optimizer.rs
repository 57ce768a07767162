//! AdamW (Loshchilov and Hutter, arXiv 1711.05101) whose state can be saved, and its schedule.

use anyhow::{Result, ensure};
use candle_core::{Device, Tensor};

use crate::transformer::Parameter;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.98;
const EPS: f32 = 1e-8;
/// Pulls matrices towards zero; gains are left alone.
const WEIGHT_DECAY: f32 = 0.05;
/// Longer gradients are cut to this length.
const MAX_GRAD_NORM: f32 = 1.0;

/// How the learning rate runs: up in a line, down along a cosine to a twentieth.
#[derive(Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) peak: f32,
    pub(crate) n_warmup: u64,
    pub(crate) n_steps: u64,
}

impl Schedule {
    pub(crate) fn rate(&self, step: u64) -> f32 {
        if step < self.n_warmup {
            return self.peak * (step + 1) as f32 / self.n_warmup as f32;
        }
        let left = (self.n_steps - self.n_warmup).max(1);
        let done = (step - self.n_warmup) as f32 / left as f32;
        let cosine = 0.5 * (1.0 + (std::f32::consts::PI * done.min(1.0)).cos());
        self.peak * (0.05 + 0.95 * cosine)
    }
}

/// Running averages of each parameter's gradient and of its square.
pub(crate) struct AdamW {
    pub(crate) moments: Vec<[Vec<f32>; 2]>,
    pub(crate) n_steps: u64,
}

impl AdamW {
    pub(crate) fn new(parameters: &[Parameter]) -> Self {
        let zeroes = |p: &Parameter| [(); 2].map(|()| vec![0f32; p.var.elem_count()]);
        Self {
            moments: parameters.iter().map(zeroes).collect(),
            n_steps: 0,
        }
    }

    /// One step along the gradients, one for each parameter, each times `scale`; returns their
    /// length before it was cut.
    pub(crate) fn step(
        &mut self,
        parameters: &[Parameter],
        gradients: &[Vec<f32>],
        scale: f32,
        rate: f32,
    ) -> Result<f32> {
        self.n_steps += 1;
        let square: f64 = gradients
            .iter()
            .map(|g| g.iter().map(|g| g * g).sum::<f32>())
            .map(f64::from)
            .sum();
        let norm = square.sqrt() as f32 * scale;
        ensure!(
            norm.is_finite(),
            "the gradient is not finite: the rate is too high"
        );
        let scale = scale * (MAX_GRAD_NORM / norm).min(1.0);
        let t = self.n_steps as i32;
        let (unbias1, unbias2) = (1.0 - BETA1.powi(t), 1.0 - BETA2.powi(t));
        let all = parameters.iter().zip(gradients).zip(&mut self.moments);
        for ((parameter, gradient), [first, second]) in all {
            let is_matrix = parameter.var.rank() > 1;
            let decay = if is_matrix {
                1.0 - rate * WEIGHT_DECAY
            } else {
                1.0
            };
            let mut weights = parameter.var.flatten_all()?.to_vec1::<f32>()?;
            for (((w, g), m), v) in weights.iter_mut().zip(gradient).zip(first).zip(second) {
                let g = g * scale;
                *m = BETA1 * *m + (1.0 - BETA1) * g;
                *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                *w = *w * decay - rate * (*m / unbias1) / ((*v / unbias2).sqrt() + EPS);
            }
            let weights = Tensor::from_vec(weights, parameter.var.shape(), &Device::Cpu)?;
            parameter.var.set(&weights)?;
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Var;

    use super::*;

    #[test]
    fn the_rate_rises_then_falls() {
        let schedule = Schedule {
            peak: 1.0,
            n_warmup: 10,
            n_steps: 110,
        };
        let rates = [0, 9, 10, 60, 110].map(|step| schedule.rate(step));
        for (rate, expected) in rates.iter().zip([0.1, 1.0, 1.0, 0.525, 0.05]) {
            assert!((rate - expected).abs() < 1e-5, "{rates:?}");
        }
    }

    #[test]
    fn finds_the_bottom_of_a_bowl() {
        let at = Tensor::new(&[[3f32, -2.0]], &Device::Cpu).unwrap();
        let var = Var::from_tensor(&at).unwrap();
        let parameters = [Parameter {
            name: "x".to_owned(),
            var: var.clone(),
        }];
        let mut optimizer = AdamW::new(&parameters);
        for _ in 0..500 {
            let x = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let gradient = vec![2.0 * (x[0] - 1.0), 2.0 * (x[1] - 1.0)];
            optimizer.step(&parameters, &[gradient], 1.0, 0.05).unwrap();
        }
        let x = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(x.iter().all(|x| (x - 1.0).abs() < 0.1), "{x:?}");
    }
}
