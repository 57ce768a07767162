//! What goes when cells or slots are wanted: of the node that was used longest ago the end that nobody
//! shares, then the next.

use jupiter_models::{KvOp, SequenceId};

use super::admit::MIN_COMMON;
use super::{Kv, Use, nodes};

/// Cells that go at once, where some have to: so that an operation on the engines' caches does not come
/// with every token.
const TRIMMED: usize = 32;

impl Kv {
    /// Makes room for so many more cells. False where nodes have not so many: none is left then.
    pub(in crate::planner) fn evict(&mut self, n_more: usize) -> bool {
        loop {
            let n_lacking = (self.n_used + n_more).saturating_sub(self.n_ctx);
            if n_lacking == 0 {
                return true;
            }
            let Some(seq) = self.oldest(None) else {
                return false;
            };
            self.trim(seq, n_lacking.max(TRIMMED));
        }
    }

    /// Nodes have at most the cells of the prompt cache.
    pub(super) fn bound_cache(&mut self) {
        if self.n_cached_max >= self.n_ctx {
            return;
        }
        loop {
            let n_over = self.n_cached.saturating_sub(self.n_cached_max);
            match self.oldest(None).filter(|_| n_over > 0) {
                Some(seq) => self.trim(seq, n_over),
                None => return,
            }
        }
    }

    /// A slot for a sequence. A node gives up its own where none is free; not `except`.
    pub(super) fn free_slot(&mut self, except: Option<SequenceId>) -> Option<SequenceId> {
        if self.is_full() {
            let oldest = self.oldest(except)?;
            self.discard(oldest);
        }
        self.free().next()
    }

    /// Whether sequences and nodes have all slots that are for them.
    pub(super) fn is_full(&self) -> bool {
        let is_main = |holds: &Use| matches!(holds, Use::Live { .. } | Use::Kept(_));
        let n_main = self.slots.iter().filter(|slot| is_main(&slot.holds));
        n_main.count() >= self.n_main()
    }

    /// Nodes whose cells another node has: who could go on from them can go on from that one, but for states.
    pub(super) fn drop_what_is_within(&mut self, seq: SequenceId) {
        let Some(node) = self.node(seq).filter(|_| !self.has_state()) else {
            return;
        };
        let (whose, cells) = (node.whose, &self.slots[seq.0 as usize].cells);
        let others = nodes(&self.slots).filter(|(other, node)| {
            let is_within = self.slots[other.0 as usize].cells.are_within(cells);
            *other != seq
                && is_within
                && (node.whose == whose || node.whose.is_open && whose.is_open)
        });
        let others: Vec<SequenceId> = others.map(|(other, _)| other).collect();
        for other in others {
            self.discard(other);
        }
    }

    pub(super) fn oldest(&self, except: Option<SequenceId>) -> Option<SequenceId> {
        let nodes = nodes(&self.slots).filter(|(seq, _)| Some(*seq) != except);
        let oldest = nodes.min_by_key(|(_, node)| node.used);
        oldest.map(|(seq, _)| seq)
    }

    /// Gives up to `n` cells of a node that nobody else has, or all of it where what is left is of no use.
    fn trim(&mut self, seq: SequenceId, n: usize) {
        let n_alone = self.n_alone(seq);
        let n_gone = n.min(n_alone);
        let n_left = self.len(seq) - n_gone;
        if n_alone == 0 || n_left < MIN_COMMON || self.has_state() {
            return self.discard(seq);
        }
        let pos = n_left as u32;
        self.ops.push(KvOp::Truncate { seq, pos });
        if let Some(slot) = self.slots.get_mut(seq.0 as usize)
            && let Use::Kept(node) = &mut slot.holds
        {
            node.tokens.truncate(n_left);
            slot.cells.shrink(n_left);
        }
        self.n_used -= n_gone;
        self.n_cached -= n_gone;
    }
}
