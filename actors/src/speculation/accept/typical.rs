//! Medusa's typical acceptance (arXiv 2401.10774, section 2.3.2): a guess is good enough when the
//! target holds it for likely, measured by how sure it is. Changes the distribution: the text is
//! what the draft wanted, as far as the target does not object.

use serde::{Deserialize, Serialize};

use jupiter_models::Token;

use crate::speculation::accept::{Distribution, Next, Verdict};
use crate::speculation::tree::DraftTree;
use crate::speculation::{Result, SpeculationError};

/// When a guess is likely enough: p > min(epsilon, delta exp(-H)) with the target's entropy H.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TypicalParams {
    /// Always enough, 0 to 1.
    pub epsilon: f64,
    /// Share of exp(-H) that is enough, 0 to 1.
    pub delta: f64,
}

impl Default for TypicalParams {
    /// The released demo's values.
    fn default() -> Self {
        TypicalParams {
            epsilon: 0.09,
            delta: 0.3,
        }
    }
}

impl TypicalParams {
    /// Checks the ranges.
    ///
    /// # Errors
    /// [`SpeculationError::BadSetting`] naming the value.
    pub fn validate(&self) -> Result<()> {
        for (field, got) in [
            ("typical epsilon", self.epsilon),
            ("typical delta", self.delta),
        ] {
            if !(0.0..=1.0).contains(&got) {
                return Err(SpeculationError::BadSetting {
                    field,
                    got: got.to_string(),
                    expected: "0 to 1",
                });
            }
        }
        Ok(())
    }

    /// Whether `token` is likely enough under `p`.
    pub fn accepts(&self, p: &Distribution, token: Token) -> bool {
        let enough = self.epsilon.min(self.delta * (-p.entropy()).exp());
        p.p(token) > enough
    }
}

/// The longest path of which every guess is likely enough, the likelier of equally long ones; then a
/// token from the target there, at `draw()` of 0..1.
///
/// # Errors
/// Those of `target` (none: after the root), and parameters out of range.
pub fn typical(
    tree: &DraftTree,
    params: TypicalParams,
    mut target: impl FnMut(Option<usize>) -> Result<Distribution>,
    draw: impl FnOnce() -> f64,
    ends: impl Fn(Token) -> bool,
) -> Result<Verdict> {
    params.validate()?;
    // Depth, likelihood, node and the distribution after it.
    let mut best = (0, 1.0, None, target(None)?);
    let mut open = vec![best.clone()];
    let mut end = None;
    while let Some((depth, likelihood, at, p)) = open.pop() {
        for child in tree.children(at) {
            let token = tree.nodes()[child].token;
            if !params.accepts(&p, token) {
                continue;
            }
            let (depth, likelihood) = (depth + 1, likelihood * p.p(token));
            let is_better = (depth, likelihood) > (best.0, best.1);
            if ends(token) {
                if is_better {
                    best = (depth, likelihood, at, p.clone());
                    end = Some(Next { token, ends: true });
                }
                continue;
            }
            let here = (depth, likelihood, Some(child), target(Some(child))?);
            if is_better {
                best = here.clone();
                end = None;
            }
            open.push(here);
        }
    }
    let (_, _, at, p) = best;
    let path = tree.path(at);
    let next = end.unwrap_or_else(|| {
        let token = p.draw(draw());
        Next {
            token,
            ends: ends(token),
        }
    });
    Ok(Verdict { path, next })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn even(n: Token) -> Distribution {
        Distribution::new((0..n).map(|t| (t, 1.0))).unwrap()
    }

    #[test]
    fn enough_depends_on_how_sure_the_target_is() {
        let params = TypicalParams::default();
        // H = ln 10: 0.3 exp(-H) = 0.03 is enough, and 0.1 is more.
        assert!(params.accepts(&even(10), 4));
        // Nearly sure: epsilon 0.09 is asked for.
        let sure = Distribution::new([(0, 0.92), (1, 0.08)]).unwrap();
        assert!(params.accepts(&sure, 0) && !params.accepts(&sure, 1));
        let less = Distribution::new([(0, 0.9), (1, 0.1)]).unwrap();
        assert!(params.accepts(&less, 1));
        assert!(!params.accepts(&even(10), 77), "impossible is never enough");
    }

    #[test]
    fn the_longest_path_wins_then_the_likelier() {
        let mut tree = DraftTree::line(&[0]).unwrap();
        tree.insert(&[1, 5], &[]).unwrap();
        tree.insert(&[2, 6], &[]).unwrap();
        let p = Distribution::new([(0, 0.5), (1, 0.2), (2, 0.3), (5, 0.2), (6, 0.2)]).unwrap();
        let verdict = typical(
            &tree,
            TypicalParams::default(),
            |_| Ok(p.clone()),
            || 0.0,
            |_| false,
        );
        let verdict = verdict.unwrap();
        assert_eq!(tree.path_tokens(verdict.path.last().copied()), [2, 6]);
        assert_eq!(
            verdict.next,
            Next {
                token: 0,
                ends: false
            }
        );
    }

    #[test]
    fn parameters_are_checked() {
        for epsilon in [f64::NAN, -1.0, 2.0] {
            let params = TypicalParams {
                epsilon,
                delta: 0.3,
            };
            let tree = DraftTree::new();
            assert!(typical(&tree, params, |_| Ok(even(2)), || 0.0, |_| false).is_err());
        }
    }
}
