//! Where a model is cut: layer ranges that cover it, in order.

mod cheapest;

use self::cheapest::cheapest;
use crate::architecture::Cuts;
use crate::{LayerRange, ModelError, Result};

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

/// Cuts the model into `n_stages` ranges so that the heaviest stage is as light as possible; of such
/// cuts the one whose last stages are the longest.
///
/// # Errors
/// [`ModelError::BadSplit`] for no stage, or more stages than `cuts` leaves room for.
pub fn split_by_weight(weights: &Weights, n_stages: u32, cuts: &Cuts) -> Result<Vec<LayerRange>> {
    let n_layer = weights.layers.len() as u32;
    let mut prefix = vec![0_u64; 1];
    for &layer in &weights.layers {
        prefix.push(prefix[prefix.len() - 1].saturating_add(layer));
    }
    let weight = |_: u32, range: LayerRange| {
        let layers = prefix[range.end as usize].saturating_sub(prefix[range.start as usize]);
        let first = if range.start == 0 {
            weights.embedding
        } else {
            0
        };
        let last = if range.end == n_layer {
            weights.head
        } else {
            0
        };
        layers.saturating_add(first).saturating_add(last)
    };
    cheapest(cuts, n_layer, n_stages, u64::max, weight)
        .ok_or_else(|| bad(too_many(n_stages, n_layer, cuts)))
}

/// Checks that `ranges`, which cover the model, may be its stages.
///
/// # Errors
/// [`ModelError::BadSplit`] with the rule that is against it, and the nearest split into as many
/// stages, in layers a stage.
pub fn check_cuts(ranges: &[LayerRange], cuts: &Cuts) -> Result<()> {
    let n_layer = ranges.last().map_or(0, |range| range.end);
    let refused = ranges
        .iter()
        .find_map(|&range| cuts.check(range, n_layer).err());
    let Some(refused) = refused else {
        return Ok(());
    };
    if cuts.never.is_some() {
        return Err(refused);
    }
    let n_stages = ranges.len() as u32;
    let distance = |stage: u32, range: LayerRange| {
        let asked = ranges.get(stage as usize).map_or(0, |range| range.end);
        u64::from(asked.abs_diff(range.end))
    };
    let nearest = cheapest(cuts, n_layer, n_stages, u64::saturating_add, distance);
    Err(bad(match nearest {
        Some(ranges) => {
            let layers: Vec<String> = ranges.iter().map(|range| range.len().to_string()).collect();
            format!("{refused}: the nearest split is {}", layers.join(","))
        }
        None => format!("{refused}: {}", too_many(n_stages, n_layer, cuts)),
    }))
}

/// Checks that the model can be cut into `n_stages`.
///
/// # Errors
/// [`ModelError::BadSplit`] with how many it can be cut into, or why it cannot be at all.
pub fn check_n_stages(n_stages: u32, n_layer: u32, cuts: &Cuts) -> Result<()> {
    match cheapest(cuts, n_layer, n_stages, u64::max, |_, _| 0) {
        Some(_) => Ok(()),
        None => Err(bad(too_many(n_stages, n_layer, cuts))),
    }
}

/// The most stages, at most `at_most`, that a model of `n_layer` layers can be cut into; at least 1.
pub fn most_stages(cuts: &Cuts, n_layer: u32, at_most: u32) -> u32 {
    let at_most = at_most.clamp(1, n_layer.max(1));
    if cuts.is_anywhere() {
        return at_most;
    }
    // The layers that `n` stages can hold from the first on.
    let (mut held, mut most) = (vec![0], 1);
    for n in 1..=at_most {
        let is_held = |end: &u32| {
            let mut ranges = held.iter().map(|&start| LayerRange::new(start, *end));
            ranges.any(|range| !range.is_empty() && cuts.allows(range, n_layer))
        };
        held = (1..=n_layer).filter(is_held).collect();
        if held.last() == Some(&n_layer) {
            most = n;
        }
    }
    most
}

fn too_many(n_stages: u32, n_layer: u32, cuts: &Cuts) -> String {
    let most = most_stages(cuts, n_layer, n_layer);
    match &cuts.never {
        Some(why) => {
            format!("{n_stages} stages cannot be: {why}; run it on one machine (--stages 1)")
        }
        None => format!("{n_stages} stages for {n_layer} layers: take 1 to {most} stages"),
    }
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

    fn ranges_between(cuts: &[u32], n_layer: u32) -> Vec<LayerRange> {
        let begins = std::iter::once(0).chain(cuts.iter().copied());
        let ends = cuts.iter().copied().chain([n_layer]);
        begins
            .zip(ends)
            .map(|(begin, end)| LayerRange::new(begin, end))
            .collect()
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
            let ranges = split_by_weight(&weights, n_stages, &Cuts::default()).unwrap();
            assert_eq!(ends(&ranges), expected, "{weights:?}");
        };
        check(weights(0, &[1; 16], 0), 2, &[8, 16]);
        check(weights(0, &[1; 16], 6), 2, &[11, 16]);
        check(weights(6, &[1; 16], 0), 2, &[5, 16]);
        check(weights(4, &[1; 16], 4), 2, &[8, 16]);
        check(weights(0, &[1; 3], 100), 3, &[1, 2, 3]);
        let refused = |n_stages| {
            split_by_weight(&weights(0, &[1; 3], 0), n_stages, &Cuts::default()).unwrap_err()
        };
        assert_eq!(
            refused(4).to_string(),
            "4 stages for 3 layers: take 1 to 3 stages"
        );
        refused(0);
    }

    #[test]
    fn a_cut_that_is_not_allowed_names_the_nearest_that_is() {
        let cuts = Cuts {
            step: 4,
            step_why: ", as every fourth layer differs".into(),
            ..Cuts::default()
        };
        let check = |cuts: &Cuts, at: &[u32], expected: &str| {
            let ranges = ranges_between(at, 16);
            let error = check_cuts(&ranges, cuts).unwrap_err().to_string();
            let why = error
                .split_once("cannot be split: ")
                .map_or("", |(_, why)| why);
            assert_eq!(why, expected);
        };
        check_cuts(&ranges_between(&[4, 12], 16), &cuts).unwrap();
        let why = "is no multiple of 4, as every fourth layer differs";
        check(
            &cuts,
            &[7],
            &format!("a cut at 7 {why}: the nearest split is 8,8"),
        );
        check(
            &cuts,
            &[3, 13],
            &format!("a cut at 3 {why}: the nearest split is 4,8,4"),
        );
        check(
            &cuts,
            &[1, 2, 3, 4],
            &format!("a cut at 1 {why}: 5 stages for 16 layers: take 1 to 4 stages"),
        );
        let never = Cuts::never("it is one".into());
        check(
            &never,
            &[8],
            "it is one; run it on one machine (--stages 1)",
        );
        assert_eq!(most_stages(&never, 16, 9), 1);
        assert_eq!(most_stages(&cuts, 17, 17), 5);
        let split = |n_stages| split_by_weight(&weights(0, &[1; 16], 0), n_stages, &never);
        assert_eq!(split(1).unwrap(), [LayerRange::new(0, 16)]);
        assert_eq!(
            split(2).unwrap_err().to_string(),
            "2 stages cannot be: it is one; run it on one machine (--stages 1)"
        );
    }

    /// Rules as architectures have them.
    fn any_cuts() -> impl Strategy<Value = Cuts> {
        let kinds = proptest::collection::vec(0u32..8, 1..4);
        (
            1u32..4,
            1u32..4,
            proptest::collection::vec(1u32..8, 0..2),
            proptest::option::of(kinds),
        )
            .prop_map(|(step, min_layers, special_lengths, kinds)| Cuts {
                step,
                min_layers,
                special_lengths,
                kinds: kinds
                    .map(|layers| crate::architecture::LayerKind {
                        what: "of a kind".into(),
                        layers,
                    })
                    .into_iter()
                    .collect(),
                ..Cuts::default()
            })
    }

    /// All ways to cut into `n_stages` that the rules allow, as the ends of the stages.
    fn all_ways(n_layer: u32, n_stages: u32, cuts: &Cuts) -> Vec<Vec<LayerRange>> {
        (0u32..1 << (n_layer - 1))
            .filter(|mask| mask.count_ones() == n_stages - 1)
            .map(|mask| {
                let at: Vec<u32> = (1..n_layer)
                    .filter(|cut| mask >> (cut - 1) & 1 == 1)
                    .collect();
                ranges_between(&at, n_layer)
            })
            .filter(|ranges| ranges.iter().all(|&range| cuts.allows(range, n_layer)))
            .collect()
    }

    proptest! {
        #[test]
        fn every_split_covers_and_none_is_better(
            layers in proptest::collection::vec(0u64..50, 1..9),
            embedding in 0u64..60,
            head in 0u64..60,
            n_stages in 1u32..9,
            cuts in any_cuts(),
        ) {
            let n_layer = layers.len() as u32;
            let ways = all_ways(n_layer, n_stages, &cuts);
            let most = most_stages(&cuts, n_layer, n_layer);
            let Ok(ranges) = split_by_weight(&weights(embedding, &layers, head), n_stages, &cuts)
            else {
                prop_assert!(ways.is_empty());
                return Ok(());
            };
            prop_assert!(n_stages <= most);
            prop_assert_eq!(ranges.len(), n_stages as usize);
            check_cover(&ranges, n_layer).unwrap();
            prop_assert!(ranges.iter().all(|&range| cuts.allows(range, n_layer)));
            let heaviest = |ranges: &[LayerRange]| {
                let weight = |range: &LayerRange| {
                    let first = if range.start == 0 { embedding } else { 0 };
                    let last = if range.end == n_layer { head } else { 0 };
                    let layers = &layers[range.start as usize..range.end as usize];
                    first + layers.iter().sum::<u64>() + last
                };
                ranges.iter().map(weight).max().unwrap_or(0)
            };
            let ours = heaviest(&ranges);
            for other in ways {
                prop_assert!(ours <= heaviest(&other), "{:?} beats {:?}", other, ranges);
            }
        }
    }
}
