//! What happens at some tensors of the graph while it is computed (`cb_eval`): the hidden states
//! that leave the last layer are copied and the rest is not computed; those that enter the output
//! head are copied, where they are wanted; where the graph does something else to hidden states that
//! enter, they are written over it ([`HiddenInput`]).

use std::ffi::{CStr, c_void};

use llama_cpp_sys_2 as sys;

/// How hidden states enter a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HiddenInput {
    /// Not: tokens do.
    Never,
    /// As `llama_batch.embd`, and the graph takes them as they are.
    Plain,
    /// As `llama_batch.embd`; the graph scales them (`cb(inpL, "inp_scaled", -1)`), so they are written
    /// again over what it makes of them.
    OverScaled,
    /// The graph aborts at `llama_batch.embd`: some tokens enter, and the hidden states are written over
    /// their embeddings (`cb(cur, "embd", -1)` in llama-graph.cpp).
    OverTokens,
}

impl HiddenInput {
    /// The tensor to write over.
    fn node(self) -> Option<&'static str> {
        match self {
            HiddenInput::Never | HiddenInput::Plain => None,
            HiddenInput::OverScaled => Some("inp_scaled"),
            HiddenInput::OverTokens => Some("embd"),
        }
    }
}

/// The name that graphs give what enters the output head (`cb(cur, "result_norm", -1)`).
pub const STATE_NODE: &str = "result_norm";
/// The same before rows without logits are left out, in graphs that compute it of all (`cb(cur, "h_nextn", -1)`).
pub const ALL_STATES_NODE: &str = "h_nextn";
/// The same in graphs of a block that guesses ahead (`graph_mtp`).
pub const MTP_STATE_NODE: &str = "mtp_shared_head_norm";

/// What is copied from a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tapped {
    /// The hidden states of all rows after the last layer, by the name that the graph gives them there;
    /// the computation ends with them.
    Hidden(&'static str),
    /// The states of the rows that have logits, as the output head sees them, by the name that the graph
    /// gives them.
    States(&'static str),
    /// The states of all rows, by the name that the graph gives them.
    AllStates(&'static str),
    /// Nothing.
    Nothing,
}

/// What to do at which tensor; the callback's user data.
pub(super) struct Tap {
    tapped: Tapped,
    /// The name of the tensor to copy.
    output_node: Option<String>,
    /// The name of the tensor to write the input over.
    input_node: Option<&'static str>,
    /// The step's input, shape (n_rows, n_embd).
    pub(super) input: Vec<f32>,
    /// What is copied, sized before the step; shape (n_rows, n_embd).
    pub(super) output: Vec<f32>,
    /// Whether the step reached the output tensor, and it had the expected shape.
    pub(super) has_output: bool,
    /// Whether the step reached the input tensor, and it had the expected shape.
    pub(super) has_input: bool,
}

impl Tap {
    /// A tap for a context of `n_layer` layers; none when there is nothing to do.
    pub(super) fn new(n_layer: u32, tapped: Tapped, input: HiddenInput) -> Option<Tap> {
        let input_node = input.node();
        let output_node = match tapped {
            Tapped::Hidden(node) => Some(format!("{node}-{}", n_layer.saturating_sub(1))),
            Tapped::States(node) | Tapped::AllStates(node) => Some(node.to_owned()),
            Tapped::Nothing => None,
        };
        (input_node.is_some() || output_node.is_some()).then_some(Tap {
            tapped,
            output_node,
            input_node,
            input: Vec::new(),
            output: Vec::new(),
            has_output: false,
            has_input: false,
        })
    }

    pub(super) fn writes_input(&self) -> bool {
        self.input_node.is_some()
    }

    pub(super) fn tapped(&self) -> Tapped {
        self.tapped
    }

    fn is_output(&self, name: &[u8]) -> bool {
        self.output_node
            .as_ref()
            .is_some_and(|node| node.as_bytes() == name)
    }

    fn is_input(&self, name: &[u8]) -> bool {
        self.input_node.is_some_and(|node| node.as_bytes() == name)
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
        return !matches!(tap.tapped, Tapped::Hidden(_));
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
