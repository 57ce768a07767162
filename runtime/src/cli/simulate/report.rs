//! What a simulation says, as numbers and as people read it.

use std::fmt::Write;

use jupiter_actors::planning::devices_file::DevicesFile;
use jupiter_actors::simulator::{Outcome, Scenario, Spread};
use serde::Serialize;

use crate::cli::table::{Align, markdown};

/// What a good answer keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Goals {
    /// Longest time to its first token, in milliseconds.
    pub(super) ttft_ms: u32,
    /// Longest mean time between its tokens, in milliseconds.
    pub(super) tbt_ms: u32,
}

/// The object of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    requests: usize,
    errors: usize,
    /// The first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    tokens: u64,
    /// From the first request to the last token.
    seconds: f64,
    /// Tokens a second.
    tps: f64,
    ttft_ms: Spread,
    tbt_ms: Spread,
    /// Good answers a second, by `goals`.
    goodput: f64,
    goals: Goals,
    stages: Vec<StageReport>,
    steps: u64,
    rows: u64,
    /// Of these, guesses that were wrong.
    rows_in_vain: u64,
    /// Most cells of the KV cache in use, and how many there are.
    kv_cells: [usize; 2],
    /// What the devices of the stages drew, where the file says what they draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    energy_j: Option<f64>,
    #[serde(skip)]
    parallel: u32,
    #[serde(skip)]
    chunk: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct StageReport {
    node: String,
    layers: [u32; 2],
    busy_share: f64,
    idle_share: f64,
}

impl Report {
    pub(super) fn new(
        scenario: &Scenario,
        outcome: &Outcome,
        devices: &DevicesFile,
        goals: Goals,
    ) -> Report {
        let stages = outcome.stages.iter().map(|stage| {
            let busy_share = outcome.busy_share(stage);
            StageReport {
                node: stage.node.to_string(),
                layers: [stage.layers.start, stage.layers.end],
                busy_share,
                idle_share: 1.0 - busy_share,
            }
        });
        let (ttft_ms, tbt_ms) = (f64::from(goals.ttft_ms), f64::from(goals.tbt_ms));
        Report {
            requests: outcome.requests.len(),
            errors: outcome.n_errors(),
            error: outcome.requests.iter().find_map(|r| r.error.clone()),
            tokens: outcome.n_tokens(),
            seconds: outcome.seconds(),
            tps: outcome.tps(),
            ttft_ms: outcome.ttft(),
            tbt_ms: outcome.tbt(),
            goodput: outcome.goodput(ttft_ms, tbt_ms),
            goals,
            stages: stages.collect(),
            steps: outcome.n_steps,
            rows: outcome.n_rows,
            rows_in_vain: outcome.n_rows_in_vain,
            kv_cells: [
                outcome.most_cells,
                scenario.planner.engine.n_cells() as usize,
            ],
            energy_j: energy(outcome, devices),
            parallel: scenario.planner.n_parallel,
            chunk: scenario.planner.chunk,
        }
    }

    pub(super) fn title(&self) -> String {
        format!(
            "{} requests on {} stages, {} at a time, chunks of {}",
            self.requests,
            self.stages.len(),
            self.parallel,
            self.chunk
        )
    }

    /// Names of the stages, for pictures.
    pub(super) fn stage_names(&self) -> Vec<String> {
        let name = |(i, stage): (usize, &StageReport)| {
            let [start, end] = stage.layers;
            format!("stage {i}, layers {start}..{end}, {}", stage.node)
        };
        self.stages.iter().enumerate().map(name).collect()
    }

    /// The tables for people.
    pub(super) fn tables(&self) -> String {
        let mut text = self.speed_table();
        text.push('\n');
        text.push_str(&self.latency_table());
        text.push('\n');
        text.push_str(&self.stage_table());
        let _ = writeln!(
            text,
            "\ngoodput: {:.3} answers/s with the first token within {} ms and the next ones within \
             {} ms",
            self.goodput, self.goals.ttft_ms, self.goals.tbt_ms
        );
        let [most, all] = self.kv_cells;
        let _ = writeln!(
            text,
            "rows: {} in {} steps, {} of them guesses in vain; KV cells: at most {most} of {all}",
            self.rows, self.steps, self.rows_in_vain
        );
        if let Some(energy_j) = self.energy_j {
            let a_token = energy_j / self.tokens.max(1) as f64;
            let _ = writeln!(text, "energy: {energy_j:.0} J, {a_token:.2} J a token");
        }
        if let Some(error) = &self.error {
            let _ = writeln!(text, "errors: {}, the first: {error}", self.errors);
        }
        text
    }

    fn speed_table(&self) -> String {
        use Align::{Left, Right};
        let columns = [
            ("requests", Right),
            ("errors", Right),
            ("stages", Left),
            ("parallel", Right),
            ("chunk", Right),
            ("tokens", Right),
            ("seconds", Right),
            ("t/s", Right),
        ];
        let row = vec![
            self.requests.to_string(),
            self.errors.to_string(),
            format!("{} simulated", self.stages.len()),
            self.parallel.to_string(),
            self.chunk.to_string(),
            self.tokens.to_string(),
            format!("{:.1}", self.seconds),
            format!("{:.2}", self.tps),
        ];
        markdown(&columns, &[row])
    }

    fn latency_table(&self) -> String {
        use Align::{Left, Right};
        let columns = [
            ("time", Left),
            ("mean ms", Right),
            ("p50", Right),
            ("p95", Right),
            ("p99", Right),
        ];
        let row = |name: &str, spread: &Spread| {
            let times = [spread.mean, spread.p50, spread.p95, spread.p99];
            let cells = times.map(|ms| format!("{ms:.1}"));
            std::iter::once(name.to_owned()).chain(cells).collect()
        };
        let rows = [
            row("to first token", &self.ttft_ms),
            row("between tokens", &self.tbt_ms),
        ];
        markdown(&columns, &rows)
    }

    fn stage_table(&self) -> String {
        use Align::{Left, Right};
        let columns = [
            ("stage", Right),
            ("device", Left),
            ("layers", Left),
            ("busy", Right),
            ("idle", Right),
        ];
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let row = |(i, stage): (usize, &StageReport)| {
            let [start, end] = stage.layers;
            vec![
                i.to_string(),
                stage.node.clone(),
                format!("{start}..{end}"),
                percent(stage.busy_share),
                percent(stage.idle_share),
            ]
        };
        let rows: Vec<_> = self.stages.iter().enumerate().map(row).collect();
        markdown(&columns, &rows)
    }
}

/// What the devices of the stages drew, in joules; none where one does not say what it draws.
fn energy(outcome: &Outcome, devices: &DevicesFile) -> Option<f64> {
    let of_stage = outcome.stages.iter().map(|stage| {
        let watts = devices.watts(&stage.node)?;
        let busy_s = stage.busy_ns as f64 / 1e9;
        Some(watts.idle * outcome.seconds() + (watts.busy - watts.idle) * busy_s)
    });
    of_stage.sum()
}
