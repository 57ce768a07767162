//! A draft as a tree: several guesses at the next tokens, verified in one step (Medusa,
//! arXiv 2401.10774, section 2.3.1; SpecInfer, arXiv 2305.09781).
//!
//! The root is the last accepted token. It is no node: its row is sent with every draft, and its
//! logits judge the nodes of depth 1. A line is a tree with one node per depth.

mod branches;

pub use branches::Branches;

use jupiter_models::Token;

use crate::speculation::shape::grow::ShapeNode;
use crate::speculation::{Result, SpeculationError};

/// Most nodes of a tree: llama.cpp's `n_ubatch` default, beyond which no step computes at once.
pub const MAX_NODES: usize = 512;

/// A guess at one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// The guess.
    pub token: Token,
    /// Index of the node before it; none: the last accepted token.
    pub parent: Option<usize>,
    /// How many tokens after the last accepted one, from 1.
    pub depth: u32,
    /// What its source gives the token, given its path; 0 to 1; none where the source cannot say.
    pub probability: Option<f64>,
}

/// Nodes with parents before children and, among siblings, the likeliest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DraftTree {
    nodes: Vec<Node>,
}

impl DraftTree {
    /// A draft of nothing: plain decoding.
    pub fn new() -> DraftTree {
        DraftTree::default()
    }

    /// One node per token, each after the one before.
    ///
    /// # Errors
    /// [`SpeculationError::BadTree`] for more than [`MAX_NODES`] tokens.
    pub fn line(tokens: &[Token]) -> Result<DraftTree> {
        let mut tree = DraftTree::new();
        tree.insert(tokens, &[])?;
        Ok(tree)
    }

    /// Adds a guess after `parent`; its index.
    ///
    /// # Errors
    /// For a parent that is not there, a sibling of the same token, a probability that is none, and
    /// a full tree.
    pub fn push(
        &mut self,
        parent: Option<usize>,
        token: Token,
        probability: Option<f64>,
    ) -> Result<usize> {
        let bad = |field, got, expected: String| SpeculationError::BadTree {
            field,
            got,
            expected,
        };
        let n_nodes = self.nodes.len();
        if n_nodes >= MAX_NODES {
            let expected = format!("at most {MAX_NODES}");
            return Err(bad("number of nodes", n_nodes + 1, expected));
        }
        if let Some(at) = parent.filter(|&at| at >= n_nodes) {
            return Err(bad("parent", at, format!("below {n_nodes}")));
        }
        if let Some(got) = probability.filter(|p| !(0.0..=1.0).contains(p)) {
            return Err(SpeculationError::BadProbability { token, got });
        }
        if self.child(parent, token).is_some() {
            let place = "the guesses after one token";
            return Err(SpeculationError::DuplicateToken { token, place });
        }
        let depth = parent.map_or(1, |at| self.nodes[at].depth + 1);
        self.nodes.push(Node {
            token,
            parent,
            depth,
            probability,
        });
        Ok(n_nodes)
    }

    /// Adds a path from the root, sharing what is there already (a trie): guesses of several
    /// sources become one tree. `probabilities` may be shorter than `tokens`. Returns its end.
    ///
    /// # Errors
    /// As [`DraftTree::push`]; nodes added before the error stay.
    pub fn insert(&mut self, tokens: &[Token], probabilities: &[f64]) -> Result<Option<usize>> {
        let mut at = None;
        for (i, &token) in tokens.iter().enumerate() {
            at = match self.child(at, token) {
                Some(known) => Some(known),
                None => Some(self.push(at, token, probabilities.get(i).copied())?),
            };
        }
        Ok(at)
    }

    /// The part of this tree that a `shape` names, by ranks among siblings; what is not there is
    /// left out.
    ///
    /// # Errors
    /// As [`DraftTree::push`].
    pub fn part(&self, shape: &[ShapeNode]) -> Result<DraftTree> {
        let mut part = DraftTree::new();
        // For each node of the shape: its place here and in the part.
        let mut places: Vec<Option<(usize, usize)>> = Vec::new();
        for node in shape {
            let parent = match node.parent {
                None => Some((None, None)),
                Some(up) => places[up].map(|(here, there)| (Some(here), Some(there))),
            };
            let place = parent.and_then(|(here, there)| {
                let child = self.children(here).nth(node.rank)?;
                Some((child, there))
            });
            places.push(match place {
                Some((child, there)) => {
                    let guess = self.nodes[child];
                    Some((child, part.push(there, guess.token, guess.probability)?))
                }
                None => None,
            });
        }
        Ok(part)
    }

    /// Keeps the first `len` nodes; their parents are among them.
    pub fn truncate(&mut self, len: usize) {
        self.nodes.truncate(len);
    }

    /// The nodes, parents before children.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Number of nodes; a step has one row more, that of the root.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing is drafted.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether no token has two guesses after it.
    pub fn is_line(&self) -> bool {
        let in_row = |(i, node): (usize, &Node)| node.parent == i.checked_sub(1);
        self.nodes.iter().enumerate().all(in_row)
    }

    /// The guesses after `parent`, in order.
    pub fn children(&self, parent: Option<usize>) -> impl Iterator<Item = usize> + '_ {
        let is_child = move |(_, node): &(usize, &Node)| node.parent == parent;
        self.nodes
            .iter()
            .enumerate()
            .filter(is_child)
            .map(|(i, _)| i)
    }

    /// The guess `token` after `parent`.
    pub fn child(&self, parent: Option<usize>, token: Token) -> Option<usize> {
        self.children(parent)
            .find(|&at| self.nodes[at].token == token)
    }

    /// The nodes from depth 1 to `node`; empty for the root.
    pub fn path(&self, node: Option<usize>) -> Vec<usize> {
        let parent = |&at: &usize| self.nodes[at].parent;
        let mut path: Vec<usize> = std::iter::successors(node, parent).collect();
        path.reverse();
        path
    }

    /// The tokens from depth 1 to `node`.
    pub fn path_tokens(&self, node: Option<usize>) -> Vec<Token> {
        let path = self.path(node);
        path.into_iter().map(|at| self.nodes[at].token).collect()
    }

    /// Nodes with nothing after them, the main line's first.
    pub fn leaves(&self) -> Vec<usize> {
        let mut has_child = vec![false; self.nodes.len()];
        for parent in self.nodes.iter().filter_map(|node| node.parent) {
            has_child[parent] = true;
        }
        let mut leaves: Vec<usize> = (0..self.nodes.len()).filter(|&at| !has_child[at]).collect();
        let main = self.main_line().last().copied();
        leaves.sort_by_key(|&leaf| Some(leaf) != main);
        leaves
    }

    /// The first guess after each other: what further steps in flight go on from.
    pub fn main_line(&self) -> Vec<usize> {
        let first = self.children(None).next();
        std::iter::successors(first, |&at| self.children(Some(at)).next()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_with_one_beginning_share_it() {
        let mut tree = DraftTree::line(&[1, 2, 3]).unwrap();
        tree.insert(&[1, 5], &[0.5, 0.25]).unwrap();
        tree.insert(&[1, 2, 4], &[]).unwrap();
        tree.insert(&[9], &[]).unwrap();
        let paths: Vec<_> = tree
            .leaves()
            .iter()
            .map(|&leaf| tree.path_tokens(Some(leaf)))
            .collect();
        let expected: [&[Token]; 4] = [&[1, 2, 3], &[1, 5], &[1, 2, 4], &[9]];
        assert_eq!(paths, expected);
        assert_eq!(tree.len(), 6);
        assert_eq!(tree.nodes()[3].probability, Some(0.25));
        assert!(!tree.is_line() && DraftTree::line(&[1, 1]).unwrap().is_line());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let mut tree = DraftTree::line(&[1]).unwrap();
        let error = |result: Result<usize>| result.err().unwrap().to_string();
        assert!(error(tree.push(None, 1, None)).contains("twice"));
        assert!(error(tree.push(Some(7), 1, None)).contains("parent is 7, expected below 1"));
        for p in [f64::NAN, -0.1, 1.5, f64::INFINITY] {
            assert!(error(tree.push(None, 2, Some(p))).contains("probability"));
        }
        let long = vec![1; MAX_NODES + 1];
        assert!(DraftTree::line(&long).is_err());
    }
}
