//! How often each step is repeated, and in which order. The steps of all slices take turns, so that
//! a disturbance of the machine falls on some visits of each and not on all of one.

use std::time::Duration;

use crate::Result;

/// Rounds in which steps are visited again. The visits of each are spread over all of them, so that
/// they are seconds apart.
const ROUNDS: u32 = 20;
/// Visits of a step, where there is time.
const MAX_VISITS: u32 = 12;
/// Visits of dear steps, as long as any time is left.
const MIN_VISITS: u32 = 3;
/// Up to so many rows a step is one of streams that decode: its stage has waited for it. Larger ones
/// are chunks of prompts, which follow each other.
const DECODE_ROWS: u32 = 16;
/// From so many visits on their spread says something.
const MIN_SPREAD_VISITS: usize = 3;

/// A step that is timed: so many rows through one of the slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) slice: usize,
    pub(super) rows: u32,
    /// Whether all rows want logits, or none.
    pub(super) wants_logits: bool,
}

/// Whether a step of so many rows is timed as streams that decode have it.
pub(super) fn is_decode(rows: u32) -> bool {
    rows <= DECODE_ROWS
}

/// One visit of a step, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Visit {
    /// What the step took.
    pub(super) ms: f64,
    /// What the visit took, with all that was done before the step.
    pub(super) spent_ms: f64,
}

/// All visits of a step.
#[derive(Clone, Debug)]
pub(super) struct Timed {
    pub(super) step: Step,
    visits_ms: Vec<f64>,
    /// What the last visit took.
    last_ms: f64,
}

impl Timed {
    /// Milliseconds of the step: of a large one the fastest visit, since whatever disturbs a step
    /// makes it slower. A small one is short beside what wakes and cools down with its stage, which
    /// belongs to it: the visit in the middle, since a stream meets them all.
    pub(super) fn ms(&self) -> f64 {
        let one_of = if is_decode(self.step.rows) {
            2
        } else {
            usize::MAX
        };
        self.quantile(one_of)
    }

    /// How much longer than its fastest visit it usually took, as a share.
    pub(super) fn spread(&self) -> Option<f64> {
        let fastest = self.quantile(usize::MAX);
        let is_known = self.visits_ms.len() >= MIN_SPREAD_VISITS && fastest > 0.0;
        is_known.then(|| self.quantile(2) / fastest - 1.0)
    }

    /// The visit that one of `one_of` was faster than.
    fn quantile(&self, one_of: usize) -> f64 {
        let mut sorted = self.visits_ms.clone();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / one_of]
    }

    /// Whether it is its turn in `round`, of a step that may take `quota_ms`.
    fn is_due(&self, round: u32, quota_ms: f64) -> bool {
        let affordable = (quota_ms / self.last_ms.max(f64::MIN_POSITIVE)) as u32;
        let n_wanted = affordable.clamp(MIN_VISITS, MAX_VISITS);
        self.visits_ms.len() as u32 * ROUNDS <= round * n_wanted
    }

    fn add(&mut self, visit: Visit) {
        self.visits_ms.push(visit.ms);
        self.last_ms = visit.spent_ms;
    }
}

/// Time for some of the steps, in milliseconds.
#[derive(Clone, Copy)]
struct Budget {
    left: f64,
    /// For each of the steps.
    quota: f64,
}

/// Times each of `steps` several times, as `visit` does. Those without logits together take no longer
/// than the first allowance, those with logits no longer than the second, except that one row is
/// always measured; the largest are left out where the time is too short: by what `expected_ms` says
/// of a step, or by the one of fewer rows before it. Of each slice, `steps` have ascending rows.
pub(super) fn in_turns(
    steps: &[Step],
    allowances: [Duration; 2],
    expected_ms: &dyn Fn(Step) -> Option<f64>,
    visit: &mut dyn FnMut(Step) -> Result<Visit>,
) -> Result<Vec<Timed>> {
    let mut budgets = [false, true].map(|wants_logits| {
        let n_steps = steps.iter().filter(|s| s.wants_logits == wants_logits);
        let left = allowances[usize::from(wants_logits)].as_secs_f64() * 1e3;
        let quota = left / n_steps.count().max(1) as f64;
        Budget { left, quota }
    });
    let mut timed: Vec<Timed> = Vec::new();
    for &step in steps {
        let alike =
            |t: &&Timed| (t.step.slice, t.step.wants_logits) == (step.slice, step.wants_logits);
        let smaller = timed.iter().rev().find(alike);
        let expected_ms = smaller.map_or(0.0, |smaller| {
            let by_rows = f64::from(step.rows) / f64::from(smaller.step.rows);
            expected_ms(step).unwrap_or(smaller.last_ms * by_rows)
        });
        let budget = &mut budgets[usize::from(step.wants_logits)];
        if expected_ms > budget.left {
            continue;
        }
        let visit = visit(step)?;
        budget.left -= visit.spent_ms;
        let mut first = Timed {
            step,
            visits_ms: Vec::new(),
            last_ms: 0.0,
        };
        first.add(visit);
        timed.push(first);
    }
    for round in 1..ROUNDS {
        for timed in &mut timed {
            let budget = &mut budgets[usize::from(timed.step.wants_logits)];
            if timed.is_due(round, budget.quota) && timed.last_ms <= budget.left {
                let visit = visit(timed.step)?;
                budget.left -= visit.spent_ms;
                timed.add(visit);
            }
        }
    }
    Ok(timed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn steps(slice: usize, rows: &[u32]) -> Vec<Step> {
        let step = |&rows| Step {
            slice,
            rows,
            wants_logits: false,
        };
        rows.iter().map(step).collect()
    }

    fn taking(ms: f64) -> Result<Visit> {
        let spent_ms = ms;
        Ok(Visit { ms, spent_ms })
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn of_chunks_the_fastest_counts() {
        let mut n = 0;
        let found = in_turns(&steps(0, &[32]), [SECOND; 2], &|_| None, &mut |_| {
            n += 1;
            taking(if n == 5 { 10.0 } else { 11.0 })
        });
        let found = found.unwrap();
        assert_eq!((found[0].ms(), found[0].visits_ms.len()), (10.0, 12));
    }

    #[test]
    fn of_decode_steps_the_usual_counts_and_their_spread_is_told() {
        let mut n = 0;
        let found = in_turns(&steps(0, &[1]), [SECOND; 2], &|_| None, &mut |_| {
            n += 1;
            taking(10.0 + f64::from(n % 4))
        });
        let found = found.unwrap();
        assert_eq!((found[0].ms(), found[0].visits_ms.len()), (12.0, 12));
        let spread = found[0].spread().unwrap();
        assert!((spread - 0.2).abs() < 1e-9, "{spread}");
    }

    #[test]
    fn no_disturbance_of_a_quarter_of_the_time_hits_all_visits_of_a_step() {
        let rows = [1, 4, 16, 64, 128, 256];
        let all: Vec<Step> = rows
            .iter()
            .flat_map(|&rows| (0..2).map(move |slice| (slice, rows)))
            .flat_map(|(slice, rows)| steps(slice, &[rows]))
            .collect();
        let of = |step: Step| 1.0 + 0.3 * f64::from(step.rows);
        for begin_ms in (0..4000).step_by(100) {
            let (begin_ms, mut now_ms) = (f64::from(begin_ms), 0.0);
            let found = in_turns(&all, [5 * SECOND; 2], &|_| None, &mut |step| {
                let disturbed = (begin_ms..begin_ms + 1000.0).contains(&now_ms);
                let visit = taking(if disturbed { 3.0 } else { 1.0 } * of(step));
                now_ms += visit.as_ref().map_or(0.0, |visit| visit.spent_ms);
                visit
            });
            let found = found.unwrap();
            assert_eq!(found.len(), all.len());
            for timed in found {
                assert_eq!(timed.ms(), of(timed.step), "{begin_ms}: {timed:?}");
            }
        }
    }

    #[test]
    fn slow_devices_lose_repetitions_and_then_the_largest_steps() {
        let run = |ms_per_row: f64| {
            let (mut total_ms, mut calls) = (0.0, 0);
            let steps = steps(0, &[1, 2, 4, 8, 16, 32]);
            let found = in_turns(&steps, [SECOND; 2], &|_| None, &mut |step| {
                calls += 1;
                total_ms += ms_per_row * f64::from(step.rows);
                taking(ms_per_row * f64::from(step.rows))
            });
            (found.unwrap().len(), calls, total_ms)
        };
        let (n_steps, calls, total_ms) = run(1.0);
        assert_eq!(n_steps, 6);
        assert!(calls > 40 && total_ms <= 1000.0, "{calls} {total_ms}");
        let (n_steps, calls, total_ms) = run(15.0);
        assert_eq!(n_steps, 6);
        assert!(calls < 30 && total_ms <= 1001.0, "{calls} {total_ms}");
        let (n_steps, _, total_ms) = run(50.0);
        assert_eq!(n_steps, 4);
        assert!(total_ms <= 1001.0, "{total_ms}");
        // Whatever it takes, one row is measured.
        assert_eq!(run(9000.0), (1, 1, 9000.0));
    }

    #[test]
    fn a_step_whose_time_is_known_is_not_guessed_from_a_small_one() {
        // One row takes a tenth of the time; 64 times as much would not fit, what is known does.
        let run = |known: Option<f64>| {
            let steps = steps(0, &[1, 64]);
            let found = in_turns(&steps, [SECOND; 2], &|_| known, &mut |step| {
                taking(if step.rows == 1 { 100.0 } else { 200.0 })
            });
            found.unwrap().len()
        };
        assert_eq!((run(None), run(Some(200.0)), run(Some(950.0))), (1, 2, 1));
    }
}
