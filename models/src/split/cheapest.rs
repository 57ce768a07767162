//! The best of all ways to cut a model that its rules allow, found stage by stage.

use crate::LayerRange;
use crate::architecture::Cuts;

/// The ranges of `n_stages` stages that `cuts` allows and whose costs, joined, are the least; `cost`
/// gets the number of a stage. Of equally cheap ones that whose last stages are the longest.
pub(super) fn cheapest(
    cuts: &Cuts,
    n_layer: u32,
    n_stages: u32,
    join: fn(u64, u64) -> u64,
    cost: impl Fn(u32, LayerRange) -> u64,
) -> Option<Vec<LayerRange>> {
    if n_stages == 0 || n_stages > n_layer {
        return None;
    }
    // `best[s][end]`: the least of `s + 1` stages that hold the layers up to `end`.
    let mut best: Vec<Vec<Option<u64>>> = Vec::with_capacity(n_stages as usize);
    let way = |best: &[Vec<Option<u64>>], stage: u32, range: LayerRange| {
        let before = match stage {
            0 => (range.start == 0).then_some(0),
            _ => best[stage as usize - 1][range.start as usize],
        }?;
        let joined = join(before, cost(stage, range));
        cuts.allows(range, n_layer).then_some(joined)
    };
    for stage in 0..n_stages {
        let least = |end: u32| {
            let ways = (0..end).filter_map(|start| way(&best, stage, LayerRange::new(start, end)));
            ways.min()
        };
        let row = (0..=n_layer).map(least).collect();
        best.push(row);
    }
    let least = best.last()?[n_layer as usize]?;
    let mut ranges = Vec::with_capacity(n_stages as usize);
    let (mut end, mut behind) = (n_layer, 0);
    for stage in (0..n_stages).rev() {
        let range = (0..end)
            .map(|start| LayerRange::new(start, end))
            .find(|&range| {
                way(&best, stage, range).is_some_and(|before| join(before, behind) <= least)
            })?;
        behind = join(behind, cost(stage, range));
        end = range.start;
        ranges.push(range);
    }
    ranges.reverse();
    Some(ranges)
}
