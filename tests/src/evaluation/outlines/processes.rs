//! The default model, or another, in two processes of one thread each, which are this program started again.

use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use clap::Args;
use jupiter::{Config, Runtime, Settings, Worker};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

/// Stages, each in a process of its own.
const STAGES: u32 = 2;
/// Where the head listens: on a free port that only this machine reaches.
const HEAD_ENDPOINT: &str = "tcp/127.0.0.1:0";

/// What makes of this program a stage; a person has no use for it.
#[derive(Args, Clone, Debug)]
pub struct StageArgs {
    /// Where the head listens
    #[arg(long, hide = true, required = false, requires_all = ["stage_cluster", "stage_node"])]
    stage_of: String,
    /// The cluster of the head
    #[arg(long, hide = true, required = false, requires = "stage_of")]
    stage_cluster: String,
    /// The name of this node
    #[arg(long, hide = true, required = false, requires = "stage_of")]
    stage_node: String,
}

/// A head without layers, and its stages.
pub struct Processes {
    /// The head.
    pub runtime: Runtime,
    // Killed when they are dropped; each ends by itself when its stdin closes.
    children: Vec<Child>,
}

impl Processes {
    /// Starts the head here and a process for each stage, and waits until the model runs.
    ///
    /// # Errors
    /// When a process cannot be started or the model does not run.
    pub async fn start(model: Option<&Path>) -> Result<Self> {
        let cluster = format!("outlines-{}", std::process::id());
        let builder = Runtime::builder();
        let builder = match model {
            Some(model) => builder.model(model),
            None => builder,
        };
        let runtime = builder
            .cluster(&cluster)
            .node_id("head")
            .listen([HEAD_ENDPOINT])
            .workers(STAGES)
            .host_stages(false)
            .stages(STAGES)
            .threads(1)
            .parallel(1)
            .start()
            .await?;
        let head = runtime.endpoints().first();
        let head = head.context("the head does not listen")?.clone();
        let program = std::env::current_exe().context("this program's own file")?;
        let mut children = Vec::new();
        for i in 0..STAGES {
            let mut command = Command::new(&program);
            if let Some(model) = model {
                command.arg("--model").arg(model);
            }
            let child = command
                .args(["--stage-of", &head])
                .args(["--stage-cluster", &cluster])
                .args(["--stage-node", &format!("stage-{i}")])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .spawn();
            children.push(child.with_context(|| program.display().to_string())?);
        }
        runtime.ready().await?;
        Ok(Self { runtime, children })
    }

    /// Ends the head, then the stages.
    ///
    /// # Errors
    /// When a process cannot be waited for.
    pub async fn stop(self) -> Result<()> {
        self.runtime.shutdown().await;
        for mut child in self.children {
            // This closes its stdin first.
            child.wait().await?;
        }
        Ok(())
    }
}

/// Computes layers of the head's model until stdin ends.
///
/// # Errors
/// When it cannot serve the head.
pub async fn serve(args: &StageArgs, model: Option<&Path>) -> Result<()> {
    let mut settings = Settings::default();
    settings.model.model = model.map(Path::to_owned);
    settings.network.cluster = Some(args.stage_cluster.clone());
    settings.network.node = Some(args.stage_node.clone());
    settings.network.connect = vec![args.stage_of.clone()];
    let config = Config::from_settings(settings)?;
    let (ends, stop) = oneshot::channel::<()>();
    // A thread of its own: the end of the program does not wait for a read.
    std::thread::spawn(move || {
        // An error means the same as the end, and nobody may be left to hear it.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        let _ = ends.send(());
    });
    Ok(Worker::start(config).await?.run_until(stop).await?)
}
