//! From flags to a running pipeline, and back to nothing.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use jupiter::config::{EmulationSettings, Split};
use jupiter::net::session::Endpoints;
use jupiter::signals::Signals;
use jupiter::terminal::ProgressBars;
use jupiter::{Config, Deadline, GenerateOptions, NodeId, Runtime, SamplingParams, Settings};

use super::args::{CommonArgs, GenerationArgs, SamplingArgs};
use super::output::{self, Interrupted, UsageError};
use super::processes::{Launch, StageProcesses};
use super::pull;

/// Where the head of `--processes` listens: on a free port that only this machine reaches.
const HEAD_ENDPOINT: &str = "tcp/127.0.0.1:0";

/// A pipeline that runs in or below this process.
pub(crate) struct Pipeline {
    pub(crate) runtime: Runtime,
    pub(crate) config: Config,
    processes: Option<StageProcesses>,
}

/// How a pipeline of this machine is asked for.
pub(crate) struct PipelineArgs<'a> {
    pub(crate) common: &'a CommonArgs,
    /// What the flags and their environment twins say of the configuration.
    pub(crate) settings: Settings,
    pub(crate) processes: bool,
    /// Whether nodes are measured for predictions, whatever the split.
    pub(crate) predicts: bool,
    /// Whether the plan follows devices that become slower; not while that is measured.
    pub(crate) adapts: bool,
    /// Requests at the same time; without it one, which may have the whole context.
    pub(crate) n_parallel: Option<u32>,
    /// What each stage process emulates, in order; those beyond it emulate nothing.
    pub(crate) emulations: &'a [EmulationSettings],
}

impl<'a> PipelineArgs<'a> {
    /// One request at a time, nothing measured, nothing emulated.
    pub(crate) fn new(common: &'a CommonArgs, settings: Settings, processes: bool) -> Self {
        Self {
            common,
            settings,
            processes,
            predicts: false,
            adapts: true,
            n_parallel: None,
            emulations: &[],
        }
    }
}

impl Pipeline {
    /// Process ids of the stage processes, by node.
    pub(crate) fn pids(&self) -> HashMap<String, u32> {
        self.processes
            .as_ref()
            .map(StageProcesses::pids)
            .unwrap_or_default()
    }

    /// `options` from the flags; the temperature, if they do not say it, is as suits the model.
    pub(crate) fn complete(
        &self,
        mut options: GenerateOptions,
        sampling: &SamplingArgs,
    ) -> GenerateOptions {
        if sampling.temp.is_none() {
            let default = self.runtime.client().default_options();
            options.sampling.temperature = default.sampling.temperature;
        }
        options
    }

    /// Waits until a stage process cannot be kept running; for ever where there is none.
    async fn failure(&self) -> anyhow::Error {
        match &self.processes {
            Some(processes) => processes.failure().await,
            None => std::future::pending().await,
        }
    }

    /// Ends the head before the children, which else would count as lost.
    async fn stop(self) {
        self.runtime.shutdown().await;
        if let Some(processes) = self.processes {
            processes.stop().await;
        }
    }
}

/// Starts a pipeline, does `work` with it, and takes it down, whatever comes of it. `stop` ends
/// all of it early.
///
/// # Errors
/// Those of the work; of a pipeline that does not start or breaks; [`Interrupted`].
pub(crate) async fn with_pipeline<T>(
    args: PipelineArgs<'_>,
    mut stop: Signals,
    work: impl AsyncFnOnce(&Pipeline) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let pipeline = tokio::select! {
        started = start(&args) => started?,
        () = stop.recv() => return Err(Interrupted.into()),
    };
    let result = tokio::select! {
        result = work(&pipeline) => result,
        failure = pipeline.failure() => Err(failure),
        () = stop.recv() => Err(Interrupted.into()),
    };
    pipeline.stop().await;
    result
}

/// Starts the stages: here, or as children of this process that connect to it.
async fn start(args: &PipelineArgs<'_>) -> anyhow::Result<Pipeline> {
    let mut settings = args.settings.clone();
    // In processes a plan says which layers, and the number of stages how many processes.
    let has_plan = settings.placement.plan.is_some();
    let n_processes = match args.processes && has_plan {
        true => settings.cut.stages.take(),
        false => None,
    };
    let settings = pull::settings(args.common, &settings).await?;
    let mut config = Config::from_settings(settings)?;
    // The file may be that of a head: only `serve` is a node of ROS 2.
    config.ros2 = None;
    if !has_plan && config.pipeline.split == Split::Planned {
        config.pipeline.split = Split::PerNode;
    }
    config.pipeline.predicts = args.predicts;
    config.pipeline.adapts = args.adapts;
    // What belongs to a cluster of machines does not concern a pipeline on one.
    config.network.endpoints = Endpoints::default();
    config.pipeline.n_workers = 0;
    config.engine.n_parallel = args.n_parallel.unwrap_or(1);
    config.pipeline.host_stages = true;
    if args.processes {
        config.network.cluster = format!("local-{}", std::process::id());
        config.network.node = NodeId("head".into());
        config.network.endpoints.listen = vec![HEAD_ENDPOINT.into()];
        config.pipeline.n_workers = match n_processes {
            Some(n) => n,
            None => n_stages(&config.pipeline.split)?,
        };
        config.pipeline.host_stages = false;
        // This process computes nothing, and other nodes are not here.
        let is_stage =
            |node: &NodeId| (0..config.pipeline.n_workers).any(|i| node.0 == stage_node(i));
        let named = config.speculation.draft_node.take().filter(is_stage);
        let first = NodeId(stage_node(0));
        config.speculation.draft_node = Some(named.unwrap_or(first));
    }
    output::tell_default_model(args.common, &config);
    let bars = Arc::new(ProgressBars::new());
    let runtime = Runtime::start_with(config.clone(), Some(bars.clone())).await?;
    let mut pipeline = Pipeline {
        runtime,
        config,
        processes: None,
    };
    if args.processes
        && let Err(error) = start_processes(&mut pipeline, args).await
    {
        pipeline.stop().await;
        return Err(error);
    }
    bars.clear();
    Ok(pipeline)
}

/// The node of a stage's process.
fn stage_node(stage: u32) -> String {
    format!("stage-{stage}")
}

/// How many processes a split needs.
fn n_stages(split: &Split) -> anyhow::Result<u32> {
    match split {
        Split::PerNode | Split::Planned | Split::File(_) => {
            let how = "--processes needs the number of stages: add --stages 2, or --split";
            Err(UsageError(how.into()).into())
        }
        Split::Stages(n) => Ok(*n),
        Split::Layers(layers) => Ok(u32::try_from(layers.len())?),
    }
}

/// Starts the children of a head that waits for them, until all stages are loaded.
async fn start_processes(pipeline: &mut Pipeline, args: &PipelineArgs<'_>) -> anyhow::Result<()> {
    let config = &pipeline.config;
    let connect = pipeline
        .runtime
        .endpoints()
        .first()
        .context("the head does not listen")?;
    let launch = Launch {
        nodes: (0..config.pipeline.n_workers).map(stage_node).collect(),
        cluster: config.network.cluster.clone(),
        connect: connect.clone(),
        model: config.model_path()?,
        allow_unproven: config.model.allow_unproven,
        kernels: config.engine.kernels,
        medusa: config.speculation.medusa_path(&config.model)?,
        draft: config.speculation.draft_path(&config.model)?,
        emulations: args.emulations.to_vec(),
        verbose: args.common.verbose,
    };
    let processes = pipeline.processes.insert(StageProcesses::start(&launch)?);
    tokio::select! {
        ready = pipeline.runtime.ready() => ready.map(drop).map_err(Into::into),
        failure = processes.failure() => Err(failure),
    }
}

/// How to generate, as the flags say; what they do not say is llama.cpp's default.
pub(crate) fn generate_options(
    generation: &GenerationArgs,
    sampling: &SamplingArgs,
) -> anyhow::Result<GenerateOptions> {
    let grammar = match (&sampling.grammar, &sampling.grammar_file) {
        (Some(_), Some(_)) => {
            let how = "two grammars: give --grammar or --grammar-file, not both";
            return Err(UsageError(how.into()).into());
        }
        (None, Some(path)) => {
            let text = jupiter::text_file::read(path);
            Some(text.with_context(|| format!("grammar file {}", path.display()))?)
        }
        (text, None) => text.clone(),
    };
    let deadline = match (generation.deadline_ms, generation.deadline) {
        (Some(ms), kind) => {
            let deadline = Deadline::new(kind.unwrap_or_default(), ms);
            Some(deadline.map_err(|error| UsageError(error.to_string()))?)
        }
        (None, Some(_)) => {
            let how = "--deadline says for what, not when: add --deadline-ms MS";
            return Err(UsageError(how.into()).into());
        }
        (None, None) => None,
    };
    let default = SamplingParams::default();
    let seed = match sampling.seed {
        None | Some(-1) => SamplingParams::RANDOM_SEED,
        Some(seed) => u32::try_from(seed)
            .map_err(|_| UsageError(format!("--seed {seed}: not -1 to {}", u32::MAX)))?,
    };
    Ok(GenerateOptions {
        n_predict: generation.n_predict.and_then(|limit| limit.0),
        stop: generation.stop.clone(),
        ignore_eos: generation.ignore_eos,
        priority: generation.priority.unwrap_or_default(),
        deadline,
        sampling: SamplingParams {
            temperature: sampling.temp.unwrap_or(default.temperature),
            top_k: sampling.top_k.unwrap_or(default.top_k),
            top_p: sampling.top_p.unwrap_or(default.top_p),
            min_p: sampling.min_p.unwrap_or(default.min_p),
            repeat_penalty: sampling.repeat_penalty.unwrap_or(default.repeat_penalty),
            repeat_last_n: sampling.repeat_last_n.unwrap_or(default.repeat_last_n),
            seed,
            grammar,
            logit_bias: default.logit_bias,
        },
        ..GenerateOptions::default()
    })
}
