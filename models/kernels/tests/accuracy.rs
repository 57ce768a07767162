//! Products are as near to the exact ones as ggml's are, with the activations that ggml quantizes them to.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Matrix, Random, dequantize, random_weights, sane};
use half::{bf16, f16};
use jupiter_kernels::{InstructionSet, Kernels, Shape, WeightType};

fn half(x: f32) -> f32 {
    f16::from_f32(x).to_f32()
}

/// Activations as ggml multiplies them with weights of this type (`type_traits_cpu` in ggml-cpu.c; ggml-quants.c,
/// `quantize_row_q8_0_ref`, `quantize_row_q8_1_ref`, `quantize_row_q8_K_ref`): for each value what it is
/// multiplied with, and what minima are multiplied with in its stead.
fn as_ggml(t: WeightType, x: &[f32]) -> Vec<(f64, f64)> {
    use WeightType as T;
    let block = match t {
        T::F32 => return x.iter().map(|&x| (f64::from(x), 0.0)).collect(),
        T::F16 => return x.iter().map(|&x| (f64::from(half(x)), 0.0)).collect(),
        T::Bf16 => {
            return x
                .iter()
                .map(|&x| (f64::from(bf16::from_f32(x).to_f32()), 0.0))
                .collect();
        }
        T::Q4K | T::Q5K | T::Q6K | T::Iq4Xs => 256,
        _ => 32,
    };
    let mut values = Vec::new();
    for x in x.chunks(block) {
        let largest = x.iter().fold(0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let exact = largest / 127.0;
        let scale = if block == 32 { half(exact) } else { exact };
        let quants: Vec<f32> = x.iter().map(|x| (x * inverse).round()).collect();
        let sum = scale * quants.iter().sum::<f32>();
        let sum = if block == 32 { half(sum) } else { sum };
        values.extend(
            quants
                .iter()
                .map(|q| (f64::from(q * scale), f64::from(sum) / block as f64)),
        );
    }
    values
}

#[test]
fn products_are_as_exact_as_ggmls() {
    let mut random = Random::new(5);
    for t in WeightType::ALL {
        let shape = Shape {
            n_rows: 64,
            n_cols: 1536,
        };
        let source = random_weights(t, shape, &mut random, sane);
        let matrix = Matrix::new(t, shape, &source);
        // Some columns are ten times as large as others, as in models.
        let x: Vec<f32> = (0..7 * shape.n_cols)
            .map(|i| random.normal() * if i % 97 == 3 { 10.0 } else { 1.0 })
            .collect();
        let got = matrix.times(Kernels::with(InstructionSet::Scalar).unwrap(), &x, 7);
        let rows: Vec<Vec<f32>> = source
            .chunks_exact(t.row_bytes(shape.n_cols).unwrap())
            .map(|row| dequantize(t, row))
            .collect();
        // Of Q4_1 and Q5_1 the minimum is separate in ggml's product.
        let mins: Option<Vec<f32>> = matches!(t, WeightType::Q4_1 | WeightType::Q5_1).then(|| {
            source
                .chunks_exact(t.block_bytes())
                .map(|b| f16::from_le_bytes([b[2], b[3]]).to_f32())
                .collect()
        });
        let (mut ours, mut ggmls, mut size) = (0f64, 0f64, 0f64);
        for (x, got) in x
            .chunks_exact(shape.n_cols)
            .zip(got.chunks_exact(shape.n_rows))
        {
            let quantized = as_ggml(t, x);
            for (r, (row, &got)) in rows.iter().zip(got).enumerate() {
                let exact: f64 = row
                    .iter()
                    .zip(x)
                    .map(|(&w, &x)| f64::from(w) * f64::from(x))
                    .sum();
                let ggml: f64 = if t == WeightType::F32 {
                    f64::from(in_lanes(row, x))
                } else {
                    let min = |k: usize| {
                        mins.as_ref()
                            .map_or(0.0, |mins| f64::from(mins[(r * shape.n_cols + k) / 32]))
                    };
                    let terms = row.iter().zip(&quantized).enumerate();
                    terms
                        .map(|(k, (&w, &(x, share)))| (f64::from(w) - min(k)) * x + min(k) * share)
                        .sum()
                };
                ours += (f64::from(got) - exact).powi(2);
                ggmls += (ggml - exact).powi(2);
                size += exact.powi(2);
            }
        }
        let (ours, ggmls) = ((ours / size).sqrt(), (ggmls / size).sqrt());
        println!("{:7} ours {ours:.2e} ggml's {ggmls:.2e}", t.name());
        // Of many equal errors, the last digits are luck.
        let slack = if t == WeightType::F32 { 1.0 } else { 1.02 };
        assert!(ours <= slack * ggmls, "{t:?}: {ours:e}, ggml {ggmls:e}");
    }
}

/// A product of floats as ggml sums it with AVX2: 32 lanes, then pairs (ggml-cpu/vec.cpp, `ggml_vec_dot_f32`).
fn in_lanes(w: &[f32], x: &[f32]) -> f32 {
    let mut lanes = [0f32; 32];
    for (w, x) in w.chunks_exact(32).zip(x.chunks_exact(32)) {
        for (lane, (w, x)) in lanes.iter_mut().zip(w.iter().zip(x)) {
            *lane = w.mul_add(*x, *lane);
        }
    }
    let mut n = 32;
    while n > 1 {
        n /= 2;
        for i in 0..n {
            lanes[i] += lanes[n + i];
        }
    }
    lanes[0]
}
