//! What has to hold between any two events.

use super::super::kv::Holder;
use super::super::live::Live;
use super::PlannerCore;

impl PlannerCore {
    /// # Panics
    /// Where a slot is lost or held twice, and where cells are promised that are not there.
    pub(super) fn assert_conserved(&self) {
        let holder = |live: &Live| Holder {
            seq: live.seq,
            n_computed: live.n_computed,
            base: live.base.map(|base| (base, live.n_shared)),
            lent: live.steps.lent().collect(),
        };
        let holders: Vec<Holder> = self.live.values().map(holder).collect();
        self.kv.assert_conserved(&holders);
    }
}
