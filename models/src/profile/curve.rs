//! Time over rows, as measured.

use serde::{Deserialize, Serialize};

/// Nanoseconds in a millisecond.
const NS_PER_MS: f64 = 1e6;

/// One measured point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowPoint {
    /// Rows in one step.
    pub rows: u32,
    /// Milliseconds of the step.
    pub ms: f64,
}

/// Time of a step over its number of rows. Not linear: up to eight rows cost hardly more than one with
/// our own kernels. With others not even monotone: where they work in fours, four rows cost less than
/// three.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RowCurve {
    /// Measured points, ascending in rows; the first is of one row.
    pub points: Vec<RowPoint>,
}

impl RowCurve {
    /// A curve through `(rows, ms)` points.
    pub fn new(points: &[(u32, f64)]) -> RowCurve {
        let point = |&(rows, ms)| RowPoint { rows, ms };
        RowCurve {
            points: points.iter().map(point).collect(),
        }
    }

    /// Most rows that were measured in one step.
    pub fn max_rows(&self) -> u32 {
        self.points.last().map_or(0, |point| point.rows)
    }

    /// Nanoseconds for `rows`: a measured point, or the straight line between its neighbours.
    /// More rows than were measured count as several steps, full ones and a rest, which is what
    /// the engine makes of them. No rows cost nothing.
    pub fn ns(&self, rows: u32) -> u64 {
        let max_rows = self.max_rows();
        if rows == 0 || max_rows == 0 {
            return 0;
        }
        if rows > max_rows {
            let full = u64::from(rows / max_rows).saturating_mul(self.ns(max_rows));
            return full.saturating_add(self.ns(rows % max_rows));
        }
        let above = self.points.partition_point(|point| point.rows < rows);
        let right = self.points[above];
        if right.rows == rows || above == 0 {
            return to_ns(right.ms);
        }
        let left = self.points[above - 1];
        let part = f64::from(rows - left.rows) / f64::from(right.rows - left.rows);
        to_ns(left.ms + part * (right.ms - left.ms))
    }
}

/// Milliseconds to whole nanoseconds; at least one, for values that are not 0.
pub fn to_ns(ms: f64) -> u64 {
    if ms <= 0.0 {
        return 0;
    }
    ((ms * NS_PER_MS).round() as u64).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lines_between_them_and_several_steps_beyond() {
        let curve = RowCurve::new(&[(1, 15.6), (3, 36.0), (4, 26.0), (8, 50.0)]);
        let check = |rows, ms: f64| assert_eq!(curve.ns(rows), to_ns(ms), "{rows} rows");
        check(1, 15.6);
        check(2, 25.8);
        check(3, 36.0);
        check(4, 26.0);
        check(6, 38.0);
        check(8, 50.0);
        check(9, 65.6);
        check(20, 126.0);
        assert_eq!(curve.ns(0), 0);
    }
}
