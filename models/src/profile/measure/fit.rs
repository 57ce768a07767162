//! From the times of slices to the costs of layers and head: pure arithmetic.
//!
//! ```text
//! step of a slice = step_ms + its layers, each by its class [+ embedding if first] [+ head if logits]
//! ```

use super::probe::ContextTimes;
use super::ranges::{MeasuredRanges, bytes, count};
use crate::LayerRange;
use crate::profile::{
    ComputeProfile, Crowding, LayerProfile, ModelProfile, Noise, RowCurve, TILE_ROWS,
};

/// What noise has made 0 or less becomes a nanosecond, for which planning has no need of a
/// special case.
const FLOOR_MS: f64 = 1e-6;
/// Sweeps of the descent: the system has at most five unknowns, a sweep takes a microsecond, and
/// the slowest mixtures (layers that take turns) have converged after a few hundred.
const SWEEPS: u32 = 20_000;

/// What was measured.
#[derive(Clone, Debug)]
pub(super) struct Timings {
    /// Steps of each window, and of the last slice without logits, with nothing in the cache: rows
    /// and milliseconds.
    pub(super) slices: Vec<Vec<(u32, f64)>>,
    /// Steps of the same upon context, where there was time to fill the cache.
    pub(super) context: Vec<Option<ContextTimes>>,
    /// One row through the beginning of the first window.
    pub(super) short_ms: Option<f64>,
    /// Steps of the last slice whose rows all want logits.
    pub(super) logits: Vec<(u32, f64)>,
    /// The embedding of one row.
    pub(super) embedding_ms: f64,
}

/// The profile that explains `timings` of the slices `ranges`; its noise is not known here.
pub(super) fn profile(
    model: &ModelProfile,
    ranges: &MeasuredRanges,
    timings: &Timings,
) -> ComputeProfile {
    let mut slices = ranges.windows.clone();
    slices.push(ranges.last);
    let fit = Fit {
        model,
        slices,
        short: ranges.short,
        timings,
        n_classes: model.representatives().len(),
    };
    let step_ms = fit.step_ms();
    let points: Vec<(u32, Vec<f64>)> = fit
        .common_rows()
        .into_iter()
        .map(|rows| (rows, fit.layers_ms(rows, step_ms)))
        .collect();
    let context = fit
        .context_ms(&|rows| rows < TILE_ROWS)
        .unwrap_or(vec![0.0; fit.n_classes]);
    let tile_context = fit.context_ms(&|rows| rows >= TILE_ROWS);
    let tile_context = tile_context.unwrap_or(context.clone());
    let layers: Vec<LayerProfile> = (0..fit.n_classes)
        .map(|class| {
            let points: Vec<(u32, f64)> = points
                .iter()
                .map(|(rows, ms)| (*rows, ms[class].max(FLOOR_MS)))
                .collect();
            LayerProfile {
                rows: RowCurve::new(&points),
                context_ms: context[class],
                tile_context_ms: tile_context[class],
            }
        })
        .collect();
    ComputeProfile {
        layers,
        step_ms,
        embedding_ms: timings.embedding_ms,
        head: fit.head(),
        crowding: Crowding::default(),
        noise: Noise::default(),
    }
}

struct Fit<'a> {
    model: &'a ModelProfile,
    /// The windows, and last the last layers.
    slices: Vec<LayerRange>,
    short: Option<LayerRange>,
    timings: &'a Timings,
    n_classes: usize,
}

impl Fit<'_> {
    /// Layers of each class in `range`.
    fn counts(&self, range: LayerRange) -> Vec<f64> {
        (0..self.n_classes)
            .map(|class| f64::from(count(self.model, range, class)))
            .collect()
    }

    /// What of a step of `range` is neither layers nor head.
    fn fixed_ms(&self, range: LayerRange, rows: u32, step_ms: f64) -> f64 {
        let embedded_rows = if range.start == 0 {
            f64::from(rows)
        } else {
            0.0
        };
        step_ms + embedded_rows * self.timings.embedding_ms
    }

    /// Numbers of rows that were measured in all slices.
    fn common_rows(&self) -> Vec<u32> {
        let all = self.timings.slices.iter();
        let shortest = all.min_by_key(|points| points.len());
        shortest.map_or(Vec::new(), |points| points.iter().map(|p| p.0).collect())
    }

    /// The time that does not grow with the layers: one more unknown beside the classes, and one
    /// more equation, the beginning of the first window. None is found where there is one layer.
    fn step_ms(&self) -> f64 {
        let (Some(short), Some(short_ms)) = (self.short, self.timings.short_ms) else {
            return 0.0;
        };
        let mut ranges = self.slices.clone();
        ranges.push(short);
        let mut times: Vec<f64> = self.timings.slices.iter().map(|p| ms_at(p, 1)).collect();
        times.push(short_ms);
        let times: Vec<f64> = times
            .into_iter()
            .zip(&ranges)
            .map(|(ms, &range)| ms - self.fixed_ms(range, 1, 0.0))
            .collect();
        let mut unknown = self.by_bytes(&ranges, &times);
        unknown.push(0.0);
        let equations: Vec<Vec<f64>> = ranges
            .iter()
            .map(|&range| {
                let mut counts = self.counts(range);
                counts.push(1.0);
                counts
            })
            .collect();
        solve(&equations, &times, &mut unknown);
        unknown[self.n_classes]
    }

    /// Milliseconds of one layer of each class for `rows` rows.
    fn layers_ms(&self, rows: u32, step_ms: f64) -> Vec<f64> {
        let times: Vec<f64> = self
            .timings
            .slices
            .iter()
            .zip(&self.slices)
            .map(|(points, &range)| ms_at(points, rows) - self.fixed_ms(range, rows, step_ms))
            .collect();
        let equations: Vec<Vec<f64>> = self
            .slices
            .iter()
            .map(|&range| self.counts(range))
            .collect();
        let mut layers = self.by_bytes(&self.slices, &times);
        solve(&equations, &times, &mut layers);
        layers
    }

    /// A first guess, and the last one for classes that are in no slice: each byte of weights
    /// takes as long as the others.
    fn by_bytes(&self, ranges: &[LayerRange], times: &[f64]) -> Vec<f64> {
        let n_bytes: u64 = ranges.iter().map(|&range| bytes(self.model, range)).sum();
        let ms_per_byte = times.iter().sum::<f64>().max(0.0) / n_bytes.max(1) as f64;
        let representatives = self.model.representatives();
        representatives
            .iter()
            .map(|&il| self.model.layers[il as usize].weight_bytes as f64 * ms_per_byte)
            .collect()
    }

    /// Milliseconds for a row and a token of context in one layer of each class, in steps
    /// `of` such numbers of rows; none where none was measured.
    fn context_ms(&self, of: &dyn Fn(u32) -> bool) -> Option<Vec<f64>> {
        let mut equations = Vec::new();
        let mut slopes = Vec::new();
        let timings = self.timings.slices.iter().zip(&self.timings.context);
        for (&range, (empty, context)) in self.slices.iter().zip(timings) {
            if let Some(slope) = context
                .as_ref()
                .and_then(|context| slope(empty, context, of))
            {
                equations.push(self.counts(range));
                slopes.push(slope);
            }
        }
        if slopes.is_empty() {
            return None;
        }
        let n_layers: f64 = equations.iter().flatten().sum();
        let mean = slopes.iter().sum::<f64>() / n_layers;
        let mut context = vec![mean; self.n_classes];
        solve(&equations, &slopes, &mut context);
        Some(context)
    }

    /// What the last slice takes longer when all rows want logits.
    fn head(&self) -> RowCurve {
        let without = self.timings.slices.last().map_or(&[][..], Vec::as_slice);
        let points: Vec<(u32, f64)> = self
            .timings
            .logits
            .iter()
            .filter(|(rows, _)| without.iter().any(|point| point.0 == *rows))
            .map(|&(rows, ms)| (rows, (ms - ms_at(without, rows)).max(FLOOR_MS)))
            .collect();
        RowCurve::new(&points)
    }
}

/// The time of a measured point; 0 for others, which nobody asks for.
fn ms_at(points: &[(u32, f64)], rows: u32) -> f64 {
    let point = points.iter().find(|point| point.0 == rows);
    point.map_or(0.0, |point| point.1)
}

/// Milliseconds for a row and a token of context in a whole slice, in steps `of` such numbers of
/// rows: makes the squares of what they are off by, relative to what they take, least. None where
/// there is no such step.
fn slope(empty: &[(u32, f64)], context: &ContextTimes, of: &dyn Fn(u32) -> bool) -> Option<f64> {
    let (mut above, mut below) = (0.0, 0.0);
    for &(rows, ms) in context.points.iter().filter(|point| of(point.0)) {
        let pairs = f64::from(rows) * f64::from(context.cached) / ms;
        above += (ms - ms_at(empty, rows)) / ms * pairs;
        below += pairs * pairs;
    }
    (below > 0.0).then(|| (above / below).max(0.0))
}

/// Makes `unknown` what comes nearest to solving `equations . unknown = values`, no unknown below
/// 0: least squares by coordinate descent, which converges from everywhere. What the equations
/// leave open stays as it was given.
fn solve(equations: &[Vec<f64>], values: &[f64], unknown: &mut [f64]) {
    for _ in 0..SWEEPS {
        for j in 0..unknown.len() {
            let (mut above, mut below) = (0.0, 0.0);
            for (equation, value) in equations.iter().zip(values) {
                let sum: f64 = equation.iter().zip(&*unknown).map(|(a, x)| a * x).sum();
                above += equation[j] * (value - sum + equation[j] * unknown[j]);
                below += equation[j] * equation[j];
            }
            if below > 0.0 {
                unknown[j] = (above / below).max(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved_and_nothing_goes_below_zero() {
        let near = |found: &[f64], expected: &[f64]| {
            let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
            assert!(off.fold(0.0, f64::max) < 1e-6, "{found:?} {expected:?}");
        };
        // Two mixtures and the beginning of the first: 3, 5 and a fixed 2.
        let mixtures = [
            vec![3.0, 2.0, 1.0],
            vec![2.0, 3.0, 1.0],
            vec![1.0, 1.0, 1.0],
        ];
        let mut unknown = [1.0, 1.0, 0.0];
        solve(&mixtures, &[21.0, 23.0, 10.0], &mut unknown);
        near(&unknown, &[3.0, 5.0, 2.0]);
        // Noise that asks for a fixed time below 0 gets 0, and the best layer beside it.
        let mut unknown = [1.0, 0.0];
        solve(&[vec![4.0, 1.0], vec![2.0, 1.0]], &[8.2, 4.0], &mut unknown);
        near(&unknown, &[40.8 / 20.0, 0.0]);
        // The second is in no equation.
        let mut unknown = [1.0, 7.0];
        solve(&[vec![2.0, 0.0]], &[6.0], &mut unknown);
        near(&unknown, &[3.0, 7.0]);
    }

    #[test]
    fn the_slope_of_context_weighs_steps_by_what_they_are_off() {
        let context = |points: &[(u32, f64)]| ContextTimes {
            cached: 100,
            points: points.to_vec(),
        };
        let empty = [(1, 10.0), (4, 20.0)];
        let all = |_| true;
        let exact = slope(&empty, &context(&[(1, 10.2), (4, 20.8)]), &all);
        assert!(
            exact.is_some_and(|ms| (ms - 0.002).abs() < 1e-12),
            "{exact:?}"
        );
        // Noise that makes full caches faster.
        let noise = slope(&empty, &context(&[(1, 9.0), (4, 19.0)]), &all);
        assert!(noise.is_some_and(|ms| ms.abs() < 1e-12), "{noise:?}");
        assert_eq!(slope(&empty, &context(&[]), &all), None);
        assert_eq!(
            slope(&empty, &context(&[(4, 20.8)]), &|rows| rows < 4),
            None
        );
    }
}
