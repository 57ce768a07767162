//! What has to hold between any two events.

use std::collections::{BTreeMap, BTreeSet};

use jupiter_models::SequenceId;

use super::{Kv, Use};

/// What a live sequence believes to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::planner) struct Holder {
    pub(in crate::planner) seq: SequenceId,
    pub(in crate::planner) n_reserved: usize,
    pub(in crate::planner) base: Option<SequenceId>,
    /// Slots of its trees under way.
    pub(in crate::planner) lent: Vec<SequenceId>,
}

impl Kv {
    /// # Panics
    /// Where a slot is lost, held twice or in the wrong place, and where there are not the cells that
    /// were promised.
    pub(in crate::planner) fn assert_conserved(&self, live: &[Holder]) {
        let lent: Vec<SequenceId> = live.iter().flat_map(|holder| holder.lent.clone()).collect();
        let distinct: BTreeSet<SequenceId> = lent.iter().copied().collect();
        assert_eq!(lent.len(), distinct.len(), "lent twice: {lent:?}");
        let holders: BTreeMap<SequenceId, &Holder> = live.iter().map(|h| (h.seq, h)).collect();
        assert_eq!(holders.len(), live.len(), "two in one slot: {live:?}");
        let mut n_cells = 0;
        for (slot, id) in self.slots.iter().zip(0..) {
            let seq = SequenceId(id);
            let holder = holders.get(&seq);
            match &slot.holds {
                Use::Live { n_reserved, base } => {
                    let mine = holder.map(|holder| (holder.n_reserved, holder.base));
                    assert_eq!(
                        mine,
                        Some((*n_reserved, *base)),
                        "{seq} has no such sequence"
                    );
                    assert_eq!(base.is_some(), self.branches.contains(&id), "{seq}'s pool");
                    let is_live = |base| {
                        holders
                            .get(base)
                            .is_some_and(|holder| holder.base.is_none())
                    };
                    assert!(base.as_ref().is_none_or(is_live), "{seq} has lost its base");
                    n_cells += n_reserved;
                }
                Use::Kept(node) => {
                    assert!(holder.is_none(), "{seq} is kept and live");
                    assert!(self.requests.contains(&id), "{seq}'s pool");
                    n_cells += node.tokens.len();
                }
                Use::Free | Use::Lent => assert!(holder.is_none(), "{seq} is live without slot"),
            }
            let is_lent = matches!(slot.holds, Use::Lent);
            assert_eq!(
                is_lent,
                distinct.contains(&seq),
                "{seq} in a tree of guesses"
            );
        }
        let n_ctx = self.n_ctx;
        assert!(n_cells <= n_ctx, "{n_cells} cells promised, of {n_ctx}");
    }
}
