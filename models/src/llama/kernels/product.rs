//! Products with weights in our buffers: plain ones and those of a mixture of experts.

use jupiter_kernels::{GROUP, Kernels, Shape, WeightType};
use llama_cpp_sys_2 as sys;

use super::buffer::{kernels_of, packing};
use super::routing::Routing;
use super::team::Team;
use super::{LINE, count};

/// A product of rows of activations with weights of ours.
pub(super) struct Product<'a> {
    kernels: Kernels,
    weights: WeightType,
    shape: Shape,
    /// Bytes of a packed matrix.
    matrix_bytes: usize,
    packed: *const u8,
    n_matrices: usize,
    x: &'a sys::ggml_tensor,
    out: &'a sys::ggml_tensor,
    /// Which experts compute which rows; none for a plain product.
    ids: Option<&'a sys::ggml_tensor>,
}

impl<'a> Product<'a> {
    /// # Safety
    /// `op` and its sources are live.
    pub(super) unsafe fn new(op: &'a sys::ggml_tensor) -> Option<Self> {
        // SAFETY: by contract.
        let (w, x, ids) = unsafe { (op.src[0].as_ref()?, op.src[1].as_ref()?, op.src[2].as_ref()) };
        let ids = match op.op {
            sys::GGML_OP_MUL_MAT => None,
            sys::GGML_OP_MUL_MAT_ID => Some(ids?),
            _ => return None,
        };
        if !Self::has_a_matrix_for_each(op.op, w, x) {
            return None;
        }
        // SAFETY: by contract.
        let kernels = unsafe { kernels_of(w) }?;
        let (weights, shape, matrix_bytes) = packing(w)?;
        Some(Self {
            kernels,
            weights,
            shape,
            matrix_bytes,
            packed: w.data.cast_const().cast(),
            n_matrices: count(w.ne[2]),
            x,
            out: op,
            ids,
        })
    }

    /// Whether it is known which matrix of `w` each row of `x` is for: the same for all, one for each matrix
    /// of rows, or what the operation says.
    pub(super) fn has_a_matrix_for_each(
        op: sys::ggml_op,
        w: &sys::ggml_tensor,
        x: &sys::ggml_tensor,
    ) -> bool {
        match op {
            sys::GGML_OP_MUL_MAT => w.ne[2] == 1 || (x.ne[2] == w.ne[2] && x.ne[3] == 1),
            sys::GGML_OP_MUL_MAT_ID => true,
            _ => false,
        }
    }

    fn n_rows(&self) -> usize {
        match self.ids {
            None => count(self.x.ne[1]) * count(self.x.ne[2]) * count(self.x.ne[3]),
            Some(ids) => count(ids.ne[0]) * count(ids.ne[1]),
        }
    }

    fn panel_bytes(&self, n: usize) -> usize {
        jupiter_kernels::panel_bytes(self.weights, self.shape.n_cols, n).next_multiple_of(LINE)
    }
}

impl Product<'_> {
    /// Bytes of work memory.
    pub(super) fn work_bytes(&self) -> usize {
        let n = self.n_rows();
        match self.ids {
            // Each matrix's panels begin on a line of their own.
            None => self.n_matrices * self.panel_bytes(n / self.n_matrices.max(1)),
            Some(_) => Routing::bytes(self.n_matrices, n) + n * self.panel_bytes(1),
        }
    }

    /// Computes it with the other threads of `team`.
    ///
    /// # Safety
    /// What the operation reads is computed, the work memory as large as was said.
    pub(super) unsafe fn compute(&self, team: &Team<'_>) {
        match self.ids {
            None => self.compute_plain(team),
            Some(ids) => self.compute_routed(team, ids),
        }
    }

    /// A plain product: rows of all matrices of activations with the same weights, or each matrix with its
    /// own (heads of a latent attention).
    fn compute_plain(&self, team: &Team<'_>) {
        let n_matrices = self.n_matrices.max(1);
        let n = self.n_rows() / n_matrices;
        let bytes = self.panel_bytes(n);
        let panels = |matrix: usize| team.work.wrapping_add(matrix * bytes);
        for row in (team.ith..n_matrices * n).step_by(team.nth) {
            // SAFETY: this thread alone writes this row of the panels, which lie in the work memory.
            unsafe { self.quantize(self.x_row(row), row % n, n, panels(row / n)) };
        }
        team.gather(|| ());
        let n_groups = self.shape.n_rows.div_ceil(GROUP);
        let n_parts = team.n_shares(n_groups).div_ceil(n_matrices);
        team.take_shares(n_matrices * n_parts, |share| {
            let (matrix, part) = (share / n_parts, share % n_parts);
            let groups = part * n_groups / n_parts..(part + 1) * n_groups / n_parts;
            // SAFETY: the matrix is one of the tensor's; all rows are quantized; nobody else writes these
            // columns of these rows.
            unsafe {
                self.kernels.matmul(
                    self.weights,
                    self.shape,
                    self.packed.add(matrix * self.matrix_bytes),
                    groups,
                    panels(matrix),
                    n,
                    &|i| self.out_row(matrix * n + i),
                );
            }
        });
    }

    /// A product in which `ids` says for each token which experts' weights are used, in the order of
    /// its columns of outputs.
    fn compute_routed(&self, team: &Team<'_>, ids: &sys::ggml_tensor) {
        let (n_slots, n_experts) = (self.n_rows(), self.n_matrices);
        // SAFETY: the work memory begins with the table, as work_size has counted.
        team.gather(|| unsafe { Routing::write(team.work.cast(), ids, n_experts) });
        // SAFETY: the table is written, and nobody changes it any more.
        let routing = unsafe { Routing::read(team.work.cast(), n_experts, n_slots) };
        let row_bytes = self.panel_bytes(1);
        let panels = team.work.wrapping_add(Routing::bytes(n_experts, n_slots));
        let panels = |expert: usize| panels.wrapping_add(routing.start(expert) * row_bytes);

        for place in (team.ith..n_slots).step_by(team.nth) {
            let (expert, i) = routing.place(place);
            let slot = routing.slots(expert)[i];
            let n = routing.slots(expert).len();
            // SAFETY: this thread alone writes row i of the expert's panels, for which there is room
            // where its slots are in the table.
            unsafe { self.quantize(self.x_slot(slot, ids), i, n, panels(expert)) };
        }
        team.gather(|| ());
        let n_groups = self.shape.n_rows.div_ceil(GROUP);
        let used: Vec<usize> = (0..n_experts)
            .filter(|expert| !routing.slots(*expert).is_empty())
            .collect();
        let per_expert = team.n_shares(n_groups).div_ceil(used.len().max(1));
        team.take_shares(used.len() * per_expert, |share| {
            let (expert, part) = (used[share / per_expert], share % per_expert);
            let groups = part * n_groups / per_expert..(part + 1) * n_groups / per_expert;
            let slots = routing.slots(expert);
            // SAFETY: the expert is one of the tensor's; all rows are quantized; nobody else
            // writes these columns of these rows.
            unsafe {
                self.kernels.matmul(
                    self.weights,
                    self.shape,
                    self.packed.add(expert * self.matrix_bytes),
                    groups,
                    panels(expert),
                    slots.len(),
                    &|i| self.out_slot(slots[i], ids),
                );
            }
        });
    }

    /// # Safety
    /// `x` is a row of activations; `panels` has room for `n` rows, of which nobody else uses `i`.
    unsafe fn quantize(&self, x: *const f32, i: usize, n: usize, panels: *mut u8) {
        // SAFETY: by contract.
        unsafe {
            let row = std::slice::from_raw_parts(x, self.shape.n_cols);
            self.kernels.quantize_row(self.weights, row, i, n, panels);
        }
    }

    fn x_row(&self, i: usize) -> *const f32 {
        row_of(self.x, i).cast_const()
    }

    fn out_row(&self, i: usize) -> *mut f32 {
        row_of(self.out, i)
    }

    /// The activations of a slot: of its token, alike for all experts or not.
    fn x_slot(&self, slot: u32, ids: &sys::ggml_tensor) -> *const f32 {
        let (rank, token) = place_of(slot, ids);
        let rank = rank % count(self.x.ne[1]).max(1);
        at(self.x, rank * self.x.nb[1] + token * self.x.nb[2]).cast_const()
    }

    fn out_slot(&self, slot: u32, ids: &sys::ggml_tensor) -> *mut f32 {
        let (rank, token) = place_of(slot, ids);
        at(self.out, rank * self.out.nb[1] + token * self.out.nb[2])
    }
}

/// Row `i` of a tensor, counted through all its matrices.
fn row_of(tensor: &sys::ggml_tensor, i: usize) -> *mut f32 {
    let [_, n1, n2, _] = tensor.ne.map(count);
    let [_, nb1, nb2, nb3] = tensor.nb;
    at(tensor, i % n1 * nb1 + i / n1 % n2 * nb2 + i / n1 / n2 * nb3)
}

fn at(tensor: &sys::ggml_tensor, offset: usize) -> *mut f32 {
    tensor.data.cast::<u8>().wrapping_add(offset).cast()
}

/// Rank and token of a slot.
fn place_of(slot: u32, ids: &sys::ggml_tensor) -> (usize, usize) {
    let n_used = count(ids.ne[0]).max(1);
    (slot as usize % n_used, slot as usize / n_used)
}
