//! Where a model is cut: layer ranges that cover it, in order.

use crate::{LayerRange, ModelError, Result};

/// The ranges between the layers of `cuts`, which lie in 1..n_layer and ascend.
///
/// # Errors
/// [`ModelError::BadSplit`] otherwise.
pub fn ranges_from_cuts(cuts: &[u32], n_layer: u32) -> Result<Vec<LayerRange>> {
    let mut start = 0;
    let mut ranges = Vec::with_capacity(cuts.len() + 1);
    for &cut in cuts {
        if cut <= start || cut >= n_layer {
            return Err(bad(format!(
                "a split must cover layers 0..{n_layer} with at least one layer a stage: the cut at \
                 {cut} must lie in {}..{n_layer}",
                start + 1
            )));
        }
        ranges.push(LayerRange::new(start, cut));
        start = cut;
    }
    ranges.push(LayerRange::new(start, n_layer));
    check_cover(&ranges, n_layer)?;
    Ok(ranges)
}

/// Checks that `ranges` cover layers `0..n_layer`, in order, each once.
///
/// # Errors
/// [`ModelError::BadSplit`] that names the first gap or overlap.
pub fn check_cover(ranges: &[LayerRange], n_layer: u32) -> Result<()> {
    let mut next = 0;
    for &range in ranges {
        if range.start != next || range.is_empty() || range.end > n_layer {
            return Err(bad(format!(
                "a split must cover layers 0..{n_layer}, each once and in order: {range} cannot \
                 follow layer {next}"
            )));
        }
        next = range.end;
    }
    if next != n_layer {
        return Err(bad(format!(
            "a split must cover layers 0..{n_layer}: layers {next}..{n_layer} are missing"
        )));
    }
    Ok(())
}

/// Checks that `range` lies in a model of `n_layer` layers.
///
/// # Errors
/// [`ModelError::BadSplit`] for an empty range, or one beyond the last layer.
pub fn check_range(range: LayerRange, n_layer: u32) -> Result<()> {
    if range.is_empty() || range.end > n_layer {
        return Err(bad(format!(
            "layers {range} are not in 0..{n_layer}, or there are none"
        )));
    }
    Ok(())
}

/// What the parts of a model weigh, in any unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Of the embedding, which the first stage has.
    pub embedding: u64,
    /// Of each layer.
    pub layers: Vec<u64>,
    /// Of the output head, which the last stage has.
    pub head: u64,
}

/// Cuts the model into `n_stages` ranges so that the heaviest stage is as light as possible.
///
/// # Errors
/// [`ModelError::BadSplit`] for no stage, or more stages than layers.
pub fn split_by_weight(weights: &Weights, n_stages: u32) -> Result<Vec<LayerRange>> {
    let n_layer = weights.layers.len() as u32;
    if n_stages == 0 || n_stages > n_layer {
        return Err(bad(format!(
            "{n_stages} stages for {n_layer} layers: take 1 to {n_layer} stages"
        )));
    }
    let ends = weights.embedding.saturating_add(weights.head);
    let total = weights
        .layers
        .iter()
        .copied()
        .fold(ends, u64::saturating_add);
    // The smallest limit under which filling each stage in turn needs at most `n_stages` of them.
    let (mut low, mut high) = (0, total);
    while low < high {
        let limit = low + (high - low) / 2;
        if fill(weights, n_stages, limit).is_some() {
            high = limit;
        } else {
            low = limit + 1;
        }
    }
    fill(weights, n_stages, high).ok_or_else(|| bad("the layers cannot be split".into()))
}

/// Fills stages from the last layer backwards, each up to `limit`, and leaves at least one layer for
/// each stage before it; none when `n_stages` are too few.
fn fill(weights: &Weights, n_stages: u32, limit: u64) -> Option<Vec<LayerRange>> {
    let mut ranges = Vec::with_capacity(n_stages as usize);
    let mut end = weights.layers.len();
    let mut sum = weights.head;
    let weight = |layer: usize| match layer {
        0 => weights.layers[0].saturating_add(weights.embedding),
        _ => weights.layers[layer],
    };
    for before in (0..n_stages as usize).rev() {
        let mut start = end;
        while start > before {
            let with_next = sum.saturating_add(weight(start - 1));
            if with_next > limit {
                break;
            }
            sum = with_next;
            start -= 1;
        }
        if start == end {
            return None;
        }
        ranges.push(LayerRange::new(start as u32, end as u32));
        end = start;
        sum = 0;
    }
    ranges.reverse();
    (end == 0).then_some(ranges)
}

fn bad(what: String) -> ModelError {
    ModelError::BadSplit { what }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn ends(ranges: &[LayerRange]) -> Vec<u32> {
        ranges.iter().map(|range| range.end).collect()
    }

    #[test]
    fn cuts_become_ranges_and_bad_ones_say_what_is_possible() {
        assert_eq!(ends(&ranges_from_cuts(&[4, 12], 16).unwrap()), [4, 12, 16]);
        let check = |cuts: &[u32], message: &str| {
            assert_eq!(ranges_from_cuts(cuts, 16).unwrap_err().to_string(), message);
        };
        let cover = "a split must cover layers 0..16 with at least one layer a stage: the cut at";
        check(&[0], &format!("{cover} 0 must lie in 1..16"));
        check(&[16], &format!("{cover} 16 must lie in 1..16"));
        check(&[8, 4], &format!("{cover} 4 must lie in 9..16"));
        check(&[4, 4], &format!("{cover} 4 must lie in 5..16"));
    }

    #[test]
    fn gaps_overlaps_and_missing_ends_are_named() {
        let check = |pairs: &[(u32, u32)], message: &str| {
            let ranges: Vec<_> = pairs.iter().map(|&(a, b)| LayerRange::new(a, b)).collect();
            assert_eq!(check_cover(&ranges, 6).unwrap_err().to_string(), message);
        };
        check(
            &[(0, 2), (3, 6)],
            "a split must cover layers 0..6, each once and in order: 3..6 cannot follow layer 2",
        );
        check(
            &[(0, 2), (2, 4)],
            "a split must cover layers 0..6: layers 4..6 are missing",
        );
        check(
            &[(0, 9)],
            "a split must cover layers 0..6, each once and in order: 0..9 cannot follow layer 0",
        );
        check(
            &[],
            "a split must cover layers 0..6: layers 0..6 are missing",
        );
        check_cover(&[LayerRange::new(0, 2), LayerRange::new(2, 6)], 6).unwrap();
        assert!(check_range(LayerRange::new(3, 3), 6).is_err());
        assert!(check_range(LayerRange::new(3, 7), 6).is_err());
    }

    fn weights(embedding: u64, layers: &[u64], head: u64) -> Weights {
        Weights {
            embedding,
            layers: layers.to_vec(),
            head,
        }
    }

    #[test]
    fn the_head_counts_to_the_last_stage_and_the_embedding_to_the_first() {
        let check = |weights: Weights, n_stages, expected: &[u32]| {
            let ranges = split_by_weight(&weights, n_stages).unwrap();
            assert_eq!(ends(&ranges), expected, "{weights:?}");
        };
        check(weights(0, &[1; 16], 0), 2, &[8, 16]);
        check(weights(0, &[1; 16], 6), 2, &[11, 16]);
        check(weights(6, &[1; 16], 0), 2, &[5, 16]);
        check(weights(4, &[1; 16], 4), 2, &[8, 16]);
        check(weights(0, &[1; 3], 100), 3, &[1, 2, 3]);
        let refused = |n_stages| split_by_weight(&weights(0, &[1; 3], 0), n_stages).unwrap_err();
        assert_eq!(
            refused(4).to_string(),
            "4 stages for 3 layers: take 1 to 3 stages"
        );
        refused(0);
    }

    proptest! {
        #[test]
        fn every_split_covers_and_none_is_better(
            layers in proptest::collection::vec(0u64..50, 1..9),
            embedding in 0u64..60,
            head in 0u64..60,
            n_stages in 1u32..9,
        ) {
            let n_layer = layers.len() as u32;
            let Ok(ranges) = split_by_weight(&weights(embedding, &layers, head), n_stages) else {
                prop_assert!(n_stages > n_layer);
                return Ok(());
            };
            prop_assert_eq!(ranges.len(), n_stages as usize);
            check_cover(&ranges, n_layer).unwrap();
            let heaviest = |ends: &[u32]| {
                let mut start = 0;
                let mut most = 0;
                for &end in ends {
                    let first = if start == 0 { embedding } else { 0 };
                    let last = if end == n_layer { head } else { 0 };
                    let sum = layers[start as usize..end as usize].iter().sum::<u64>();
                    most = most.max(first + sum + last);
                    start = end;
                }
                most
            };
            let ours = heaviest(&ends(&ranges));
            // All ways to choose n_stages - 1 cuts.
            for mask in 0u32..1 << (n_layer - 1) {
                if mask.count_ones() == n_stages - 1 {
                    let mut other: Vec<u32> =
                        (1..n_layer).filter(|cut| mask >> (cut - 1) & 1 == 1).collect();
                    other.push(n_layer);
                    prop_assert!(ours <= heaviest(&other), "{:?} beats {:?}", other, ranges);
                }
            }
        }
    }
}
