//! Against f64, and against what ggml does.

use half::f16;

use super::case::{Case, Random, Sight};
use crate::attention::*;

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
