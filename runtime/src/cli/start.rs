//! From flags to a running pipeline, and back to nothing.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Context;
use jupiter::config::Split;
use jupiter::net::session::Endpoints;
use jupiter::signals::Signals;
use jupiter::terminal::ProgressBars;
use jupiter::{Config, GenerateOptions, NodeId, Runtime, SamplingParams, Settings};
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;

use super::args::{
    CacheType, CommonArgs, EmulationArgs, EngineArgs, GenerationArgs, HiddenType, NetworkArgs,
    SamplingArgs, SpeculationArgs, SplitArgs, Switch,
};
use super::outline_args::OutlineArgs;
use super::output::{self, Interrupted, UsageError};
use super::processes::{Launch, StageProcesses};

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
    pub(crate) engine: &'a EngineArgs,
    pub(crate) split: &'a SplitArgs,
    pub(crate) speculation: &'a SpeculationArgs,
    /// What is said of outlines, where there is anything to say.
    pub(crate) outline: Option<&'a OutlineArgs>,
    /// The chat template, where one is named.
    pub(crate) chat_template: Option<&'a str>,
    pub(crate) processes: bool,
    /// Whether nodes are measured for predictions, whatever the split.
    pub(crate) predicts: bool,
    /// Whether the plan follows devices that become slower; not while that is measured.
    pub(crate) adapts: bool,
    /// Requests at the same time; without it one, which may have the whole context.
    pub(crate) n_parallel: Option<u32>,
    /// What each stage process emulates, in order; those beyond it emulate nothing.
    pub(crate) emulations: &'a [EmulationArgs],
}

impl<'a> PipelineArgs<'a> {
    /// One request at a time, nothing measured, nothing emulated.
    pub(crate) fn new(
        common: &'a CommonArgs,
        engine: &'a EngineArgs,
        split: &'a SplitArgs,
        speculation: &'a SpeculationArgs,
        processes: bool,
    ) -> Self {
        Self {
            common,
            engine,
            split,
            speculation,
            outline: None,
            chat_template: None,
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
    let mut settings = settings(args.engine, Some(args.split), None);
    speculate(&mut settings, args.speculation);
    if let Some(outline) = args.outline {
        outline.add_to(&mut settings);
    }
    settings.chat_template = args.chat_template.map(str::to_owned);
    // In processes a plan says which layers, and the number of stages how many processes.
    let n_processes = match args.processes && settings.plan.is_some() {
        true => settings.stages.take(),
        false => None,
    };
    let mut config = Config::load(args.common.config.as_deref(), &settings)?;
    if settings.plan.is_none() && config.pipeline.split == Split::Planned {
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
    }
    output::tell_default_model(args.common, &config);
    let bars = Arc::new(ProgressBars::new());
    let runtime = Runtime::builder()
        .config(config.clone())
        .progress(bars.clone())
        .start()
        .await?;
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
        nodes: (0..config.pipeline.n_workers)
            .map(|i| format!("stage-{i}"))
            .collect(),
        cluster: config.network.cluster.clone(),
        connect: connect.clone(),
        model: config.model_path()?,
        allow_unproven: config.model.allow_unproven,
        kernels: config.engine.kernels,
        medusa: config.speculation.medusa_path(&config.model)?,
        emulations: args.emulations.to_vec(),
        verbose: args.common.verbose,
    };
    let processes = pipeline.processes.insert(StageProcesses::start(&launch)?);
    tokio::select! {
        ready = pipeline.runtime.ready() => ready.map(drop).map_err(Into::into),
        failure = processes.failure() => Err(failure),
    }
}

/// What the flags and their environment twins say of the configuration.
pub(crate) fn settings(
    engine: &EngineArgs,
    split: Option<&SplitArgs>,
    network: Option<&NetworkArgs>,
) -> Settings {
    let mut settings = Settings {
        model: engine.model.clone(),
        allow_unproven: engine.allow_unproven.then_some(true),
        ctx_size: engine.ctx_size,
        threads: engine.threads,
        ubatch_size: engine.ubatch_size,
        parallel: engine.parallel,
        cache_type_k: engine.cache_type_k.map(kv_dtype),
        cache_type_v: engine.cache_type_v.map(kv_dtype),
        flash_attn: engine.flash_attn.map(|switch| switch == Switch::On),
        kernels: engine.kernels,
        n_gpu_layers: engine.n_gpu_layers,
        ..Settings::default()
    };
    if let Some(split) = split {
        settings.stages = split.stages;
        settings.plan.clone_from(&split.plan);
        settings.objective = split.objective.map(Into::into);
        settings.split = split.split.as_ref().map(|counts| counts.0.clone());
        settings.hidden_type = split.hidden_type.map(|ty| match ty {
            HiddenType::F32 => HiddenDtype::F32,
            HiddenType::F16 => HiddenDtype::F16,
            HiddenType::Q8_0 => HiddenDtype::Q8_0,
        });
    }
    if let Some(network) = network {
        settings.cluster = network.cluster.clone();
        settings.node = network.node.clone();
        settings.listen = network.listen.clone();
        settings.connect = network.connect.clone();
    }
    settings
}

/// Adds what is emulated to `settings`.
pub(crate) fn emulate(settings: &mut Settings, emulation: &EmulationArgs) {
    settings.slowdown = emulation.slowdown;
    settings.memory_limit.clone_from(&emulation.memory_limit);
    settings.link_rate.clone_from(&emulation.link_rate);
    settings.link_latency.clone_from(&emulation.link_latency);
}

/// Adds how tokens are guessed ahead to `settings`.
pub(crate) fn speculate(settings: &mut Settings, args: &SpeculationArgs) {
    settings.speculative = args.speculative.map(Into::into);
    settings.model_draft.clone_from(&args.drafts.model_draft);
    settings.draft_node.clone_from(&args.drafts.draft_node);
    settings.medusa.clone_from(&args.drafts.medusa);
    settings.draft_max = args.drafts.draft_max;
    settings.draft_acceptance = args.draft_acceptance.map(Into::into);
}

/// Types of the cached keys and values that the flags ask for.
pub(crate) fn cache_types(engine: &EngineArgs) -> (KvDtype, KvDtype) {
    let dtype = |ty: Option<CacheType>| ty.map(kv_dtype).unwrap_or_default();
    (dtype(engine.cache_type_k), dtype(engine.cache_type_v))
}

fn kv_dtype(ty: CacheType) -> KvDtype {
    match ty {
        CacheType::F16 => KvDtype::F16,
        CacheType::Q8_0 => KvDtype::Q8_0,
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
        sampling: SamplingParams {
            temperature: sampling.temp.unwrap_or(default.temperature),
            top_k: sampling.top_k.unwrap_or(default.top_k),
            top_p: sampling.top_p.unwrap_or(default.top_p),
            min_p: sampling.min_p.unwrap_or(default.min_p),
            repeat_penalty: sampling.repeat_penalty.unwrap_or(default.repeat_penalty),
            repeat_last_n: sampling.repeat_last_n.unwrap_or(default.repeat_last_n),
            seed,
            grammar,
        },
        ..GenerateOptions::default()
    })
}
