//! What a benchmark measured, as numbers: pure functions from times to the table and the JSON object.

use std::sync::Arc;

use jupiter::StepTrace;
use jupiter_actors::planner::MeasuredPlan;
use jupiter_actors::planning::plan_file::MeasuredEntry;
use jupiter_models::gguf::GgufFile;
use serde::Serialize;

use super::branches::OutlineReport;
use super::predict::{Prediction, Predictions, Times, prediction_table};
use super::speculative::SpeculationReport;
use super::statistics::{deviation, maximum, mean, tokens_per_second};
use crate::cli::plan_report::certainty;
use crate::cli::table::{Align, bytes, markdown};

/// One execution of a test, by the pipeline or by the baseline.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Run {
    /// Time from the start of the work to its end, in milliseconds.
    pub elapsed_ms: f64,
    /// Time that each stage computed, in milliseconds; empty for the baseline.
    pub busy_ms: Vec<f64>,
    /// What became of its steps; empty for the baseline, and without `--timeline`.
    pub steps: Vec<StepTrace>,
}

/// All executions of one test.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Test {
    /// As in llama-bench: `pp512`, `tg128`.
    pub name: String,
    /// Tokens computed by one run.
    pub n_tokens: u32,
    /// Runs of the pipeline, in order.
    pub pipeline: Vec<Run>,
    /// Runs of plain llama.cpp between them; empty without `--baseline`.
    pub baseline: Vec<Run>,
}

/// One stage, as far as the benchmark knows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stage {
    pub node: String,
    pub layers: (u32, u32),
    /// Resident memory: of the stage's process, or its share of this process's growth.
    pub rss_bytes: u64,
    /// What the engine says that it holds: weights, KV cache and buffers.
    pub engine_bytes: u64,
}

/// Everything that a benchmark prints.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub model: String,
    pub model_bytes: u64,
    pub stages: Vec<Stage>,
    pub processes: bool,
    pub n_threads: u32,
    pub chunk: u32,
    /// Prefill, where it was asked for.
    pub pp: Option<Test>,
    /// Decode, where it was asked for.
    pub tg: Option<Test>,
    /// Answers that were generated side by side.
    pub n_streams: u32,
    /// Generation with and without guesses, where that was asked for.
    pub speculation: Option<SpeculationReport>,
    /// Branches side by side, where that was asked for.
    pub outline: Option<OutlineReport>,
    /// What became of the steps of its best run; empty without `--timeline`.
    pub outline_steps: Vec<StepTrace>,
    /// The plan that was measured for, where predictions were asked for.
    pub plan: Option<Arc<MeasuredPlan>>,
    /// What the simulator says by it.
    pub predictions: Predictions,
    /// The shortest answer with guesses, in milliseconds.
    pub guessed_ms: Option<f64>,
    /// Time added by one hop of a decode row, in milliseconds.
    pub hop_ms: Option<f64>,
}

/// The object of `--json`.
#[derive(Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    model: String,
    model_bytes: u64,
    processes: bool,
    threads: u32,
    chunk: u32,
    stages: Vec<StageReport>,
    pp: Option<TestReport>,
    tg: Option<TestReport>,
    hop_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    measured: Option<Times>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted: Option<Times>,
    /// How sure the prediction is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<MeasuredEntry>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speculation: Option<SpeculationReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outline: Option<OutlineReport>,
}

#[derive(Debug, PartialEq, Serialize)]
struct StageReport {
    layers: [u32; 2],
    /// In the best run of each test, together.
    busy_ms: f64,
    rss_bytes: u64,
    engine_bytes: u64,
}

#[derive(Debug, PartialEq, Serialize)]
struct TestReport {
    n_tokens: u32,
    /// Of the best run, as is `baseline_tps`; `ratio` is the one over the other.
    tps: f64,
    baseline_tps: Option<f64>,
    ratio: Option<f64>,
    mean_tps: f64,
    deviation_tps: f64,
    /// Busy time of the busiest stage over the elapsed time, in the best run.
    efficiency: f64,
    /// Tokens per second of every run.
    runs: Vec<f64>,
    baseline_runs: Vec<f64>,
}

impl Test {
    fn rates(&self, runs: &[Run]) -> Vec<f64> {
        runs.iter()
            .map(|run| tokens_per_second(self.n_tokens, run.elapsed_ms))
            .collect()
    }

    /// The shortest run of the pipeline.
    pub(super) fn best(&self) -> Option<&Run> {
        self.pipeline
            .iter()
            .min_by(|a, b| a.elapsed_ms.total_cmp(&b.elapsed_ms))
    }

    fn report(&self) -> TestReport {
        let runs = self.rates(&self.pipeline);
        let baseline_runs = self.rates(&self.baseline);
        let tps = maximum(&runs).unwrap_or(0.0);
        let baseline_tps = maximum(&baseline_runs);
        let busiest = self
            .best()
            .and_then(|run| maximum(&run.busy_ms))
            .unwrap_or(0.0);
        let elapsed = self.best().map_or(0.0, |run| run.elapsed_ms);
        TestReport {
            n_tokens: self.n_tokens,
            tps,
            baseline_tps,
            ratio: baseline_tps
                .filter(|b| *b > 0.0)
                .map(|baseline| tps / baseline),
            mean_tps: mean(&runs),
            deviation_tps: deviation(&runs),
            efficiency: if elapsed > 0.0 {
                busiest / elapsed
            } else {
                0.0
            },
            runs,
            baseline_runs,
        }
    }
}

impl Measured {
    /// The object of `--json`.
    pub(crate) fn report(&self) -> Report {
        let best_busy = |test: &Option<Test>, stage: usize| {
            let best = test.as_ref().and_then(Test::best);
            best.and_then(|run| run.busy_ms.get(stage))
                .copied()
                .unwrap_or(0.0)
        };
        let stages = self
            .stages
            .iter()
            .enumerate()
            .map(|(i, stage)| StageReport {
                layers: [stage.layers.0, stage.layers.1],
                busy_ms: best_busy(&self.pp, i) + best_busy(&self.tg, i),
                rss_bytes: stage.rss_bytes,
                engine_bytes: stage.engine_bytes,
            });
        Report {
            model: self.model.clone(),
            model_bytes: self.model_bytes,
            processes: self.processes,
            threads: self.n_threads,
            chunk: self.chunk,
            stages: stages.collect(),
            pp: self.pp.as_ref().map(Test::report),
            tg: self.tg.as_ref().map(Test::report),
            hop_ms: self.hop_ms,
            measured: self.plan.as_ref().map(|_| self.measured_times()),
            devices: (self.plan.as_ref())
                .map_or_else(Vec::new, |plan| MeasuredEntry::all(&plan.cluster)),
            speculation: self.speculation.clone(),
            outline: self.outline.clone(),
            predicted: self.plan.as_ref().map(|_| self.predicted_times()),
        }
    }

    /// Names of the stages, for pictures.
    pub(super) fn stage_names(&self) -> Vec<String> {
        stage_names(&self.stages)
    }

    fn measured_times(&self) -> Times {
        let best_ms = |test: &Option<Test>| Some(test.as_ref()?.best()?.elapsed_ms);
        let outline = self.outline.as_ref();
        Times {
            guessed_ms: self.guessed_ms,
            branches_ms: outline.and_then(OutlineReport::best_ms),
            ..self.times(best_ms(&self.pp), best_ms(&self.tg))
        }
    }

    fn predicted_times(&self) -> Times {
        let ms = |prediction: &Option<Prediction>| Some(prediction.as_ref()?.elapsed_ms);
        let predictions = &self.predictions;
        Times {
            guessed_ms: ms(&predictions.guessed),
            branches_ms: ms(&predictions.branches),
            ..self.times(ms(&predictions.pp), ms(&predictions.tg))
        }
    }

    /// Times of both tests, from what they took.
    fn times(&self, prefill_ms: Option<f64>, generated_ms: Option<f64>) -> Times {
        let n_generated = self.tg.as_ref().map_or(0, |tg| tg.n_tokens);
        let n_steps = n_generated / self.n_streams.max(1);
        Times {
            ttft_ms: prefill_ms,
            tbt_ms: generated_ms.map(|ms| ms / f64::from(n_steps.max(1))),
            tps: generated_ms.map(|ms| tokens_per_second(n_generated, ms)),
            ..Times::default()
        }
    }

    /// The tables for people.
    pub(crate) fn tables(&self) -> String {
        let report = self.report();
        let mut text = self.speed_table(&report);
        text.push('\n');
        text.push_str(&self.stage_table());
        if let (Some(measured), Some(predicted)) = (&report.measured, &report.predicted) {
            text.push('\n');
            text.push_str(&prediction_table(measured, predicted));
            let cluster = self.plan.as_ref().map(|plan| &plan.cluster);
            text.push_str(&cluster.map_or(String::new(), certainty));
        }
        if let Some(speculation) = &self.speculation {
            text.push('\n');
            text.push_str(&speculation.line());
        }
        if let Some(outline) = &self.outline {
            text.push('\n');
            text.push_str(&outline.line());
        }
        if let Some(hop_ms) = self.hop_ms {
            text.push_str(&format!("\nadded by a hop: {hop_ms:.3} ms\n"));
        }
        text
    }

    fn speed_table(&self, report: &Report) -> String {
        use Align::{Left, Right};
        let columns = [
            ("model", Left),
            ("size", Right),
            ("stages", Left),
            ("threads", Right),
            ("chunk", Right),
            ("test", Right),
            ("t/s", Right),
            ("best", Right),
            ("efficiency", Right),
            ("llama.cpp t/s", Right),
            ("ratio", Right),
        ];
        let kind = if self.processes {
            "processes"
        } else {
            "embedded"
        };
        let tests = [(&self.pp, &report.pp), (&self.tg, &report.tg)];
        let rows = tests.into_iter().filter_map(|(test, numbers)| {
            let (test, numbers) = (test.as_ref()?, numbers.as_ref()?);
            Some(vec![
                self.model.clone(),
                bytes(self.model_bytes),
                format!("{} {kind}", self.stages.len()),
                self.n_threads.to_string(),
                self.chunk.to_string(),
                test.name.clone(),
                format!("{:.2} ± {:.2}", numbers.mean_tps, numbers.deviation_tps),
                format!("{:.2}", numbers.tps),
                format!("{:.2}", numbers.efficiency),
                numbers
                    .baseline_tps
                    .map_or("-".into(), |tps| format!("{tps:.2}")),
                numbers
                    .ratio
                    .map_or("-".into(), |ratio| format!("{ratio:.2}")),
            ])
        });
        markdown(&columns, &rows.collect::<Vec<_>>())
    }

    fn stage_table(&self) -> String {
        let columns = [
            ("stage", Align::Right),
            ("layers", Align::Left),
            ("pp busy ms", Align::Right),
            ("tg busy ms", Align::Right),
            ("resident", Align::Right),
            ("engine", Align::Right),
        ];
        let busy = |test: &Option<Test>, stage: usize| {
            let best = test.as_ref().and_then(Test::best);
            let busy_ms = best.and_then(|run| run.busy_ms.get(stage));
            busy_ms.map_or("-".into(), |ms| format!("{ms:.1}"))
        };
        let rows = self.stages.iter().enumerate().map(|(i, stage)| {
            vec![
                i.to_string(),
                format!("{}..{}", stage.layers.0, stage.layers.1),
                busy(&self.pp, i),
                busy(&self.tg, i),
                bytes(stage.rss_bytes),
                bytes(stage.engine_bytes),
            ]
        });
        markdown(&columns, &rows.collect::<Vec<_>>())
    }
}

/// Names of the stages, for pictures.
pub(super) fn stage_names(stages: &[Stage]) -> Vec<String> {
    let name = |(i, stage): (usize, &Stage)| {
        let (start, end) = stage.layers;
        format!("stage {i}, layers {start}..{end}, {}", stage.node)
    };
    stages.iter().enumerate().map(name).collect()
}

/// The file's name, as llama-bench calls a model it knows nothing of.
pub(super) fn model_name(model: &GgufFile) -> String {
    let name = model.path().file_name().unwrap_or(model.path().as_os_str());
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
