//! `jupiter plan`: which machine would compute what, and how fast that would be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::config::{
    ClusterSettings, EmulationSettings, EngineSettings, GoalSettings, ModelSettings,
    NetworkSettings, PlacementSettings,
};
use jupiter::signals::Signals;
use jupiter::{ConfigError, Settings, Surveyor, named_fields};
use jupiter_actors::planner::{PlanGoal, grid};
use jupiter_actors::planning::chunks::ChunkTable;
use jupiter_actors::planning::devices_file::DevicesFile;
use jupiter_actors::planning::memory::MemoryDemand;
use jupiter_actors::planning::placement::{Objective, Plan, PlanRequest, plan};
use jupiter_actors::planning::plan_file::PlanFile;
use jupiter_actors::planning::profile::Cluster;

use super::args::{CommonArgs, positive};
use super::leave::ExitCode;
use super::output::{self, Interrupted};
use super::plan_report;
use super::serve::head_config;

/// How long nodes may take to come and to be measured.
const PATIENCE: Duration = Duration::from_secs(300);
/// Rows of a chunk at most, where no configuration says it: for machines that are not there.
const LARGEST_CHUNK: u32 = 512;

/// Tokens of context for machines that are not there, when nothing is said.
const DESCRIBED_CTX: u32 = 1024;

/// Flags of `plan`.
#[derive(Args, Debug)]
#[command(after_help = "\
Start `jupiter worker --connect ENDPOINT` on the other machines, with the endpoint that this one
listens on.

Examples:
  jupiter plan -m model.gguf --listen tcp/192.168.1.10:7447 --workers 2
  jupiter plan -m model.gguf --listen tcp/192.168.1.10:7447 --json > plan.json
  jupiter serve -m model.gguf --listen tcp/192.168.1.10:7447 --plan plan.json
  jupiter plan --devices configs/devices-jetson-mixed-100mbps.toml    for machines that are not there")]
pub(crate) struct PlanArgs {
    /// Plan for the machines that this file describes, not for those that are there
    #[arg(long, env = "JUPITER_DEVICES", value_name = "FILE")]
    devices: Option<PathBuf>,

    /// Tokens of the prompts to plan for; without it 512, or half of the context if that is less
    #[arg(short = 'p', long, env = "JUPITER_N_PROMPT", value_name = "N", value_parser = positive())]
    n_prompt: Option<u32>,

    /// Rows of a decode step to plan for; without it 1, or for throughput the requests at the
    /// same time
    #[arg(long, env = "JUPITER_ROWS", value_name = "N", value_parser = positive())]
    rows: Option<u32>,

    /// Print one JSON object, which `serve --plan` takes
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    model: ModelSettings,

    #[command(flatten)]
    engine: EngineSettings,

    #[command(flatten)]
    goal: GoalSettings,

    #[command(flatten)]
    network: NetworkSettings,

    #[command(flatten)]
    cluster: ClusterSettings,

    #[command(flatten)]
    emulation: EmulationSettings,
}

/// What to plan for, and with what.
struct Task {
    cluster: Cluster,
    request: PlanRequest,
    largest_chunk: u32,
    /// Content hash of the model; empty for one that is only described.
    model: String,
}

pub(crate) async fn execute(common: &CommonArgs, args: &PlanArgs) -> anyhow::Result<ExitCode> {
    let mut stop = Signals::stop()?;
    let task = match &args.devices {
        Some(path) => described(path, args)?,
        None => tokio::select! {
            measured = measured(common, args) => measured?,
            () = stop.recv() => return Err(Interrupted.into()),
        },
    };
    let planned = plan(&task.cluster, &task.request)?;
    let table = chunk_table(&planned, &task)?;
    if args.json {
        let file = PlanFile::new(&task.cluster, &planned, &table, &task.request, &task.model);
        output::json_line(&file?)?;
    } else {
        let chunks = table.chunks(task.request.load.prompt)?;
        let text = plan_report::text(&task.cluster, &planned, &task.request, &chunks);
        output::text(&text)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What a devices file says.
pub(super) fn read_devices(path: &Path) -> anyhow::Result<DevicesFile> {
    let text = jupiter::text_file::read(path);
    let text = text.with_context(|| format!("devices file {}", path.display()))?;
    let file = named_fields::from_toml(&text);
    Ok(file.map_err(|why| ConfigError::file("devices file", path, why))?)
}

/// The machines of a file.
fn described(path: &Path, args: &PlanArgs) -> anyhow::Result<Task> {
    let cluster = read_devices(path)?.into_cluster();
    let cluster = cluster.with_context(|| format!("devices file {}", path.display()))?;
    let engine = &args.engine;
    let n_ctx = engine.ctx_size.unwrap_or(DESCRIBED_CTX);
    let objective = args.goal.objective.unwrap_or(Objective::Ttft);
    let goal = PlanGoal::new(objective, n_ctx, engine.parallel.unwrap_or(1));
    let [type_k, type_v] =
        [engine.cache_type_k, engine.cache_type_v].map(Option::unwrap_or_default);
    let memory = MemoryDemand::of_cells(n_ctx, type_k, type_v);
    Ok(Task {
        cluster,
        request: request(goal, memory, args),
        largest_chunk: args.engine.ubatch_size.unwrap_or(LARGEST_CHUNK),
        model: String::new(),
    })
}

/// The machines that are there.
async fn measured(common: &CommonArgs, args: &PlanArgs) -> anyhow::Result<Task> {
    let settings = Settings {
        model: args.model.clone(),
        engine: args.engine.clone(),
        network: args.network.clone(),
        cluster: args.cluster.clone(),
        emulation: args.emulation.clone(),
        goal: args.goal.clone(),
        placement: PlacementSettings {
            plan: Some("auto".to_owned()),
            hidden_type: None,
        },
        ..Settings::default()
    };
    let config = head_config(common, &settings).await?;
    output::tell_default_model(common, &config);
    let n_nodes = args
        .cluster
        .workers
        .map(|n| n.saturating_add(u32::from(config.pipeline.host_stages)));
    let largest_chunk = config.engine.chunk;
    let mut surveyor = Surveyor::start(config).await?;
    output::note(&format!(
        "measuring; listening on {}",
        surveyor.endpoints().join(", ")
    ));
    let waited = surveyor
        .wait(
            n_nodes.map(|n| n as usize),
            PATIENCE,
            &mut |node, is_measured| {
                let how = if is_measured {
                    "measured"
                } else {
                    "cannot be measured"
                };
                output::note(&format!("node {node}: {how}"));
            },
        )
        .await;
    let cluster = waited.and_then(|()| surveyor.cluster());
    let planner = surveyor.planner().clone();
    surveyor.shutdown().await;
    Ok(Task {
        cluster: cluster?,
        request: request(planner.goal, planner.memory_demand(), args),
        largest_chunk,
        model: planner.model,
    })
}

/// The goal, with the load that the flags say.
fn request(goal: PlanGoal, memory: MemoryDemand, args: &PlanArgs) -> PlanRequest {
    let mut load = goal.load;
    if let Some(n_prompt) = args.n_prompt {
        (load.prompt, load.context) = (n_prompt, n_prompt);
    }
    load.rows = args.rows.unwrap_or(load.rows);
    PlanRequest {
        objective: goal.objective,
        load,
        memory,
    }
}

/// The best chunks of prompts up to the one that is planned for.
fn chunk_table(planned: &Plan, task: &Task) -> anyhow::Result<ChunkTable> {
    let prompt = task.request.load.prompt;
    let grid = grid(task.largest_chunk, prompt).with_context(|| {
        format!(
            "chunks of {} rows are too small to plan",
            task.largest_chunk
        )
    })?;
    let pipeline = planned.pipeline(&task.cluster);
    Ok(ChunkTable::new(&pipeline, grid)?)
}
