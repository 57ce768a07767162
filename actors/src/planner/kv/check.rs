//! What has to hold between any two events.

use std::collections::{BTreeMap, BTreeSet};

use jupiter_models::SequenceId;

use super::{Kv, Use, n_distinct};

/// What a live sequence believes to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::planner) struct Holder {
    pub(in crate::planner) seq: SequenceId,
    /// Tokens whose rows were sent.
    pub(in crate::planner) n_computed: usize,
    /// The sequence that computes its first tokens, and how many these are.
    pub(in crate::planner) base: Option<(SequenceId, usize)>,
    /// Slots of its trees under way.
    pub(in crate::planner) lent: Vec<SequenceId>,
}

impl Kv {
    /// # Panics
    /// Where a slot is lost or held twice, where cells are counted wrongly, and where slots have more of
    /// them than there are.
    pub(in crate::planner) fn assert_conserved(&self, live: &[Holder]) {
        let lent: Vec<SequenceId> = live.iter().flat_map(|holder| holder.lent.clone()).collect();
        let distinct: BTreeSet<SequenceId> = lent.iter().copied().collect();
        assert_eq!(lent.len(), distinct.len(), "lent twice: {lent:?}");
        let holders: BTreeMap<SequenceId, &Holder> = live.iter().map(|h| (h.seq, h)).collect();
        assert_eq!(holders.len(), live.len(), "two in one slot: {live:?}");
        let mut n_main = 0;
        for (slot, id) in self.slots.iter().zip(0..) {
            let seq = SequenceId(id);
            let holder = holders.get(&seq);
            match &slot.holds {
                Use::Live { .. } => {
                    let Some(holder) = holder else {
                        panic!("{seq} has no such sequence")
                    };
                    self.assert_has_cells(holder);
                    n_main += 1;
                }
                Use::Kept(node) => {
                    assert!(holder.is_none(), "{seq} is kept and live");
                    assert_eq!(slot.cells.len(), node.tokens.len(), "cells of {seq}");
                    n_main += 1;
                }
                Use::Free | Use::Lent => {
                    assert!(holder.is_none(), "{seq} is live without slot");
                    assert_eq!(slot.cells.len(), 0, "{seq} is free and has cells");
                }
            }
            let is_lent = matches!(slot.holds, Use::Lent);
            assert_eq!(
                is_lent,
                distinct.contains(&seq),
                "{seq} in a tree of guesses"
            );
        }
        assert!(n_main <= self.n_main(), "{n_main} slots of sequences");
        let n_used = n_distinct(self.slots.iter().map(|slot| &slot.cells));
        assert_eq!(n_used, self.n_used, "cells that slots have");
        let n_ctx = self.n_ctx;
        assert!(n_used <= n_ctx, "{n_used} cells are taken, of {n_ctx}");
        let n_live = n_distinct(self.live().map(|slot| &slot.cells));
        let n_cached = n_used - n_live;
        assert_eq!(n_cached, self.n_cached, "cells that only nodes have");
        assert!(n_cached <= self.n_cached_max, "{n_cached} cells are cached");
    }

    /// It has cells for its rows, and shares those that another computes for it.
    fn assert_has_cells(&self, holder: &Holder) {
        let cells = &self.slots[holder.seq.0 as usize].cells;
        assert!(
            holder.n_computed <= cells.len(),
            "rows without cells: {holder:?}"
        );
        let Some((base, n_shared)) = holder.base else {
            return;
        };
        let base = &self.slots[base.0 as usize];
        assert!(
            matches!(base.holds, Use::Live { .. }),
            "its base is gone: {holder:?}"
        );
        assert_eq!(
            cells.first(n_shared),
            base.cells.first(n_shared),
            "{holder:?}"
        );
    }
}
