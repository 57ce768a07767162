//! The branches of a tree as sequences of a unified KV cache.
//!
//! ```text
//! before   Fork{base -> each of theirs}     every branch shares the cells of what was accepted
//! rows     root: all branches; a node: the branches that run through it
//! after    the accepted path is base's, or Fork{its branch -> base}; Drop{each of theirs}
//! ```
//! The main line is `base`'s own: a line needs no other sequence and no fork, and steps in flight go on
//! behind it while the verdict is out.

use jupiter_models::{KvOp, Row, SequenceId, Token};

use crate::speculation::tree::DraftTree;
use crate::speculation::{Result, SpeculationError};

/// Which sequence each branch of a tree is.
#[derive(Clone, Debug)]
pub struct Branches<'a> {
    tree: &'a DraftTree,
    base: SequenceId,
    /// Leaf and sequence, the main line first.
    branches: Vec<(usize, SequenceId)>,
    /// Position of the root's row.
    pos: u32,
}

impl<'a> Branches<'a> {
    /// Gives each leaf of `tree` a sequence: `base` to the main line, then those of `draft_seqs`. The
    /// root's row has position `pos`; `base` has cells for all before it.
    ///
    /// # Errors
    /// [`SpeculationError::BadTree`] for too few sequences, or a position beyond 2^31.
    pub fn new(
        tree: &'a DraftTree,
        base: SequenceId,
        draft_seqs: &[SequenceId],
        pos: u32,
    ) -> Result<Branches<'a>> {
        let leaves = tree.leaves();
        let n_draft_seqs = leaves.len().saturating_sub(1);
        if n_draft_seqs > draft_seqs.len() {
            return Err(SpeculationError::BadTree {
                field: "number of branches",
                got: leaves.len(),
                expected: format!("at most {} (-np)", draft_seqs.len() + 1),
            });
        }
        if pos as usize + tree.len() >= i32::MAX as usize {
            return Err(SpeculationError::BadTree {
                field: "position",
                got: pos as usize,
                expected: "below 2^31 with the whole draft".into(),
            });
        }
        let seqs = std::iter::once(base).chain(draft_seqs.iter().copied());
        Ok(Branches {
            tree,
            base,
            branches: leaves.into_iter().zip(seqs).collect(),
            pos,
        })
    }

    /// The sequences of branches in use.
    pub fn draft_seqs(&self) -> impl Iterator<Item = SequenceId> + '_ {
        self.branches.iter().skip(1).map(|&(_, seq)| seq)
    }

    /// What rides with the step of the rows.
    pub fn before(&self) -> Vec<KvOp> {
        let fork = |dst| KvOp::Fork {
            src: self.base,
            dst,
            len: self.pos,
        };
        self.draft_seqs().map(fork).collect()
    }

    /// The rows: the root's with token `root`, then each node's, parents before children. All want
    /// logits. Positions within a sequence follow each other without gaps.
    pub fn rows(&self, root: Token) -> Vec<Row> {
        let mut seq_ids = vec![Vec::new(); self.tree.len()];
        for &(leaf, seq) in &self.branches {
            for at in self.tree.path(Some(leaf)) {
                seq_ids[at].push(seq);
            }
        }
        let all = std::iter::once(self.base)
            .chain(self.draft_seqs())
            .collect();
        let mut rows = vec![Row {
            seq_ids: all,
            pos: self.pos,
            token: root,
            wants_logits: true,
        }];
        for (node, seq_ids) in self.tree.nodes().iter().zip(seq_ids) {
            rows.push(Row {
                seq_ids,
                pos: self.pos + node.depth,
                token: node.token,
                wants_logits: true,
            });
        }
        rows
    }

    /// What rides with the next step, when all to `last` was accepted (none: no guess was right).
    /// After it `base` has cells for the accepted path and no other sequence has any.
    pub fn after(&self, last: Option<usize>) -> Vec<KvOp> {
        let path = self.tree.path(last);
        let len = self.pos + 1 + path.len() as u32;
        let runs_through =
            |leaf: usize| last.is_none_or(|last| self.tree.path(Some(leaf)).contains(&last));
        let winner = self.branches.iter().find(|&&(leaf, _)| runs_through(leaf));
        let mut ops = Vec::new();
        match winner {
            Some(&(_, src)) if src != self.base => ops.push(KvOp::Fork {
                src,
                dst: self.base,
                len,
            }),
            Some(&(leaf, _)) if Some(leaf) != last => ops.push(KvOp::Truncate {
                seq: self.base,
                pos: len,
            }),
            _ => {}
        }
        ops.extend(self.draft_seqs().map(|seq| KvOp::Drop { seq }));
        ops
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// A KV cache by its definition: each sequence is what its cells hold.
    #[derive(Default)]
    struct Cache(BTreeMap<SequenceId, Vec<Token>>);

    impl Cache {
        fn apply(&mut self, ops: &[KvOp]) {
            for &op in ops {
                match op {
                    KvOp::Truncate { seq, pos } => {
                        self.0.entry(seq).or_default().truncate(pos as usize)
                    }
                    KvOp::Fork { src, dst, len } => {
                        let shared = self.0[&src][..len as usize].to_vec();
                        self.0.insert(dst, shared);
                    }
                    KvOp::Drop { seq } => _ = self.0.remove(&seq),
                }
            }
        }

        /// What the engine's `check_rows` asks for, then the rows.
        fn step(&mut self, rows: &[Row]) {
            let cached: BTreeMap<_, _> = self.0.iter().map(|(s, t)| (*s, t.len())).collect();
            for row in rows {
                for seq in &row.seq_ids {
                    assert_eq!(cached.get(seq), cached.get(&row.seq_ids[0]), "fork first");
                    let cells = self.0.entry(*seq).or_default();
                    assert_eq!(cells.len(), row.pos as usize, "no gap");
                    cells.push(row.token);
                }
            }
        }
    }

    fn any_tree() -> impl Strategy<Value = DraftTree> {
        prop::collection::vec((any::<prop::sample::Index>(), 0..4), 0..16).prop_map(|nodes| {
            let mut tree = DraftTree::new();
            for (at, token) in nodes {
                let parent = at.index(tree.len() + 1).checked_sub(1);
                // A sibling of the same token is refused, which leaves a smaller tree.
                let _ = tree.push(parent, token, None);
            }
            tree
        })
    }

    proptest! {
        #[test]
        fn after_any_verdict_the_cache_is_that_of_the_accepted_path(
            tree in any_tree(),
            at in any::<prop::sample::Index>(),
            n_cached in 1u32..5,
        ) {
            let base = SequenceId(3);
            let draft_seqs: Vec<_> = (10..40).map(SequenceId).collect();
            let history: Vec<Token> = (100..100 + n_cached as Token).collect();
            let mut cache = Cache::default();
            cache.0.insert(base, history.clone());
            let branches = Branches::new(&tree, base, &draft_seqs, n_cached).unwrap();
            cache.apply(&branches.before());
            cache.step(&branches.rows(77));
            // Each node sees its path and nothing else.
            for (leaf, seq) in &branches.branches {
                let mut expected = history.clone();
                expected.push(77);
                expected.extend(tree.path_tokens(Some(*leaf)));
                prop_assert_eq!(&cache.0[seq], &expected);
            }
            let last = at.index(tree.len() + 1).checked_sub(1);
            cache.apply(&branches.after(last));
            let mut expected = history;
            expected.push(77);
            expected.extend(tree.path_tokens(last));
            prop_assert_eq!(cache.0, BTreeMap::from([(base, expected)]));
        }
    }

    #[test]
    fn a_line_that_is_accepted_whole_needs_no_operation() {
        let tree = DraftTree::line(&[1, 2]).unwrap();
        let branches = Branches::new(&tree, SequenceId(0), &[], 9).unwrap();
        assert_eq!(branches.before(), []);
        assert_eq!(branches.after(Some(1)), []);
        let truncate = KvOp::Truncate {
            seq: SequenceId(0),
            pos: 11,
        };
        assert_eq!(branches.after(Some(0)), [truncate]);
    }

    #[test]
    fn too_few_sequences_are_named() {
        let mut tree = DraftTree::line(&[1, 2]).unwrap();
        tree.push(None, 5, None).unwrap();
        let error = Branches::new(&tree, SequenceId(0), &[], 0).err().unwrap();
        assert!(error.to_string().contains("at most 1 (-np)"), "{error}");
    }
}
