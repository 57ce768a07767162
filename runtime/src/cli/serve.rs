//! `jupiter serve`: the head of a cluster.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter::signals::Signals;
use jupiter::terminal::ProgressBars;
use jupiter::{ClusterPhase, ClusterStatus, Config, Runtime, Settings};
use serde_json::{Value, json};

use super::args::CommonArgs;
use super::leave::ExitCode;
use super::output::{self, Interrupted};
use super::table::{Align, bytes, markdown};

/// Where a head listens unless told otherwise: only this machine reaches it.
pub(crate) const DEFAULT_ENDPOINT: &str = "tcp/127.0.0.1:7447";

/// Where it listens beside a node of ROS 2, whose router has that port on this machine.
const ENDPOINT_BESIDE_ROS2: &str = "tcp/127.0.0.1:7448";

/// How often the head looks whether its plan changed, to print it.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Flags of `serve`.
#[derive(Args, Debug)]
#[command(after_help = "\
The head answers prompts that come over zenoh: queries on jupiter/<cluster>/generate, and messages
on jupiter/<cluster>/prompt/<id>, whose answers go to jupiter/<cluster>/completion/<id>.

Examples:
  jupiter serve -m model.gguf                                   on this machine alone
  jupiter serve -m model.gguf --listen tcp/0.0.0.0:7447 --workers 2
  jupiter serve -m model.gguf --ros2 router                      a node for robots of ROS 2 too
  jupiter serve --config configs/head.toml -v")]
pub(crate) struct ServeArgs {
    /// Print one JSON object a line: `listening`, then `plan` whenever it changes
    #[arg(long, env = "JUPITER_JSON", value_parser = BoolishValueParser::new())]
    json: bool,

    #[command(flatten)]
    settings: Settings,
}

pub(crate) async fn execute(common: &CommonArgs, args: &ServeArgs) -> anyhow::Result<ExitCode> {
    let config = head_config(common, &args.settings).await?;
    output::tell_default_model(common, &config);
    let bars = Arc::new(ProgressBars::new());
    let mut stop = Signals::stop()?;
    let starting = Runtime::start_with(config, Some(bars));
    let runtime = tokio::select! {
        started = starting => started?,
        () = stop.recv() => return Err(Interrupted.into()),
    };
    let served = tokio::select! {
        served = show(&runtime, args.json) => served,
        why = runtime.gives_way() => Err(why.into()),
        // Ctrl-C is how a head is meant to end.
        () = stop.recv() => Ok(()),
    };
    runtime.shutdown().await;
    served.map(|()| ExitCode::SUCCESS)
}

/// The configuration of a head. One without an endpoint listens where only this machine reaches it:
/// it is a cluster like any other.
pub(crate) async fn head_config(common: &CommonArgs, flags: &Settings) -> anyhow::Result<Config> {
    let mut settings = super::pull::settings(common, flags).await?;
    if settings.network.listen.is_empty() {
        let endpoint = match &settings.ros2.ros2 {
            Some(_) => ENDPOINT_BESIDE_ROS2,
            None => DEFAULT_ENDPOINT,
        };
        settings.network.listen = vec![endpoint.to_owned()];
    }
    Ok(Config::from_settings(settings)?)
}

/// Prints where the head listens, and its plan whenever that changes.
async fn show(runtime: &Runtime, json: bool) -> anyhow::Result<()> {
    let endpoints = runtime.endpoints();
    if json {
        output::json_line(&json!({ "event": "listening", "endpoints": endpoints }))?;
    } else {
        output::text(&format!("listening on {}\n", endpoints.join(", ")))?;
        if let Some(ros2) = &runtime.config().ros2 {
            output::text(&format!("{ros2}\n"))?;
        }
    }
    let mut shown = None;
    loop {
        let status = match runtime.status().await {
            Ok(status) => status,
            Err(jupiter::Error::Stopped) => return Err(jupiter::Error::Stopped.into()),
            // A Planner that is just being started again answers the next time.
            Err(error) => {
                tracing::warn!("{error}");
                tokio::time::sleep(LOOK_INTERVAL).await;
                continue;
            }
        };
        let state = (status.epoch, status.phase.clone());
        if shown.as_ref() != Some(&state) {
            match json {
                true => output::json_line(&plan_event(&status))?,
                false => output::text(&plan(&status))?,
            }
            shown = Some(state);
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

/// What the cluster is busy with, and when it runs the table of its plan.
fn plan(status: &ClusterStatus) -> String {
    match &status.phase {
        ClusterPhase::Waiting => "waiting for workers\n".to_owned(),
        ClusterPhase::Loading => "loading\n".to_owned(),
        ClusterPhase::Failed(why) => format!("cannot run: {why}\n"),
        ClusterPhase::Running => {
            format!("{}{}ready\n", stage_table(status), promises(status))
        }
    }
}

/// What the plan predicts, and whom it leaves out; nothing where nothing was measured.
fn promises(status: &ClusterStatus) -> String {
    let Some(plan) = &status.plan else {
        return String::new();
    };
    let mut text = format!(
        "predicted: first token after {:.0} ms, {:.1} ms a token, {:.1} tokens/s\n",
        plan.predicted.ttft_ms, plan.predicted.tbt_ms, plan.predicted.tps
    );
    for excluded in &plan.excluded {
        text += &format!("left out: {}: {}\n", excluded.node, excluded.reason);
    }
    text
}

fn stage_table(status: &ClusterStatus) -> String {
    use Align::{Left, Right};
    let columns = [
        ("stage", Right),
        ("node", Left),
        ("layers", Left),
        ("weights", Right),
        ("KV", Right),
        ("compute", Right),
    ];
    let rows = status.stages.iter().map(|stage| {
        let memory = |part: fn(&jupiter_models::engine::EngineMemory) -> u64| {
            stage
                .memory
                .as_ref()
                .map_or("-".to_owned(), |memory| bytes(part(memory)))
        };
        vec![
            stage.stage.to_string(),
            stage.node.to_string(),
            stage.layers.to_string(),
            memory(|m| m.weights_bytes),
            memory(|m| m.kv_bytes),
            memory(|m| m.compute_bytes),
        ]
    });
    markdown(&columns, &rows.collect::<Vec<_>>())
}

fn plan_event(status: &ClusterStatus) -> Value {
    let (phase, why) = match &status.phase {
        ClusterPhase::Waiting => ("waiting", None),
        ClusterPhase::Loading => ("loading", None),
        ClusterPhase::Running => ("running", None),
        ClusterPhase::Failed(why) => ("failed", Some(why)),
    };
    let stages = status.stages.iter().map(|stage| {
        let memory = stage.memory.as_ref();
        json!({
            "stage": stage.stage,
            "node": stage.node,
            "layers": [stage.layers.start, stage.layers.end],
            "weights_bytes": memory.map(|m| m.weights_bytes),
            "kv_bytes": memory.map(|m| m.kv_bytes),
            "compute_bytes": memory.map(|m| m.compute_bytes),
        })
    });
    let excluded = status.plan.iter().flat_map(|plan| &plan.excluded);
    let excluded = excluded
        .map(|excluded| json!({ "node": excluded.node, "why": excluded.reason.to_string() }));
    json!({
        "event": "plan",
        "epoch": status.epoch.0,
        "phase": phase,
        "why": why,
        "stages": stages.collect::<Vec<_>>(),
        "predicted": status.plan.as_ref().map(|plan| &plan.predicted),
        "excluded": excluded.collect::<Vec<_>>(),
    })
}
