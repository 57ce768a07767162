//! How often each step is repeated: the fastest of many for short ones, whatever the time allows
//! for long ones.

use std::time::Duration;

use crate::Result;

/// Most visits of a point: by then the minimum of a quiet machine stands.
const MAX_VISITS: u32 = 20;
/// A point has settled when as many visits in a row have not made it faster by this part.
const SETTLED_AFTER: u32 = 4;
const SETTLED_WITHIN: f64 = 0.005;
/// Visits that a dear point gets too, when time is left at the end.
const MIN_VISITS: u32 = 3;
/// Steps shorter than this are timed twice in a row: the second finds the graph of the first, as
/// decoding does, which computes many steps of the same shape.
const TWICE_BELOW_MS: f64 = 50.0;

struct Point {
    rows: u32,
    ms: f64,
    spent_ms: f64,
    visits: u32,
    /// Visits since it last got faster.
    unchanged: u32,
}

/// The fastest of several steps for each of `points` (numbers of rows, ascending), in milliseconds
/// as `time_ms` gives them. The steps together take no longer than `allowance`, except that the
/// first point is always measured; the largest are left out when the time is too short.
///
/// The points are visited in rounds, not one after the other, so that a disturbance of the machine
/// does not fall on all visits of a point.
pub(super) fn fastest(
    points: &[u32],
    allowance: Duration,
    time_ms: &mut dyn FnMut(u32) -> Result<f64>,
) -> Result<Vec<(u32, f64)>> {
    let mut left_ms = allowance.as_secs_f64() * 1e3;
    let quota_ms = left_ms / points.len().max(1) as f64;
    let mut measured: Vec<Point> = Vec::new();
    for &rows in points {
        let expected_ms = measured.last().map_or(0.0, |point| {
            point.ms * f64::from(rows) / f64::from(point.rows)
        });
        if expected_ms > left_ms {
            break;
        }
        let mut point = Point {
            rows,
            ms: f64::INFINITY,
            spent_ms: 0.0,
            visits: 0,
            unchanged: 0,
        };
        left_ms -= point.visit(time_ms)?;
        measured.push(point);
    }
    for _ in 1..MAX_VISITS {
        for point in &mut measured {
            let has_settled = point.unchanged >= SETTLED_AFTER;
            if !has_settled && point.spent_ms + point.ms <= quota_ms && point.ms <= left_ms {
                left_ms -= point.visit(time_ms)?;
            }
        }
    }
    for _ in 1..MIN_VISITS {
        for point in &mut measured {
            if point.visits < MIN_VISITS && point.ms <= left_ms {
                left_ms -= point.visit(time_ms)?;
            }
        }
    }
    Ok(measured
        .into_iter()
        .map(|point| (point.rows, point.ms))
        .collect())
}

impl Point {
    /// Times it once, a short one twice; what that took.
    fn visit(&mut self, time_ms: &mut dyn FnMut(u32) -> Result<f64>) -> Result<f64> {
        let mut took_ms = time_ms(self.rows)?;
        let mut fastest_ms = took_ms;
        if took_ms < TWICE_BELOW_MS {
            let again_ms = time_ms(self.rows)?;
            fastest_ms = took_ms.min(again_ms);
            took_ms += again_ms;
        }
        let got_faster = fastest_ms < self.ms * (1.0 - SETTLED_WITHIN);
        self.unchanged = if got_faster { 0 } else { self.unchanged + 1 };
        self.ms = self.ms.min(fastest_ms);
        self.spent_ms += took_ms;
        self.visits += 1;
        Ok(took_ms)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_fastest_counts_and_who_has_settled_is_left_alone() {
        let mut calls = [0; 2];
        let found = fastest(&[1, 2], Duration::from_secs(1), &mut |rows| {
            let n = &mut calls[rows as usize - 1];
            *n += 1;
            // One row gets faster and faster, two rows only once, in the third visit.
            Ok(match (rows, *n) {
                (1, n) => 9.0 - 0.1 * f64::from(n),
                (_, 5) => 10.0,
                _ => 11.0,
            })
        });
        assert_eq!(found.unwrap(), [(1, 5.0), (2, 10.0)]);
        assert_eq!(calls, [2 * MAX_VISITS, 2 * (3 + SETTLED_AFTER)]);
    }

    #[test]
    fn slow_devices_lose_repetitions_and_then_the_largest_points() {
        let run = |ms_per_row: f64| {
            let (mut total_ms, mut calls) = (0.0, 0);
            let found = fastest(&[1, 2, 4, 8, 16, 32], Duration::from_secs(1), &mut |rows| {
                calls += 1;
                total_ms += ms_per_row * f64::from(rows);
                Ok(ms_per_row * f64::from(rows))
            });
            (found.unwrap().len(), calls, total_ms)
        };
        let (n_points, calls, total_ms) = run(1.0);
        assert_eq!(n_points, 6);
        assert!(calls > 50 && total_ms <= 1000.0, "{calls} {total_ms}");
        let (n_points, calls, total_ms) = run(15.0);
        assert_eq!(n_points, 6);
        assert!(calls < 40 && total_ms <= 1001.0, "{calls} {total_ms}");
        let (n_points, _, total_ms) = run(50.0);
        assert_eq!(n_points, 4);
        assert!(total_ms <= 1001.0, "{total_ms}");
        // Whatever it takes, one row is measured.
        assert_eq!(run(9000.0), (1, 1, 9000.0));
    }
}
