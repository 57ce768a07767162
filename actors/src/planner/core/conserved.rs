//! What has to hold between any two events: no slot is lost or held twice, and there are cells for
//! all that was promised.

use std::collections::BTreeMap;

use jupiter_models::SequenceId;

use super::super::sequence::Sequence;
use super::PlannerCore;

impl PlannerCore {
    /// # Panics
    /// Where that is not so.
    pub(super) fn assert_conserved(&self) {
        let mut places: BTreeMap<SequenceId, Vec<&str>> = BTreeMap::new();
        let mut put = |seq: SequenceId, place| places.entry(seq).or_default().push(place);
        self.free.iter().for_each(|&seq| put(seq, "free"));
        self.branch_slots
            .iter()
            .for_each(|&seq| put(seq, "branch slots"));
        self.spare.iter().for_each(|&seq| put(seq, "spare"));
        self.cache.slots().for_each(|seq| put(seq, "cache"));
        self.held.iter().for_each(|held| put(held.seq, "held"));
        for sequence in &self.live {
            put(sequence.seq, "live");
            sequence
                .steps
                .lent()
                .for_each(|seq| put(seq, "a step's tree"));
        }
        for seq in (0..self.config.engine.n_seq_max).map(SequenceId) {
            let place = places.get(&seq).map_or(&[][..], |places| places);
            assert_eq!(place.len(), 1, "sequence {seq} is in {place:?}");
        }
        let branch_slots = self.config.branch_slots();
        let is_of_branch = |seq: &SequenceId| branch_slots.contains(&seq.0);
        assert!(self.branch_slots.iter().all(is_of_branch));
        assert!(!self.free.iter().any(|seq| seq.0 >= branch_slots.start));
        let reserved: usize = self.live.iter().map(Sequence::n_reserved).sum();
        let held: usize = self.held.iter().map(|held| held.tokens.len()).sum();
        let cached = self.cache.n_cells();
        assert!(
            reserved + held + cached <= self.config.engine.n_ctx as usize,
            "{reserved} cells reserved, {held} held, {cached} cached"
        );
    }
}
