//! What the measured profiles say of the runs: `--predict`.

use jupiter::StepTrace;
use jupiter::timeline::{StepRows, Timeline, from_simulation};
use jupiter_actors::planner::MeasuredPlan;
use jupiter_actors::planning::simulate::{
    DecodeLoad, Timeline as Simulated, simulate_decode, simulate_prefill,
};
use serde::Serialize;

/// Nanoseconds in a millisecond.
const NS_PER_MS: f64 = 1e6;

/// Times as they were predicted or measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Times {
    /// From the prompt to its first token, in milliseconds.
    pub ttft_ms: Option<f64>,
    /// Between two tokens of a stream, in milliseconds.
    pub tbt_ms: Option<f64>,
    /// Tokens a second, all streams together.
    pub tps: Option<f64>,
}

/// A simulated run of a test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Prediction {
    /// From the start of the work to its end, in milliseconds.
    pub elapsed_ms: f64,
    /// What stages and links would do.
    pub timeline: Timeline,
}

/// A prompt in the chunks in which it really went.
pub(super) fn prefill(plan: &MeasuredPlan, stages: &[String], steps: &[StepTrace]) -> Prediction {
    let chunks: Vec<u32> = steps
        .iter()
        .map(|step| step.n_prompt_rows)
        .filter(|&rows| rows > 0)
        .collect();
    let simulated = simulate_prefill(&plan.pipeline(), &chunks);
    let rows: Vec<StepRows> = chunks
        .iter()
        .map(|&n_prompt| StepRows {
            n_prompt,
            n_decode: 0,
        })
        .collect();
    prediction(simulated.makespan_ns(), &simulated, stages, &rows)
}

/// `n_streams` answers of `n_steps` tokens each, in the micro-batches in which they really went.
pub(super) fn decode(
    plan: &MeasuredPlan,
    stages: &[String],
    steps: &[StepTrace],
    n_streams: u32,
    n_steps: u32,
) -> Prediction {
    let widest = steps.iter().map(|step| step.n_decode_rows).max();
    let rows = widest.unwrap_or(n_streams).clamp(1, n_streams.max(1));
    let load = DecodeLoad {
        n_streams,
        n_micro_batches: n_streams.div_ceil(rows),
        n_steps,
        context: 1,
    };
    let simulated = simulate_decode(&plan.pipeline(), &load);
    let rows = StepRows {
        n_prompt: 0,
        n_decode: rows,
    };
    let rows = vec![rows; simulated.jobs.len()];
    prediction(simulated.decoded_ns, &simulated.timeline, stages, &rows)
}

fn prediction(
    elapsed_ns: u64,
    simulated: &Simulated,
    stages: &[String],
    rows: &[StepRows],
) -> Prediction {
    Prediction {
        elapsed_ms: elapsed_ns as f64 / NS_PER_MS,
        timeline: from_simulation("predicted", stages, rows, &simulated.spans),
    }
}
