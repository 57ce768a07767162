//! Equal chunks: what planned ones are compared with.

use crate::planning::cost::{Pipeline, prefill_ns};

/// The prompt in `n_chunks` chunks that differ by at most a row, longer ones first.
pub fn equal_chunks(prompt: u32, n_chunks: u32) -> Vec<u32> {
    let n_chunks = n_chunks.clamp(1, prompt.max(1));
    let (rows, longer) = (prompt / n_chunks, prompt % n_chunks);
    (0..n_chunks)
        .map(|i| rows + u32::from(i < longer))
        .collect()
}

/// The best number of equal chunks: all numbers are tried for which chunks have at least
/// `smallest` and at most `largest` rows. Rows, and nanoseconds to the first token.
pub fn best_equal_chunks(
    pipeline: &Pipeline<'_>,
    prompt: u32,
    smallest: u32,
    largest: u32,
) -> (Vec<u32>, u64) {
    let least = prompt.div_ceil(largest.max(1)).max(1);
    let most = (prompt / smallest.max(1)).max(least);
    let ways = (least..=most).map(|n_chunks| {
        let rows = equal_chunks(prompt, n_chunks);
        let ns = prefill_ns(pipeline, &rows);
        (rows, ns)
    });
    ways.min_by_key(|(_, ns)| *ns).unwrap_or_default()
}
