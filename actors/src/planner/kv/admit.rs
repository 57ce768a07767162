//! Slots and cells for who begins, and what has to go for them.

use jupiter_models::{KvOp, SequenceId, Token};

use super::{Kv, Node, Use, nodes};
use crate::RequestId;
use crate::planner::fault;

/// Fewer common tokens than this are not worth keeping another conversation waiting for its cells.
const MIN_COMMON: usize = 8;

/// What a request needs to begin.
#[derive(Clone, Copy, Debug)]
pub(in crate::planner) struct Wanted<'a> {
    pub(in crate::planner) text: &'a [Token],
    /// The request from whose cells it goes on, if those are held.
    pub(in crate::planner) follows: Option<RequestId>,
    /// Whether it may go on from what others left.
    pub(in crate::planner) is_cached: bool,
    /// Cells for all that it may become.
    pub(in crate::planner) n_cells: usize,
}

/// A slot that is a sequence's from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::planner) struct Place {
    pub(in crate::planner) seq: SequenceId,
    /// The generation of its first rows: above all that were sent for the slot.
    pub(in crate::planner) generation: u32,
    /// Tokens of the text that need not be computed again; always less than all.
    pub(in crate::planner) n_cached: usize,
}

impl Kv {
    /// Whether there is a slot for a request, or there could be one.
    pub(in crate::planner) fn has_slot(&self, follows: Option<RequestId>) -> bool {
        let is_cached = |(_, node): (_, &Node)| node.hold.is_none();
        self.first_free(&self.requests).is_some()
            || nodes(&self.slots).any(is_cached)
            || follows.is_some_and(|of| self.is_held(of))
    }

    pub(in crate::planner) fn has_branch_slot(&self) -> bool {
        self.first_free(&self.branches).is_some()
    }

    /// A slot and cells for a request, with as much of its text as is there; none: there is no room.
    pub(in crate::planner) fn admit(&mut self, wanted: &Wanted<'_>) -> Option<Place> {
        let held = wanted.follows.and_then(|of| self.held_by(of));
        let n_held = held.and_then(|seq| self.node(seq));
        let n_held = n_held.map_or(0, |node| node.tokens.len());
        let n_left = (self.n_free() + n_held).checked_sub(wanted.n_cells)?;
        let hit = held.or_else(|| wanted.is_cached.then(|| self.longest(wanted.text))?);
        let base = None;
        let Some(seq) = hit else {
            let needs_slot = self.first_free(&self.requests).is_none();
            self.evict(n_left, needs_slot);
            let seq = self.first_free(&self.requests)?;
            return Some(self.give(seq, wanted.n_cells, base, 0));
        };
        let node = self.node(seq)?;
        let n_cached = n_shared(&node.tokens, wanted.text);
        let pos = n_cached as u32;
        self.ops.push(KvOp::Truncate { seq, pos });
        let place = self.give(seq, wanted.n_cells, base, n_cached);
        self.evict(n_left, false);
        Some(place)
    }

    /// A slot and `n_cells` for a branch, beside those of its `base`; none: there is no room.
    pub(in crate::planner) fn admit_branch(
        &mut self,
        base: SequenceId,
        n_cells: usize,
    ) -> Option<Place> {
        let n_left = self.n_free().checked_sub(n_cells)?;
        let seq = self.first_free(&self.branches)?;
        self.evict(n_left, false);
        Some(self.give(seq, n_cells, Some(base), 0))
    }

    /// Gives a live sequence up to `n_wanted` more cells of those that are free; how many.
    pub(in crate::planner) fn grow(&mut self, seq: SequenceId, n_wanted: usize) -> usize {
        let n_free = self.n_free();
        let n_more = n_wanted.min(n_free);
        self.evict(n_free - n_more, false);
        let slot = self.slots.get_mut(seq.0 as usize);
        if let Some(Use::Live { n_reserved, .. }) = slot.map(|slot| &mut slot.holds) {
            *n_reserved += n_more;
        }
        n_more
    }

    fn give(
        &mut self,
        seq: SequenceId,
        n_reserved: usize,
        base: Option<SequenceId>,
        n_cached: usize,
    ) -> Place {
        self.set(seq, Use::Live { n_reserved, base });
        fault::point();
        Place {
            seq,
            generation: self.slots[seq.0 as usize].generation,
            n_cached,
        }
    }

    /// The node for everybody that shares most with the text, if it is worth it.
    fn longest(&self, text: &[Token]) -> Option<SequenceId> {
        let open = nodes(&self.slots).filter(|(_, node)| node.hold.is_none());
        let shared = open.map(|(seq, node)| (n_shared(&node.tokens, text), node.left, seq));
        let best = shared.max()?;
        (best.0 >= MIN_COMMON).then_some(best.2)
    }

    /// Gives up what was left longest ago, until the rest of the cache has at most `n_cells`, and one
    /// more if a slot is needed.
    fn evict(&mut self, n_cells: usize, needs_slot: bool) {
        let mut needs_slot = needs_slot;
        loop {
            let cached = nodes(&self.slots).filter(|(_, node)| node.hold.is_none());
            let n_cached: usize = cached.clone().map(|(_, node)| node.tokens.len()).sum();
            let oldest = cached.min_by_key(|(_, node)| node.left);
            let Some((seq, _)) = oldest.filter(|_| needs_slot || n_cached > n_cells) else {
                return;
            };
            self.discard(seq);
            needs_slot = false;
        }
    }
}

/// Tokens that a text begins with as `tokens` do, but for its last one: its row brings the first
/// logits.
fn n_shared(tokens: &[Token], text: &[Token]) -> usize {
    let text = &text[..text.len().saturating_sub(1)];
    let pairs = tokens.iter().zip(text);
    pairs.take_while(|(a, b)| a == b).count()
}
