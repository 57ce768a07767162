//! Guesses from beside the Verifier, some tokens for each place after the next token: those of Medusa heads
//! (arXiv 2401.10774), whatever the others name, or of a block for multi-token prediction, upon the
//! likeliest ones before. A tree takes the likeliest combinations.

use jupiter_models::Token;

use crate::speculation::Result;
use crate::speculation::draft::{DraftLimits, DraftSource};
use crate::speculation::shape::grow::{ShapeNode, grow};
use crate::speculation::tree::DraftTree;

/// Nodes of the tree before it is cut to what pays (the published demo's 64).
const MAX_NODES: usize = 64;

/// What the heads said of the last verified token.
#[derive(Clone, Debug)]
pub struct HeadsSource {
    name: &'static str,
    /// Whether guesses at a place hold only behind the likeliest ones before.
    is_chain: bool,
    /// For each place after the next token, tokens and their probabilities, the likeliest first.
    guesses: Vec<Vec<(Token, f64)>>,
}

impl HeadsSource {
    /// A source that statistics call `name`; where it `is_chain`, guesses at a place hold only behind the
    /// likeliest ones before.
    pub fn new(name: &'static str, is_chain: bool) -> Self {
        Self {
            name,
            is_chain,
            guesses: Vec::new(),
        }
    }

    /// New guesses, for what follows the text as it is now.
    pub fn set(&mut self, guesses: Vec<Vec<(Token, f64)>>) {
        self.guesses = guesses;
    }

    /// How far they guess.
    pub fn depth(&self) -> usize {
        self.guesses.len()
    }
}

impl DraftSource for HeadsSource {
    fn name(&self) -> &'static str {
        self.name
    }

    /// What was known of the text before is worth nothing now.
    fn accept(&mut self, _tokens: &[Token]) -> Result<()> {
        self.guesses.clear();
        Ok(())
    }

    fn draft(&mut self, ahead: &[Token], limits: DraftLimits) -> Result<DraftTree> {
        let heads = self.guesses.get(ahead.len()..).unwrap_or_default();
        let heads = &heads[..heads.len().min(limits.depth)];
        let n_ranks = limits.lines;
        let candidates = |parent: Option<usize>, chosen: &[ShapeNode]| {
            let is_beside = parent.is_some_and(|at| chosen[at].rank > 0);
            if self.is_chain && is_beside {
                return Vec::new();
            }
            let depth = parent.map_or(0, |at| chosen[at].depth as usize);
            let head = heads.get(depth).map_or(&[][..], Vec::as_slice);
            head.iter().take(n_ranks).map(|&(_, p)| p).collect()
        };
        let mut tree = DraftTree::new();
        for node in grow(MAX_NODES, candidates)? {
            let (token, p) = heads[node.depth as usize - 1][node.rank];
            tree.push(node.parent, token, Some(p))?;
        }
        Ok(tree)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn source() -> HeadsSource {
        let mut source = HeadsSource::new("medusa", false);
        source.set(vec![vec![(5, 0.6), (6, 0.3)], vec![(7, 0.5), (8, 0.1)]]);
        source
    }

    #[test]
    fn the_likeliest_combinations_come_first() {
        let tree = source()
            .draft(&[], DraftLimits { depth: 9, lines: 2 })
            .unwrap();
        let tokens: Vec<_> = (0..4).map(|at| tree.path_tokens(Some(at))).collect();
        // 0.6, then 0.3 of each: the shorter first.
        assert_eq!(tokens[0], [5]);
        assert!(tokens[1..3].contains(&vec![6]) && tokens[1..3].contains(&vec![5, 7]));
        assert_eq!(tokens[3], [6, 7]);
        assert_eq!(tree.len(), 6);
    }

    #[test]
    fn behind_guesses_under_way_the_further_heads_count() {
        let line = source().draft(&[5], DraftLimits::line(4)).unwrap();
        assert_eq!(line.path_tokens(Some(0)), [7]);
        assert_eq!(line.len(), 1);
        assert!(
            source()
                .draft(&[5, 7], DraftLimits::line(4))
                .unwrap()
                .is_empty()
        );
        let mut source = source();
        source.accept(&[1]).unwrap();
        assert!(source.draft(&[], DraftLimits::line(4)).unwrap().is_empty());
    }

    #[test]
    fn a_probability_that_is_none_is_named() {
        let mut source = HeadsSource::new("medusa", false);
        source.set(vec![vec![(5, f64::NAN)]]);
        let error = source.draft(&[], DraftLimits::line(1)).unwrap_err();
        assert!(error.to_string().contains("NaN"), "{error}");
    }
}
