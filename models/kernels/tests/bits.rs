//! The bits of an output depend on its row of activations and its row of weights alone.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Matrix, Random, random_weights, sane, weights_of};
use half::f16;
use jupiter_kernels::{InstructionSet, Kernels, Shape, WeightType};
use proptest::prelude::*;

fn scalar() -> Kernels {
    Kernels::with(InstructionSet::Scalar).unwrap()
}

fn sets() -> impl Iterator<Item = Kernels> {
    InstructionSet::available().filter_map(Kernels::with)
}

/// Bits, with all NaNs alike: which of two NaNs an instruction keeps is nobody's promise.
fn bits(values: &[f32]) -> Vec<u32> {
    let bits = |v: &f32| {
        if v.is_nan() {
            f32::NAN.to_bits()
        } else {
            v.to_bits()
        }
    };
    values.iter().map(bits).collect()
}

/// Where a machine is emulated to test a set, it must be there: `make aarch64` says which.
#[test]
fn the_set_that_is_to_be_tested_is_there() {
    if let Ok(name) = std::env::var("JUPITER_TESTED_SET") {
        assert_eq!(InstructionSet::best().name(), name);
    }
}

fn columns(t: WeightType, blocks: usize) -> usize {
    if t.block_len() == 1 {
        29 * blocks
    } else {
        blocks * t.block_len()
    }
}

#[test]
fn each_set_and_each_number_of_rows_gives_the_scalar_bits() {
    let mut random = Random::new(2);
    for t in WeightType::ALL {
        let shape = Shape {
            n_rows: 39,
            n_cols: columns(t, 512 / t.block_len().max(32) + 3),
        };
        let matrix = Matrix::new(t, shape, &random_weights(t, shape, &mut random, sane));
        let x: Vec<f32> = (0..37 * shape.n_cols).map(|_| random.normal()).collect();
        let expected = matrix.times(scalar(), &x, 37);
        for kernels in sets() {
            for n in (1..=17).chain([37]) {
                let got = matrix.times(kernels, &x[..n * shape.n_cols], n);
                assert_eq!(
                    bits(&got),
                    bits(&expected[..n * shape.n_rows]),
                    "{t:?}, {n} rows, {}",
                    kernels.instruction_set()
                );
            }
        }
    }
}

#[test]
fn threads_may_cut_the_groups_anywhere() {
    let mut random = Random::new(3);
    for t in WeightType::ALL {
        let shape = Shape {
            n_rows: 71,
            n_cols: columns(t, 2),
        };
        let matrix = Matrix::new(t, shape, &random_weights(t, shape, &mut random, sane));
        let x: Vec<f32> = (0..11 * shape.n_cols).map(|_| random.normal()).collect();
        for kernels in sets() {
            let whole = matrix.times(kernels, &x, 11);
            for cuts in [&[0, 1, 2, 3, 4, 5][..], &[0, 3, 3, 5], &[0, 4, 5]] {
                assert_eq!(
                    whole,
                    matrix.times_in_parts(kernels, &x, 11, cuts),
                    "{t:?} {cuts:?}"
                );
            }
        }
    }
}

/// Groups so large that a cache holds one or two of them: several tiles pass over a few at a time.
#[test]
fn matrices_larger_than_a_cache_give_the_scalar_bits() {
    let mut random = Random::new(6);
    for (t, n_cols) in [(WeightType::F32, 2048), (WeightType::Q8_0, 4096)] {
        let n_rows = 71;
        let shape = Shape { n_rows, n_cols };
        let matrix = Matrix::new(t, shape, &random_weights(t, shape, &mut random, sane));
        let x: Vec<f32> = (0..9 * n_cols).map(|_| random.normal()).collect();
        // One row is one tile, which passes over all groups.
        let alone = x
            .chunks(n_cols)
            .flat_map(|row| matrix.times(scalar(), row, 1));
        let expected = bits(&alone.collect::<Vec<_>>());
        for kernels in sets() {
            let got = bits(&matrix.times(kernels, &x, 9));
            assert_eq!(got, expected, "{t:?} {}", kernels.instruction_set());
        }
    }
}

/// Sums of the largest products, which must not overflow on their way.
#[test]
fn largest_codes_give_the_scalar_bits() {
    let mut random = Random::new(7);
    for t in WeightType::ALL {
        let shape = Shape {
            n_rows: 16,
            n_cols: columns(t, 2),
        };
        for code in [0, 0x77, 0x7f, 0x80, 0xff] {
            let source = weights_of(t, shape, &mut random, sane, |_| code);
            let matrix = Matrix::new(t, shape, &source);
            for x in [1.0, -1.0].map(|x| vec![x; shape.n_cols]) {
                let expected = bits(&matrix.times(scalar(), &x, 1));
                for kernels in sets() {
                    let got = bits(&matrix.times(kernels, &x, 1));
                    let set = kernels.instruction_set();
                    assert_eq!(got, expected, "{t:?}, codes of {code:#x}, {set}");
                }
            }
        }
    }
}

/// A block a row, so that no other hides its product.
#[test]
fn each_exponent_gives_the_scalar_bits() {
    let mut random = Random::new(9);
    let (t, shape) = (
        WeightType::Mxfp4,
        Shape {
            n_rows: 256,
            n_cols: 32,
        },
    );
    let mut source = random_weights(t, shape, &mut random, sane);
    for (e, block) in source.chunks_exact_mut(17).enumerate() {
        block[0] = e as u8;
    }
    let matrix = Matrix::new(t, shape, &source);
    let x: Vec<f32> = (0..32).map(|_| random.normal()).collect();
    let expected = bits(&matrix.times(scalar(), &x, 1));
    for kernels in sets() {
        let got = bits(&matrix.times(kernels, &x, 1));
        assert_eq!(got, expected, "{}", kernels.instruction_set());
    }
}

#[test]
fn blocks_below_the_smallest_scale_are_zero() {
    let mut random = Random::new(8);
    let smallest = 2f32.powi(-112);
    for t in WeightType::ALL.into_iter().filter(|t| t.block_len() > 1) {
        let shape = Shape {
            n_rows: 16,
            n_cols: columns(t, 1),
        };
        let matrix = Matrix::new(t, shape, &random_weights(t, shape, &mut random, sane));
        for kernels in sets() {
            for (x, is_zero) in [(smallest, false), (smallest.next_down(), true)] {
                let got = matrix.times(kernels, &vec![x; shape.n_cols], 1);
                let set = kernels.instruction_set();
                assert_eq!(got.iter().all(|&v| v == 0.0), is_zero, "{t:?} {x:e} {set}");
            }
        }
    }
}

#[test]
fn rows_that_are_not_finite_become_nan_and_leave_the_others_alone() {
    let mut random = Random::new(4);
    for t in WeightType::ALL {
        let shape = Shape {
            n_rows: 20,
            n_cols: columns(t, 2),
        };
        let matrix = Matrix::new(t, shape, &random_weights(t, shape, &mut random, sane));
        let x: Vec<f32> = (0..5 * shape.n_cols).map(|_| random.normal()).collect();
        for kernels in sets() {
            let clean = matrix.times(kernels, &x, 5);
            for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = x.clone();
                x[2 * shape.n_cols + 17] = bad;
                let got = matrix.times(kernels, &x, 5);
                for (i, (got, clean)) in got.chunks(20).zip(clean.chunks(20)).enumerate() {
                    if i == 2 {
                        // Floats are multiplied as they are.
                        let is_float = t.block_len() == 1;
                        let is_bad = |v: &f32| v.is_nan() || is_float && v.is_infinite();
                        assert!(got.iter().all(is_bad), "{t:?} {bad}: {got:?}");
                    } else {
                        assert_eq!(got, clean, "{t:?} {bad} row {i}");
                    }
                }
            }
        }
    }
}

/// Values halfway between two bytes, of a scale that is 1 and of others, where they are only nearly so.
#[test]
fn halves_are_rounded_to_even() {
    let mut random = Random::new(5);
    for t in WeightType::ALL {
        let shape = Shape {
            n_rows: 16,
            n_cols: columns(t, 2),
        };
        let matrix = Matrix::new(t, shape, &random_weights(t, shape, &mut random, sane));
        for scale in [1.0, 0.7, 1.1, 1.3] {
            let mut x: Vec<f32> = (0..2 * shape.n_cols)
                .map(|_| ((random.unit() * 126.0).trunc() + 0.5) * scale)
                .collect();
            // The largest value of each block, so that the others are multiples of the scale and a half.
            x.iter_mut().step_by(32).for_each(|x| *x = 127.0 * scale);
            let expected = bits(&matrix.times(scalar(), &x, 2));
            for kernels in sets() {
                let got = bits(&matrix.times(kernels, &x, 2));
                assert_eq!(got, expected, "{t:?} {}", kernels.instruction_set());
            }
        }
    }
}

/// Any f16 at all, extremes above all.
fn any_scale(random: &mut Random) -> f16 {
    const EXTREMES: [u16; 12] = [
        0, 0x8000, 1, 0x8001, 0x3ff, 0x400, 0x7bff, 0xfbff, 0x7c00, 0xfc00, 0x7e00, 0x3c00,
    ];
    let bits = random.bits();
    match bits % 4 {
        0 => f16::from_bits(EXTREMES[(bits >> 8) as usize % EXTREMES.len()]),
        1 => f16::from_bits((bits >> 8) as u16),
        _ => sane(random),
    }
}

/// Any f32 at all, extremes above all; `mild` leaves out what is not finite.
fn any_value(random: &mut Random, mild: bool) -> f32 {
    let bits = random.bits();
    let value = match bits % 16 {
        0 => [0.0, -0.0, 1e-45, -1e-38, 1.5e-34, 1.6e-34, 3e38, -3e38][(bits >> 8) as usize % 8],
        1 => f32::from_bits((bits >> 8) as u32),
        2 => (bits >> 8) as u8 as f32 + 0.5,
        _ => random.normal(),
    };
    if mild && !value.is_finite() {
        0.0
    } else {
        value
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn extremes_give_the_scalar_bits(seed: u64, n_rows in 1usize..50, blocks in 1usize..11, n in 1usize..20) {
        let mut random = Random::new(seed);
        let t = WeightType::ALL[(seed % 14) as usize];
        let blocks = if t.block_len() == 256 { blocks.div_ceil(4) } else { blocks };
        let shape = Shape { n_rows, n_cols: columns(t, blocks) };
        let mut source = random_weights(t, shape, &mut random, any_scale);
        if t == WeightType::Mxfp4 {
            for block in source.chunks_exact_mut(17) {
                block[0] = random.bits() as u8;
            }
        }
        let matrix = Matrix::new(t, shape, &source);
        let mut x = Vec::new();
        for _ in 0..n {
            let mild = !random.bits().is_multiple_of(4);
            // Blocks of zeros, of tiny and of huge values as well.
            for _ in 0..shape.n_cols {
                x.push(any_value(&mut random, mild));
            }
            let from = x.len() - shape.n_cols;
            let factor = [0.0, 1e-36, 1e-30, 1e30, 1.0, 1.0][random.bits() as usize % 6];
            x[from..].iter_mut().take(32).for_each(|v| *v *= factor);
        }
        let expected = bits(&matrix.times(scalar(), &x, n));
        for kernels in sets() {
            let got = bits(&matrix.times(kernels, &x, n));
            prop_assert_eq!(&got, &expected, "{:?} {:?} {}", t, shape, kernels.instruction_set());
        }
    }
}
