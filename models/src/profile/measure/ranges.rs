//! Which slices of a model are measured: few and small, and yet as dear as in a real stage.

use crate::LayerRange;
use crate::profile::ModelProfile;

/// Weights of a slice that no cache of a small machine holds: a layer that was computed just
/// before would otherwise be faster than in a stage of many layers.
const ENOUGH_BYTES: u64 = 64 << 20;
/// Fewest layers of a slice whose model has too few weights: three, so that in models whose layers
/// take turns (gemma2) the slices of two classes are not the same mixture.
const MIN_LAYERS: u32 = 3;
/// Most slices for classes. Rarer classes count by their bytes, as against the others.
const MAX_WINDOWS: usize = 4;

/// The slices to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MeasuredRanges {
    /// For each of the commonest classes a slice with many layers of it. Without the last layer,
    /// so that no head is in them; without the first where that is possible.
    pub(super) windows: Vec<LayerRange>,
    /// The beginning of the first window: what the two differ in is layers alone. None where that
    /// window has one layer.
    pub(super) short: Option<LayerRange>,
    /// The last layers, with the head. Without logits they tell the last layer's own cost.
    pub(super) last: LayerRange,
}

impl MeasuredRanges {
    /// The slices for a model, which has at least one layer.
    pub(super) fn new(model: &ModelProfile) -> MeasuredRanges {
        let n_layer = model.n_layer();
        let outer = LayerRange::new(0, n_layer.saturating_sub(1));
        // A class may have no layer but the first.
        let inner = LayerRange::new(1.min(outer.end), outer.end);
        let mut windows: Vec<LayerRange> = Vec::new();
        for class in commonest_classes(model, outer) {
            let window = [inner, outer]
                .into_iter()
                .find_map(|range| window(model, range, class));
            windows.extend(window.filter(|window| !windows.contains(window)));
        }
        MeasuredRanges {
            short: windows.first().and_then(|window| short(model, *window)),
            windows,
            last: last(model),
        }
    }
}

/// The beginning of `window`: half of it, or as near to that as the model may be cut.
fn short(model: &ModelProfile, window: LayerRange) -> Option<LayerRange> {
    let half = window.len() / 2;
    (1..window.len())
        .map(|n| LayerRange::new(window.start, window.start + n))
        .filter(|&range| may_be(model, range))
        .min_by_key(|range| range.len().abs_diff(half))
}

/// Whether the model may be cut so.
fn may_be(model: &ModelProfile, range: LayerRange) -> bool {
    model.cuts.allows(range, model.n_layer())
}

/// Classes with layers in `range`, most layers first.
fn commonest_classes(model: &ModelProfile, range: LayerRange) -> Vec<usize> {
    let n_classes = model.representatives().len();
    let mut classes: Vec<usize> = (0..n_classes)
        .filter(|&class| count(model, range, class) > 0)
        .collect();
    classes.sort_by_key(|&class| std::cmp::Reverse(count(model, range, class)));
    classes.truncate(MAX_WINDOWS);
    classes
}

/// The slice in `within` that has the largest share of `class`: the shortest such with enough
/// weights, or the longest where the model has not enough.
fn window(model: &ModelProfile, within: LayerRange, class: usize) -> Option<LayerRange> {
    let mut best: Option<((bool, f64, i64), LayerRange)> = None;
    for start in within.start..within.end {
        for end in start + 1..=within.end {
            let range = LayerRange::new(start, end);
            let enough = bytes(model, range) >= ENOUGH_BYTES;
            if !enough && range.len() < MIN_LAYERS.min(within.len()) {
                continue;
            }
            if !may_be(model, range) {
                continue;
            }
            let n_layers = i64::from(range.len());
            let share = f64::from(count(model, range, class)) / n_layers as f64;
            let score = (enough, share, if enough { -n_layers } else { n_layers });
            if share > 0.0 && best.is_none_or(|(best, _)| score > best) {
                best = Some((score, range));
            }
            // One layer more may give a better mixture; further ones only cost time.
            if enough && bytes(model, LayerRange::new(start, end - 1)) >= ENOUGH_BYTES {
                break;
            }
        }
    }
    best.map(|(_, range)| range)
}

/// The last layers with enough weights, head included; as few as may be where the model has not
/// enough. Never the first layer, unless it is the only one, or the model cannot be cut.
fn last(model: &ModelProfile) -> LayerRange {
    let n_layer = model.n_layer();
    let with_head = |start| {
        let layers = bytes(model, LayerRange::new(start, n_layer));
        layers.saturating_add(model.head_bytes)
    };
    let starts = || {
        let all = (1..n_layer).rev();
        all.filter(|&start| may_be(model, LayerRange::new(start, n_layer)))
    };
    let start = starts()
        .find(|&start| with_head(start) >= ENOUGH_BYTES)
        .or(starts().next())
        .unwrap_or(0);
    LayerRange::new(start, n_layer)
}

/// Layers of `class` in `range`.
pub(super) fn count(model: &ModelProfile, range: LayerRange, class: usize) -> u32 {
    let layers = &model.layers[range.start as usize..range.end as usize];
    layers.iter().filter(|layer| layer.class == class).count() as u32
}

/// Weights of the layers in `range`.
pub(super) fn bytes(model: &ModelProfile, range: LayerRange) -> u64 {
    let layers = &model.layers[range.start as usize..range.end as usize];
    layers
        .iter()
        .fold(0, |sum, layer| sum.saturating_add(layer.weight_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Cuts;
    use crate::profile::measure::tests::model;

    const MB: u64 = 1 << 20;

    fn ranges(classes: &[usize], layer_bytes: u64) -> MeasuredRanges {
        MeasuredRanges::new(&model(classes, layer_bytes))
    }

    #[test]
    fn equal_layers_need_one_window_with_weights_enough() {
        let found = ranges(&[0; 16], 17 * MB);
        assert_eq!(
            found,
            MeasuredRanges {
                windows: vec![LayerRange::new(1, 5)],
                short: Some(LayerRange::new(1, 3)),
                last: LayerRange::new(12, 16),
            }
        );
        let huge = ranges(&[0; 80], 900 * MB);
        assert_eq!(huge.windows, [LayerRange::new(1, 2)]);
        assert_eq!((huge.short, huge.last), (None, LayerRange::new(79, 80)));
    }

    #[test]
    fn small_models_give_all_their_inner_layers() {
        let small = ranges(&[0; 6], 1000);
        assert_eq!(small.windows, [LayerRange::new(1, 5)]);
        assert_eq!(small.short, Some(LayerRange::new(1, 3)));
        assert_eq!(small.last, LayerRange::new(5, 6));
        for (n_layer, window) in [(1, None), (2, Some((0, 1))), (3, Some((1, 2)))] {
            let found = ranges(&vec![0; n_layer], 1000);
            let window = window.map(|(start, end)| LayerRange::new(start, end));
            assert_eq!(found.windows, Vec::from_iter(window));
            let n_layer = n_layer as u32;
            assert_eq!(found.last, LayerRange::new(n_layer - 1, n_layer));
            assert_eq!(found.short, None);
        }
    }

    #[test]
    fn slices_are_such_as_the_model_may_be_cut_into() {
        let by_fours = Cuts {
            step: 4,
            ..Cuts::default()
        };
        let found = |cuts: &Cuts, n_layer| {
            MeasuredRanges::new(&ModelProfile {
                cuts: cuts.clone(),
                ..model(&vec![0; n_layer], 1000)
            })
        };
        let small = found(&by_fours, 16);
        assert_eq!(small.windows, [LayerRange::new(4, 12)]);
        assert_eq!(small.short, Some(LayerRange::new(4, 8)));
        assert_eq!(small.last, LayerRange::new(12, 16));
        let whole = found(&Cuts::never("it is one".into()), 16);
        assert_eq!((whole.windows, whole.short), (vec![], None));
        assert_eq!(whole.last, LayerRange::new(0, 16));
    }

    #[test]
    fn each_class_gets_a_window_of_another_mixture() {
        // gemma2: layers take turns.
        let turns = ranges(&[0, 1, 0, 1, 0, 1, 0, 1, 0, 1], 20 * MB);
        let [first, second] = turns.windows[..] else {
            panic!("{turns:?}")
        };
        let model = model(&[0, 1, 0, 1, 0, 1, 0, 1, 0, 1], 20 * MB);
        assert_eq!((count(&model, first, 0), count(&model, first, 1)), (3, 2));
        assert_eq!((count(&model, second, 0), count(&model, second, 1)), (2, 3));

        // gemma3: five that slide, one that does not.
        let five = ranges(&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1], 20 * MB);
        assert_eq!(five.windows[0], LayerRange::new(1, 5));
        assert!(five.windows[1].contains(5) && five.windows[1].len() == 4);

        // A class of the first layer alone, and one of the last alone.
        let ends = ranges(&[0, 1, 1, 1, 1, 2], 40 * MB);
        assert_eq!(ends.windows, [LayerRange::new(1, 3), LayerRange::new(0, 2)]);
    }
}
