//! What came of a load, simulated or measured, as numbers and as people read it; and the flags that say
//! what a load is.

use std::fmt::Write;

use clap::Args;
use jupiter::config::positive;
use jupiter_actors::planner::Schedule;
use jupiter_actors::simulator::{Lengths, Outcome, SimRequest, Spread};
use serde::Serialize;

use super::args::StageArgs;
use super::table::{Align, markdown};

/// Longest time between tokens of a good answer where nothing is promised, in milliseconds: a token is
/// most of a word, and people read four or five words a second.
const TBT_GOAL_MS: u32 = 250;

/// What requests and good answers are.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct TrafficArgs {
    /// How long prompts and answers are: as in ShareGPT's conversations, log-normal with means of P
    /// and N tokens (of 200 and 60 if they are not said), or all of P and N
    #[arg(
        long,
        env = "JUPITER_LENGTHS",
        value_name = "sharegpt|lognormal[:P,N]|fixed:P,N",
        default_value = "sharegpt"
    )]
    pub(crate) lengths: Lengths,

    /// Longest time to the first token of a good answer, in milliseconds
    #[arg(
        long,
        visible_alias = "ttft-target",
        env = "JUPITER_TTFT_GOAL",
        value_name = "MS",
        default_value_t = 5000,
        value_parser = positive()
    )]
    ttft_goal: u32,

    /// Longest time between tokens of a good answer, in the mean and in milliseconds; without it
    /// --tbt-target, or 250
    #[arg(long, env = "JUPITER_TBT_GOAL", value_name = "MS", value_parser = positive())]
    tbt_goal: Option<u32>,
}

impl TrafficArgs {
    /// What a good answer keeps to, where streams were promised what `stages` says.
    pub(crate) fn goals(&self, stages: &StageArgs) -> Goals {
        let promised = stages.schedule.tbt_target.unwrap_or(TBT_GOAL_MS);
        Goals {
            ttft_ms: self.ttft_goal,
            tbt_ms: self.tbt_goal.unwrap_or(promised),
        }
    }
}

/// Requests whose prompts do not fit are errors of the run; but not all of them.
pub(crate) fn check_fits(requests: &[SimRequest], n_ctx: u32) -> anyhow::Result<()> {
    let shortest = requests.iter().map(|request| request.n_prompt).min();
    match shortest.filter(|&shortest| shortest >= n_ctx) {
        None => Ok(()),
        Some(shortest) => anyhow::bail!(
            "no prompt fits: the shortest has {shortest} tokens, the context {n_ctx}: raise \
             -c/--ctx-size"
        ),
    }
}

/// What a good answer keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Goals {
    /// Longest time to its first token, in milliseconds.
    ttft_ms: u32,
    /// Longest mean time between its tokens, in milliseconds.
    tbt_ms: u32,
}

/// What a load was put on.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    /// `simulated`, `embedded` or `processes`.
    pub(crate) kind: &'static str,
    pub(crate) schedule: Schedule,
    /// Requests a second; none for a trace.
    pub(crate) rate: Option<f64>,
    /// Cells of the KV cache.
    pub(crate) n_cells: u32,
    /// Requests at the same time.
    pub(crate) parallel: u32,
    /// Most rows of a step.
    pub(crate) chunk: u32,
    /// What the devices of the stages drew, where that is known.
    pub(crate) energy_j: Option<f64>,
}

/// The object of `--json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Report {
    /// Requests a second; none for a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    schedule: Schedule,
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
    /// How often an answer gave up its place to others.
    preemptions: u64,
    /// Tokens of prompts that were in the KV cache before.
    cached_tokens: u64,
    /// What the devices of the stages drew, where the file says what they draw.
    #[serde(skip_serializing_if = "Option::is_none")]
    energy_j: Option<f64>,
    #[serde(skip)]
    kind: &'static str,
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
    pub(crate) fn new(outcome: &Outcome, ground: &Ground, goals: Goals) -> Report {
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
            rate: ground.rate,
            schedule: ground.schedule,
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
            kv_cells: [outcome.most_cells, ground.n_cells as usize],
            preemptions: outcome.n_preempted,
            cached_tokens: outcome.n_cached,
            energy_j: ground.energy_j,
            kind: ground.kind,
            parallel: ground.parallel,
            chunk: ground.chunk,
        }
    }

    pub(crate) fn title(&self) -> String {
        format!(
            "{} requests on {} stages, {} at a time, chunks of {}",
            self.requests,
            self.stages.len(),
            self.parallel,
            self.chunk
        )
    }

    /// Names of the stages, for pictures.
    pub(crate) fn stage_names(&self) -> Vec<String> {
        let name = |(i, stage): (usize, &StageReport)| {
            let [start, end] = stage.layers;
            format!("stage {i}, layers {start}..{end}, {}", stage.node)
        };
        self.stages.iter().enumerate().map(name).collect()
    }

    /// The tables for people.
    pub(crate) fn tables(&self) -> String {
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
            "rows: {} in {} steps, {} of them guesses in vain; KV cells: at most {most} of {all}; {} \
             preemptions, {} tokens of prompts cached",
            self.rows, self.steps, self.rows_in_vain, self.preemptions, self.cached_tokens
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
            ("a second", Right),
            ("requests", Right),
            ("errors", Right),
            ("schedule", Left),
            ("stages", Left),
            ("parallel", Right),
            ("chunk", Right),
            ("tokens", Right),
            ("seconds", Right),
            ("t/s", Right),
        ];
        let row = vec![
            self.rate.map_or("-".into(), |rate| rate.to_string()),
            self.requests.to_string(),
            self.errors.to_string(),
            format!("{:?}", self.schedule).to_lowercase(),
            format!("{} {}", self.stages.len(), self.kind),
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
