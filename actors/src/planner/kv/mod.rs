//! The one owner of the KV cache: which sequence of it is whose, and how many cells each may fill.
//!
//! ```text
//! slots   one entry for each llama.cpp sequence id: free, live, lent to a tree of guesses, or a
//!         node that a complete sequence left. It is a table, so no slot can be lost or held twice.
//! tree    what slots hold are nodes of a prefix tree: the first cells of a branch are those of its
//!         base. A node stays while it is live, has branches, or is held for who follows it; the
//!         others are the prompt cache, of which the one used longest ago goes first.
//! cells   reserved (live) + held + cached <= n_ctx
//! ops     what the engines have to do for it, in order; they ride with the next step
//! ```
//! An epoch builds all of it anew from the sequences that are live, whatever it was before.

mod admit;
#[cfg(any(test, debug_assertions))]
mod check;

use std::ops::Range;
use std::time::Instant;

use jupiter_models::{KvOp, SequenceId, Token};

pub(super) use self::admit::{Place, Wanted};
#[cfg(any(test, debug_assertions))]
pub(super) use self::check::Holder;
use super::PlannerConfig;
use super::fault;
use crate::RequestId;

/// Sequence ids that llama.cpp has (`LLAMA_MAX_SEQ`).
const MAX_SLOTS: u32 = 256;

/// Slots and cells of the KV cache.
pub(super) struct Kv {
    n_ctx: usize,
    /// By sequence id.
    slots: Vec<Slot>,
    /// Slots of requests and of branches; those behind are for trees of guesses.
    requests: Range<u32>,
    branches: Range<u32>,
    ops: Vec<KvOp>,
    /// Counts what is left in the tree, for the order in which it goes.
    n_left: u64,
}

#[derive(Debug, Default)]
struct Slot {
    holds: Use,
    /// The generation of rows that its next sequence begins with.
    generation: u32,
}

#[derive(Debug, Default)]
enum Use {
    #[default]
    Free,
    /// A sequence computes here.
    Live {
        /// Cells that it may come to fill, beside those of its base.
        n_reserved: usize,
        /// Whose first cells are its own, too.
        base: Option<SequenceId>,
    },
    /// A branch of a tree of guesses under way.
    Lent,
    /// Nobody computes here, but what was computed is kept.
    Kept(Node),
}

/// What a complete sequence left.
#[derive(Debug)]
struct Node {
    /// Those in its cells.
    tokens: Vec<Token>,
    /// For whom it stays, whoever else waits for room.
    hold: Option<Hold>,
    /// Whether it may be used by others.
    is_cached: bool,
    /// When it was left, in the order of all.
    left: u64,
}

/// A node that waits for the request that goes on from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hold {
    /// The request that left it.
    pub(super) of: RequestId,
    pub(super) until: Instant,
}

/// What a sequence leaves in its slot.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Generations below are dead.
    pub(super) generation: u32,
    /// Slots of its trees under way.
    pub(super) lent: Vec<SequenceId>,
    /// Tokens whose cells are certain to be computed.
    pub(super) tokens: Vec<Token>,
    /// Whether the slot may hold more than these.
    pub(super) is_untidy: bool,
    pub(super) hold: Option<Hold>,
    /// Whether others may use what it leaves.
    pub(super) is_cached: bool,
}

impl Kv {
    pub(super) fn new(config: &PlannerConfig) -> Self {
        let n_slots = config.engine.n_seq_max.min(MAX_SLOTS);
        let n_requests = config.n_parallel.min(n_slots);
        let n_both = config.n_parallel.saturating_add(config.n_branches);
        Self {
            n_ctx: config.engine.n_ctx as usize,
            slots: (0..n_slots).map(|_| Slot::default()).collect(),
            requests: 0..n_requests,
            branches: n_requests..n_both.min(n_slots),
            ops: Vec::new(),
            n_left: 0,
        }
    }

    /// All begins anew: only the `live` sequences have their slots, with nothing in them.
    pub(super) fn restart(
        &mut self,
        live: impl Iterator<Item = (SequenceId, usize, Option<SequenceId>)>,
    ) {
        self.ops.clear();
        self.slots.fill_with(Slot::default);
        for (seq, n_reserved, base) in live {
            self.set(seq, Use::Live { n_reserved, base });
        }
    }

    /// What has to ride with the step that is sent now.
    pub(super) fn take_ops(&mut self) -> Vec<KvOp> {
        std::mem::take(&mut self.ops)
    }

    pub(super) fn do_later(&mut self, ops: Vec<KvOp>) {
        self.ops.extend(ops);
    }

    pub(super) fn has_branch_slots(&self) -> bool {
        !self.branches.is_empty()
    }

    /// Free slots for branches of trees of guesses.
    pub(super) fn n_draft_seqs(&self) -> usize {
        self.free(self.drafts()).count()
    }

    /// Lends `n` slots to a tree of guesses, or as many as there are.
    pub(super) fn lend(&mut self, n: usize) -> Vec<SequenceId> {
        let lent: Vec<SequenceId> = self.free(self.drafts()).take(n).collect();
        for &seq in &lent {
            self.set(seq, Use::Lent);
        }
        lent
    }

    /// Takes them back; their cells are dropped by operations of their own.
    pub(super) fn take_back(&mut self, lent: &[SequenceId]) {
        for &seq in lent {
            self.set(seq, Use::Free);
        }
    }

    /// Gives the sequence in `dst` the first `len` cells of its base, which are all sent.
    pub(super) fn fork(&mut self, src: SequenceId, dst: SequenceId, len: usize) {
        let len = len as u32;
        self.ops.push(KvOp::Fork { src, dst, len });
    }

    /// The sequence in `seq` ends; what it leaves stays in the tree where it may.
    pub(super) fn leave(&mut self, seq: SequenceId, leaving: Leaving) {
        fault::point();
        let drops = leaving.lent.iter().map(|&seq| KvOp::Drop { seq });
        self.ops.extend(drops);
        self.take_back(&leaving.lent);
        if let Some(slot) = self.slots.get_mut(seq.0 as usize) {
            slot.generation = leaving.generation;
        }
        fault::point();
        let is_kept = leaving.is_cached || leaving.hold.is_some();
        // Slots of branches are for branches alone.
        if !is_kept || leaving.tokens.is_empty() || !self.requests.contains(&seq.0) {
            self.discard(seq);
            return;
        }
        if leaving.is_untidy {
            let pos = leaving.tokens.len() as u32;
            self.ops.push(KvOp::Truncate { seq, pos });
        }
        self.n_left += 1;
        let node = Node {
            tokens: leaving.tokens,
            hold: leaving.hold,
            is_cached: leaving.is_cached,
            left: self.n_left,
        };
        self.set(seq, Use::Kept(node));
    }

    pub(super) fn is_held(&self, of: RequestId) -> bool {
        self.held_by(of).is_some()
    }

    /// What waited for a follower until `now`, or of the request `of`, waits no longer: it is cached
    /// where it may be.
    pub(super) fn release(&mut self, now: Instant, of: Option<RequestId>) {
        let mut gone = Vec::new();
        for (seq, node) in nodes_mut(&mut self.slots) {
            let is_over = |hold: &Hold| hold.until <= now || Some(hold.of) == of;
            if node.hold.as_ref().is_some_and(is_over) {
                node.hold = None;
                // It is used last when it is released, not when it was left.
                self.n_left += 1;
                node.left = self.n_left;
                if !node.is_cached {
                    gone.push(seq);
                }
            }
        }
        for seq in gone {
            self.discard(seq);
        }
    }

    /// Cells that no live sequence may come to fill and that are held for nobody; some of them are
    /// cached.
    pub(super) fn n_free(&self) -> usize {
        let taken = self.slots.iter().map(|slot| match &slot.holds {
            Use::Live { n_reserved, .. } => *n_reserved,
            Use::Kept(node) if node.hold.is_some() => node.tokens.len(),
            _ => 0,
        });
        self.n_ctx.saturating_sub(taken.sum())
    }

    /// Cells of what complete sequences left.
    pub(super) fn n_kept(&self) -> usize {
        nodes(&self.slots).map(|(_, node)| node.tokens.len()).sum()
    }

    fn discard(&mut self, seq: SequenceId) {
        self.ops.push(KvOp::Drop { seq });
        fault::point();
        self.set(seq, Use::Free);
    }

    fn drafts(&self) -> Range<u32> {
        self.branches.end..self.slots.len() as u32
    }

    fn free(&self, pool: Range<u32>) -> impl Iterator<Item = SequenceId> {
        let is_free = |seq: &u32| matches!(self.slots[*seq as usize].holds, Use::Free);
        pool.filter(is_free).map(SequenceId)
    }

    fn first_free(&self, pool: &Range<u32>) -> Option<SequenceId> {
        self.free(pool.clone()).next()
    }

    fn held_by(&self, of: RequestId) -> Option<SequenceId> {
        let is_its = |node: &Node| node.hold.is_some_and(|hold| hold.of == of);
        let mut nodes = nodes(&self.slots);
        nodes.find_map(|(seq, node)| is_its(node).then_some(seq))
    }

    fn node(&self, seq: SequenceId) -> Option<&Node> {
        match &self.slots.get(seq.0 as usize)?.holds {
            Use::Kept(node) => Some(node),
            _ => None,
        }
    }

    fn set(&mut self, seq: SequenceId, holds: Use) {
        fault::point();
        if let Some(slot) = self.slots.get_mut(seq.0 as usize) {
            slot.holds = holds;
        }
    }
}

fn nodes(slots: &[Slot]) -> impl Iterator<Item = (SequenceId, &Node)> + Clone {
    slots
        .iter()
        .zip(0..)
        .filter_map(|(slot, seq)| match &slot.holds {
            Use::Kept(node) => Some((SequenceId(seq), node)),
            _ => None,
        })
}

fn nodes_mut(slots: &mut [Slot]) -> impl Iterator<Item = (SequenceId, &mut Node)> {
    let slots = slots.iter_mut().zip(0..);
    slots.filter_map(|(slot, seq)| match &mut slot.holds {
        Use::Kept(node) => Some((SequenceId(seq), node)),
        _ => None,
    })
}

#[cfg(test)]
mod tests;
