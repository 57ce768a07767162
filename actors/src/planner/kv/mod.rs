//! The one owner of the KV cache: which sequence of it is whose, and which cells each has.
//!
//! ```text
//! slots   one entry for each llama.cpp sequence id: free, live, lent to a tree of guesses, or a
//!         node that a sequence left. It is a table, so no slot can be lost or held twice.
//! tree    slots whose texts begin alike have the same cells for it, which count once: a sequence is
//!         forked from the live one or the node that shares most with it (`admit`). Nodes are the
//!         prompt cache, of which the ends of the one used longest ago go first (`evict`).
//! cells   taken as tokens come: those of a text when it is admitted, then one for each row that is
//!         sent. What all slots have together is at most n_ctx.
//! ops     what the engines have to do for it, in order; they ride with the next step
//! ```
//! An epoch builds all of it anew from the sequences that are live, whatever it was before.

mod admit;
mod cells;
#[cfg(any(test, debug_assertions))]
mod check;
mod evict;
mod states;

use jupiter_models::{KvOp, SequenceId, Token};

pub(super) use self::admit::{Admission, Computing, Found, Place};
use self::cells::{Cells, Taking, n_distinct};
#[cfg(any(test, debug_assertions))]
pub(super) use self::check::Holder;
use super::PlannerConfig;
use super::fault;
use crate::{RequestId, StepId};

/// Sequence ids that llama.cpp has (`LLAMA_MAX_SEQ`).
const MAX_SLOTS: u32 = 256;

/// Slots and cells of the KV cache.
pub(super) struct Kv {
    n_ctx: usize,
    /// Most cells that only nodes have.
    n_cached_max: usize,
    /// Positions before the end of a sequence that are certain to be there, where that is not all (a
    /// sliding window); 0 where layers have a state, which goes on from its end alone.
    past: Option<usize>,
    /// By sequence id.
    slots: Vec<Slot>,
    /// Answers that may be live, and parts of them beside the first of each. The slots beyond both are
    /// for trees of guesses; nodes have those that no sequence needs.
    n_requests: usize,
    n_branches: usize,
    /// Cells that slots have.
    n_used: usize,
    /// Of these, the ones that only nodes have.
    n_cached: usize,
    ops: Vec<KvOp>,
    n_takings: Taking,
    /// Counts the uses of nodes, for the order in which they go.
    n_uses: u64,
    /// Counts what was given back.
    n_returns: u64,
}

#[derive(Debug, Default)]
struct Slot {
    holds: Use,
    cells: Cells,
    /// The generation of rows that its next sequence begins with.
    generation: u32,
    /// How much of its sequence others were forked from.
    n_forked: usize,
    /// The last step that computes rows here of who has left, for others.
    last_chunk: Option<StepId>,
}

#[derive(Debug, Default)]
enum Use {
    #[default]
    Free,
    /// A sequence computes here.
    Live {
        /// What it takes is known by this.
        taking: Taking,
    },
    /// A branch of a tree of guesses under way; its cells are those of the tree's sequence.
    Lent,
    /// Nobody computes here, but what was computed is kept.
    Kept(Node),
}

/// What a sequence left.
#[derive(Debug)]
struct Node {
    /// The tokens whose keys and values are in its cells.
    tokens: Vec<Token>,
    whose: Whose,
    /// When it was used last, in the order of all.
    used: u64,
    /// Whether it stays as it is when somebody goes on from it: others begin so, too.
    is_for_many: bool,
}

/// Who may go on from what a sequence has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whose {
    /// The answer, with all its parts.
    pub(super) answer: RequestId,
    /// Whether all others may, too, and it from what they have.
    pub(super) is_open: bool,
}

/// What a sequence leaves in its slot.
#[derive(Debug)]
pub(super) struct Leaving {
    /// Generations below are dead.
    pub(super) generation: u32,
    /// Slots of its trees under way.
    pub(super) lent: Vec<SequenceId>,
    /// The last step under way whose rows of its text are still to be computed.
    pub(super) last_chunk: Option<StepId>,
    /// Tokens whose cells are certain to be computed.
    pub(super) tokens: Vec<Token>,
    pub(super) whose: Whose,
    /// Whether it stays for those who may go on from it.
    pub(super) is_kept: bool,
}

impl Kv {
    pub(super) fn new(config: &PlannerConfig) -> Self {
        let n_slots = config.engine.n_seq_max.min(MAX_SLOTS);
        let n_requests = config.n_parallel.min(n_slots);
        let n_branches = config.n_branches.min(n_slots - n_requests);
        let n_ctx = config.engine.n_ctx as usize;
        Self {
            n_ctx,
            n_cached_max: config.cache_cells.map_or(n_ctx, |n| n as usize),
            past: config.past.map(|n| n as usize),
            slots: (0..n_slots).map(|_| Slot::default()).collect(),
            n_requests: n_requests as usize,
            n_branches: n_branches as usize,
            n_used: 0,
            n_cached: 0,
            ops: Vec::new(),
            n_takings: 0,
            n_uses: 0,
            n_returns: 0,
        }
    }

    /// All begins anew: nothing has a slot, and nothing is computed.
    pub(super) fn restart(&mut self) {
        self.ops.clear();
        self.slots.fill_with(Slot::default);
        fault::point();
        (self.n_used, self.n_cached) = (0, 0);
        self.n_returns += 1;
    }

    /// What has to ride with the step that is sent now.
    pub(super) fn take_ops(&mut self) -> Vec<KvOp> {
        std::mem::take(&mut self.ops)
    }

    pub(super) fn do_later(&mut self, ops: Vec<KvOp>) {
        self.ops.extend(ops);
    }

    /// Most answers that are live at once.
    pub(super) fn n_requests(&self) -> usize {
        self.n_requests
    }

    /// Most parts of answers that are live at once, beside the first of each.
    pub(super) fn n_branches(&self) -> usize {
        self.n_branches
    }

    /// Free slots for branches of trees of guesses.
    pub(super) fn n_draft_seqs(&self) -> usize {
        let is_lent = |slot: &&Slot| matches!(slot.holds, Use::Lent);
        let n_lent = self.slots.iter().filter(is_lent).count();
        (self.slots.len() - self.n_main()).saturating_sub(n_lent)
    }

    /// Lends `n` slots to a tree of guesses, or as many as there are.
    pub(super) fn lend(&mut self, n: usize) -> Vec<SequenceId> {
        let n = n.min(self.n_draft_seqs());
        let lent: Vec<SequenceId> = self.free().take(n).collect();
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

    /// Gives the sequence in `dst` the first `len` cells of the one in `src`, whose rows are all sent.
    pub(super) fn fork(&mut self, src: SequenceId, dst: SequenceId, len: usize) {
        if let Some(slot) = self.slots.get_mut(src.0 as usize) {
            slot.n_forked = slot.n_forked.max(len);
        }
        let len = len as u32;
        self.ops.push(KvOp::Fork { src, dst, len });
    }

    /// The sequence in `seq` ends or gives up its slot; what it leaves stays in the tree where it may.
    pub(super) fn leave(&mut self, seq: SequenceId, leaving: Leaving) {
        fault::point();
        self.n_returns += 1;
        let drops = leaving.lent.iter().map(|&seq| KvOp::Drop { seq });
        self.ops.extend(drops);
        self.take_back(&leaving.lent);
        let n_tokens = leaving.tokens.len();
        if let Some(slot) = self.slots.get_mut(seq.0 as usize) {
            slot.generation = leaving.generation;
            slot.last_chunk = slot.last_chunk.max(leaving.last_chunk);
            slot.cells.shrink(n_tokens);
        }
        fault::point();
        if !leaving.is_kept || leaving.tokens.is_empty() {
            self.discard(seq);
            self.bound_cache();
            return;
        }
        // The slot may hold more: rows of guesses, and of tokens that nobody was told.
        let pos = n_tokens as u32;
        self.ops.push(KvOp::Truncate { seq, pos });
        self.n_uses += 1;
        let node = Node {
            tokens: leaving.tokens,
            whose: leaving.whose,
            used: self.n_uses,
            is_for_many: false,
        };
        self.set(seq, Use::Kept(node));
        self.count();
        self.drop_what_is_within(seq);
        self.bound_cache();
    }

    /// Whether what a part of the answer left is still there.
    pub(super) fn has_left(&self, answer: RequestId) -> bool {
        nodes(&self.slots).any(|(_, node)| node.whose.answer == answer)
    }

    /// Nobody goes on from what parts of the answer left for others of it.
    pub(super) fn forget(&mut self, answer: RequestId) {
        let is_its = |node: &Node| node.whose.answer == answer && !node.whose.is_open;
        let its = nodes(&self.slots).filter(|(_, node)| is_its(node));
        let its: Vec<SequenceId> = its.map(|(seq, _)| seq).collect();
        for seq in its {
            self.discard(seq);
        }
    }

    /// Counts what was given back: who found no room need not look again before it has changed.
    pub(super) fn n_returns(&self) -> u64 {
        self.n_returns
    }

    /// Cells that slots have, each counted once.
    pub(super) fn n_used(&self) -> usize {
        self.n_used
    }

    /// Those that only nodes have.
    pub(super) fn n_cached(&self) -> usize {
        self.n_cached
    }

    /// Those of live sequences.
    pub(super) fn n_live(&self) -> usize {
        self.n_used - self.n_cached
    }

    /// Cells of a sequence.
    pub(super) fn len(&self, seq: SequenceId) -> usize {
        let slot = self.slots.get(seq.0 as usize);
        slot.map_or(0, |slot| slot.cells.len())
    }

    /// Whether rows under way for a slot are to be computed whoever has ended: others were or are to be
    /// forked from its sequence behind the first `n`, or from who had it before, in steps since `oldest`.
    pub(super) fn needs_rows(&self, seq: SequenceId, n: usize, oldest: StepId) -> bool {
        let Some(slot) = self.slots.get(seq.0 as usize) else {
            return false;
        };
        let n_alone = self.n_alone(seq);
        let is_of_before = slot.last_chunk.is_some_and(|last| last >= oldest);
        is_of_before || n < slot.n_forked.max(slot.cells.len() - n_alone)
    }

    /// Cells that a live sequence may have without anybody giving up some.
    pub(super) fn n_within_reach(&self, seq: SequenceId) -> usize {
        self.len(seq) + self.n_ctx.saturating_sub(self.n_used)
    }

    /// A live sequence has cells for `n_tokens` tokens from now on, no more and no less; the prompt cache
    /// gives way. False, and nothing has changed: there are none.
    pub(super) fn take(&mut self, seq: SequenceId, n_tokens: usize) -> bool {
        let n_more = n_tokens.saturating_sub(self.len(seq));
        if !self.evict(n_more) {
            return false;
        }
        let Some(slot) = self.slots.get_mut(seq.0 as usize) else {
            return false;
        };
        let Use::Live { taking } = slot.holds else {
            return false;
        };
        fault::point();
        let n_before = slot.cells.len();
        slot.cells.shrink(n_tokens);
        slot.cells.grow(taking, n_tokens);
        self.n_used = self.n_used + slot.cells.len() - n_before;
        true
    }

    /// Slots for sequences and nodes.
    fn n_main(&self) -> usize {
        self.n_requests + self.n_branches
    }

    /// Cells at the end of a slot's that no other has.
    fn n_alone(&self, seq: SequenceId) -> usize {
        let others = self.slots.iter().zip(0..);
        let others = others.filter(|(_, other)| *other != seq.0);
        let cells = self.slots.get(seq.0 as usize).map(|slot| &slot.cells);
        cells.map_or(0, |cells| {
            cells.n_alone(others.map(|(slot, _)| &slot.cells))
        })
    }

    fn discard(&mut self, seq: SequenceId) {
        self.ops.push(KvOp::Drop { seq });
        fault::point();
        self.set(seq, Use::Free);
        self.count();
    }

    fn count(&mut self) {
        self.n_used = n_distinct(self.slots.iter().map(|slot| &slot.cells));
        let n_live = n_distinct(self.live().map(|slot| &slot.cells));
        self.n_cached = self.n_used - n_live;
    }

    fn free(&self) -> impl Iterator<Item = SequenceId> {
        let slots = self.slots.iter().zip(0..);
        let free = slots.filter(|(slot, _)| matches!(slot.holds, Use::Free));
        free.map(|(_, seq)| SequenceId(seq))
    }

    fn live(&self) -> impl Iterator<Item = &Slot> {
        let is_live = |slot: &&Slot| matches!(slot.holds, Use::Live { .. });
        self.slots.iter().filter(is_live)
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
            if matches!(holds, Use::Free | Use::Lent) {
                slot.cells = Cells::default();
            }
            slot.holds = holds;
        }
    }
}

fn nodes(slots: &[Slot]) -> impl Iterator<Item = (SequenceId, &Node)> {
    slots
        .iter()
        .zip(0..)
        .filter_map(|(slot, seq)| match &slot.holds {
            Use::Kept(node) => Some((SequenceId(seq), node)),
            _ => None,
        })
}

#[cfg(test)]
mod tests;
