//! Which rows of a mixture of experts go to which expert.
//!
//! The table lies in the work memory of the operation: one thread writes it, all read it.
//!
//! ```text
//! starts  u32 x (n_experts + 1)   where each expert's slots begin; the end of the last
//! slots   u32 x n_slots           by expert, then by token
//! ```
//! A slot is a place of the output, `token * n_used + rank`.

use llama_cpp_sys_2 as sys;

/// The table, as it is read.
pub(super) struct Routing<'a> {
    starts: &'a [u32],
    slots: &'a [u32],
}

impl Routing<'_> {
    /// Bytes of the table, in whole lines.
    pub(super) fn bytes(n_experts: usize, n_slots: usize) -> usize {
        ((n_experts + 1 + n_slots) * size_of::<u32>()).next_multiple_of(super::LINE)
    }

    /// Writes the table of `ids`, shape (n_tokens, n_used), to `table`.
    ///
    /// # Safety
    /// `table` is aligned and has room for [`Routing::bytes`]; nobody else uses it meanwhile; `ids`
    /// is a live tensor of i32.
    ///
    /// # Panics
    /// When an expert is named that is not there.
    pub(super) unsafe fn write(table: *mut u32, ids: &sys::ggml_tensor, n_experts: usize) {
        let [n_used, n_tokens] = [ids.ne[0], ids.ne[1]].map(|n| usize::try_from(n).unwrap_or(0));
        // SAFETY: by contract.
        let (starts, slots) = unsafe {
            (
                std::slice::from_raw_parts_mut(table, n_experts + 1),
                std::slice::from_raw_parts_mut(table.add(n_experts + 1), n_used * n_tokens),
            )
        };
        let expert_of = |slot: usize| -> usize {
            let offset = slot % n_used * ids.nb[0] + slot / n_used * ids.nb[1];
            // SAFETY: within the tensor, which holds aligned i32.
            let id = unsafe { *ids.data.cast::<u8>().add(offset).cast::<i32>() };
            usize::try_from(id)
                .ok()
                .filter(|&id| id < n_experts)
                .expect("the router names experts that are there")
        };
        sort(n_experts, expert_of, starts, slots);
    }

    /// The table that [`Routing::write`] wrote.
    ///
    /// # Safety
    /// It was written for these numbers, and nobody changes it while the result lives.
    pub(super) unsafe fn read(table: *const u32, n_experts: usize, n_slots: usize) -> Self {
        // SAFETY: by contract.
        unsafe {
            Self {
                starts: std::slice::from_raw_parts(table, n_experts + 1),
                slots: std::slice::from_raw_parts(table.add(n_experts + 1), n_slots),
            }
        }
    }

    /// The slots that `expert` computes, in the order of tokens.
    pub(super) fn slots(&self, expert: usize) -> &[u32] {
        &self.slots[self.start(expert)..self.start(expert + 1)]
    }

    /// How many slots earlier experts have.
    pub(super) fn start(&self, expert: usize) -> usize {
        self.starts[expert] as usize
    }

    /// The expert of place `place` in the table, and how many of its slots come before.
    pub(super) fn place(&self, place: usize) -> (usize, usize) {
        let expert = self
            .starts
            .partition_point(|&start| start as usize <= place)
            - 1;
        (expert, place - self.start(expert))
    }
}

/// Sorts slots by expert: counts, then places.
fn sort(
    n_experts: usize,
    expert_of: impl Fn(usize) -> usize,
    starts: &mut [u32],
    slots: &mut [u32],
) {
    starts.fill(0);
    for slot in 0..slots.len() {
        starts[expert_of(slot) + 1] += 1;
    }
    for expert in 0..n_experts {
        starts[expert + 1] += starts[expert];
    }
    let mut next = starts.to_vec();
    for slot in 0..slots.len() {
        let place = &mut next[expert_of(slot)];
        slots[*place as usize] = slot as u32;
        *place += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_sorted_by_expert_and_found_again() {
        let experts = [2, 0, 2, 2, 5, 0];
        let (mut starts, mut slots) = ([9; 7], [9; 6]);
        sort(6, |slot| experts[slot], &mut starts, &mut slots);
        let routing = Routing {
            starts: &starts,
            slots: &slots,
        };
        assert_eq!(routing.slots(0), [1, 5]);
        assert!(routing.slots(1).is_empty());
        assert_eq!(routing.slots(2), [0, 2, 3]);
        assert_eq!(routing.slots(5), [4]);
        for (place, slot) in slots.iter().enumerate() {
            let (expert, i) = routing.place(place);
            assert_eq!(routing.slots(expert)[i], *slot);
        }
    }
}
