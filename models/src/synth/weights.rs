//! The values of a tensor, chunk by chunk, seeded by the model's seed and the tensor's name.
//!
//! Any chunk can be made without the others, so threads and order do not change a file.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::tensors::{Fill, SynthTensor, is_control_row};
use crate::Result;
use crate::llama::quantize;

/// Values in a chunk, about: 1 MiB of f32, small beside any cache of pages and large enough that a
/// thread's start does not count.
pub(super) const CHUNK_VALUES: u64 = 1 << 18;
/// Relative deviation of norm gains: enough that mixing up two norms shows.
const GAIN_SPREAD: f32 = 0.1;

/// Number of chunks of the tensor; each is whole rows.
pub(super) fn n_chunks(tensor: &SynthTensor) -> u64 {
    n_rows(tensor).div_ceil(rows_per_chunk(tensor))
}

/// The bytes of some chunks, in the order asked for, each made on a thread of its own.
pub(super) fn chunks(tensor: &SynthTensor, seed: u64, wanted: &[u64]) -> Vec<Result<Vec<u8>>> {
    if let [only] = *wanted {
        return vec![chunk(tensor, seed, only)];
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = wanted
            .iter()
            .map(|&index| scope.spawn(move || chunk(tensor, seed, index)))
            .collect();
        threads
            .into_iter()
            .map(|thread| match thread.join() {
                Ok(bytes) => bytes,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    })
}

fn chunk(tensor: &SynthTensor, seed: u64, index: u64) -> Result<Vec<u8>> {
    let n_per_row = tensor.dims[0] as usize;
    let first = index * rows_per_chunk(tensor);
    let rows = first..n_rows(tensor).min(first + rows_per_chunk(tensor));
    let mut values = vec![0.0; (rows.end - rows.start) as usize * n_per_row];
    let mut rng = rng(seed, &tensor.name, index);
    match tensor.fill {
        Fill::Random { std } => fill_random(&mut values, std, &mut rng),
        Fill::Vocabulary { std, control_scale } => {
            fill_random(&mut values, std, &mut rng);
            for (row, values) in rows.zip(values.chunks_exact_mut(n_per_row)) {
                if is_control_row(row) {
                    values.iter_mut().for_each(|value| *value *= control_scale);
                }
            }
        }
        Fill::Gain { mean, signed } => {
            fill_random(&mut values, mean * GAIN_SPREAD, &mut rng);
            for value in &mut values {
                let negative = signed && rng.next_u32() & 1 == 1;
                *value = if negative {
                    *value - mean
                } else {
                    *value + mean
                };
            }
        }
        Fill::RopeFactors { to } => {
            let last = (values.len() - 1).max(1) as f32;
            for (i, value) in values.iter_mut().enumerate() {
                *value = to.powf(i as f32 / last);
            }
        }
    }
    quantize::quantize_rows(tensor.ggml_type, &values, n_per_row)
}

/// Bell-shaped enough for weights and cheap: the sum of two 16-bit uniforms (a triangle on
/// +-2.45 standard deviations).
fn fill_random(values: &mut [f32], std: f32, rng: &mut ChaCha8Rng) {
    // A uniform on 2^16 steps has the variance 2^32 / 12, the sum of two twice that.
    let step = std * 6.0_f32.sqrt() / 65536.0;
    for value in values {
        let bits = rng.next_u32();
        let sum = (bits & 0xffff) as i32 + (bits >> 16) as i32 - 0xffff;
        *value = sum as f32 * step;
    }
}

fn rng(seed: u64, name: &str, chunk: u64) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    let mut rng = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
    rng.set_stream(chunk);
    rng
}

fn n_rows(tensor: &SynthTensor) -> u64 {
    tensor.dims[1..].iter().product()
}

fn rows_per_chunk(tensor: &SynthTensor) -> u64 {
    (CHUNK_VALUES / tensor.dims[0]).max(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn values(fill: Fill, dims: &[u64]) -> Vec<f32> {
        let tensor = SynthTensor {
            name: "t".to_owned(),
            dims: dims.to_vec(),
            ggml_type: quantize::F32,
            fill,
        };
        let wanted: Vec<u64> = (0..n_chunks(&tensor)).collect();
        chunks(&tensor, 7, &wanted)
            .into_iter()
            .flat_map(|bytes| {
                let bytes = bytes.unwrap();
                let floats = bytes
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|&b| f32::from_le_bytes(b));
                floats.collect::<Vec<_>>()
            })
            .collect()
    }

    fn mean_and_std(values: &[f32]) -> (f32, f32) {
        let n = values.len() as f32;
        let mean = values.iter().sum::<f32>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
        (mean, variance.sqrt())
    }

    #[test]
    fn random_values_have_the_asked_mean_and_deviation_across_chunks() {
        let all = values(Fill::Random { std: 0.3 }, &[1024, 600]);
        assert_eq!(all.len(), 1024 * 600);
        let (mean, std) = mean_and_std(&all);
        assert!(
            mean.abs() < 0.002 && (std - 0.3).abs() < 0.002,
            "{mean} {std}"
        );
        // Chunks differ from one another.
        assert_ne!(all[..8], all[CHUNK_VALUES as usize..][..8]);
    }

    #[test]
    fn signed_gains_balance_and_rows_of_control_tokens_are_quiet() {
        let gains = values(
            Fill::Gain {
                mean: 2.0,
                signed: true,
            },
            &[4096],
        );
        assert!(gains.iter().all(|g| (1.4..2.6).contains(&g.abs())));
        assert!(mean_and_std(&gains).0.abs() < 0.2);
        let rows = values(
            Fill::Vocabulary {
                std: 1.0,
                control_scale: 0.0,
            },
            &[4, 300],
        );
        for (id, row) in rows.chunks(4).enumerate() {
            assert_eq!(
                row.iter().all(|&v| v == 0.0),
                is_control_row(id as u64),
                "{id}"
            );
        }
        assert_eq!(
            values(Fill::RopeFactors { to: 8.0 }, &[4]),
            [1.0, 2.0, 4.0, 8.0]
        );
        assert_eq!(values(Fill::RopeFactors { to: 8.0 }, &[1]), [1.0]);
    }
}
