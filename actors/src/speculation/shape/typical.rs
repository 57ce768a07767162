//! What steps of so many rows take on a device that nothing is known of.

/// Rows and milliseconds of eight layers of a 0.3 GB model in Q4_0 on one core. Four rows cost less
/// than three, as kernels work in fours.
pub const POINTS: [(u32, f64); 13] = [
    (1, 15.6),
    (2, 27.0),
    (3, 36.0),
    (4, 26.0),
    (6, 45.0),
    (8, 49.0),
    (12, 70.0),
    (16, 80.0),
    (32, 155.0),
    (64, 255.0),
    (128, 510.0),
    (256, 1000.0),
    (512, 2020.0),
];

/// Nanoseconds of a step: a measured point, or the line between its neighbours.
pub fn rows_ns(rows: u32) -> u64 {
    let above = POINTS
        .partition_point(|&(at, _)| at < rows)
        .clamp(1, POINTS.len() - 1);
    let ((x0, y0), (x1, y1)) = (POINTS[above - 1], POINTS[above]);
    let part = (f64::from(rows) - f64::from(x0)) / f64::from(x1 - x0);
    ((y0 + part * (y1 - y0)) * 1e6) as u64
}
