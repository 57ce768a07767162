//! From a configuration and a model file to what the Planner needs. Pure functions.

use std::collections::BTreeSet;
use std::path::Path;

use jupiter_actors::NodeId;
use jupiter_actors::codec::{MAX_FRAME_BYTES, MAX_HEADER_BYTES};
use jupiter_actors::planner::{PlacedStage, PlanGoal, PlannerConfig, SplitPolicy, split_evenly};
use jupiter_actors::planning::memory::MemoryDemand;
use jupiter_actors::planning::placement::Objective;
use jupiter_actors::planning::plan_file::PlanFile;
use jupiter_actors::request::DraftChoice;
use jupiter_models::LayerRange;
use jupiter_models::architecture::cuts;
use jupiter_models::engine::{EngineParams, KeptStates, MAX_RECURRENT_SEQUENCES, MAX_SEQUENCES};
use jupiter_models::gguf::{GgufFile, ModelInfo};
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::profile::ModelProfile;
use jupiter_models::split::{check_cover, check_cuts, check_n_stages};

use crate::config::{Config, Split};
use crate::error::{ConfigError, Result};
use crate::net::session::is_local;

/// Sequences for branches of answers. They take no memory of their own: all share one cache, whose
/// room decides how many run at a time.
const N_BRANCHES: u32 = 32;

/// The same where layers are recurrent: each sequence takes a state, which is much.
const N_RECURRENT_BRANCHES: u32 = 4;

/// Sequences for trees of guesses; none where layers are recurrent, which compute branches one by one.
const N_SPARE: u32 = 7;

/// How often a command that is not answered is repeated, in milliseconds: often enough that a lost
/// one costs little, seldom against the time that a stage takes to load.
const RETRY_MS: u64 = 1_000;

/// The Planner's configuration.
///
/// # Errors
/// In one line: no node would compute, or the split does not fit the model.
pub(crate) fn planner_config(
    config: &Config,
    model: &GgufFile,
    info: &ModelInfo,
    model_id: String,
    n_cores: u32,
) -> Result<PlannerConfig> {
    let pipeline = &config.pipeline;
    let split = split_policy(&pipeline.split, info.n_layer, &model_id)?;
    let wait_nodes = wait_nodes(config, &split);
    if wait_nodes == 0 {
        return Err(ConfigError::NoNodes.into());
    }
    let (chunk, n_embd) = (config.engine.chunk as usize, info.n_embd as usize);
    if pipeline.hidden_dtype.encoded_bytes(chunk, n_embd)? > MAX_FRAME_BYTES - MAX_HEADER_BYTES {
        return Err(ConfigError::ChunkTooLarge { chunk, n_embd }.into());
    }
    let engine = engine_params(config, info.n_ctx_train, n_threads(config, n_cores));
    let (n_branches, engine) = match info.recurrent.is_some() {
        true => (N_RECURRENT_BRANCHES, with_states(config, engine)),
        false => (N_BRANCHES, engine),
    };
    let profile = ModelProfile {
        cuts: cuts(info, config.model.allow_unproven),
        ..ModelProfile::from_gguf(model, &engine, pipeline.hidden_dtype)?
    };
    check_split(&split, &profile)?;
    let head = config.network.node.clone();
    Ok(PlannerConfig {
        model: model_id,
        past: info.past(),
        n_branches,
        wait_nodes,
        ..for_model(config, profile, engine, split, head)
    })
}

/// The Planner's configuration where nothing is there: for `n_nodes` described machines, the Planner on
/// node `head`, and a model of which `profile` is known. Without a word the context is as long as
/// that of any model. What the configuration says of guesses does not count, only whether any are made.
///
/// # Errors
/// In one line: the split does not fit the model, or a plan's file cannot be followed.
pub fn described_config(
    config: &Config,
    profile: ModelProfile,
    head: NodeId,
    n_nodes: u32,
    is_guessed: bool,
) -> Result<PlannerConfig> {
    let mut config = config.clone();
    config.speculation.params.source = match is_guessed {
        true => DraftChoice::Auto,
        false => DraftChoice::None,
    };
    let split = split_policy(&config.pipeline.split, profile.n_layer(), "")?;
    check_split(&split, &profile)?;
    let engine = engine_params(&config, u32::MAX, 1);
    Ok(PlannerConfig {
        wait_nodes: n_nodes,
        ..for_model(&config, profile, engine, split, head)
    })
}

/// What follows from a configuration for any model; no file and no node is known yet.
fn for_model(
    config: &Config,
    model_profile: ModelProfile,
    engine: EngineParams,
    split: SplitPolicy,
    head: NodeId,
) -> PlannerConfig {
    let pipeline = &config.pipeline;
    let (type_k, type_v) = (engine.type_k, engine.type_v);
    let cells = |bytes| MemoryDemand::cells_in(bytes, &model_profile, type_k, type_v);
    let cache_cells = config.engine.cache_bytes.map(cells);
    PlannerConfig {
        model: String::new(),
        model_profile,
        head,
        split,
        goal: PlanGoal::new(pipeline.objective, engine.n_ctx, config.engine.n_parallel),
        adapts: pipeline.adapts,
        wait_nodes: 1,
        n_parallel: config.engine.n_parallel,
        n_branches: N_BRANCHES,
        cache_cells,
        past: None,
        engine,
        speculation: config.speculation.params.clone(),
        heads: None,
        draft: None,
        chunk: config.engine.chunk,
        schedule: pipeline.schedule,
        tbt_target_ms: pipeline.tbt_target_ms,
        payload_dtype: pipeline.hidden_dtype,
        step_timeout_ms: pipeline.step_timeout_ms,
        node_wait_ms: pipeline.node_wait_ms,
        retry_ms: RETRY_MS,
    }
}

/// The layers of each stage when `split` is applied to `model`; an even one serves `objective`.
///
/// # Errors
/// When they do not fit, the model cannot be cut so, or it cannot be read.
pub fn stage_ranges(
    model: &GgufFile,
    split: &Split,
    objective: Objective,
    allow_unproven: bool,
) -> Result<Vec<LayerRange>> {
    let info = ModelInfo::from_gguf(model)?;
    let cuts = cuts(&info, allow_unproven);
    let n_stages = match split_policy(split, info.n_layer, "")? {
        SplitPolicy::Ranges(ranges) => {
            check_cuts(&ranges, &cuts)?;
            return Ok(ranges);
        }
        SplitPolicy::Stages(n) => n,
        SplitPolicy::PerNode | SplitPolicy::Planned | SplitPolicy::Pinned(_) => 1,
    };
    let engine = EngineParams::default();
    let profile = ModelProfile {
        cuts,
        ..ModelProfile::from_gguf(model, &engine, HiddenDtype::F32)?
    };
    let goal = PlanGoal::new(objective, engine.n_ctx, 1);
    Ok(split_evenly(&profile, &goal, n_stages)?)
}

/// Parameters of an engine with `n_threads` threads, for a model that was trained on `n_ctx_train`
/// positions.
fn engine_params(config: &Config, n_ctx_train: u32, n_threads: u32) -> EngineParams {
    let engine = &config.engine;
    EngineParams {
        n_ctx: engine.n_ctx_of(n_ctx_train),
        n_seq_max: n_sequences(config),
        n_batch: engine.chunk,
        n_threads,
        type_k: engine.type_k,
        type_v: engine.type_v,
        flash_attention: engine.flash_attention,
        kernels: engine.kernels,
        n_gpu_layers: engine.n_gpu_layers,
        keeps_states: KeptStates::None,
    }
}

/// The engine of a model with recurrent layers.
fn with_states(config: &Config, engine: EngineParams) -> EngineParams {
    let n_seq_max = config.engine.n_parallel + N_RECURRENT_BRANCHES;
    EngineParams {
        n_seq_max: n_seq_max.min(MAX_RECURRENT_SEQUENCES),
        ..engine
    }
}

/// Sequences of the KV cache: one for each request, and some for branches and trees of guesses.
fn n_sequences(config: &Config) -> u32 {
    let n_spare = match config.speculation.params.source {
        DraftChoice::None => 0,
        _ => N_SPARE,
    };
    (config.engine.n_parallel + N_BRANCHES + n_spare).min(MAX_SEQUENCES)
}

/// Threads of each stage. Stages that share a machine share its cores, as waiting threads spin;
/// 0 leaves the choice to each node, as machines differ.
fn n_threads(config: &Config, n_cores: u32) -> u32 {
    if let Some(n_threads) = config.engine.n_threads {
        return n_threads;
    }
    let endpoints = &config.network.endpoints;
    if !endpoints
        .listen
        .iter()
        .chain(&endpoints.connect)
        .all(|endpoint| is_local(endpoint))
    {
        return 0;
    }
    let n_stages = match &config.pipeline.split {
        Split::PerNode | Split::Planned | Split::File(_) => {
            config.pipeline.n_workers + u32::from(config.pipeline.host_stages)
        }
        Split::Stages(n) => *n,
        Split::Layers(layers) => u32::try_from(layers.len()).unwrap_or(u32::MAX),
    };
    (n_cores / n_stages.max(1)).max(1)
}

/// Nodes to wait for: those that are said, and for a plan from a file all that it names.
fn wait_nodes(config: &Config, split: &SplitPolicy) -> u32 {
    let said = config.pipeline.n_workers + u32::from(config.pipeline.host_stages);
    match split {
        SplitPolicy::Pinned(stages) => {
            let nodes: BTreeSet<_> = stages.iter().map(|stage| &stage.node).collect();
            said.max(u32::try_from(nodes.len()).unwrap_or(u32::MAX))
        }
        _ => said,
    }
}

/// The stages of a plan's file, checked against the model.
fn pinned(path: &Path, n_layer: u32, model: &str) -> Result<SplitPolicy> {
    let unreadable = |why: &dyn std::fmt::Display| ConfigError::file("plan", path, why);
    let text = crate::text_file::read(path).map_err(|error| unreadable(&error))?;
    let plan: PlanFile = crate::named_fields::from_json(&text)
        .map_err(|error| unreadable(&format!("{error}: make it with `jupiter plan --json`")))?;
    let stages = plan
        .check(model, n_layer)
        .map_err(|error| unreadable(&error))?;
    let placed = |(node, layers)| PlacedStage { node, layers };
    Ok(SplitPolicy::Pinned(
        stages.into_iter().map(placed).collect(),
    ))
}

fn split_policy(split: &Split, n_layer: u32, model: &str) -> Result<SplitPolicy> {
    match split {
        Split::PerNode => Ok(SplitPolicy::PerNode),
        Split::Planned => Ok(SplitPolicy::Planned),
        Split::File(path) => pinned(path, n_layer, model),
        &Split::Stages(n_stages) if n_stages > n_layer => {
            Err(ConfigError::TooManyStages { n_stages, n_layer }.into())
        }
        Split::Stages(n) => Ok(SplitPolicy::Stages(*n)),
        Split::Layers(layers) => {
            let sum = layers.iter().try_fold(0_u32, |sum, &n| sum.checked_add(n));
            if sum != Some(n_layer) {
                let layers = layers.clone();
                return Err(ConfigError::SplitMismatch { layers, n_layer }.into());
            }
            let mut start = 0;
            let ranges: Vec<LayerRange> = layers
                .iter()
                .map(|&n| {
                    let range = LayerRange::new(start, start + n);
                    start = range.end;
                    range
                })
                .collect();
            check_cover(&ranges, n_layer)?;
            Ok(SplitPolicy::Ranges(ranges))
        }
    }
}

/// Checks that the model may be cut as `split` says.
fn check_split(split: &SplitPolicy, profile: &ModelProfile) -> Result<()> {
    let ranges = match split {
        SplitPolicy::Ranges(ranges) => ranges.clone(),
        SplitPolicy::Pinned(stages) => stages.iter().map(|stage| stage.layers).collect(),
        &SplitPolicy::Stages(n_stages) => {
            let n_layer = profile.n_layer();
            return Ok(check_n_stages(n_stages, n_layer, &profile.cuts)?);
        }
        SplitPolicy::PerNode | SplitPolicy::Planned => return Ok(()),
    };
    Ok(check_cuts(&ranges, &profile.cuts)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn config(text: &str) -> Config {
        Config::from_settings(toml::from_str(text).unwrap()).unwrap()
    }

    #[test]
    fn splits_that_do_not_fit_the_model_are_refused_in_one_line() {
        for split in [
            Split::Stages(7),
            Split::Layers(vec![2, 3]),
            Split::Layers(vec![6, 6]),
            Split::Layers(vec![u32::MAX, 7]),
        ] {
            let error = split_policy(&split, 6, "m").unwrap_err().to_string();
            assert!(
                error.contains('6') && error.contains("--s") && !error.contains('\n'),
                "{error}"
            );
        }
        let ranges = vec![LayerRange::new(0, 2), LayerRange::new(2, 6)];
        let policy = split_policy(&Split::Layers(vec![2, 4]), 6, "m").unwrap();
        assert_eq!(policy, SplitPolicy::Ranges(ranges));
    }

    #[test]
    fn an_even_cut_follows_the_rows_that_need_the_head() {
        use jupiter_models::synth::{SynthArch, SynthSpec, write};
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("large-head.gguf");
        // The head has more bytes than all layers together.
        let spec = SynthSpec {
            n_embd: 64,
            n_ff: 64,
            n_layer: 8,
            n_vocab: 5120,
            tied: true,
            ..SynthSpec::new(SynthArch::Llama)
        };
        write(&spec, &path, &mut |_, _| {}).unwrap();
        let model = GgufFile::open(&path).unwrap();
        let first = |objective| {
            let ranges = stage_ranges(&model, &Split::Stages(2), objective, false).unwrap();
            ranges[0].len()
        };
        assert_eq!(first(Objective::Ttft), 4);
        assert_eq!(first(Objective::Tbt), 7);
        assert_eq!(first(Objective::Throughput), 7);
    }

    #[test]
    fn stages_on_one_machine_share_its_cores() {
        let threads = |text| n_threads(&config(text), 8);
        assert_eq!(threads(""), 8);
        assert_eq!(threads("stages = 2"), 4);
        assert_eq!(threads("stages = 16"), 1);
        assert_eq!(threads("stages = 2\nthreads = 3"), 3);
        let local = "listen = ['tcp/127.0.0.1:0']\nworkers = 3";
        assert_eq!(threads(local), 2);
        let remote = "listen = ['tcp/192.168.1.2:7447']\nstages = 2";
        assert_eq!(threads(remote), 0);
    }
}
