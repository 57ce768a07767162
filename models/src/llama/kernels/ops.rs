//! What the CPU backend asks for each operation: whether we compute it, and to do so.

use std::ffi::{CStr, c_int};

use llama_cpp_sys_2 as sys;

use super::attend::Attend;
use super::buffer::{kernels_of, loading, packing};
use super::cells;
use super::product::Product;
use super::team::{ComputeParams, Team};

/// What shim.cpp calls.
#[repr(C)]
pub(super) struct Ops {
    supports: unsafe extern "C" fn(*const sys::ggml_tensor) -> bool,
    takes: unsafe extern "C" fn(*const sys::ggml_tensor) -> bool,
    work_size: unsafe extern "C" fn(c_int, *const sys::ggml_tensor, *mut usize) -> bool,
    compute: unsafe extern "C" fn(*const ComputeParams, *const sys::ggml_tensor) -> bool,
}

pub(super) const OPS: Ops = Ops {
    supports,
    takes,
    work_size,
    compute,
};

/// Whether the CPU backend may put the weights of `op` into our buffers, or compute with such.
///
/// # Safety
/// `op` is a live tensor. While a model is loaded its weights have an empty buffer and no data.
unsafe extern "C" fn supports(op: *const sys::ggml_tensor) -> bool {
    // SAFETY: by contract; sources of live tensors are live.
    let (op, w, x) = unsafe { (&*op, (*op).src[0].as_ref(), (*op).src[1].as_ref()) };
    let (Some(w), Some(x)) = (w, x) else {
        return false;
    };
    // SAFETY: see above.
    let kernels = match unsafe { kernels_of(w) } {
        None if w.data.is_null() => loading(),
        kernels => kernels,
    };
    // A hint says what the weights are (ggml_mul_mat_set_hint); ours are none of these.
    let is_plain = op.op != sys::GGML_OP_MUL_MAT || op.op_params[1] == 0;
    // llama.cpp asks for a product with the factors beside a matrix too, and multiplies value by value.
    // SAFETY: the name of a live tensor is NUL-terminated.
    let name = unsafe { CStr::from_ptr(sys::ggml_get_name(w)) };
    let is_possible = is_plain
        && !name.to_bytes().ends_with(b".scale")
        && Product::has_a_matrix_for_each(op.op, w, x)
        && x.type_ == sys::GGML_TYPE_F32
        && x.nb[0] == size_of::<f32>();
    is_possible && kernels.is_some() && packing(w).is_some()
}

/// An operation of which we have something to do.
enum Task<'a> {
    Product(Product<'a>),
    Attend(Attend<'a>),
    /// Rows are written to a KV cache: ggml does that, and we note where.
    Written,
}

impl<'a> Task<'a> {
    /// # Safety
    /// `op` is a live tensor of a graph that is about to be computed.
    unsafe fn of(op: &'a sys::ggml_tensor) -> Option<Self> {
        // SAFETY: by contract.
        unsafe {
            match op.op {
                sys::GGML_OP_MUL_MAT | sys::GGML_OP_MUL_MAT_ID => {
                    Product::new(op).map(Self::Product)
                }
                sys::GGML_OP_FLASH_ATTN_EXT => Attend::new(op).map(Self::Attend),
                sys::GGML_OP_SET_ROWS => Some(Self::Written),
                _ => None,
            }
        }
    }
}

/// Whether we have something to do for `op`.
///
/// # Safety
/// `op` is a live tensor of a graph that is about to be computed.
unsafe extern "C" fn takes(op: *const sys::ggml_tensor) -> bool {
    // SAFETY: by contract.
    unsafe { Task::of(&*op) }.is_some()
}

/// Bytes of work memory for `op`, if we say how many.
///
/// # Safety
/// `op` is a live tensor of a graph that is about to be computed; `bytes` can be written.
unsafe extern "C" fn work_size(
    n_threads: c_int,
    op: *const sys::ggml_tensor,
    bytes: *mut usize,
) -> bool {
    // SAFETY: by contract.
    let needed = match unsafe { Task::of(&*op) } {
        Some(Task::Product(product)) => product.work_bytes(),
        Some(Task::Attend(attend)) => attend.work_bytes(usize::try_from(n_threads).unwrap_or(1)),
        Some(Task::Written) | None => return false,
    };
    // SAFETY: by contract.
    unsafe { *bytes = Team::OVERHEAD_BYTES + needed };
    true
}

/// Computes `op` on one of its threads; false where ggml is to do it.
///
/// # Safety
/// `params` and `op` are as ggml hands them to the operation's threads: all of them call this, with
/// the same work memory, which is at least as large as [`work_size`] said.
unsafe extern "C" fn compute(params: *const ComputeParams, op: *const sys::ggml_tensor) -> bool {
    // SAFETY: by contract.
    let (params, op) = unsafe { (&*params, &*op) };
    // SAFETY: by contract; the work memory is as large as work_size said.
    unsafe {
        match Task::of(op) {
            Some(Task::Product(product)) => product.compute(&Team::new(params)),
            Some(Task::Attend(attend)) => attend.compute(&Team::new(params)),
            Some(Task::Written) => {
                if params.is_first() {
                    cells::note_writing(op);
                }
                return false;
            }
            None => return false,
        }
    }
    true
}
