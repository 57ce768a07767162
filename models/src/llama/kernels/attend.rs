//! Attention (`GGML_OP_FLASH_ATTN_EXT`), where the model's products are ours too.

use jupiter_kernels::attention::{Attention, Cells};
use jupiter_kernels::{Kernels, WeightType};
use llama_cpp_sys_2 as sys;

use super::buffer::kernels_of;
use super::team::Team;
use super::{cells, count};

/// Operations between a query and the product that it comes from: views, norms, the rotation.
const MAX_DEPTH: usize = 24;

/// An attention that we compute.
pub(super) struct Attend<'a> {
    kernels: Kernels,
    keys: &'a sys::ggml_tensor,
    attention: Attention<'a>,
}

impl<'a> Attend<'a> {
    /// `None` where ggml is to compute it.
    ///
    /// # Safety
    /// `op` and all that it comes from are live.
    pub(super) unsafe fn new(op: &'a sys::ggml_tensor) -> Option<Self> {
        // SAFETY: by contract.
        let [q, k, v, mask, sinks] = unsafe { [0, 1, 2, 3, 4].map(|i| op.src[i].as_ref()) };
        let (q, k, v) = (q?, k?, v?);
        // SAFETY: by contract.
        let kernels = unsafe { kernels_behind(q) }?;
        let is_plain = q.type_ == sys::GGML_TYPE_F32
            && [q, k, v].iter().all(|tensor| tensor.ne[3] == 1)
            && k.ne[2] == v.ne[2]
            && q.nb[0] == size_of::<f32>()
            && mask.is_none_or(|m| m.type_ == sys::GGML_TYPE_F16 && m.ne[2] == 1 && m.ne[3] == 1);
        let attention = Attention {
            n_rows: count(q.ne[1]),
            n_heads: count(q.ne[2]),
            n_kv_heads: count(k.ne[2]),
            n_cells: count(k.ne[1]),
            q: q.data.cast_const().cast(),
            q_row_stride: q.nb[1],
            q_head_stride: q.nb[2],
            k: cells_of(k)?,
            v: cells_of(v)?,
            mask: mask.map_or(std::ptr::null(), |mask| mask.data.cast_const().cast()),
            mask_stride: mask.map_or(0, |mask| mask.nb[1]),
            scale: parameter(op, 0),
            max_bias: parameter(op, 1),
            softcap: parameter(op, 2),
            // SAFETY: a contiguous tensor of a value for each head.
            sinks: sinks.map(|sinks| unsafe {
                std::slice::from_raw_parts(sinks.data.cast_const().cast(), count(sinks.ne[0]))
            }),
            order: None,
            output: op.data.cast(),
            output_row_stride: op.nb[2],
            output_head_stride: op.nb[1],
        };
        (is_plain && attention.is_supported()).then_some(Self {
            kernels,
            keys: k,
            attention,
        })
    }

    /// Bytes of work memory for `n_threads` threads.
    pub(super) fn work_bytes(&self, n_threads: usize) -> usize {
        n_threads * self.attention.work_bytes()
    }

    /// Computes it with the other threads of `team`.
    ///
    /// # Safety
    /// What the operation reads is computed, the work memory as large as was said.
    pub(super) unsafe fn compute(mut self, team: &Team<'_>) {
        // Only thread 0 knows where rows were written.
        team.tell(|| cells::order(self.keys, self.attention.n_cells));
        self.attention.order = team.told();
        let n_parts = team.n_shares(self.attention.n_rows * self.attention.n_heads);
        let work = team
            .work
            .wrapping_add(team.ith * self.attention.work_bytes());
        let set = self.kernels.instruction_set();
        team.take_shares(n_parts, |part| {
            // SAFETY: the tensors are valid for what they say, and the output is this operation's; each
            // thread has work memory of its own.
            unsafe { self.attention.compute(set, part, n_parts, work) };
        });
    }
}

/// The kernels of the product that `query` comes from: a model whose weights are not ours (or stock
/// llama.cpp beside us in a benchmark) keeps ggml's attention.
///
/// # Safety
/// `query` and all that it comes from are live.
unsafe fn kernels_behind(query: &sys::ggml_tensor) -> Option<Kernels> {
    let mut tensor = query;
    for _ in 0..MAX_DEPTH {
        let mut source = 0;
        if tensor.op == sys::GGML_OP_MUL_MAT {
            // SAFETY: by contract.
            let kernels = unsafe { kernels_of(tensor.src[0]) };
            if kernels.is_some() {
                return kernels;
            }
            // A product with something else: what it is applied to may be one of ours.
            source = 1;
        }
        // SAFETY: by contract.
        tensor = unsafe { tensor.src[source].as_ref() }?;
    }
    None
}

fn cells_of(tensor: &sys::ggml_tensor) -> Option<Cells> {
    Some(Cells {
        data: tensor.data.cast_const().cast(),
        kind: WeightType::from_ggml(tensor.type_)?,
        len: count(tensor.ne[0]),
        cell_stride: tensor.nb[1],
        head_stride: tensor.nb[2],
    })
}

/// Parameter `i` of an operation, a float.
fn parameter(op: &sys::ggml_tensor, i: usize) -> f32 {
    f32::from_bits(op.op_params[i].cast_unsigned())
}
