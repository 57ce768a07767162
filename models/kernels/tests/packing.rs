//! What is packed comes out again, in not much more memory.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Matrix, Random, dequantize, random_weights, sane};
use jupiter_kernels::{Shape, WeightType, pack, packed_bytes, unpack_row};

#[test]
fn each_value_comes_out_again() {
    let mut random = Random::new(1);
    for t in WeightType::ALL {
        for (n_rows, blocks) in [(1, 1), (16, 2), (37, 3), (5, 9), (16, 8), (18, 17)] {
            let n_cols = if t.block_len() == 1 {
                13 * blocks
            } else {
                blocks * t.block_len()
            };
            let shape = Shape { n_rows, n_cols };
            let source = random_weights(t, shape, &mut random, sane);
            let matrix = Matrix::new(t, shape, &source);
            let mut values = vec![0f32; n_cols];
            for (r, row) in source
                .chunks_exact(t.row_bytes(n_cols).unwrap())
                .enumerate()
            {
                unpack_row(t, shape, &matrix.packed, r, &mut values);
                assert_eq!(values, dequantize(t, row), "{t:?} {shape:?} row {r}");
            }
        }
    }
}

#[test]
fn rows_that_lack_are_packed_as_zeros() {
    let mut random = Random::new(2);
    for t in WeightType::ALL {
        let shape = Shape {
            n_rows: 21,
            n_cols: 256,
        };
        let source = random_weights(t, shape, &mut random, sane);
        let mut packed = vec![0; packed_bytes(t, shape).unwrap()];
        pack(t, shape, &source, &mut packed);
        // The same in memory that held something else.
        assert!(packed == Matrix::new(t, shape, &source).packed, "{t:?}");
    }
}

#[test]
fn packed_matrices_are_hardly_larger() {
    for t in WeightType::ALL {
        for n_cols in [
            256, 512, 768, 1536, 2048, 2560, 2816, 2880, 4096, 5120, 11008,
        ] {
            let shape = Shape {
                n_rows: 512,
                n_cols,
            };
            let Some(row) = t.row_bytes(n_cols) else {
                continue;
            };
            let packed = packed_bytes(t, shape).unwrap();
            assert!(packed.is_multiple_of(64));
            let ratio = packed as f64 / (512 * row) as f64;
            assert!(ratio <= 1.03, "{t:?} of {n_cols} columns: {ratio}");
        }
    }
}

#[test]
fn odd_matrices_are_not_taken() {
    for t in WeightType::ALL {
        let taken = |n_rows, n_cols| packed_bytes(t, Shape { n_rows, n_cols }).is_some();
        assert!(!taken(0, 256) && !taken(16, 0), "{t:?}");
        assert_eq!(taken(16, 255), t.block_len() == 1, "{t:?}");
        assert!(taken(1, 256) && taken(17, 512), "{t:?}");
        assert!(!taken(usize::MAX, 256), "{t:?}");
    }
}
