//! Slices that are in memory together: their steps take turns.

use std::time::Duration;

use super::probe::{CONTEXT_ROWS, ContextTimes, Inputs, Probe};
use super::ranges::{MeasuredRanges, bytes};
use super::repeat::{Step, Timed, in_turns};
use super::{Bench, Limits, beside};
use crate::profile::{Crowding, ModelProfile};
use crate::{LayerRange, Result};

/// Part of the free memory that slices may take which are measured together.
const MEMORY_SHARE: u64 = 2;
/// Most rows whose logits are measured: streams that decode at once, and drafted tokens.
const MAX_HEAD_ROWS: u32 = 64;
/// A first step of the first window up to which its beginning is measured as well: where steps
/// take longer, the fixed time is nothing beside them.
const MAX_SHORT_MS: f64 = 250.0;

// Of the 20 s of a whole measurement; the rest is for steps beside others (`beside`), embeddings and the first
// steps of engines.
/// For the steps of all slices with an empty cache.
const CURVES: Duration = Duration::from_millis(8500);
/// For filling the caches of all slices, and the steps upon them.
const CONTEXTS: Duration = Duration::from_millis(5500);
/// For the last layers with the head.
const HEAD: Duration = Duration::from_millis(3500);

/// What is measured of a model, whichever slices are in memory together.
pub(super) struct Task<'a> {
    pub(super) bench: &'a dyn Bench,
    pub(super) shapes: &'a ModelProfile,
    pub(super) ranges: &'a MeasuredRanges,
    pub(super) inputs: &'a Inputs,
    pub(super) limits: Limits,
}

/// What was measured of the slices of a group.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Of each slice the steps with an empty cache: rows and milliseconds.
    pub(super) empty: Vec<Vec<(u32, f64)>>,
    /// Of each slice the steps upon context, where there was time to fill the cache.
    pub(super) context: Vec<Option<ContextTimes>>,
    /// Steps of the last slice whose rows all want logits; empty for groups without it.
    pub(super) logits: Vec<(u32, f64)>,
    /// One row through the beginning of the first window, in its group.
    pub(super) short_ms: Option<f64>,
    /// What two slices take from each other; nothing where one is alone in memory.
    pub(super) crowding: Crowding,
    /// How the visits of each step differed.
    pub(super) spreads: Vec<f64>,
}

impl Task<'_> {
    /// All slices but the short one, together if they fit into `free_bytes`, else one by one.
    pub(super) fn groups(&self, free_bytes: Option<u64>) -> Vec<Vec<LayerRange>> {
        let slices: Vec<LayerRange> = self.slices().collect();
        let n_bytes: u64 = slices.iter().map(|&slice| bytes(self.shapes, slice)).sum();
        let n_bytes = n_bytes.saturating_add(self.shapes.head_bytes);
        match free_bytes {
            Some(free) if n_bytes > free / MEMORY_SHARE => {
                slices.into_iter().map(|slice| vec![slice]).collect()
            }
            _ => vec![slices],
        }
    }

    fn slices(&self) -> impl Iterator<Item = LayerRange> {
        let last = [self.ranges.last];
        self.ranges.windows.iter().copied().chain(last)
    }

    /// The part of the time that is for `slice`: half is shared equally, half by what steps take.
    fn share(&self, slice: LayerRange) -> f64 {
        let n_layers: u32 = self.slices().map(|slice| slice.len()).sum();
        let n_slices = self.slices().count() as f64;
        (f64::from(slice.len()) / f64::from(n_layers) + 1.0 / n_slices) / 2.0
    }

    /// Measures the slices of a group. `part_done` is called twice.
    pub(super) fn measure(
        &self,
        group: &[LayerRange],
        part_done: &mut dyn FnMut(),
    ) -> Result<Found> {
        let mut probes = Vec::new();
        for &slice in group {
            probes.push(self.load(slice)?);
        }
        let is_first = self.ranges.windows.first() == group.first();
        if let Some(short) = self.ranges.short.filter(|_| is_first)
            && probes[0].warm_up_ms <= MAX_SHORT_MS
        {
            probes.push(self.load(short)?);
        }
        let mut found = Found::default();
        self.curves(group, &mut probes, &mut found)?;
        part_done();
        probes.truncate(group.len());
        if let [first, .., last] = probes.as_mut_slice() {
            found.crowding = beside::crowding(first, last, &found.empty[0])?;
        }
        self.contexts(&mut probes, &mut found)?;
        part_done();
        Ok(found)
    }

    fn load(&self, slice: LayerRange) -> Result<Probe<'_>> {
        let n_layer = self.shapes.n_layer();
        let all = bytes(self.shapes, LayerRange::new(0, n_layer));
        let all = all.saturating_add(self.shapes.head_bytes);
        let others = all.saturating_sub(bytes(self.shapes, slice));
        Probe::load(self.bench, self.inputs, slice, others)
    }

    /// The steps with empty caches: of all slices, fewest rows first; one row through those beyond
    /// the group.
    fn curves(
        &self,
        group: &[LayerRange],
        probes: &mut [Probe<'_>],
        found: &mut Found,
    ) -> Result<()> {
        let max_head_rows = self.limits.n_rows.min(MAX_HEAD_ROWS);
        let mut steps = Vec::new();
        for rows in Limits::points(self.limits.n_rows) {
            for (slice, probe) in probes.iter().enumerate() {
                let step = |wants_logits| Step {
                    slice,
                    rows,
                    wants_logits,
                };
                let is_short = slice >= group.len();
                steps.extend((!is_short || rows == 1).then(|| step(false)));
                let is_last = probe.range == self.ranges.last;
                steps.extend((is_last && rows <= max_head_rows).then(|| step(true)));
            }
        }
        let warm_up_ms = probes.iter().map(|probe| probe.warm_up_ms).sum();
        let share: f64 = group.iter().map(|&slice| self.share(slice)).sum();
        let allowances = [less_ms(CURVES.mul_f64(share), warm_up_ms), HEAD];
        let timed = in_turns(&steps, allowances, &|_| None, &mut |step| {
            probes[step.slice].visit(step)
        })?;
        let points = |slice, wants_logits| points(&timed, slice, wants_logits);
        found.empty = (0..group.len()).map(|slice| points(slice, false)).collect();
        found.logits = (0..group.len())
            .flat_map(|slice| points(slice, true))
            .collect();
        found.short_ms = points(group.len(), false).first().map(|point| point.1);
        found.spreads.extend(timed.iter().filter_map(Timed::spread));
        Ok(())
    }

    /// The steps upon full caches.
    fn contexts(&self, probes: &mut [Probe<'_>], found: &mut Found) -> Result<()> {
        let mut left = Duration::ZERO;
        let mut filled = Vec::new();
        for (probe, empty) in probes.iter_mut().zip(&found.empty) {
            let allowance = CONTEXTS.mul_f64(self.share(probe.range));
            let tokens = probe.fill(empty, self.limits.n_cells, allowance)?;
            left += tokens.map_or(Duration::ZERO, |(_, spent_ms)| less_ms(allowance, spent_ms));
            filled.push(tokens.map(|(cached, _)| cached));
        }
        let mut steps = Vec::new();
        for rows in CONTEXT_ROWS {
            for (slice, (cached, empty)) in filled.iter().zip(&found.empty).enumerate() {
                let fits = cached.is_some_and(|cached| rows <= self.limits.n_cells - cached);
                let is_known = empty.iter().any(|&(measured, _)| measured == rows);
                steps.extend((fits && is_known).then_some(Step {
                    slice,
                    rows,
                    wants_logits: false,
                }));
            }
        }
        // From one row to 64 is too far to guess; with an empty cache they took nearly as long, and
        // short ones are computed twice.
        let expected_ms = |step: Step| {
            let empty = &found.empty[step.slice];
            let known = empty.iter().find(|&&(rows, _)| rows == step.rows);
            known.map(|&(_, ms)| 2.0 * ms)
        };
        let timed = in_turns(&steps, [left, Duration::ZERO], &expected_ms, &mut |step| {
            probes[step.slice].visit(step)
        })?;
        let times = |(slice, cached): (usize, &Option<u32>)| {
            let points = points(&timed, slice, false);
            cached.map(|cached| ContextTimes { cached, points })
        };
        found.context = filled.iter().enumerate().map(times).collect();
        found.spreads.extend(timed.iter().filter_map(Timed::spread));
        Ok(())
    }
}

/// Rows and milliseconds of the steps of a slice.
fn points(timed: &[Timed], slice: usize, wants_logits: bool) -> Vec<(u32, f64)> {
    let of_slice = |t: &&Timed| t.step.slice == slice && t.step.wants_logits == wants_logits;
    let timed = timed.iter().filter(of_slice);
    timed.map(|timed| (timed.step.rows, timed.ms())).collect()
}

fn less_ms(allowance: Duration, ms: f64) -> Duration {
    let spent = Duration::try_from_secs_f64(ms / 1e3).unwrap_or(allowance);
    allowance.saturating_sub(spent)
}
