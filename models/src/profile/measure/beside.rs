//! What a slice takes while another one computes beside it, as stages of one machine do.

use std::time::Duration;

use super::probe::{Probe, TWICE_BELOW_MS};
use super::repeat::{Step, in_turns};
use crate::Result;
use crate::profile::{CrowdedStep, Crowding};

/// Numbers of rows whose steps are measured: dense among those of streams, where first the memory and then the
/// processor is what they wait for, and those of a chunk.
const ROWS: [u32; 7] = [1, 2, 4, 6, 8, 16, 128];
/// For all of them; what does not fit into it is left out.
const ALLOWANCE: Duration = Duration::from_millis(1500);
/// In the place of slices: how a step is computed.
const ALONE: usize = 0;
const BESIDE: usize = 1;

/// How much longer steps of `probe` take while `other` computes. Those of `rows`, which take so many milliseconds
/// alone, are measured in turns, alone and beside: machines are not equally fast from one second to the next.
pub(super) fn crowding(
    probe: &mut Probe<'_>,
    other: &mut Probe<'_>,
    rows: &[(u32, f64)],
) -> Result<Crowding> {
    // Longer ones are computed once alone, and too long for their time.
    let is_measured = |&&(rows, ms): &&(u32, f64)| ROWS.contains(&rows) && ms < TWICE_BELOW_MS;
    let step = |slice, &(rows, _): &(u32, f64)| Step {
        slice,
        rows,
        wants_logits: false,
    };
    let steps = rows.iter().filter(is_measured);
    let steps: Vec<Step> = steps
        .flat_map(|of| [step(ALONE, of), step(BESIDE, of)])
        .collect();
    // Two steps alone; two beside another one may take twice as long.
    let expected_ms = |step: Step| {
        let known = rows.iter().find(|of| of.0 == step.rows);
        let n_steps = if step.slice == ALONE { 2.0 } else { 4.0 };
        known.map(|&(_, ms)| n_steps * ms)
    };
    let timed = in_turns(
        &steps,
        [ALLOWANCE, Duration::ZERO],
        &expected_ms,
        &mut |step| match step.slice {
            ALONE => probe.visit(step),
            _ => probe.beside(other, step),
        },
    )?;
    let ms = |slice, rows| {
        let mut timed = timed.iter().map(|timed| (timed.step, timed.ms()));
        timed.find_map(|(step, ms)| ((step.slice, step.rows) == (slice, rows)).then_some(ms))
    };
    let point = |rows| {
        let (alone_ms, beside_ms) = (ms(ALONE, rows)?, ms(BESIDE, rows)?);
        (alone_ms > 0.0).then(|| CrowdedStep {
            rows,
            times: (beside_ms / alone_ms).max(1.0),
        })
    };
    let points = ROWS.into_iter().filter_map(point).collect();
    Ok(Crowding { points })
}
