//! What may be said, in groups as the verbs take them: each field is a key of the configuration file,
//! a variable of the environment and a flag, spelled as llama.cpp spells it. `ctx_size` is
//! `JUPITER_CTX_SIZE` is `--ctx-size`. What is written here is the flags' help.

use std::path::PathBuf;

use clap::Args;
use clap::builder::BoolishValueParser;
use jupiter_actors::planner::Schedule;
use jupiter_actors::planning::placement::Objective;
use jupiter_models::gguf::KvDtype;
use jupiter_models::hidden::HiddenDtype;
use jupiter_models::kernels::KernelChoice;
use serde::{Deserialize, Serialize};

use super::choices::{
    DraftSetting, OutlineMode, PromptSettings, RuleSetting, hidden_dtype, kv_dtype, objective,
    positive, schedule, switch,
};

/// Number of layers of each stage, in order.
pub type LayerCounts = Vec<u32>;

/// This node's place among the others.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Network")]
#[serde(default)]
pub struct NetworkSettings {
    /// Name of the cluster: nodes of other clusters are not seen
    #[arg(long, env = "JUPITER_CLUSTER", value_name = "NAME")]
    pub cluster: Option<String>,

    /// Name of this node, unique in the cluster
    #[arg(long, env = "JUPITER_NODE", value_name = "NAME")]
    pub node: Option<String>,

    /// Where to listen, a zenoh endpoint as `tcp/192.168.1.10:7447`; may be repeated
    #[arg(
        long,
        env = "JUPITER_LISTEN",
        value_name = "ENDPOINT",
        value_delimiter = ','
    )]
    pub listen: Vec<String>,

    /// Where to connect to, a zenoh endpoint as `tcp/192.168.1.10:7447`; may be repeated
    #[arg(
        long,
        env = "JUPITER_CONNECT",
        value_name = "ENDPOINT",
        value_delimiter = ','
    )]
    pub connect: Vec<String>,
}

/// Which model.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Model and engine")]
#[serde(default)]
pub struct ModelSettings {
    /// The model, a GGUF file; without it the small default model
    #[arg(short, long, env = "JUPITER_MODEL", value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// The model, of the Hugging Face hub: downloaded if it is not in the cache [short: -hf]
    #[arg(long, env = "JUPITER_HF_REPO", value_name = "USER/REPO[:QUANT]")]
    pub hf_repo: Option<String>,

    /// Which file of it, instead of a quantization [short: -hff]
    #[arg(long, env = "JUPITER_HF_FILE", value_name = "FILE")]
    pub hf_file: Option<String>,

    /// Take the hub's models from the cache only
    #[arg(
        long,
        env = "JUPITER_OFFLINE",
        value_name = "true|false",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub offline: Option<bool>,

    /// Cut models of architectures whose cuts no test has proven, where nothing is known against it
    #[arg(
        long,
        env = "JUPITER_ALLOW_UNPROVEN",
        value_name = "true|false",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub allow_unproven: Option<bool>,
}

/// How a conversation is written for the model.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Model and engine")]
#[serde(default)]
pub struct TemplateSettings {
    /// Chat template: a name as llama.cpp has it (chatml, llama3, gemma), or a file of Jinja;
    /// without it the model's own
    #[arg(long, env = "JUPITER_CHAT_TEMPLATE", value_name = "NAME|FILE")]
    pub chat_template: Option<String>,
}

/// How the engine of each stage is set up.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Model and engine")]
#[serde(default)]
pub struct EngineSettings {
    /// Tokens that all sequences together may hold (positions of the KV cache); without it 4096, or
    /// what the model was trained on if that is less
    #[arg(short, long, env = "JUPITER_CTX_SIZE", value_name = "N", value_parser = positive())]
    pub ctx_size: Option<u32>,

    /// Threads of each stage
    #[arg(short, long, env = "JUPITER_THREADS", value_name = "N", value_parser = positive())]
    pub threads: Option<u32>,

    /// Most rows of one step: the chunks in which a prompt passes the stages [short: -ub]
    #[arg(
        long,
        visible_alias = "chunk",
        env = "JUPITER_UBATCH_SIZE",
        value_name = "N",
        value_parser = positive()
    )]
    pub ubatch_size: Option<u32>,

    /// Requests that are answered at the same time [short: -np]
    #[arg(long, env = "JUPITER_PARALLEL", value_name = "N", value_parser = positive())]
    pub parallel: Option<u32>,

    /// Most memory of the KV cache, in MiB over all stages, for what complete answers left there; 0
    /// keeps nothing, -1 all that nobody needs, as without it [short: -cram]
    #[arg(
        long,
        env = "JUPITER_CACHE_RAM",
        value_name = "MIB",
        value_parser = clap::value_parser!(i64).range(-1..)
    )]
    pub cache_ram: Option<i64>,

    /// Type of the K cache [short: -ctk]
    #[arg(long, env = "JUPITER_CACHE_TYPE_K", value_name = "TYPE", value_parser = kv_dtype())]
    pub cache_type_k: Option<KvDtype>,

    /// Type of the V cache [short: -ctv]
    #[arg(long, env = "JUPITER_CACHE_TYPE_V", value_name = "TYPE", value_parser = kv_dtype())]
    pub cache_type_v: Option<KvDtype>,

    /// Flash attention [short: -fa]
    #[arg(
        long,
        env = "JUPITER_FLASH_ATTN",
        value_name = "on|off",
        value_parser = switch(),
        num_args = 0..=1,
        default_missing_value = "on"
    )]
    pub flash_attn: Option<bool>,

    /// Whose kernels compute on this machine: ours (auto) or llama.cpp's (off)
    #[arg(long, env = "JUPITER_KERNELS", value_name = "auto|off")]
    pub kernels: Option<KernelChoice>,

    /// Layers of each stage to hold on the GPU [short: -ngl]
    #[arg(
        long,
        visible_alias = "gpu-layers",
        env = "JUPITER_N_GPU_LAYERS",
        value_name = "N"
    )]
    pub n_gpu_layers: Option<u32>,
}

/// How the model is cut.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Stages")]
#[serde(default)]
pub struct CutSettings {
    /// Cut the model into so many stages of about equal size
    #[arg(long, env = "JUPITER_STAGES", value_name = "K", value_parser = positive())]
    pub stages: Option<u32>,

    /// Cut the model into stages of so many layers each, as `4,12`
    #[arg(long, env = "JUPITER_SPLIT", value_name = "LAYERS,..", value_parser = layer_counts)]
    pub split: Option<LayerCounts>,
}

/// Where layers are placed.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Stages")]
#[serde(default)]
pub struct PlacementSettings {
    /// Place layers by measurements of the nodes (auto), one stage a node of about equal size
    /// (even), or as a plan's file says; a head of several nodes measures unless told otherwise
    #[arg(long, env = "JUPITER_PLAN", value_name = "auto|even|FILE")]
    pub plan: Option<String>,

    /// How hidden states travel between stages
    #[arg(long, env = "JUPITER_HIDDEN_TYPE", value_name = "TYPE", value_parser = hidden_dtype())]
    pub hidden_type: Option<HiddenDtype>,
}

/// What a plan is to be good at.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Stages")]
#[serde(default)]
pub struct GoalSettings {
    /// What a plan is to be good at: time to first token, time between tokens, or tokens a second
    /// of many streams
    #[arg(long, env = "JUPITER_OBJECTIVE", value_name = "WHAT", value_parser = objective())]
    pub objective: Option<Objective>,
}

/// How the requests of several clients share the stages.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Scheduling")]
#[serde(default)]
pub struct ScheduleSettings {
    /// How steps are filled where prompts meet answers that are being written
    #[arg(long, env = "JUPITER_SCHEDULE", value_name = "RULE", value_parser = schedule())]
    pub schedule: Option<Schedule>,

    /// Time between two tokens of an answer that prompts of others are to leave, in milliseconds;
    /// without it what follows from the plan: about what a step takes around all stages with a quarter
    /// of --ubatch-size beside its share of --parallel answers
    #[arg(long, env = "JUPITER_TBT_TARGET", value_name = "MS", value_parser = positive())]
    pub tbt_target: Option<u32>,
}

/// The nodes of a head's cluster.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Network")]
#[serde(default)]
pub struct ClusterSettings {
    /// Wait for so many workers; without it `serve` waits for none, and `plan` until no more come
    #[arg(long, env = "JUPITER_WORKERS", value_name = "N")]
    pub workers: Option<u32>,

    /// Whether this machine computes layers too
    #[arg(
        long,
        env = "JUPITER_HOST_STAGES",
        value_name = "true|false",
        value_parser = BoolishValueParser::new(),
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub host_stages: Option<bool>,
}

/// How tokens are guessed ahead; the text stays the same.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Speculative decoding")]
#[serde(default)]
pub struct SpeculationSettings {
    /// Who guesses tokens ahead, for the model to check several at once: the source that brings
    /// most (auto), nobody, what stood in the text before, a draft model, Medusa heads, or the model's
    /// own block for multi-token prediction (Qwen 3.5, GLM 4.5 to 4.7, DeepSeek V3)
    #[arg(long, env = "JUPITER_SPECULATIVE", value_name = "SOURCE")]
    pub speculative: Option<DraftSetting>,

    /// What makes a guess right: that the model says the same (exact), or that it holds it for
    /// likely enough (typical), which is faster and changes the text
    #[arg(long, env = "JUPITER_DRAFT_ACCEPTANCE", value_name = "RULE")]
    pub draft_acceptance: Option<RuleSetting>,
}

/// Files that guess, and how far.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Speculative decoding")]
#[serde(default)]
pub struct DraftSettings {
    /// A small model with the same vocabulary that guesses, a GGUF file [short: -md]
    #[arg(long, env = "JUPITER_MODEL_DRAFT", value_name = "FILE")]
    pub model_draft: Option<PathBuf>,

    /// Node that runs the draft model; without it the head
    #[arg(long, env = "JUPITER_DRAFT_NODE", value_name = "NAME")]
    pub draft_node: Option<String>,

    /// Medusa heads that guess, a GGUF file (`jupiter-training convert-medusa` makes it of published ones)
    #[arg(long, env = "JUPITER_MEDUSA", value_name = "FILE")]
    pub medusa: Option<PathBuf>,

    /// Most tokens of a guess
    #[arg(long, env = "JUPITER_DRAFT_MAX", value_name = "N", value_parser = positive())]
    pub draft_max: Option<u32>,
}

/// Whether answers are written with an outline, and how large that may be.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Outlines")]
#[serde(default)]
pub struct OutlineSettings {
    /// Write an outline first and then its points side by side: when the question suits (auto, the
    /// default), always (on) or never (off)
    #[arg(long, env = "JUPITER_OUTLINE", value_name = "MODE")]
    pub outline: Option<OutlineMode>,

    /// Most points of an outline, 3 to 32
    #[arg(long, env = "JUPITER_OUTLINE_POINTS", value_name = "N")]
    pub outline_points: Option<usize>,

    /// Most tokens of each point
    #[arg(long, env = "JUPITER_POINT_TOKENS", value_name = "N", value_parser = positive())]
    pub point_tokens: Option<u32>,

    /// How the model is asked for outlines: a table of the file, which has no flag
    #[arg(skip)]
    pub outline_prompts: Option<PromptSettings>,
}

/// A slower machine than this one, to try plans with.
#[derive(Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[command(next_help_heading = "Emulation of a weaker machine")]
#[serde(default)]
pub struct EmulationSettings {
    /// Compute so many times slower
    #[arg(long, env = "JUPITER_SLOWDOWN", value_name = "FACTOR")]
    pub slowdown: Option<f64>,

    /// Have no more memory than this free, as `600M`
    #[arg(long, env = "JUPITER_MEMORY_LIMIT", value_name = "SIZE")]
    pub memory_limit: Option<String>,

    /// Send through a link of this rate, as `100mbit`
    #[arg(long, env = "JUPITER_LINK_RATE", value_name = "RATE")]
    pub link_rate: Option<String>,

    /// Send through a link of this latency, as `5ms`
    #[arg(long, env = "JUPITER_LINK_LATENCY", value_name = "TIME")]
    pub link_latency: Option<String>,
}

/// How long is waited for others. Keys and variables without flags.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PatienceSettings {
    /// Longest wait for a step's report, in milliseconds.
    pub step_timeout_ms: Option<u64>,
    /// How long a request waits for nodes, in milliseconds.
    pub node_wait_ms: Option<u64>,
}

fn layer_counts(text: &str) -> Result<LayerCounts, String> {
    let count = |part: &str| match part.trim().parse::<u32>() {
        Ok(n) if n > 0 => Ok(n),
        _ => Err(format!(
            "`{part}` is not a number of layers: write it as 4,12"
        )),
    };
    text.split(',').map(count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_lists_of_layer_counts() {
        assert_eq!(layer_counts("4,12"), Ok(vec![4, 12]));
        for wrong in ["", "4,", "0,4", "4;12", "-1", "99999999999"] {
            assert!(layer_counts(wrong).is_err(), "{wrong}");
        }
    }
}
