//! The tree of n nodes from which most is accepted.
//!
//! A node is accepted when its whole path is right; the probability of that is the product of the
//! conditional ones along the path, its marginal. At most one sibling is right, so the expected
//! number of accepted nodes is the sum of the marginals. No marginal exceeds that of the parent.
//! Hence the n largest marginals (ties: parents first) form a tree, and no other n nodes have a
//! larger sum: taking the likeliest open node again and again is optimal for every n at once.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::speculation::tree::{DraftTree, Node};
use crate::speculation::{Result, SpeculationError};

/// A node of a shape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShapeNode {
    /// Index of the node before it; none: the last accepted token.
    pub parent: Option<usize>,
    /// Its place among the candidates after that token, from 0.
    pub rank: usize,
    /// How many tokens after the last accepted one, from 1.
    pub depth: u32,
    /// Probability that it is accepted.
    pub marginal: f64,
}

/// What may follow a node, the likeliest first: conditional probabilities that add up to at most 1.
/// It gets the node (none: the root) among those chosen so far, and them.
pub trait Candidates: FnMut(Option<usize>, &[ShapeNode]) -> Vec<f64> {}

impl<F: FnMut(Option<usize>, &[ShapeNode]) -> Vec<f64>> Candidates for F {}

/// Grows a tree to `n_nodes`, or to all candidates that can be accepted at all. The first k nodes
/// are the best tree of k nodes, for every k.
///
/// # Errors
/// [`SpeculationError::BadProbability`] for a candidate whose probability is none; its rank stands
/// for the token.
pub fn grow(n_nodes: usize, mut candidates: impl Candidates) -> Result<Vec<ShapeNode>> {
    let mut chosen: Vec<ShapeNode> = Vec::new();
    let mut open: BinaryHeap<Open> = BinaryHeap::new();
    let mut parent = None;
    while chosen.len() < n_nodes {
        let (depth, marginal) = parent.map_or((0, 1.0), |at: usize| {
            (chosen[at].depth, chosen[at].marginal)
        });
        for (rank, p) in candidates(parent, &chosen).into_iter().enumerate() {
            if !(0.0..=1.0).contains(&p) {
                let token = i32::try_from(rank).unwrap_or(i32::MAX);
                return Err(SpeculationError::BadProbability { token, got: p });
            }
            if p > 0.0 {
                open.push(Open(ShapeNode {
                    parent,
                    rank,
                    depth: depth + 1,
                    marginal: marginal * p,
                }));
            }
        }
        let Some(Open(node)) = open.pop() else {
            break;
        };
        chosen.push(node);
        parent = Some(chosen.len() - 1);
    }
    Ok(chosen)
}

/// The best `n_nodes` of a tree whose nodes are right with `probability` when their path is, given
/// the node and its rank among its siblings. The first k nodes of what it returns are the best k;
/// `marginals` are theirs.
///
/// # Errors
/// As [`grow`].
pub fn prune(
    tree: &DraftTree,
    n_nodes: usize,
    probability: impl Fn(&Node, usize) -> f64,
) -> Result<Pruned> {
    // Index in `tree` of each chosen node that was expanded: all but the last.
    let mut here: Vec<usize> = Vec::new();
    let shape = grow(n_nodes, |parent: Option<usize>, chosen: &[ShapeNode]| {
        here.extend(chosen.last().and_then(|last| original(tree, &here, last)));
        let children = tree.children(parent.map(|parent| here[parent]));
        let p = |(rank, child): (usize, usize)| probability(&tree.nodes()[child], rank);
        children.enumerate().map(p).collect()
    })?;
    let mut pruned = Pruned {
        tree: DraftTree::new(),
        marginals: Vec::new(),
    };
    for node in &shape {
        if let Some(at) = original(tree, &here, node) {
            let guess = tree.nodes()[at];
            pruned
                .tree
                .push(node.parent, guess.token, guess.probability)?;
            pruned.marginals.push(node.marginal);
        }
    }
    Ok(pruned)
}

/// A part of a tree.
#[derive(Clone, Debug, PartialEq)]
pub struct Pruned {
    /// Its nodes, the likeliest first.
    pub tree: DraftTree,
    /// Probability that each is accepted.
    pub marginals: Vec<f64>,
}

/// The node of `tree` that `node` stands for; `here` holds those of its ancestors.
fn original(tree: &DraftTree, here: &[usize], node: &ShapeNode) -> Option<usize> {
    let parent = node.parent.map(|up| here[up]);
    tree.children(parent).nth(node.rank)
}

/// Likeliest first; of equals the one found first, which is never below one found later.
struct Open(ShapeNode);

impl Open {
    fn key(&self) -> (f64, std::cmp::Reverse<(u32, Option<usize>, usize)>) {
        let node = &self.0;
        let place = (node.depth, node.parent, node.rank);
        (node.marginal, std::cmp::Reverse(place))
    }
}

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.key(), other.key());
        a.0.total_cmp(&b.0).then(a.1.cmp(&b.1))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Open {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// A tree with probabilities: siblings share 1, and the children of node i are decided by the
    /// i-th pairs.
    fn full_tree(splits: &[(f64, f64)]) -> DraftTree {
        let mut tree = DraftTree::new();
        for (i, &(first, second)) in splits.iter().enumerate() {
            let parent = i.checked_sub(1);
            if parent.is_some_and(|at| at >= tree.len()) {
                break;
            }
            tree.push(parent, 0, Some(first)).unwrap();
            tree.push(parent, 1, Some((1.0 - first) * second)).unwrap();
        }
        tree
    }

    fn marginal(tree: &DraftTree, at: usize) -> f64 {
        let path = tree.path(Some(at));
        path.iter()
            .map(|&at| tree.nodes()[at].probability.unwrap())
            .product()
    }

    /// The best of all subsets that hold the parents of their nodes.
    fn brute_force(tree: &DraftTree, n_nodes: usize) -> f64 {
        let n = tree.len();
        let mut best = 0.0f64;
        for set in 0u32..1 << n {
            let has = |at: usize| set >> at & 1 == 1;
            let is_tree = (0..n)
                .filter(|&at| has(at))
                .all(|at| tree.nodes()[at].parent.is_none_or(has));
            if set.count_ones() as usize <= n_nodes && is_tree {
                let sum = (0..n)
                    .filter(|&at| has(at))
                    .map(|at| marginal(tree, at))
                    .sum();
                best = best.max(sum);
            }
        }
        best
    }

    proptest! {
        #[test]
        fn no_tree_of_as_many_nodes_is_better(
            splits in prop::collection::vec((0.0f64..=1.0, 0.0f64..=1.0), 1..7),
            n_nodes in 0usize..8,
        ) {
            let tree = full_tree(&splits);
            let known = |node: &Node, _| node.probability.unwrap();
            let Pruned { tree: pruned, marginals } = prune(&tree, n_nodes, known).unwrap();
            let expected: f64 = marginals.iter().sum();
            prop_assert!((expected - brute_force(&tree, n_nodes)).abs() < 1e-12);
            // What it says is what the pruned tree brings, and that is part of the tree.
            let sum: f64 = (0..pruned.len()).map(|at| marginal(&pruned, at)).sum();
            prop_assert!((expected - sum).abs() < 1e-12);
            let mut merged = tree.clone();
            for leaf in pruned.leaves() {
                merged.insert(&pruned.path_tokens(Some(leaf)), &[]).unwrap();
            }
            prop_assert_eq!(merged, tree);
        }
    }

    #[test]
    fn equal_candidates_grow_a_line_before_they_branch_again() {
        let shape = grow(4, |_: Option<usize>, _: &[ShapeNode]| vec![1.0, 0.0]).unwrap();
        let depths: Vec<_> = shape.iter().map(|node| node.depth).collect();
        assert_eq!(depths, [1, 2, 3, 4]);
    }

    #[test]
    fn a_probability_that_is_none_is_an_error() {
        for p in [f64::NAN, -0.5, 1.5] {
            assert!(grow(2, |_: Option<usize>, _: &[ShapeNode]| vec![p]).is_err());
        }
    }
}
