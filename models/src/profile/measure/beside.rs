//! What a slice takes while another one computes beside it, as stages of one machine do.

use std::time::Duration;

use super::Bench;
use super::probe::Probe;
use crate::Result;
use crate::profile::{CrowdedStep, Crowding};

/// Numbers of rows whose steps are measured: dense among those of streams, where first the memory and then the
/// processor is what they wait for, and those of a chunk.
const ROWS: [u32; 7] = [1, 2, 4, 6, 8, 16, 128];
/// Steps of each, of which the one in the middle counts.
const N_STEPS: usize = 7;
/// For all of them; what does not fit into it is left out.
const ALLOWANCE: Duration = Duration::from_secs(1);

/// How much longer steps of `probe` take while `other` computes, than the `alone` times of rows and
/// milliseconds say.
pub(super) fn crowding(
    bench: &dyn Bench,
    probe: &mut Probe<'_>,
    other: &mut Probe<'_>,
    alone: &[(u32, f64)],
) -> Result<Crowding> {
    let ends = bench.now() + ALLOWANCE;
    let mut points = Vec::new();
    for rows in ROWS {
        let Some(&(_, alone_ms)) = alone.iter().find(|point| point.0 == rows) else {
            continue;
        };
        let left_ms = ends.saturating_sub(bench.now()).as_secs_f64() * 1e3;
        // Two at a time may take twice as long each.
        if alone_ms <= 0.0 || 2.0 * alone_ms * (N_STEPS + 1) as f64 > left_ms {
            continue;
        }
        let mut steps_ms = probe.beside(bench, other, (rows, N_STEPS), ends)?;
        steps_ms.sort_by(f64::total_cmp);
        let Some(middle_ms) = steps_ms.get(steps_ms.len() / 2) else {
            break;
        };
        points.push(CrowdedStep {
            rows,
            times: (middle_ms / alone_ms).max(1.0),
        });
    }
    Ok(Crowding { points })
}
