//! Fused operations with their gradients: what candle would compose of many passes over memory.
//!
//! All tensors are f32 on the CPU. Each operation is tested against the same one composed of
//! candle's own.

mod attention;
mod cross_entropy;
mod math;
mod rms_norm;
mod swiglu;

pub(crate) use attention::{Attention, Heads};
pub(crate) use cross_entropy::CrossEntropy;
pub(crate) use rms_norm::RmsNorm;
pub(crate) use swiglu::SwiGlu;

use candle_core::{CpuStorage, Layout, Result, Storage, Tensor, bail};

/// The values of a contiguous f32 operand.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a fused operation needs contiguous operands, got {layout:?}")
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Calls `f` with the values of each tensor.
fn with_values<R, const N: usize>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> Result<R>,
) -> Result<R> {
    let tensors = tensors.map(Tensor::contiguous);
    let mut guards = Vec::with_capacity(N);
    for tensor in &tensors {
        match tensor {
            Ok(tensor) => guards.push(tensor.storage_and_layout()),
            Err(error) => bail!("{error}"),
        }
    }
    let mut slices = [&[] as &[f32]; N];
    for (slice, (storage, layout)) in slices.iter_mut().zip(&guards) {
        match &**storage {
            Storage::Cpu(storage) => *slice = values(storage, layout)?,
            _ => bail!("fused operations run on the CPU"),
        }
    }
    f(slices)
}

#[cfg(test)]
mod testing {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Tensor, Var};

    /// Asserts that two ways of computing agree, and so do their gradients for all `vars`.
    pub(super) fn assert_same(vars: &[&Var], a: &Tensor, b: &Tensor) {
        let close = |a: &Tensor, b: &Tensor, what: &str| {
            let (a, b) = (a.flatten_all().unwrap(), b.flatten_all().unwrap());
            for (a, b) in a
                .to_vec1::<f32>()
                .unwrap()
                .iter()
                .zip(b.to_vec1::<f32>().unwrap())
            {
                assert!(
                    (a - b).abs() <= 1e-4 * (1.0 + b.abs()),
                    "{what}: {a} and {b}"
                );
            }
        };
        close(a, b, "value");
        // A weighted sum, so that every element has a gradient of its own.
        let weights = Tensor::rand(-1f32, 1., a.shape(), a.device()).unwrap();
        let grads = |t: &Tensor| {
            (t * &weights)
                .unwrap()
                .sum_all()
                .unwrap()
                .backward()
                .unwrap()
        };
        let (grads_a, grads_b) = (grads(a), grads(b));
        for var in vars {
            close(
                grads_a.get(var).unwrap(),
                grads_b.get(var).unwrap(),
                "gradient",
            );
        }
    }
}
