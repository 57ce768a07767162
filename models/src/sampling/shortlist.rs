//! The likeliest few of a vocabulary, in one pass over its logits.

use std::cmp::Ordering;

use crate::types::Token;

/// Logits compared at once; wide enough for any vector unit.
const N_LANES: usize = 16;

/// A token that may be chosen, and its logit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) token: Token,
    pub(super) logit: f32,
}

/// The `n` largest of `logits`, largest first, lower ids before higher ones of the same logit.
///
/// Fewer where fewer are possible: negative infinity and what is not a number are left out.
pub(super) fn shortlist(logits: &[f32], n: usize) -> Vec<Candidate> {
    if n == 1 {
        return likeliest(logits).into_iter().collect();
    }
    // The buffer fills up to twice what is wanted and is cut back to that, which raises the bar:
    // soon nearly all logits fail the first comparison.
    let n = n.min(logits.len());
    let mut best: Vec<Candidate> = Vec::with_capacity(n.saturating_mul(2));
    let mut bar = f32::NEG_INFINITY;
    for (chunk, token) in logits.chunks(N_LANES).zip((0..).step_by(N_LANES)) {
        if !chunk.iter().fold(false, |any, &logit| any | (logit > bar)) {
            continue;
        }
        for (&logit, token) in chunk.iter().zip(token..) {
            if logit > bar {
                best.push(Candidate { token, logit });
            }
        }
        if n > 0 && best.len() >= n.saturating_mul(2).max(n + N_LANES) {
            best.select_nth_unstable_by(n - 1, likelier_first);
            best.truncate(n);
            bar = best[n - 1].logit;
        }
    }
    best.sort_unstable_by(likelier_first);
    best.truncate(n);
    best
}

/// The largest of `logits`, the first of equals.
fn likeliest(logits: &[f32]) -> Option<Candidate> {
    let mut lanes = [f32::NEG_INFINITY; N_LANES];
    let chunks = logits.chunks_exact(N_LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &logit) in lanes.iter_mut().zip(chunk) {
            // Not f32::max, which costs more to get NaN right: a comparison with NaN is false.
            *lane = if logit > *lane { logit } else { *lane };
        }
    }
    let logit = lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    if logit == f32::NEG_INFINITY {
        return None;
    }
    let token = logits.iter().position(|&l| l == logit)?;
    Some(Candidate {
        token: token as Token,
        logit,
    })
}

fn likelier_first(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit
        .partial_cmp(&a.logit)
        .unwrap_or(Ordering::Equal)
        .then(a.token.cmp(&b.token))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_sorting_everything(
            // Few distinct values, so that ties are common.
            values in prop::collection::vec(prop_oneof![
                8 => (-20i8..20).prop_map(|v| f32::from(v) / 4.0),
                1 => Just(f32::NAN),
                1 => Just(f32::NEG_INFINITY),
                1 => Just(f32::INFINITY),
            ], 0..400),
            n in 1usize..100,
        ) {
            let mut expected: Vec<_> = values.iter().zip(0..)
                .filter(|(l, _)| **l > f32::NEG_INFINITY)
                .map(|(&logit, token)| Candidate { token, logit })
                .collect();
            expected.sort_by(likelier_first);
            expected.truncate(n);
            prop_assert_eq!(shortlist(&values, n), expected);
        }
    }
}
