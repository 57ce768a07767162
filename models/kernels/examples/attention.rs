//! How long attention takes: a table over rows of a step and cells of the cache, causal, F16.
//!
//! `cargo run -p jupiter-kernels --example attention [SET] [HEADS KV_HEADS LEN]`
//!
//! Beside each time stand the bytes of K and V that the step reads once, by seconds, and
//! multiply-adds by seconds; above the table what the core reads and computes at best. Layers take
//! turns, so that a cache does not lie in the core's own caches from the call before.

use std::hint::black_box;
use std::time::Instant;

use half::f16;
use jupiter_kernels::attention::{Attention, Cells};
use jupiter_kernels::{InstructionSet, WeightType};

const ROWS: [usize; 8] = [1, 2, 4, 8, 16, 64, 256, 512];
const CELLS: [usize; 5] = [64, 512, 1024, 2048, 8192];

fn main() {
    let mut args = std::env::args().skip(1).peekable();
    let set = match args.peek().and_then(|name| name.parse().ok()) {
        Some(set) => {
            args.next();
            set
        }
        None => InstructionSet::best(),
    };
    let numbers: Vec<usize> = args.filter_map(|n| n.parse().ok()).collect();
    let [n_heads, n_kv_heads, len] = numbers.try_into().unwrap_or([24, 8, 64]);
    println!("{set}, {n_heads} heads of {len} values, {n_kv_heads} in the cache");
    println!(
        "reading {:.1} GB/s, multiply-adds {:.0} G/s",
        read_gbps(),
        peak_gmacs()
    );
    println!(
        "{:>5} {:>5} {:>10} {:>7} {:>7}",
        "cells", "rows", "µs", "GB/s", "GMAC/s"
    );
    for n_cells in CELLS {
        for n_rows in ROWS.into_iter().filter(|&n| n <= n_cells) {
            let seconds = step(set, [n_heads, n_kv_heads, len, n_cells, n_rows]);
            let bytes = 2 * 2 * len * n_kv_heads * n_cells;
            let seen = n_rows * n_cells - n_rows * (n_rows - 1) / 2;
            println!(
                "{n_cells:5} {n_rows:5} {:10.1} {:7.1} {:7.1}",
                seconds * 1e6,
                bytes as f64 / seconds / 1e9,
                (2 * seen * len * n_heads) as f64 / seconds / 1e9
            );
        }
    }
}

/// Seconds of an attention, the least of many.
fn step(set: InstructionSet, [n_heads, n_kv_heads, len, n_cells, n_rows]: [usize; 5]) -> f64 {
    let vector = n_kv_heads * len;
    let layers = (64 << 20) / (4 * vector * n_cells);
    let caches: Vec<Vec<f16>> = (0..layers.clamp(2, 64))
        .map(|layer| {
            numbers(2 * vector * n_cells, layer)
                .map(f16::from_f32)
                .collect()
        })
        .collect();
    let q: Vec<f32> = numbers(n_rows * n_heads * len, 5).collect();
    let mask: Vec<f16> = (0..n_rows * n_cells)
        .map(|i| match i % n_cells > n_cells - n_rows + i / n_cells {
            true => f16::NEG_INFINITY,
            false => f16::ZERO,
        })
        .collect();
    let mut output = vec![0.0f32; n_rows * n_heads * len];
    let mut attention = Attention {
        n_rows,
        n_heads,
        n_kv_heads,
        n_cells,
        q: q.as_ptr().cast(),
        q_row_stride: 4 * n_heads * len,
        q_head_stride: 4 * len,
        k: cells(&caches[0], vector, len),
        v: cells(&caches[0], vector, len),
        mask: mask.as_ptr().cast(),
        mask_stride: 2 * n_cells,
        scale: 1.0 / (len as f32).sqrt(),
        max_bias: 0.0,
        softcap: 0.0,
        sinks: None,
        order: None,
        output: output.as_mut_ptr().cast(),
        output_row_stride: 4 * n_heads * len,
        output_head_stride: 4 * len,
    };
    let mut work = vec![0u8; attention.work_bytes() + 64];
    let work = work.as_mut_ptr();
    let work = work.wrapping_add(work.align_offset(64));
    let start = Instant::now();
    let mut best = f64::INFINITY;
    for round in 0.. {
        let cache = &caches[round % caches.len()];
        attention.k = cells(cache, vector, len);
        attention.v = cells(&cache[vector * n_cells..], vector, len);
        let begin = Instant::now();
        // SAFETY: all pointers are into vectors of the right lengths.
        unsafe { attention.compute(set, 0, 1, work) };
        best = best.min(begin.elapsed().as_secs_f64());
        if round >= 3 && start.elapsed().as_secs_f64() > 0.3 {
            break;
        }
    }
    black_box(&output);
    best
}

fn cells(data: &[f16], vector: usize, len: usize) -> Cells {
    Cells {
        data: data.as_ptr().cast(),
        kind: WeightType::F16,
        len,
        cell_stride: 2 * vector,
        head_stride: 2 * len,
    }
}

/// Numbers between -1 and 1.
fn numbers(n: usize, seed: usize) -> impl Iterator<Item = f32> {
    (0..n).map(move |i| {
        let bits = (i as u32 ^ (seed as u32) << 20).wrapping_mul(2_654_435_769) >> 8;
        bits as f32 / (1 << 23) as f32 - 1.0
    })
}

/// What one core reads from memory, at best.
fn read_gbps() -> f64 {
    let words = vec![1u64; 32 << 20];
    let once = || {
        let start = Instant::now();
        black_box(words.iter().fold(0, |sum, word| sum ^ word));
        (8 * words.len()) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| once()).fold(0.0, f64::max)
}

/// Multiply-adds of one core, as the compiler makes them for this machine.
fn peak_gmacs() -> f64 {
    let once = || {
        let start = Instant::now();
        let mut sums = [1.0f32; 192];
        let factor = black_box(0.999f32);
        for _ in 0..100_000 {
            sums = sums.map(|sum| sum.mul_add(factor, 0.001));
        }
        black_box(sums);
        (100_000 * sums.len()) as f64 / start.elapsed().as_secs_f64() / 1e9
    };
    (0..5).map(|_| once()).fold(0.0, f64::max)
}
