//! A slot and cells for who begins, with as much of its text as others have computed or will have.

use jupiter_models::{KvOp, SequenceId, Token};

use super::{Kv, Node, Use, Whose, n_distinct, nodes};
use crate::planner::fault;

/// Fewer common tokens than this are not worth an operation on the engines' caches.
pub(super) const MIN_COMMON: usize = 8;

/// What a sequence needs to begin.
#[derive(Clone, Copy, Debug)]
pub(in crate::planner) struct Admission<'a> {
    /// All that it computes before it takes cells one by one.
    pub(in crate::planner) text: &'a [Token],
    pub(in crate::planner) whose: Whose,
}

/// A live sequence from which others can be forked.
#[derive(Clone, Copy, Debug)]
pub(in crate::planner) struct Computing<'a> {
    pub(in crate::planner) seq: SequenceId,
    /// What it has computed, and what it is certain to compute while it is live.
    pub(in crate::planner) text: &'a [Token],
    pub(in crate::planner) n_computed: usize,
    pub(in crate::planner) whose: Whose,
    /// Tokens that its text may become.
    pub(in crate::planner) n_max: usize,
    /// Tokens after which it stops for others, where layers have a state.
    pub(in crate::planner) fork_point: Option<usize>,
}

/// Who shares most with a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::planner) struct Found {
    seq: SequenceId,
    n_shared: usize,
    is_live: bool,
}

impl Found {
    /// Tokens that both begin with.
    pub(in crate::planner) fn n_shared(&self) -> usize {
        self.n_shared
    }
}

/// A slot that is a sequence's from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::planner) struct Place {
    pub(in crate::planner) seq: SequenceId,
    /// The generation of its first rows: above all that were sent for the slot.
    pub(in crate::planner) generation: u32,
    /// Tokens of the text that it need not compute; always less than all.
    pub(in crate::planner) n_shared: usize,
    /// The live sequence that computes them: the slot is empty until it is forked.
    pub(in crate::planner) base: Option<SequenceId>,
}

impl Admission<'_> {
    pub(super) fn may_use(&self, of: Whose) -> bool {
        let is_open = self.whose.is_open && of.is_open;
        is_open || self.is_its_own(of)
    }

    fn is_its_own(&self, of: Whose) -> bool {
        of.answer == self.whose.answer
    }

    /// Tokens that the text begins with as `tokens` do, if they are worth it, but for its last one: its row
    /// brings the first logits.
    pub(super) fn n_shared(&self, tokens: &[Token], whose: Whose) -> usize {
        let text = &self.text[..self.text.len().saturating_sub(1)];
        let pairs = tokens.iter().zip(text);
        let n_shared = pairs.take_while(|(a, b)| a == b).count();
        match n_shared >= MIN_COMMON || self.is_its_own(whose) {
            true => n_shared,
            false => 0,
        }
    }
}

impl Kv {
    /// The node or the live sequence that shares most with the text; of several the one that has most of
    /// it computed.
    pub(in crate::planner) fn find<'a>(
        &self,
        admission: &Admission<'_>,
        live: impl Iterator<Item = Computing<'a>>,
    ) -> Option<Found> {
        let of_node = |(seq, node): (SequenceId, &Node)| {
            let n_shared = admission.n_shared(&node.tokens, node.whose);
            let is_safe = self.is_safe(n_shared, node.tokens.len());
            let is_found = n_shared > 0 && is_safe && admission.may_use(node.whose);
            is_found.then_some((n_shared, n_shared, node.used, seq, false))
        };
        let of_live = |live: Computing<'_>| {
            let n_shared = admission.n_shared(live.text, live.whose);
            let stop = live
                .fork_point
                .filter(|&n| (live.n_computed..=n_shared).contains(&n));
            let n_shared = stop.unwrap_or(n_shared);
            // It may have gone on by as much before the fork.
            let is_safe = stop.is_some() || self.is_safe(n_shared, live.n_max);
            let is_found = n_shared > 0 && is_safe && admission.may_use(live.whose);
            is_found.then_some((n_shared, live.n_computed.min(n_shared), 0, live.seq, true))
        };
        let nodes = nodes(&self.slots).filter_map(of_node);
        let best = nodes.chain(live.filter_map(of_live)).max()?;
        let (n_shared, _, _, seq, is_live) = best;
        Some(Found {
            seq,
            n_shared,
            is_live,
        })
    }

    /// Cells that live sequences have when one more begins with what was found.
    pub(in crate::planner) fn n_live_with(&self, found: Option<Found>, n_text: usize) -> usize {
        let shared = found.map(|found| {
            let slot = &self.slots[found.seq.0 as usize];
            (slot.cells.first(found.n_shared), found.n_shared)
        });
        let cells = self.live().map(|slot| &slot.cells);
        let shared_cells = shared.iter().map(|(cells, _)| cells);
        let n_shared = shared.as_ref().map_or(0, |(_, n_shared)| *n_shared);
        n_distinct(cells.chain(shared_cells)) + n_text - n_shared
    }

    /// A slot for a text of `n_text` tokens, with cells for all of them; none: there is no room.
    pub(in crate::planner) fn place(
        &mut self,
        found: Option<Found>,
        n_text: usize,
    ) -> Option<Place> {
        if self.n_live_with(found, n_text) > self.n_ctx {
            return None;
        }
        let n_shared = found.map_or(0, |found| found.n_shared);
        let cells = found.map(|found| self.slots[found.seq.0 as usize].cells.first(n_shared));
        let base = found.filter(|found| found.is_live).map(|found| found.seq);
        let seq = match found.filter(|found| !found.is_live) {
            Some(found) => self.fork_node(found)?,
            None => self.free_slot(None)?,
        };
        self.n_takings += 1;
        let taking = self.n_takings;
        self.set(seq, Use::Live { taking });
        fault::point();
        let slot = self.slots.get_mut(seq.0 as usize)?;
        slot.cells = cells.unwrap_or_default();
        slot.n_forked = 0;
        let generation = slot.generation;
        self.count();
        self.take(seq, n_text);
        Some(Place {
            seq,
            generation,
            n_shared,
            base,
        })
    }

    /// A slot with the first cells of a node: another one, so that the node stays, or the node's own where
    /// all of it goes on and it is not for many, and where there is no other.
    fn fork_node(&mut self, found: Found) -> Option<SequenceId> {
        let (src, len) = (found.seq, found.n_shared);
        self.n_uses += 1;
        let used = self.n_uses;
        if let Use::Kept(node) = &mut self.slots.get_mut(src.0 as usize)?.holds {
            node.used = used;
        }
        let is_for_many = self.node(src).is_some_and(|node| node.is_for_many);
        let goes_on = self.len(src) < len + MIN_COMMON && !is_for_many;
        let dst = (!goes_on).then(|| self.free_slot(Some(src))).flatten();
        match dst {
            Some(dst) => self.fork(src, dst, len),
            None => {
                let pos = len as u32;
                self.ops.push(KvOp::Truncate { seq: src, pos });
            }
        }
        Some(dst.unwrap_or(src))
    }

    /// Whether something goes on from the first `n_shared` of a text of `n_tokens`.
    fn is_safe(&self, n_shared: usize, n_tokens: usize) -> bool {
        let is_there = |past| n_shared == n_tokens || n_tokens <= past;
        self.past.is_none_or(is_there)
    }
}
