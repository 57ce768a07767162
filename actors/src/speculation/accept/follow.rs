//! Sampling as without a draft: the simplest rule without loss.
//!
//! The draw after n tokens depends on the seed and n alone, and a node's logits are those of the
//! text that ends with it. So as long as the target's own token is among the guesses, the next row
//! is already there; the first time that it is not, it is the next token all the same. By induction
//! over the tokens, what comes out is what plain decoding writes, token by token.
//!
//! A guess is accepted with the target's probability of it, p(x), which for guesses that are a
//! source's likeliest token is what speculative sampling accepts (Leviathan et al., arXiv
//! 2211.17192). Of guesses that were drawn from q that accepts more, min(p, q)/q; the text then is
//! another than without a draft.

use crate::speculation::Result;
use crate::speculation::accept::{Next, Verdict};
use crate::speculation::tree::DraftTree;

/// Walks down the tree along what `next` says. It is called for the root (none), then for each
/// accepted node, once and in order: it may hold a sampler's state.
///
/// # Errors
/// Those of `next`.
pub fn follow(
    tree: &DraftTree,
    mut next: impl FnMut(Option<usize>) -> Result<Next>,
) -> Result<Verdict> {
    let mut path = Vec::new();
    loop {
        let at = path.last().copied();
        let chosen = next(at)?;
        match tree.child(at, chosen.token) {
            Some(child) if !chosen.ends => path.push(child),
            _ => return Ok(Verdict { path, next: chosen }),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use jupiter_models::Token;

    use super::*;
    use crate::speculation::SpeculationError;

    fn greedy(tree: &DraftTree, text: &[Token], eog: Token) -> (Vec<Token>, Next) {
        let mut asked = 0;
        let verdict = follow(tree, |at| {
            assert_eq!(at.map_or(0, |at| tree.nodes()[at].depth), asked, "in order");
            let token = text[asked as usize];
            asked += 1;
            Ok(Next {
                token,
                ends: token == eog,
            })
        });
        let verdict = verdict.unwrap();
        (tree.path_tokens(verdict.path.last().copied()), verdict.next)
    }

    #[test]
    fn lines_and_trees_are_followed_as_far_as_they_are_right() {
        let mut tree = DraftTree::line(&[1, 2, 3]).unwrap();
        tree.insert(&[1, 5, 6], &[]).unwrap();
        let next = |token| Next { token, ends: false };
        assert_eq!(greedy(&tree, &[1, 2, 3, 4], 99), (vec![1, 2, 3], next(4)));
        assert_eq!(greedy(&tree, &[1, 5, 7], 99), (vec![1, 5], next(7)));
        assert_eq!(greedy(&tree, &[9], 99), (vec![], next(9)));
        assert_eq!(greedy(&DraftTree::new(), &[4], 99), (vec![], next(4)));
    }

    #[test]
    fn nothing_is_accepted_behind_the_end() {
        let tree = DraftTree::line(&[1, 2, 3]).unwrap();
        let end = Next {
            token: 2,
            ends: true,
        };
        assert_eq!(greedy(&tree, &[1, 2], 2), (vec![1], end));
    }

    #[test]
    fn an_error_of_the_target_is_passed_on() {
        let tree = DraftTree::line(&[1]).unwrap();
        let verdict = follow(&tree, |_| Err(SpeculationError::NanLogit));
        assert_eq!(verdict, Err(SpeculationError::NanLogit));
    }
}
