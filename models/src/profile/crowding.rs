//! What stages that share a machine take from each other.

use serde::{Deserialize, Serialize};

/// How many times as long a step takes while another stage of the same machine computes: they share its
/// memory, its heat, and its cores where these are fewer than their threads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Crowding {
    /// Measured points, ascending in rows; none where that is not known, and then it is taken for nothing.
    pub points: Vec<CrowdedStep>,
}

/// One measured point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrowdedStep {
    /// Rows in a step.
    pub rows: u32,
    /// How many times as long it takes, at least 1.
    pub times: f64,
}

impl Crowding {
    /// For a step of so many rows: a measured point, the straight line between two, or the nearest one.
    pub fn times(&self, rows: u32) -> f64 {
        let above = self.points.partition_point(|point| point.rows < rows);
        let (left, right) = (
            above.checked_sub(1).map(|at| self.points[at]),
            self.points.get(above),
        );
        match (left, right) {
            (None, None) => 1.0,
            (Some(only), None) => only.times,
            (None, Some(only)) => only.times,
            (Some(left), Some(right)) => {
                let part = f64::from(rows - left.rows) / f64::from(right.rows - left.rows);
                left.times + part * (right.times - left.times)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lines_between_them_and_the_nearest_beyond() {
        let point = |(rows, times)| CrowdedStep { rows, times };
        let points = [(2, 1.5), (10, 1.25)].map(point).to_vec();
        let crowding = Crowding { points };
        let times = [1, 2, 6, 10, 99].map(|rows| crowding.times(rows));
        assert_eq!(times, [1.5, 1.5, 1.375, 1.25, 1.25]);
        assert_eq!(Crowding::default().times(7), 1.0);
    }
}
