//! Speculative sampling (Leviathan et al., arXiv 2211.17192; Chen et al., arXiv 2302.01318), and
//! for trees recursive rejection over siblings that were drawn without replacement (Jeon et al.,
//! arXiv 2402.14160; Yang et al., arXiv 2402.15678).
//!
//! At each accepted token the guesses after it are tried in their order. One drawn from q is
//! accepted with min(1, p/q); refused, it leaves the residual of p, and the next guess was drawn
//! from q without it. So the token that comes out has the target's distribution. A guess without
//! probabilities counts as drawn from a q that is 1 there.
//!
//! That holds only when no guess was kept or left out because of which token it is: the shape of a
//! tree of drawn guesses must be chosen before they are drawn.

use jupiter_models::Token;

use crate::speculation::accept::{Distribution, Next, Verdict};
use crate::speculation::tree::DraftTree;
use crate::speculation::{Result, SpeculationError};

/// Judges a tree. `target` gives the distribution after a node (none: after the root), `draft` the
/// distribution from which its guesses were drawn with [`draw_siblings`] (none: they were not
/// drawn), `draw` numbers in 0..1, `ends` whether a token ends the generation. Each is called in
/// one order that depends on the tree and the earlier answers alone.
///
/// # Errors
/// Those of `target`; [`SpeculationError::ImpossibleDraft`] for a guess that `draft` cannot have
/// given.
pub fn rejection<'a>(
    tree: &DraftTree,
    mut target: impl FnMut(Option<usize>) -> Result<Distribution>,
    mut draft: impl FnMut(Option<usize>) -> Option<&'a Distribution>,
    mut draw: impl FnMut() -> f64,
    ends: impl Fn(Token) -> bool,
) -> Result<Verdict> {
    let mut path: Vec<usize> = Vec::new();
    loop {
        let at = path.last().copied();
        let mut p = target(at)?;
        let mut q = draft(at).cloned();
        let drawn = q.is_some();
        let mut accepted = None;
        for child in tree.children(at) {
            let token = tree.nodes()[child].token;
            let share = match &q {
                Some(q) if q.p(token) > 0.0 => p.p(token) / q.p(token),
                None if !drawn => p.p(token),
                _ => return Err(SpeculationError::ImpossibleDraft { token }),
            };
            if draw() < share {
                accepted = Some(child);
                break;
            }
            // Where nothing would be left, the refusal was an error of rounding.
            let rest = q
                .as_ref()
                .map_or_else(|| p.without(token), |q| p.residual(q));
            p = rest.unwrap_or(p);
            q = q.and_then(|q| q.without(token));
        }
        let Some(child) = accepted else {
            let token = p.draw(draw());
            let next = Next {
                token,
                ends: ends(token),
            };
            return Ok(Verdict { path, next });
        };
        let token = tree.nodes()[child].token;
        if ends(token) {
            let next = Next { token, ends: true };
            return Ok(Verdict { path, next });
        }
        path.push(child);
    }
}

/// Draws up to `n` different tokens from `q`, one after the other without replacement; fewer where
/// fewer are possible.
pub fn draw_siblings(q: &Distribution, n: usize, mut draw: impl FnMut() -> f64) -> Vec<Token> {
    let mut left = Some(q.clone());
    let mut tokens = Vec::new();
    while let Some(q) = left.take().filter(|_| tokens.len() < n) {
        let token = q.draw(draw());
        tokens.push(token);
        left = q.without(token);
    }
    tokens
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_guess_beyond_its_own_distribution_is_an_error() {
        let p = Distribution::new([(0, 1.0)]).unwrap();
        let q = Distribution::new([(0, 1.0)]).unwrap();
        let tree = DraftTree::line(&[4]).unwrap();
        let verdict = rejection(&tree, |_| Ok(p.clone()), |_| Some(&q), || 0.5, |_| false);
        assert_eq!(verdict, Err(SpeculationError::ImpossibleDraft { token: 4 }));
        // Two guesses cannot have been drawn from one possible token.
        let other = Distribution::new([(9, 1.0)]).unwrap();
        let mut tree = DraftTree::line(&[0]).unwrap();
        tree.push(None, 1, None).unwrap();
        let verdict = rejection(
            &tree,
            |_| Ok(other.clone()),
            |_| Some(&q),
            || 0.5,
            |_| false,
        );
        assert_eq!(verdict, Err(SpeculationError::ImpossibleDraft { token: 1 }));
    }

    #[test]
    fn a_draft_that_is_the_target_is_always_accepted() {
        let p = Distribution::new([(0, 0.1), (1, 0.9)]).unwrap();
        let tree = DraftTree::line(&[0, 0, 1]).unwrap();
        let almost_one = 1.0 - f64::EPSILON;
        let verdict = rejection(
            &tree,
            |_| Ok(p.clone()),
            |_| Some(&p),
            || almost_one,
            |_| false,
        );
        assert_eq!(verdict.unwrap().path, [0, 1, 2]);
    }

    #[test]
    fn nothing_is_accepted_behind_the_end() {
        let p = Distribution::new([(3, 1.0)]).unwrap();
        let tree = DraftTree::line(&[3, 3]).unwrap();
        let verdict = rejection(&tree, |_| Ok(p.clone()), |_| None, || 0.5, |t| t == 3);
        let next = Next {
            token: 3,
            ends: true,
        };
        assert_eq!(verdict.unwrap(), Verdict { path: vec![], next });
    }

    #[test]
    fn siblings_differ() {
        let q = Distribution::new([(0, 0.98), (1, 0.01), (2, 0.01)]).unwrap();
        let mut tokens = draw_siblings(&q, 9, || 0.3);
        tokens.sort_unstable();
        assert_eq!(tokens, [0, 1, 2]);
    }
}
