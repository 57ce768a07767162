//! `jupiter simulate`: what machines that are not there would do under load. The Planner is the real
//! one, on a virtual clock.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::config::{CutSettings, ModelSettings};
use jupiter::timeline::{Page, Section, from_trace};
use jupiter::{Config, ConfigError, Settings, described_config, named_fields};
use jupiter_actors::planner::{PlannerConfig, SplitPolicy};
use jupiter_actors::planning::PlanError;
use jupiter_actors::planning::devices_file::DevicesFile;
use jupiter_actors::planning::placement::{PlanRequest, plan};
use jupiter_actors::planning::profile::Cluster;
use jupiter_actors::simulator::{
    Guesses, Outcome, Scenario, SimRequest, Simulation, TraceLine, arrivals, traced,
};

use super::args::{CommonArgs, StageArgs, positive};
use super::bench::Speculative;
use super::leave::ExitCode;
use super::load_report::{Ground, Report, TrafficArgs, check_fits};
use super::output::{self, UsageError};
use super::plan::read_devices;
use super::timeline_file::TimelineFile;

/// What a step takes this program, and what each of its stages does beside that, in nanoseconds, with all
/// that the Planner does for it, which is nearly all: 5.7 microseconds of a step at 4 stages and 9.3 at 64
/// were measured without debug assertions; a weaker machine takes longer.
const NS_PER_STEP: u64 = 7000;
const NS_PER_BEGIN: u64 = 80;
/// What it takes this program that the Planner looks at its deadlines, in nanoseconds, as measured.
const NS_PER_TICK: u64 = 500;
/// A run that takes longer says so before it starts, in seconds.
const LONG_RUN_S: u64 = 60;

/// Flags of `simulate`.
#[derive(Args, Debug)]
#[command(after_help = "\
The devices file describes the model, the machines and their links, as for `jupiter plan`. A trace is
a file of JSON lines in the order of arrival: {\"arrives_s\": 0.5, \"n_prompt\": 260, \"n_predict\": 64}

Examples:
  jupiter simulate --devices configs/devices-jetson-nx-100mbps.toml --rate 0.1 --requests 100
  jupiter simulate --devices cluster.toml --rate 2 --requests 500 --parallel 16 -c 32768 --json
  jupiter simulate --devices cluster.toml --trace monday.jsonl --timeline monday.html")]
pub(crate) struct SimulateArgs {
    /// The machines, the model and the network
    #[arg(long, env = "JUPITER_DEVICES", value_name = "FILE")]
    devices: PathBuf,

    /// Requests a second; they come at random
    #[arg(
        long,
        env = "JUPITER_RATE",
        value_name = "R",
        required_unless_present = "trace"
    )]
    rate: Option<f64>,

    /// How many requests come
    #[arg(
        long,
        env = "JUPITER_REQUESTS",
        value_name = "N",
        default_value_t = 500,
        value_parser = positive()
    )]
    requests: u32,

    /// Requests that were, a JSON line each, instead of random ones
    #[arg(
        long,
        env = "JUPITER_TRACE",
        value_name = "FILE",
        conflicts_with_all = ["rate", "requests", "lengths"]
    )]
    trace: Option<PathBuf>,

    /// Guess tokens ahead with an oracle that is right so often
    #[arg(long, env = "JUPITER_SPECULATIVE", value_name = "oracle:P")]
    speculative: Option<Speculative>,

    /// Seed of what is random
    #[arg(
        short,
        long,
        env = "JUPITER_SEED",
        value_name = "N",
        default_value_t = 1
    )]
    seed: u64,

    /// Print one JSON object
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    /// Write what stages and links did in the last steps: FILE.html for a browser, FILE.json for
    /// Perfetto
    #[arg(long, env = "JUPITER_TIMELINE", value_name = "FILE")]
    timeline: Option<PathBuf>,

    #[command(flatten)]
    traffic: TrafficArgs,

    #[command(flatten)]
    stages: StageArgs,
}

pub(crate) fn execute(common: &CommonArgs, args: &SimulateArgs) -> anyhow::Result<ExitCode> {
    let picture = args.timeline.as_deref().map(TimelineFile::open);
    let picture = picture.transpose()?;
    let devices = read_devices(&args.devices)?;
    let in_devices = || format!("devices file {}", args.devices.display());
    let cluster = devices.clone().into_cluster().with_context(in_devices)?;
    let scenario = scenario(common, args, &devices, cluster)?;
    let simulation = Simulation::new(&scenario).with_context(in_devices)?;
    let outcome = run(simulation)?;
    let planner = &scenario.planner;
    let ground = Ground {
        kind: "simulated",
        schedule: planner.schedule,
        rate: args.rate,
        n_cells: planner.engine.n_cells(),
        parallel: planner.n_parallel,
        chunk: planner.chunk,
        energy_j: energy_j(&outcome, &devices),
    };
    let report = Report::new(&outcome, &ground, args.traffic.goals(&args.stages));
    if let Some(picture) = picture {
        let names = report.stage_names();
        let timeline = from_trace("simulated", &names, &outcome.steps);
        picture.write(&Page {
            title: format!("{} of {}", report.title(), args.devices.display()),
            sections: vec![Section {
                title: format!(
                    "the last {} of {} steps",
                    outcome.steps.len(),
                    outcome.n_steps
                ),
                timelines: vec![timeline],
            }],
        })?;
    }
    match args.json {
        true => output::json_line(&report)?,
        false => output::text(&report.tables())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn scenario(
    common: &CommonArgs,
    args: &SimulateArgs,
    devices: &DevicesFile,
    cluster: Cluster,
) -> anyhow::Result<Scenario> {
    let requests = requests(args)?;
    let guesses = match args.speculative {
        None => None,
        Some(Speculative::Oracle(acceptance)) => Some(Guesses {
            acceptance,
            draft_max: None,
            in_flight: None,
            seed: args.seed,
        }),
        Some(Speculative::Source(_)) => {
            let how =
                "--speculative: only an oracle guesses at texts that nobody wrote: oracle:0.8";
            return Err(UsageError(how.into()).into());
        }
    };
    let mut settings = args.stages.settings();
    // What machines of a file do is known: they are planned for, unless told otherwise.
    if settings.cut == CutSettings::default() {
        let plan = &mut settings.placement.plan;
        plan.get_or_insert_with(|| "auto".to_owned());
    }
    let mut settings = Settings::load_here(common.config.as_deref(), &settings)?;
    // The devices file describes the model.
    settings.model = ModelSettings::default();
    let config = Config::from_settings(settings)?;
    let is_guessed = guesses.is_some();
    let (cluster, planner) = with_head(&args.devices, &config, devices, cluster, is_guessed)?;
    check_fits(&requests, planner.engine.n_ctx)?;
    Ok(Scenario {
        cluster,
        planner,
        requests,
        guesses,
        traces: args.timeline.is_some(),
    })
}

/// The Planner where the file says, else beside the first stage of the plan.
fn with_head(
    path: &Path,
    config: &Config,
    devices: &DevicesFile,
    cluster: Cluster,
    is_guessed: bool,
) -> anyhow::Result<(Cluster, PlannerConfig)> {
    let (model, n_nodes) = (cluster.model(), cluster.devices().len() as u32);
    let planner = |head| described_config(config, model.clone(), head, n_nodes, is_guessed);
    if let Some(head) = &devices.head {
        let planner = planner(head.clone())?;
        return Ok((cluster, planner));
    }
    let mut planner = planner(cluster.devices()[0].node.clone())?;
    let first = match &planner.split {
        SplitPolicy::Planned => {
            let request = PlanRequest {
                objective: planner.goal.objective,
                load: planner.goal.load,
                memory: planner.memory_demand(),
            };
            let planned = plan(&cluster, &request);
            if let Err(error @ PlanError::TooManyDevices { .. }) = planned {
                anyhow::bail!("{error}, or cut without a plan (--plan even)");
            }
            let of_file = || format!("devices file {}", path.display());
            planned
                .with_context(of_file)?
                .placement
                .first()
                .map(|stage| stage.node.clone())
        }
        SplitPolicy::Pinned(stages) => stages.first().map(|stage| stage.node.clone()),
        // Nodes take stages in the order of their names.
        _ => cluster.devices().iter().map(|d| d.node.clone()).min(),
    };
    let at = cluster
        .devices()
        .iter()
        .position(|d| Some(&d.node) == first.as_ref());
    let at = at.with_context(|| {
        let node = first.map_or_else(String::new, |node| node.to_string());
        format!("the plan needs node {node}: describe it in the devices file, or plan again")
    })?;
    planner.head = cluster.devices()[at].node.clone();
    Ok((cluster.with_head_on(at), planner))
}

fn requests(args: &SimulateArgs) -> anyhow::Result<Vec<SimRequest>> {
    let Some(path) = &args.trace else {
        let rate = args.rate.unwrap_or_default();
        return Ok(arrivals(
            rate,
            args.requests,
            args.traffic.lengths,
            args.seed,
        )?);
    };
    let in_trace = || format!("trace {}", path.display());
    let text = jupiter::text_file::read(path).with_context(in_trace)?;
    let line = |(number, line): (usize, &str)| {
        let read = named_fields::from_json::<TraceLine>(line).map_err(|error| {
            let example = r#"{"arrives_s": 0.5, "n_prompt": 260, "n_predict": 64}"#;
            // The line is all that the JSON reader has seen.
            let error = error.replace(" at line 1 column ", " at column ");
            let why = format!("line {number}: {error}; a line is {example}");
            ConfigError::file("trace", path, why)
        });
        read.map(|read| (number, read))
    };
    let written = (1..)
        .zip(text.lines())
        .filter(|(_, line)| !line.trim().is_empty());
    let lines: Vec<_> = written.map(line).collect::<Result<_, _>>()?;
    traced(&lines).with_context(in_trace)
}

/// Runs a simulation. If it takes long, or some of its steps take longer than they may, that is told
/// before.
fn run(simulation: Simulation<'_>) -> anyhow::Result<Outcome> {
    let n_steps = simulation.n_steps();
    let ns_per_step = NS_PER_STEP + NS_PER_BEGIN * simulation.stages().len() as u64;
    let takes = |n: u64, ns: u64| n.saturating_mul(ns) / 1_000_000_000;
    let seconds =
        takes(n_steps, ns_per_step).saturating_add(takes(simulation.n_ticks(), NS_PER_TICK));
    if seconds >= LONG_RUN_S {
        let time = match seconds {
            0..7200 => format!("{} minutes", seconds.div_ceil(60)),
            _ => format!("{} hours", seconds.div_ceil(3600)),
        };
        output::note(&format!(
            "this takes up to {time}: {n_steps} steps (fewer --requests, or shorter ones, take less)"
        ));
    }
    let Some(late) = simulation.late_step() else {
        return Ok(simulation.run()?);
    };
    output::note(&format!(
        "{late}: answers fail where such steps are made (raise step_timeout_ms, or lower -ub)"
    ));
    // What was told now the log need not say of each of them.
    let silence = tracing::subscriber::NoSubscriber::default();
    Ok(tracing::subscriber::with_default(silence, || {
        simulation.run()
    })?)
}

/// What the devices of the stages drew, in joules; none where one does not say what it draws.
fn energy_j(outcome: &Outcome, devices: &DevicesFile) -> Option<f64> {
    let of_stage = outcome.stages.iter().map(|stage| {
        let watts = devices.watts(&stage.node)?;
        let busy_s = stage.busy_ns as f64 / 1e9;
        Some(watts.idle * outcome.seconds() + (watts.busy - watts.idle) * busy_s)
    });
    of_stage.sum()
}
