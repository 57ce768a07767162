//! Layers with a state: a sequence goes on from its end alone, so one that computes what others begin with
//! stops there (`fork_point`). Its state goes to those that wait for it and stays as a node, before it goes on.

use jupiter_models::{SequenceId, Token};

use super::admit::Admission;
use super::{Kv, Node, Use, Whose, nodes};
use crate::planner::fault;

/// Fewer common tokens than this are not worth a state, which is much memory to copy.
const MIN_FORK_POINT: usize = 32;

impl Kv {
    /// Whether layers have a state, which goes on from its end alone.
    pub(in crate::planner) fn has_state(&self) -> bool {
        self.past == Some(0)
    }

    /// Tokens that both begin with, where layers have a state and these are worth one; else none.
    pub(in crate::planner) fn n_worth_a_state(
        &self,
        admission: &Admission<'_>,
        tokens: &[Token],
        whose: Whose,
    ) -> usize {
        if !self.has_state() || !admission.may_use(whose) {
            return 0;
        }
        Some(admission.n_shared(tokens, whose))
            .filter(|&n| n >= MIN_FORK_POINT)
            .unwrap_or(0)
    }

    /// Tokens of the text after which its state is to be kept: what others begin with, beside its first
    /// `n_shared` that are computed already. Of several such beginnings the one that spares most rows; none
    /// where layers keep what they need to go on from anywhere.
    pub(in crate::planner) fn fork_point<'a>(
        &self,
        admission: &Admission<'_>,
        n_shared: usize,
        others: impl Iterator<Item = (&'a [Token], Whose)>,
    ) -> Option<usize> {
        let others = others.map(|(tokens, whose)| self.n_worth_a_state(admission, tokens, whose));
        let of_node =
            |(_, node): (_, &Node)| self.n_worth_a_state(admission, &node.tokens, node.whose);
        let nodes = nodes(&self.slots).map(of_node);
        let mut alike: Vec<usize> = nodes.chain(others).filter(|&n| n > n_shared).collect();
        alike.sort_unstable_by(|a, b| b.cmp(a));
        let spared = (1..).zip(alike).max_by_key(|(n_others, n)| n_others * n);
        spared.map(|(_, n)| n)
    }

    /// What the live sequence in `src` has computed, `tokens` and no more, stays as a node too, where there
    /// is a slot for it, or one of another node; not one that many begin with further.
    pub(in crate::planner) fn keep(&mut self, src: SequenceId, tokens: Vec<Token>, whose: Whose) {
        let spares_more = |node: &Node| node.is_for_many && node.tokens.len() >= tokens.len();
        let oldest = self.oldest(None).and_then(|seq| self.node(seq));
        if self.is_full() && oldest.is_some_and(spares_more) {
            return;
        }
        let Some(dst) = self.free_slot(None) else {
            return;
        };
        self.fork(src, dst, tokens.len());
        let cells = self.slots[src.0 as usize].cells.first(tokens.len());
        fault::point();
        self.n_uses += 1;
        let node = Node {
            tokens,
            whose,
            used: self.n_uses,
            is_for_many: true,
        };
        self.set(dst, Use::Kept(node));
        if let Some(slot) = self.slots.get_mut(dst.0 as usize) {
            (slot.cells, slot.n_forked) = (cells, 0);
        }
        self.count();
        self.bound_cache();
    }
}
