//! What a placement is worth: one closed formula for each objective.
//!
//! With `t_s` the time of a micro-batch on stage or link `s` (bytes only, for a link):
//!
//! - `ttft`: `min over k of [ sum_s t_s + (k - 1) max_s t_s + head + latencies ]`, with
//!   the prompt cut into `k` equal chunks, each at the mean context of all, and `t_s` without the
//!   head, which only the prompt's last row sees. `k` equal jobs on a line of servers take exactly
//!   so long: the first one passes all servers, the others follow at the pace of the slowest
//!   (Jupiter and TeraPipe use the same bound, without links). The real, unequal chunks come
//!   later, from `chunks`; this formula ranks placements.
//! - `tbt`: `sum_s t_s + latencies`: a stream's next step begins when its last one is
//!   back, so nothing overlaps.
//! - `throughput`: `rows / max_s t_s`: with enough micro-batches in flight the slowest server never
//!   waits, and everything else hides behind it.
//!
//! Latencies are those of the links, of the way from the Planner to the first stage, and of the way
//! back from the last one.

use serde::Serialize;

use super::{Objective, Workload};
use crate::planning::cost::{Pipeline, Work};

/// Rows of the chunks that a prompt's time is estimated with; the best of them counts.
const REFERENCE_ROWS: [u32; 11] = [128, 64, 256, 32, 512, 96, 192, 48, 384, 24, 16];
/// Nanoseconds in a millisecond.
const NS_PER_MS: f64 = 1e6;

/// What a placement will need.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Time to first token, by the formula above (the chunk table predicts it better).
    pub ttft_ms: f64,
    /// Time between tokens of one stream.
    pub tbt_ms: f64,
    /// Rows a second with enough micro-batches in flight.
    pub tps: f64,
    /// How many micro-batches that takes: the time of one all around, over the slowest server's.
    pub micro_batches: u32,
}

/// What is compared: smaller is better, `main_ns` first. Ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    /// The objective: nanoseconds of the prompt, of the step, or of the slowest server.
    pub main_ns: u128,
    /// For throughput, the nanoseconds of a step; else 0.
    pub step_ns: u128,
    /// Devices used.
    pub n_stages: usize,
}

/// One way to cut a prompt into equal chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReferenceChunks {
    pub(super) n_chunks: u32,
    pub(super) work: Work,
}

/// The ways to cut a prompt that are tried: all with chunks of [`REFERENCE_ROWS`], made equal.
pub(super) fn reference_chunks(prompt: u32) -> Vec<ReferenceChunks> {
    let mut ways: Vec<ReferenceChunks> = Vec::new();
    for at_most in REFERENCE_ROWS {
        let n_chunks = prompt.div_ceil(at_most);
        if ways.iter().all(|way| way.n_chunks != n_chunks) {
            let rows = prompt.div_ceil(n_chunks);
            let work = Work::last_chunk(rows, (prompt - rows) / 2);
            ways.push(ReferenceChunks { n_chunks, work });
        }
    }
    ways
}

/// Time of `work` once through the pipeline and back, and of its slowest server without the head.
fn pass(pipeline: &Pipeline<'_>, work: Work) -> (u128, u128) {
    let all =
        |work| (0..pipeline.n_servers()).map(move |s| u128::from(pipeline.server_ns(s, work)));
    let delays = (0..pipeline.n_servers()).map(|s| u128::from(pipeline.delay_ns(s)));
    let ways = u128::from(pipeline.entry_ns()) + u128::from(pipeline.return_ns());
    let sum = all(work).sum::<u128>() + delays.sum::<u128>() + ways;
    let headless = Work { logits: 0, ..work };
    (sum, all(headless).max().unwrap_or(0))
}

fn ttft_ns(pipeline: &Pipeline<'_>, prompt: u32) -> u128 {
    let time = |way: ReferenceChunks| {
        let (sum, max) = pass(pipeline, way.work);
        sum + u128::from(way.n_chunks - 1) * max
    };
    let ways = reference_chunks(prompt).into_iter();
    ways.map(time).min().unwrap_or(0)
}

/// A decode step: once around, and its slowest server.
fn step_ns(pipeline: &Pipeline<'_>, load: &Workload) -> (u128, u128) {
    let work = Work::decode(load.rows, load.context);
    let slowest = (0..pipeline.n_servers()).map(|s| pipeline.server_ns(s, work));
    (
        pass(pipeline, work).0,
        u128::from(slowest.max().unwrap_or(0)),
    )
}

/// The value of a placement.
pub fn value(pipeline: &Pipeline<'_>, objective: Objective, load: &Workload) -> Value {
    let (main_ns, step_ns) = match objective {
        Objective::Ttft => (ttft_ns(pipeline, load.prompt), 0),
        Objective::Tbt => (step_ns(pipeline, load).0, 0),
        Objective::Throughput => {
            let (step, slowest) = step_ns(pipeline, load);
            (slowest, step)
        }
    };
    Value {
        main_ns,
        step_ns,
        n_stages: pipeline.n_stages(),
    }
}

/// All figures of a placement.
pub fn figures(pipeline: &Pipeline<'_>, load: &Workload) -> Figures {
    let (step, slowest) = step_ns(pipeline, load);
    let slowest = slowest.max(1);
    Figures {
        ttft_ms: ms(ttft_ns(pipeline, load.prompt)),
        tbt_ms: ms(step),
        tps: f64::from(load.rows) / (ms(slowest) / 1000.0),
        micro_batches: u32::try_from(step.div_ceil(slowest)).unwrap_or(u32::MAX),
    }
}

/// Nanoseconds in milliseconds, for people.
pub(super) fn ms(ns: u128) -> f64 {
    ns as f64 / NS_PER_MS
}
