//! Products by our kernels beside ggml's own, through the same graph and threads as a model's.

use std::ffi::c_void;
use std::fmt;
use std::ptr;

use jupiter_kernels::{Kernels, WeightType};
use llama_cpp_sys_2 as sys;

use super::buffer::{BufferType, load_with};

/// Rows of the weights: whole groups and a part of one.
const N_ROWS: usize = 40;
/// Columns: two blocks of the largest type.
const N_COLS: usize = 512;
/// Rows of activations: more than one, and no even tile.
const N_TOKENS: usize = 5;
/// Threads that compute.
const N_THREADS: i32 = 2;
/// Most difference, as a share of the products' size: both ways round activations to 8 bits, each in
/// its own way, which makes about 0.006.
const MAX_DIFFERENCE: f64 = 0.03;

/// What was found to be different.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    weights: &'static str,
    share: f64,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {:.1} %", self.weights, self.share * 100.0)
    }
}

/// Compares products of all types.
pub(super) fn run(ours: *mut BufferType) -> Result<(), Difference> {
    WeightType::ALL.into_iter().try_for_each(|weights| {
        let [theirs, ours] = products(weights, ours);
        compare(weights.name(), &theirs, &ours)
    })
}

/// An error where the products differ by more than rounding.
fn compare(weights: &'static str, theirs: &[f32], ours: &[f32]) -> Result<(), Difference> {
    let squares = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let size = squares(&mut theirs.iter().map(|v| f64::from(*v)));
    let distance = squares(
        &mut theirs
            .iter()
            .zip(ours)
            .map(|(a, b)| f64::from(*a) - f64::from(*b)),
    );
    let share = (distance / size).sqrt();
    // Not a number is a difference too.
    match share <= MAX_DIFFERENCE && theirs.len() == ours.len() {
        true => Ok(()),
        false => Err(Difference { weights, share }),
    }
}

/// The same product by ggml and by our kernels.
fn products(weights: WeightType, ours: *mut BufferType) -> [Vec<f32>; 2] {
    let mut values = noise();
    let weight_values: Vec<f32> = values.by_ref().take(N_ROWS * N_COLS).collect();
    let x: Vec<f32> = values.take(N_TOKENS * N_COLS).collect();
    let mut file = vec![0u8; weights.row_bytes(N_COLS).unwrap_or(0) * N_ROWS];
    // SAFETY: the lengths match the shape, N_COLS is whole blocks of every type, and these types need
    // no importance matrix.
    unsafe {
        sys::ggml_quantize_chunk(
            weights.ggml_type(),
            weight_values.as_ptr(),
            file.as_mut_ptr().cast(),
            0,
            N_ROWS as i64,
            N_COLS as i64,
            ptr::null(),
        );
    }
    // SAFETY: looks up ggml's plain buffer type.
    let stock = unsafe { sys::ggml_backend_cpu_buffer_type() };
    [stock, ours.cast()].map(|buffer_type| {
        load_with(Some(Kernels::best()), || {
            // SAFETY: file and x have the tensors' sizes.
            unsafe { product(weights, buffer_type, &file, &x) }
        })
    })
}

/// One product, with the weights in a buffer of `buffer_type`; empty when there is no memory.
///
/// # Safety
/// `file` and `x` hold as many bytes as the tensors.
unsafe fn product(
    weights: WeightType,
    buffer_type: sys::ggml_backend_buffer_type_t,
    file: &[u8],
    x: &[f32],
) -> Vec<f32> {
    let mut out = vec![0f32; N_ROWS * N_TOKENS];
    // SAFETY: tensors and graph live in contexts that are freed at the end, after the last use;
    // sizes match by contract.
    unsafe {
        let context = || {
            sys::ggml_init(sys::ggml_init_params {
                mem_size: sys::ggml_graph_overhead() + 8 * sys::ggml_tensor_overhead(),
                mem_buffer: ptr::null_mut(),
                no_alloc: true,
            })
        };
        let (held, computed) = (context(), context());
        let w = sys::ggml_new_tensor_2d(held, weights.ggml_type(), N_COLS as i64, N_ROWS as i64);
        let input =
            sys::ggml_new_tensor_2d(computed, sys::GGML_TYPE_F32, N_COLS as i64, N_TOKENS as i64);
        let output = sys::ggml_mul_mat(computed, w, input);
        let graph = sys::ggml_new_graph(computed);
        sys::ggml_build_forward_expand(graph, output);
        let plain = sys::ggml_backend_cpu_buffer_type();
        let buffers = [
            sys::ggml_backend_alloc_ctx_tensors_from_buft(held, buffer_type),
            sys::ggml_backend_alloc_ctx_tensors_from_buft(computed, plain),
        ];
        let backend = sys::ggml_backend_cpu_init();
        if buffers.iter().all(|buffer| !buffer.is_null()) && !backend.is_null() {
            sys::ggml_backend_cpu_set_n_threads(backend, N_THREADS);
            sys::ggml_backend_tensor_set(w, file.as_ptr().cast::<c_void>(), 0, file.len());
            sys::ggml_backend_tensor_set(input, x.as_ptr().cast(), 0, size_of_val(x));
            sys::ggml_backend_graph_compute(backend, graph);
            let n_bytes = size_of_val(out.as_slice());
            sys::ggml_backend_tensor_get(output, out.as_mut_ptr().cast(), 0, n_bytes);
        } else {
            out.clear();
        }
        sys::ggml_backend_free(backend);
        buffers
            .into_iter()
            .for_each(|buffer| sys::ggml_backend_buffer_free(buffer));
        sys::ggml_free(held);
        sys::ggml_free(computed);
    }
    out
}

/// Values between -1 and 1 that are the same at every start (xorshift).
fn noise() -> impl Iterator<Item = f32> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as i32 as f32 / i32::MAX as f32
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_no_difference_and_anything_else_is() {
        let theirs: Vec<f32> = noise().take(100).collect();
        let with =
            |change: fn(f32) -> f32| -> Vec<f32> { theirs.iter().map(|v| change(*v)).collect() };
        assert_eq!(compare("Q4_0", &theirs, &with(|v| v * 1.01)), Ok(()));
        compare("Q4_0", &theirs, &with(|v| -v)).expect_err("a wrong sign");
        compare("Q4_0", &theirs, &with(|_| f32::NAN)).expect_err("no numbers");
        compare("Q4_0", &theirs, &[]).expect_err("nothing");
    }

    #[test]
    fn llama_cpp_has_started_with_the_kernels() {
        assert_eq!(super::super::readiness(), Ok(()));
    }
}
