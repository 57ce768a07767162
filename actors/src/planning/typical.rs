//! What a device that nothing is known of takes: the shape of the curves of all processors, as
//! far as no one's measurements are there.

use super::cost::Work;

/// Rows and milliseconds of eight layers of a 0.3 GB model in Q4_0 on one core, by our own kernels
/// (`jupiter bench --rows`, AVX512-VNNI). The weights' way from memory is what few rows wait for, so
/// eight of them, a tile of the kernels, cost little more than one; from some sixteen on time is
/// nearly linear. A device whose rows cost otherwise is soon known by its own steps.
pub const POINTS: [(u32, f64); 16] = [
    (1, 11.2),
    (2, 11.8),
    (3, 11.9),
    (4, 12.4),
    (6, 14.0),
    (8, 15.0),
    (12, 18.8),
    (16, 21.6),
    (24, 26.7),
    (32, 33.2),
    (48, 48.0),
    (64, 63.7),
    (96, 95.0),
    (128, 125.7),
    (256, 264.0),
    (512, 557.0),
];

/// Layers that [`POINTS`] are of.
pub const N_LAYER: u32 = 8;
/// Bytes of their weights.
const BYTES: u64 = 134_500_000;

/// Values of embeddings that are looked up in a nanosecond.
const EMBEDDED_VALUES_PER_NS: u64 = 4;

/// Nanoseconds of a step: a measured point, or the line between its neighbours.
pub fn rows_ns(rows: u32) -> u64 {
    let above = POINTS
        .partition_point(|&(at, _)| at < rows)
        .clamp(1, POINTS.len() - 1);
    let ((x0, y0), (x1, y1)) = (POINTS[above - 1], POINTS[above]);
    let part = (f64::from(rows) - f64::from(x0)) / f64::from(x1 - x0);
    ((y0 + part * (y1 - y0)) * 1e6) as u64
}

/// Nanoseconds of a layer whose weights have so many bytes.
pub fn layer_ns(weight_bytes: u64, work: Work) -> u64 {
    weights_ns(weight_bytes, work.rows)
}

/// Nanoseconds of an output head of so many bytes, for the rows that want logits.
pub fn head_ns(head_bytes: u64, work: Work) -> u64 {
    weights_ns(head_bytes, work.logits)
}

/// Nanoseconds to look up the embeddings of all rows.
pub fn embedding_ns(n_embd: u32, work: Work) -> u64 {
    u64::from(work.rows) * u64::from(n_embd) / EMBEDDED_VALUES_PER_NS
}

/// Nanoseconds to multiply `rows` rows with so many bytes of weights; no rows cost nothing.
fn weights_ns(bytes: u64, rows: u32) -> u64 {
    if rows == 0 {
        return 0;
    }
    let ns = u128::from(rows_ns(rows)) * u128::from(bytes) / u128::from(BYTES);
    u64::try_from(ns).unwrap_or(u64::MAX)
}
