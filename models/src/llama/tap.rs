//! What happens at two tensors of the graph while it is computed (`cb_eval`): the hidden states
//! that leave the last layer are copied and the rest is not computed; where the graph would scale
//! the hidden states that enter (gemma2), they are put back.

use std::ffi::{CStr, c_void};

use llama_cpp_sys_2 as sys;

/// The name that graphs give the scaled input (`cb(inpL, "inp_scaled", -1)`).
const INPUT_NODE: &str = "inp_scaled";

/// What to do at which tensor; the callback's user data.
pub(super) struct Tap {
    /// The name of the tensor to copy and stop at; none on the last slice.
    output_node: Option<String>,
    /// Whether to put the input back after [`INPUT_NODE`].
    restore_input: bool,
    /// The step's input, shape (n_rows, n_embd).
    pub(super) input: Vec<f32>,
    /// The step's output, sized before the step; shape (n_rows, n_embd).
    pub(super) output: Vec<f32>,
    /// Whether the step reached the output tensor, and it had the expected shape.
    pub(super) has_output: bool,
    /// Whether the step reached the input tensor, and it had the expected shape.
    pub(super) has_input: bool,
}

impl Tap {
    /// A tap that stops after layer `n_layer - 1` unless `is_last`; none when there is nothing to do.
    pub(super) fn new(n_layer: u32, is_last: bool, restore_input: bool) -> Option<Tap> {
        let output_node = (!is_last).then(|| format!("l_out-{}", n_layer.saturating_sub(1)));
        (restore_input || output_node.is_some()).then_some(Tap {
            output_node,
            restore_input,
            input: Vec::new(),
            output: Vec::new(),
            has_output: false,
            has_input: false,
        })
    }

    pub(super) fn restores_input(&self) -> bool {
        self.restore_input
    }

    pub(super) fn stops_at_hidden(&self) -> bool {
        self.output_node.is_some()
    }

    fn is_output(&self, name: &[u8]) -> bool {
        self.output_node
            .as_ref()
            .is_some_and(|node| node.as_bytes() == name)
    }

    fn is_input(&self, name: &[u8]) -> bool {
        self.restore_input && name == INPUT_NODE.as_bytes()
    }
}

/// Asked before each tensor is computed whether it is wanted (`ask`), and told after a wanted one
/// is; false then ends the computation (`ggml_backend_sched_eval_callback`).
///
/// # Safety
/// `tensor` is a live tensor of the graph that is being computed, and `user_data` the [`Tap`] of
/// the context, which nothing else touches during the computation.
pub(super) unsafe extern "C" fn on_tensor(
    tensor: *mut sys::ggml_tensor,
    ask: bool,
    user_data: *mut c_void,
) -> bool {
    // SAFETY: see above; a tensor's name is NUL-terminated.
    let (tap, name) = unsafe {
        (
            &mut *user_data.cast::<Tap>(),
            CStr::from_ptr(sys::ggml_get_name(tensor)).to_bytes(),
        )
    };
    if ask {
        return tap.is_output(name) || tap.is_input(name);
    }
    if tap.is_output(name) {
        // SAFETY: the tensor is live and was just computed; `fits` compares its bytes with the
        // vector's.
        unsafe {
            if fits(tensor, &tap.output) {
                let bytes = size_of_val(tap.output.as_slice());
                sys::ggml_backend_tensor_get(tensor, tap.output.as_mut_ptr().cast(), 0, bytes);
                tap.has_output = true;
            }
        }
        return false;
    }
    // SAFETY: as above; writing to a tensor that was just computed and not yet read is what the
    // rest of the graph then reads.
    unsafe {
        if fits(tensor, &tap.input) {
            let bytes = size_of_val(tap.input.as_slice());
            sys::ggml_backend_tensor_set(tensor, tap.input.as_ptr().cast(), 0, bytes);
            tap.has_input = true;
        }
    }
    true
}

/// Whether `tensor` holds exactly as many f32, one after the other, as `values`.
///
/// # Safety
/// `tensor` is live.
unsafe fn fits(tensor: *const sys::ggml_tensor, values: &[f32]) -> bool {
    // SAFETY: the caller's.
    unsafe {
        (*tensor).type_ == sys::GGML_TYPE_F32
            && sys::ggml_is_contiguous(tensor)
            && sys::ggml_nbytes(tensor) == size_of_val(values)
    }
}
