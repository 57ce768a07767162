//! Latency over load, by the rule that fills steps: simulated, or as `jupiter bench --load --json` has
//! measured it.

pub mod picture;

use std::path::Path;

use anyhow::{Context, Result};
use jupiter::config::{EngineSettings, PlacementSettings, ScheduleSettings};
use jupiter::{Config, Settings, described_config};
use jupiter_actors::planner::Schedule;
use jupiter_actors::planning::devices_file::DevicesFile;
use jupiter_actors::planning::placement::{PlanRequest, plan};
use jupiter_actors::simulator::{Lengths, Outcome, Scenario, Simulation, arrivals};
use serde::Deserialize;

/// All rules, the one that is ours last.
pub const SCHEDULES: [Schedule; 3] = [Schedule::Chunked, Schedule::Throttle, Schedule::Auto];

/// Tokens of the context for each request at a time.
const CONTEXT: u32 = 1024;

/// One load under one rule: what `--json` of `simulate` and `bench --load` says of it.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Point {
    /// Requests a second.
    pub rate: f64,
    /// The rule.
    pub schedule: Schedule,
    /// Tokens a second.
    pub tps: f64,
    /// To the first token.
    pub ttft_ms: Tail,
    /// Between tokens.
    pub tbt_ms: Tail,
}

/// Many times, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Tail {
    /// Half of them are at most this.
    pub p50: f64,
    /// 99 of 100 are at most this.
    pub p99: f64,
}

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub struct OfferedLoad {
    /// Requests of each run.
    pub n_requests: u32,
    /// Their lengths.
    pub lengths: Lengths,
    /// Requests at the same time.
    pub n_parallel: u32,
    /// Most rows of a step.
    pub chunk: u32,
    /// The time between tokens that prompts are to leave, in milliseconds; none for the default.
    pub tbt_target: Option<u32>,
    /// Of what is random.
    pub seed: u64,
}

/// Reads points from files of JSON lines.
///
/// # Errors
/// For a file that cannot be read, or a line that is no such object.
pub fn read(path: &Path) -> Result<Vec<Point>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let line = |(number, line): (usize, &str)| {
        let what = || {
            format!(
                "{} line {number}: not of bench --load --json",
                path.display()
            )
        };
        serde_json::from_str(line).with_context(what)
    };
    (1..).zip(text.lines()).map(line).collect()
}

/// Simulates a load at `rate` requests a second on the machines of a devices file.
///
/// # Errors
/// When the file cannot be read, or the run not be made.
pub fn simulate(
    devices: &Path,
    load: &OfferedLoad,
    rate: f64,
    schedule: Schedule,
) -> Result<Outcome> {
    let text = std::fs::read_to_string(devices).with_context(|| devices.display().to_string())?;
    let cluster = toml::from_str::<DevicesFile>(&text)?.into_cluster()?;
    let requests = arrivals(rate, load.n_requests, load.lengths, load.seed)?;
    let longest = requests
        .iter()
        .map(|request| request.n_prompt + request.n_predict);
    let n_ctx = longest.max().unwrap_or(1).max(CONTEXT * load.n_parallel);
    let settings = Settings {
        engine: EngineSettings {
            ctx_size: Some(n_ctx),
            parallel: Some(load.n_parallel),
            ubatch_size: Some(load.chunk),
            ..EngineSettings::default()
        },
        placement: PlacementSettings {
            plan: Some("auto".to_owned()),
            hidden_type: None,
        },
        schedule: ScheduleSettings {
            schedule: Some(schedule),
            tbt_target: load.tbt_target,
        },
        ..Settings::default()
    };
    let config = Config::from_settings(settings)?;
    let n_nodes = cluster.devices().len() as u32;
    let (model, head) = (cluster.model().clone(), cluster.devices()[0].node.clone());
    let mut planner = described_config(&config, model, head, n_nodes, false)?;
    let planned = plan(
        &cluster,
        &PlanRequest {
            objective: planner.goal.objective,
            load: planner.goal.load,
            memory: planner.memory_demand(),
        },
    )?;
    // The Planner sits beside the first stage.
    let first = planned.stages().first().map_or(0, |&(device, _)| device);
    planner.head = cluster.devices()[first].node.clone();
    let scenario = Scenario {
        cluster: cluster.with_head_on(first),
        planner,
        requests,
        guesses: None,
        traces: false,
    };
    Ok(Simulation::new(&scenario)?.run()?)
}

impl Point {
    /// What came of a simulated load.
    pub fn of(outcome: &Outcome, rate: f64, schedule: Schedule) -> Self {
        let (ttft, tbt) = (outcome.ttft(), outcome.tbt());
        Self {
            rate,
            schedule,
            tps: outcome.tps(),
            ttft_ms: Tail {
                p50: ttft.p50,
                p99: ttft.p99,
            },
            tbt_ms: Tail {
                p50: tbt.p50,
                p99: tbt.p99,
            },
        }
    }
}

/// The points as a table.
pub fn table(points: &[Point]) -> String {
    let mut text = String::from(
        "| a second | schedule |     t/s | first token p50 ms |     p99 | between p50 ms |    p99 |\n\
         | -------: | -------- | ------: | -----------------: | ------: | -------------: | -----: |\n",
    );
    for point in points {
        let name = format!("{:?}", point.schedule).to_lowercase();
        let Point {
            rate,
            tps,
            ttft_ms,
            tbt_ms,
            ..
        } = point;
        text += &format!(
            "| {rate:>8} | {name:<8} | {tps:>7.2} | {:>18.0} | {:>7.0} | {:>14.0} | {:>6.0} |\n",
            ttft_ms.p50, ttft_ms.p99, tbt_ms.p50, tbt_ms.p99
        );
    }
    text
}
